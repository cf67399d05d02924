"""The whole fleet in the order of its dependencies. __main__.py runs it for Pulumi, the tests run it with mocks.

Must not read configuration.
"""

from __future__ import annotations

from collections.abc import Mapping

import pulumi

from fleet.broker import create_brokers
from fleet.config import FleetConfig
from fleet.identity import create_profiles, create_secrets, metric_namespace
from fleet.network import create_network
from fleet.security import create_groups
from fleet.service import describe_service
from fleet.storage import create_storage
from fleet.store import create_store
from fleet.web import create_web
from fleet.workers import create_workers, crews


def build_fleet(
    config: FleetConfig, secret_environment: Mapping[str, pulumi.Input[str]] | None = None
) -> dict[str, pulumi.Input[object]]:
    """Create everything and give the stack's outputs."""
    network = create_network(config)
    groups = create_groups(config, network)
    storage = create_storage(config)
    create_secrets(config, secret_environment or {})
    profiles = create_profiles(config, bucket_arn=storage.bucket.arn, repository_arn=storage.repository.arn)
    brokers = create_brokers(config, network, groups, profiles)
    store = create_store(config, network, groups, profiles)
    service = describe_service(config, storage)
    web = create_web(config, network, groups, profiles, service)
    workers = create_workers(config, network, groups, profiles, service)
    scheme = "https" if config.serves_https else "http"
    return {
        "url": pulumi.Output.concat(f"{scheme}://", web.balancer.dns_name),
        "repository": storage.repository.repository_url,
        "bucket": storage.bucket.id,
        "brokers": [broker.id for broker in brokers],
        "store": store.id,
        "webGroup": web.group.name,
        "workerGroups": {name: group.name for name, group in workers.items()},
        "queues": {crew.name: list(crew.queues) for crew in crews(config)},
        "metricNamespace": metric_namespace(config),
    }
