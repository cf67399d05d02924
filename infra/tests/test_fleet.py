"""The whole program over Pulumi's mocks: what it makes, and that no policy complains.

Must not need the pulumi command, AWS or a network.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from fleet import policy
from fleet.config import FleetConfig, WorkerGroup
from fleet.policy import Resource
from tests.cloud import RANDOM, run_fleet

SMALL = FleetConfig(stack="test", allowed_cidrs=("203.0.113.0/24",))
LARGE = replace(
    SMALL,
    allowed_cidrs=("0.0.0.0/0",),
    certificate_arn="arn:aws:acm:ap-southeast-1:123456789012:certificate/1",
    brokers=3,
    dedicated={"email_sending": WorkerGroup(maximum=2, concurrency=2)},
    ssh_key_name="operator",
    environment={"SMTP_HOST": "mail.example.org"},
)

_CONFIGS = {"small": SMALL, "large": LARGE}


@cache
def fleet(size: str) -> tuple[list[Resource], dict[str, Any]]:
    return run_fleet(_CONFIGS[size])


@pytest.mark.parametrize("size", ["small", "large"])
def test_no_policy_complains(size: str) -> None:
    resources, _ = fleet(size)

    assert policy.violations(resources) == []


@pytest.mark.parametrize(("size", "brokers"), [("small", 1), ("large", 3)])
def test_each_broker_has_a_zone_a_name_and_a_disk_of_its_own(size: str, brokers: int) -> None:
    resources, outputs = fleet(size)

    machines = [machine for machine in _of(resources, "ec2/instance") if machine.name.startswith("broker")]
    names = {record.inputs["name"] for record in _of(resources, "route53/record")}

    assert len(outputs["brokers"]) == len(machines) == brokers
    assert len({machine.inputs["subnetId"] for machine in machines}) == brokers
    assert {f"broker-{number}.test.taskservice.internal" for number in range(1, brokers + 1)} <= names
    assert {"store", *(machine.name for machine in machines)} == {
        volume.name for volume in _of(resources, "ebs/volume")
    }


def test_groups_name_each_other_and_only_the_balancer_names_networks() -> None:
    resources, _ = fleet("large")

    rules = _of(resources, "vpc/securityGroupIngressRule")
    by_network = {rule.inputs["securityGroupId"] for rule in rules if "cidrIpv4" in rule.inputs}
    edges = {
        (rule.inputs["referencedSecurityGroupId"], rule.inputs["securityGroupId"], rule.inputs["fromPort"])
        for rule in rules
        if "referencedSecurityGroupId" in rule.inputs and rule.inputs["fromPort"] != 22
    }

    assert by_network == {"balancer-id"}
    assert edges == {
        ("balancer-id", "web-id", 5000),
        ("web-id", "broker-id", 5672),
        ("web-id", "store-id", 6379),
        ("worker-id", "broker-id", 5672),
        ("worker-id", "store-id", 6379),
        ("broker-id", "broker-id", 4369),
        ("broker-id", "broker-id", 5672),
        ("broker-id", "broker-id", 25672),
    }


def test_ssh_is_open_only_to_the_endpoint_and_only_when_a_key_is_named() -> None:
    with_key, without = (
        [rule for rule in _of(fleet(size)[0], "vpc/securityGroupIngressRule") if rule.inputs["fromPort"] == 22]
        for size in ("large", "small")
    )

    assert without == []
    assert {rule.inputs["referencedSecurityGroupId"] for rule in with_key} == {"operator-id"}


def test_every_queue_has_workers_and_a_dedicated_type_has_its_own() -> None:
    resources, _ = fleet("large")

    consumed = {
        template.name: _variable(policy.user_data_of(template), "QUEUES")
        for template in _of(resources, "ec2/launchTemplate")
        if template.name != "web"
    }

    assert consumed == {
        "worker-high": "high_priority",
        "worker-normal": "normal_priority",
        "worker-low": "low_priority",
        "worker-email-sending": "high_priority.email_sending,normal_priority.email_sending,low_priority.email_sending",
    }


def test_each_group_of_workers_follows_the_depth_of_its_own_queues() -> None:
    resources, _ = fleet("large")

    policies = {item.name: item.inputs for item in _of(resources, "autoscaling/policy")}
    watched = {
        name: [
            dimension["value"]
            for metric in inputs["targetTrackingConfiguration"]["customizedMetricSpecification"]["metrics"]
            if "metricStat" in metric
            for dimension in metric["metricStat"]["metric"]["dimensions"]
            if dimension["name"] == "Queue"
        ]
        for name, inputs in policies.items()
        if name != "web"
    }

    assert watched["worker-high"] == ["high_priority"]
    assert watched["worker-email-sending"] == [f"{name}_priority.email_sending" for name in ("high", "normal", "low")]
    assert policies["worker-low"]["targetTrackingConfiguration"]["targetValue"] == 20


def test_the_queues_that_are_watched_are_those_that_the_brokers_report() -> None:
    resources, outputs = fleet("large")

    broker = next(machine for machine in _of(resources, "ec2/instance") if machine.name == "broker-1")

    assert _variable(policy.user_data_of(broker), "METRIC_NAMESPACE") == outputs["metricNamespace"]
    assert "/_priority/" in policy.user_data_of(broker)


def test_web_and_workers_know_every_broker_the_store_and_the_bucket() -> None:
    resources, outputs = fleet("large")

    for template in _of(resources, "ec2/launchTemplate"):
        text = policy.user_data_of(template)
        environment = _variable(text, "SERVICE_ENVIRONMENT")

        assert _variable(text, "BROKER_HOSTS").split() == [
            f"broker-{number}.test.taskservice.internal" for number in (1, 2, 3)
        ]
        assert "REDIS_HOST=store.test.taskservice.internal" in environment.splitlines()
        assert f"FILES_URL=s3://{outputs['bucket']}/files" in environment.splitlines()
        assert "DEDICATED_TASK_TYPES=email_sending" in environment.splitlines()
        assert "SMTP_HOST=mail.example.org" in environment.splitlines()


def test_the_web_knows_that_it_can_be_reached_and_that_the_balancer_says_by_whom() -> None:
    web = next(template for template in _of(fleet("small")[0], "ec2/launchTemplate") if template.name == "web")

    environment = _variable(policy.user_data_of(web), "SERVICE_ENVIRONMENT").splitlines()
    assert {"BIND_ADDRESS=0.0.0.0", "TRUSTED_PROXIES=1"} <= set(environment)


def test_secrets_are_random_and_each_role_reads_its_own_path_only() -> None:
    resources, _ = fleet("small")

    parameters = {item.inputs["name"]: item.inputs["value"] for item in _of(resources, "ssm/parameter")}
    paths = {
        item.name: [
            statement["Resource"].partition(":parameter")[2]
            for statement in json.loads(item.inputs["policy"])["Statement"]
            if statement["Action"] == "ssm:GetParametersByPath"
        ]
        for item in _of(resources, "iam/rolePolicy")
    }

    assert paths == {kind: [f"/taskservice/test/{kind}"] for kind in ("broker", "store", "service")}
    assert parameters["/taskservice/test/store/REDIS_PASSWORD"].startswith(RANDOM)
    assert (
        parameters["/taskservice/test/broker/RABBITMQ_DEFAULT_PASS"]
        == (parameters["/taskservice/test/service/RABBITMQ_PASSWORD"])
    )


def test_https_is_served_with_a_certificate_and_http_only_redirects() -> None:
    listeners = {item.inputs["port"]: item.inputs for item in _of(fleet("large")[0], "lb/listener")}

    assert listeners[443]["protocol"] == "HTTPS"
    assert [action["type"] for action in listeners[80]["defaultActions"]] == ["redirect"]


def test_the_outputs_say_where_everything_is() -> None:
    _, outputs = fleet("small")

    assert outputs["url"] == "http://balancer.example.org"
    assert set(outputs["workerGroups"]) == {"high", "normal", "low"}
    assert all(outputs[name] for name in ("repository", "bucket", "store", "webGroup", "metricNamespace"))


Spoil = Callable[[dict[str, Any]], object]

# Each policy must see the fault it is for, else a green run says nothing.
FAULTS: list[tuple[str, str, Spoil, str]] = [
    ("securityGroupIngressRule", "web-to-broker", lambda i: i.update(cidrIpv4="0.0.0.0/0"), "open to the world"),
    ("securityGroupIngressRule", "web-to-store", lambda i: i.update(cidrIpv6="::/0"), "open to the world"),
    ("securityGroupIngressRule", "balancer-443-0", lambda i: i.update(toPort=65535), "80 and 443 only"),
    ("securityGroup:", "broker", lambda i: i.update(ingress=[{"cidrBlocks": ["0.0.0.0/0"]}]), "rules inside a group"),
    ("listener", "http", lambda i: i.update(defaultActions=[{"type": "forward"}]), "over HTTP"),
    ("ec2/instance", "broker-1", lambda i: i.update(associatePublicIpAddress=True), "public address"),
    ("ec2/instance", "broker-1", lambda i: i.update(subnetId="public-0-id"), "public subnet"),
    ("launchTemplate", "web", lambda i: i["networkInterfaces"][0].pop("associatePublicIpAddress"), "public address"),
    ("autoscaling/group", "worker-low", lambda i: i.update(vpcZoneIdentifiers=["public-1-id"]), "public subnet"),
    ("ec2/instance", "store", lambda i: i["rootBlockDevice"].update(encrypted=False), "not encrypted"),
    ("ebs/volume", "store", lambda i: i.pop("encrypted"), "not encrypted"),
    ("launchTemplate", "web", lambda i: i.pop("blockDeviceMappings"), "not encrypted"),
    ("ec2/instance", "store", lambda i: i["metadataOptions"].update(httpTokens="optional"), "without a token"),
    ("launchTemplate", "worker-high", lambda i: i.pop("metadataOptions"), "without a token"),
    ("bucketPublicAccessBlock", "files", lambda i: i.update(blockPublicPolicy=False), "not blocked"),
    ("ssm/parameter", "store-REDIS_PASSWORD", lambda i: i.update(type="String"), "SecureString"),
    ("ec2/instance", "store", lambda i: i.update(userData=f"{RANDOM}-redis-password"), "holds a secret"),
    ("ec2/instance", "store", lambda i: i.update(userData="x" * 16_385), "longer than EC2 takes"),
    (
        "iam/rolePolicy",
        "store",
        lambda i: i.update(policy='{"Statement": [{"Action": "s3:*", "Resource": "*"}]}'),
        "an action with *",
    ),
]


@pytest.mark.parametrize(("type_", "name", "spoil", "complaint"), FAULTS)
def test_a_policy_sees_the_fault_it_is_for(type_: str, name: str, spoil: Spoil, complaint: str) -> None:
    resources = [replace(item, inputs=json.loads(json.dumps(item.inputs))) for item in fleet("large")[0]]
    spoiled = next(item for item in resources if type_ in item.type and item.name == name)

    spoil(spoiled.inputs)

    assert any(name in line and complaint in line for line in policy.violations(resources))


def _of(resources: Sequence[Resource], kind: str) -> list[Resource]:
    return [resource for resource in resources if resource.type.startswith(f"aws:{kind}:")]


def _variable(text: str, name: str) -> str:
    """What the rendered user data gives the variable, quoting undone."""
    words = shlex.split(text.partition("\n# What every machine")[0])
    assignment = next(word for word in words if word.startswith(f"{name}="))
    return assignment.partition("=")[2]
