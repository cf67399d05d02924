"""The workers: a group of machines per queue, more for the task types that have queues of their own.

Must not know the web. Each group follows the depth of its queues, which the brokers send to CloudWatch.
"""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from fleet import user_data
from fleet.config import PRIORITIES, FleetConfig, WorkerGroup
from fleet.identity import Profiles, metric_namespace
from fleet.machines import create_group, create_template
from fleet.network import Network
from fleet.security import Groups
from fleet.service import Service

_Metric = aws.autoscaling.PolicyTargetTrackingConfigurationCustomizedMetricSpecificationMetricArgs
_Stat = aws.autoscaling.PolicyTargetTrackingConfigurationCustomizedMetricSpecificationMetricMetricStatArgs
_Named = aws.autoscaling.PolicyTargetTrackingConfigurationCustomizedMetricSpecificationMetricMetricStatMetricArgs
_Dimension = (
    aws.autoscaling.PolicyTargetTrackingConfigurationCustomizedMetricSpecificationMetricMetricStatMetricDimensionArgs
)


@dataclass(frozen=True, slots=True)
class Crew:
    """The workers of some queues."""

    name: str
    queues: tuple[str, ...]
    size: WorkerGroup


def crews(config: FleetConfig) -> tuple[Crew, ...]:
    """One per priority, then one per dedicated task type, which serves that type's queue of every priority."""
    shared = [Crew(name, (f"{name}_priority",), config.workers[name]) for name in PRIORITIES]
    dedicated = [
        Crew(task_type.replace("_", "-"), tuple(f"{name}_priority.{task_type}" for name in PRIORITIES), size)
        for task_type, size in sorted(config.dedicated.items())
    ]
    return (*shared, *dedicated)


def create_workers(
    config: FleetConfig, network: Network, groups: Groups, profiles: Profiles, service: Service
) -> dict[str, aws.autoscaling.Group]:
    """By the crew's name."""
    return {crew.name: _create_crew(config, network, groups, profiles, service, crew) for crew in crews(config)}


def _create_crew(
    config: FleetConfig, network: Network, groups: Groups, profiles: Profiles, service: Service, crew: Crew
) -> aws.autoscaling.Group:
    template = create_template(
        config,
        f"worker-{crew.name}",
        instance_type=crew.size.instance_type,
        profile=profiles.service,
        group=groups.worker,
        user_data=_user_data(service, crew),
    )
    group = create_group(
        config,
        network,
        f"worker-{crew.name}",
        template=template,
        minimum=crew.size.minimum,
        maximum=crew.size.maximum,
    )
    _follow_depth(config, crew, group)
    return group


def _user_data(service: Service, crew: Crew) -> pulumi.Output[str]:
    return pulumi.Output.all(image=service.image, environment=service.environment).apply(
        lambda known: user_data.worker(
            service.site,
            image=known["image"],
            environment=known["environment"],
            name=crew.name,
            queues=crew.queues,
            concurrency=crew.size.concurrency,
        )
    )


def _follow_depth(config: FleetConfig, crew: Crew, group: aws.autoscaling.Group) -> None:
    """Tasks that wait or run, per machine. A machine that goes lets its tasks finish or hands them back."""
    depths = [_depth(config, number, queue) for number, queue in enumerate(crew.queues)]
    waiting = " + ".join(f"depth{number}" for number in range(len(crew.queues)))
    aws.autoscaling.Policy(
        f"worker-{crew.name}",
        autoscaling_group_name=group.name,
        policy_type="TargetTrackingScaling",
        estimated_instance_warmup=300,
        target_tracking_configuration=aws.autoscaling.PolicyTargetTrackingConfigurationArgs(
            target_value=crew.size.backlog_per_machine,
            customized_metric_specification=(
                aws.autoscaling.PolicyTargetTrackingConfigurationCustomizedMetricSpecificationArgs(
                    metrics=[*depths, _machines(group), _Metric(id="backlog", expression=f"({waiting}) / machines")]
                )
            ),
        ),
    )


def _depth(config: FleetConfig, number: int, queue: str) -> _Metric:
    named = _Named(
        namespace=metric_namespace(config),
        metric_name="QueueDepth",
        dimensions=[_Dimension(name="Queue", value=queue)],
    )
    return _Metric(id=f"depth{number}", metric_stat=_Stat(metric=named, stat="Average"), return_data=False)


def _machines(group: aws.autoscaling.Group) -> _Metric:
    named = _Named(
        namespace="AWS/AutoScaling",
        metric_name="GroupInServiceInstances",
        dimensions=[_Dimension(name="AutoScalingGroupName", value=group.name)],
    )
    return _Metric(id="machines", metric_stat=_Stat(metric=named, stat="Average"), return_data=False)
