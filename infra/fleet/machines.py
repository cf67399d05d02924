"""The two forms a machine takes: one that keeps data and its disk, and one of a group that comes and goes.

Must not know roles. Encrypted disks, IMDSv2 and no public address are decided here, once.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from fleet.config import FleetConfig
from fleet.network import Network

_DEBIAN = "136693071363"  # Debian's account, https://wiki.debian.org/Cloud/AmazonEC2Image
_ROOT_GIB = 12
_HOPS = 1  # containers share the machine's network, so the metadata service never answers one hop further


@dataclass(frozen=True, slots=True)
class Keeper:
    """A machine whose data outlives it, on a volume of its own."""

    name: str
    zone_number: int
    instance_type: str
    volume: aws.ebs.Volume
    profile: aws.iam.InstanceProfile
    group: aws.ec2.SecurityGroup


def debian_image(config: FleetConfig) -> pulumi.Input[str]:
    if config.ami_id:
        return config.ami_id
    return aws.ec2.get_ami_output(
        most_recent=True,
        owners=[_DEBIAN],
        filters=[
            aws.ec2.GetAmiFilterArgs(name="name", values=["debian-13-amd64-*"]),
            aws.ec2.GetAmiFilterArgs(name="virtualization-type", values=["hvm"]),
        ],
    ).id


def create_volume(config: FleetConfig, name: str, *, zone_number: int, size_gib: int) -> aws.ebs.Volume:
    return aws.ebs.Volume(
        name,
        availability_zone=config.zones[zone_number],
        size=size_gib,
        type="gp3",
        encrypted=True,
        tags={"Name": f"{config.prefix}-{name}", "taskservice": config.stack},
        opts=pulumi.ResourceOptions(protect=config.stack == "prod"),
    )


def create_keeper(
    config: FleetConfig, network: Network, keeper: Keeper, *, user_data: pulumi.Input[str]
) -> aws.ec2.Instance:
    """Its name resolves in the private zone. A newer Debian image or other user data does not replace it."""
    instance = aws.ec2.Instance(
        keeper.name,
        ami=debian_image(config),
        instance_type=keeper.instance_type,
        subnet_id=network.private[keeper.zone_number].id,
        vpc_security_group_ids=[keeper.group.id],
        iam_instance_profile=keeper.profile.name,
        associate_public_ip_address=False,
        key_name=config.ssh_key_name or None,
        user_data=user_data,
        metadata_options=aws.ec2.InstanceMetadataOptionsArgs(http_tokens="required", http_put_response_hop_limit=_HOPS),
        root_block_device=aws.ec2.InstanceRootBlockDeviceArgs(volume_type="gp3", volume_size=_ROOT_GIB, encrypted=True),
        tags={"Name": f"{config.prefix}-{keeper.name}"},
        opts=pulumi.ResourceOptions(ignore_changes=["ami", "userData"]),
    )
    aws.ec2.VolumeAttachment(
        keeper.name,
        device_name="/dev/sdf",
        instance_id=instance.id,
        volume_id=keeper.volume.id,
        stop_instance_before_detaching=True,
    )
    aws.route53.Record(
        keeper.name,
        zone_id=network.names.zone_id,
        name=f"{keeper.name}.{config.domain}",
        type="A",
        ttl=30,
        records=[instance.private_ip],
    )
    return instance


def create_template(
    config: FleetConfig,
    name: str,
    *,
    instance_type: str,
    profile: aws.iam.InstanceProfile,
    group: aws.ec2.SecurityGroup,
    user_data: pulumi.Input[str],
) -> aws.ec2.LaunchTemplate:
    return aws.ec2.LaunchTemplate(
        name,
        name_prefix=f"{config.prefix}-{name}-",
        image_id=debian_image(config),
        instance_type=instance_type,
        key_name=config.ssh_key_name or None,
        user_data=pulumi.Output.from_input(user_data).apply(_base64),
        iam_instance_profile=aws.ec2.LaunchTemplateIamInstanceProfileArgs(arn=profile.arn),
        metadata_options=aws.ec2.LaunchTemplateMetadataOptionsArgs(
            http_endpoint="enabled", http_tokens="required", http_put_response_hop_limit=_HOPS
        ),
        network_interfaces=[
            aws.ec2.LaunchTemplateNetworkInterfaceArgs(
                device_index=0, associate_public_ip_address="false", security_groups=[group.id]
            )
        ],
        block_device_mappings=[
            aws.ec2.LaunchTemplateBlockDeviceMappingArgs(
                device_name="/dev/xvda",
                ebs=aws.ec2.LaunchTemplateBlockDeviceMappingEbsArgs(
                    volume_size=_ROOT_GIB, volume_type="gp3", encrypted="true", delete_on_termination="true"
                ),
            )
        ],
        tag_specifications=[
            aws.ec2.LaunchTemplateTagSpecificationArgs(
                resource_type="instance", tags={"Name": f"{config.prefix}-{name}"}
            )
        ],
    )


def create_group(
    config: FleetConfig,
    network: Network,
    name: str,
    *,
    template: aws.ec2.LaunchTemplate,
    minimum: int,
    maximum: int,
    target_group: aws.lb.TargetGroup | None = None,
) -> aws.autoscaling.Group:
    """A changed template replaces the machines one after the other, never all of them at once."""
    return aws.autoscaling.Group(
        name,
        name_prefix=f"{config.prefix}-{name}-",
        min_size=minimum,
        max_size=maximum,
        vpc_zone_identifiers=[subnet.id for subnet in network.private],
        launch_template=aws.autoscaling.GroupLaunchTemplateArgs(
            id=template.id, version=template.latest_version.apply(str)
        ),
        target_group_arns=[target_group.arn] if target_group else None,
        health_check_type="ELB" if target_group else "EC2",
        health_check_grace_period=3600,  # people push the image and make the first API key meanwhile
        default_instance_warmup=300,
        # What the policies that follow queue depth divide by.
        enabled_metrics=[aws.autoscaling.Metric.GROUP_IN_SERVICE_INSTANCES],
        metrics_granularity="1Minute",
        wait_for_capacity_timeout="0",  # the image may be pushed only after this
        instance_refresh=aws.autoscaling.GroupInstanceRefreshArgs(
            strategy="Rolling",
            preferences=aws.autoscaling.GroupInstanceRefreshPreferencesArgs(
                min_healthy_percentage=100, max_healthy_percentage=200, instance_warmup="300"
            ),
        ),
        tags=[aws.autoscaling.GroupTagArgs(key="taskservice", value=config.stack, propagate_at_launch=True)],
    )


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
