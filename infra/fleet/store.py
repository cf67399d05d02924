"""The Redis machine.

Must not know what is kept in it.
"""

from __future__ import annotations

import pulumi_aws as aws

from fleet import user_data
from fleet.config import FleetConfig
from fleet.identity import Profiles, parameter_path
from fleet.machines import Keeper, create_keeper, create_volume
from fleet.network import Network
from fleet.security import Groups


def create_store(config: FleetConfig, network: Network, groups: Groups, profiles: Profiles) -> aws.ec2.Instance:
    volume = create_volume(config, "store", zone_number=0, size_gib=config.store_volume_gib)
    keeper = Keeper(
        name="store",
        zone_number=0,
        instance_type=config.store_instance_type,
        volume=volume,
        profile=profiles.store,
        group=groups.store,
    )
    site = user_data.Site(config.region, parameter_path(config, "store"), config.broker_hosts)
    text = volume.id.apply(lambda volume_id: user_data.store(site, image=config.store_image, data_volume=volume_id))
    return create_keeper(config, network, keeper, user_data=text)
