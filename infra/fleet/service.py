"""What the web and the workers have in common: the image, its settings, their role.

Must not create machines.
"""

from __future__ import annotations

from dataclasses import dataclass

import pulumi

from fleet import user_data
from fleet.config import FleetConfig
from fleet.identity import parameter_path
from fleet.storage import Storage


@dataclass(frozen=True, slots=True)
class Service:
    site: user_data.Site
    image: pulumi.Output[str]
    environment: pulumi.Output[dict[str, str]]


def describe_service(config: FleetConfig, storage: Storage) -> Service:
    return Service(
        site=user_data.Site(config.region, parameter_path(config, "service"), config.broker_hosts),
        image=storage.image(config.image_tag),
        environment=storage.bucket.id.apply(
            lambda bucket: user_data.service_environment(
                bucket=bucket,
                store_host=config.store_host,
                region=config.region,
                dedicated=tuple(sorted(config.dedicated)),
                extra=config.environment,
            )
        ),
    )
