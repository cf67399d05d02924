"""The web machines and the balancer in front of them, the only thing here that has a public address.

Must not know the workers.
"""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from fleet import user_data
from fleet.config import FleetConfig
from fleet.identity import Profiles
from fleet.machines import create_group, create_template
from fleet.network import Network
from fleet.security import WEB_PORT, Groups
from fleet.service import Service

_CPU_TARGET_PERCENT = 60
_IDLE_S = 75  # longer than the longest ?wait=30


@dataclass(frozen=True, slots=True)
class Web:
    balancer: aws.lb.LoadBalancer
    group: aws.autoscaling.Group


def create_web(config: FleetConfig, network: Network, groups: Groups, profiles: Profiles, service: Service) -> Web:
    balancer = aws.lb.LoadBalancer(
        "web",
        name=config.prefix[:32].rstrip("-"),
        internal=False,
        load_balancer_type="application",
        security_groups=[groups.balancer.id],
        subnets=[subnet.id for subnet in network.public],
        idle_timeout=_IDLE_S,
        drop_invalid_header_fields=True,
    )
    targets = aws.lb.TargetGroup(
        "web",
        vpc_id=network.vpc.id,
        port=WEB_PORT,
        protocol="HTTP",
        deregistration_delay=40,
        # Not /readyz: while the broker is away, clients should get our 503 with Retry-After and no machine be replaced.
        health_check=aws.lb.TargetGroupHealthCheckArgs(path="/healthz", interval=10, timeout=5, healthy_threshold=2),
    )
    _listen(config, balancer, targets)
    template = create_template(
        config,
        "web",
        instance_type=config.web_instance_type,
        profile=profiles.service,
        group=groups.web,
        user_data=_user_data(service),
    )
    group = create_group(
        config,
        network,
        "web",
        template=template,
        minimum=config.web_minimum,
        maximum=config.web_maximum,
        target_group=targets,
    )
    _follow_load(group)
    return Web(balancer=balancer, group=group)


def _user_data(service: Service) -> pulumi.Output[str]:
    return pulumi.Output.all(image=service.image, environment=service.environment).apply(
        lambda known: user_data.web(service.site, image=known["image"], environment=known["environment"])
    )


def _listen(config: FleetConfig, balancer: aws.lb.LoadBalancer, targets: aws.lb.TargetGroup) -> None:
    forward = aws.lb.ListenerDefaultActionArgs(type="forward", target_group_arn=targets.arn)
    if not config.serves_https:
        aws.lb.Listener("http", load_balancer_arn=balancer.arn, port=80, protocol="HTTP", default_actions=[forward])
        return
    aws.lb.Listener(
        "https",
        load_balancer_arn=balancer.arn,
        port=443,
        protocol="HTTPS",
        ssl_policy="ELBSecurityPolicy-TLS13-1-2-2021-06",
        certificate_arn=config.certificate_arn,
        default_actions=[forward],
    )
    redirect = aws.lb.ListenerDefaultActionArgs(
        type="redirect",
        redirect=aws.lb.ListenerDefaultActionRedirectArgs(port="443", protocol="HTTPS", status_code="HTTP_301"),
    )
    aws.lb.Listener("http", load_balancer_arn=balancer.arn, port=80, protocol="HTTP", default_actions=[redirect])


def _follow_load(group: aws.autoscaling.Group) -> None:
    aws.autoscaling.Policy(
        "web",
        autoscaling_group_name=group.name,
        policy_type="TargetTrackingScaling",
        target_tracking_configuration=aws.autoscaling.PolicyTargetTrackingConfigurationArgs(
            predefined_metric_specification=(
                aws.autoscaling.PolicyTargetTrackingConfigurationPredefinedMetricSpecificationArgs(
                    predefined_metric_type="ASGAverageCPUUtilization"
                )
            ),
            target_value=_CPU_TARGET_PERCENT,
        ),
    )
