"""One or three RabbitMQ machines, each in a zone of its own.

Must not know who publishes and who consumes.
"""

from __future__ import annotations

import pulumi
import pulumi_aws as aws

from fleet import user_data
from fleet.config import FleetConfig
from fleet.identity import Profiles, metric_namespace, parameter_path
from fleet.machines import Keeper, create_keeper, create_volume
from fleet.network import Network
from fleet.security import Groups


def create_brokers(
    config: FleetConfig, network: Network, groups: Groups, profiles: Profiles
) -> tuple[aws.ec2.Instance, ...]:
    return tuple(
        _broker(config, network, groups, profiles, number=number, host=host)
        for number, host in enumerate(config.broker_hosts)
    )


def _broker(
    config: FleetConfig, network: Network, groups: Groups, profiles: Profiles, *, number: int, host: str
) -> aws.ec2.Instance:
    name = host.partition(".")[0]
    volume = create_volume(config, name, zone_number=number, size_gib=config.broker_volume_gib)
    keeper = Keeper(
        name=name,
        zone_number=number,
        instance_type=config.broker_instance_type,
        volume=volume,
        profile=profiles.broker,
        group=groups.broker,
    )
    return create_keeper(config, network, keeper, user_data=_user_data(config, host, volume))


def _user_data(config: FleetConfig, host: str, volume: aws.ebs.Volume) -> pulumi.Output[str]:
    site = user_data.Site(config.region, parameter_path(config, "broker"), config.broker_hosts)
    return volume.id.apply(
        lambda volume_id: user_data.broker(
            site,
            host=host,
            image=config.broker_image,
            metric_namespace=metric_namespace(config),
            data_volume=volume_id,
        )
    )
