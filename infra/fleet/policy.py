"""What no fleet may be, as plain functions over the resources a program made.

Must not know Pulumi: each resource is its type and its inputs, as the provider would get them.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fleet.config import WORLD
from fleet.user_data import MAX_BYTES

_BALANCER_PORTS = {80, 443}
_KNOWS_NO_RESOURCES = {"ecr:GetAuthorizationToken", "cloudwatch:PutMetricData"}

_INSTANCE = "aws:ec2/instance:Instance"
_TEMPLATE = "aws:ec2/launchTemplate:LaunchTemplate"


@dataclass(frozen=True, slots=True)
class Resource:
    """`inputs` carry the provider's names (camelCase) and are resolved."""

    type: str
    name: str
    id: str
    inputs: dict[str, Any]


Check = Callable[[Sequence[Resource]], Iterator[str]]


def violations(resources: Sequence[Resource]) -> list[str]:
    """Everything that is wrong, each with the resource's name; empty means the fleet may be made."""
    return [complaint for check in CHECKS for complaint in check(resources)]


def only_the_balancer_is_open_to_the_world(resources: Sequence[Resource]) -> Iterator[str]:
    balancer_groups = _balancer_groups(resources)
    for rule in _of(resources, "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"):
        if not _is_world(rule.inputs):
            continue
        if rule.inputs["securityGroupId"] not in balancer_groups:
            yield f"{rule.name}: open to the world, and not on the balancer"
        elif (
            rule.inputs.get("fromPort") != rule.inputs.get("toPort")
            or rule.inputs.get("fromPort") not in _BALANCER_PORTS
        ):
            yield f"{rule.name}: the balancer may be open on 80 and 443 only"
    for group in _of(resources, "aws:ec2/securityGroup:SecurityGroup"):
        if group.inputs.get("ingress"):
            yield f"{group.name}: rules inside a group are not looked at; make them resources of their own"


def what_is_open_to_the_world_is_encrypted(resources: Sequence[Resource]) -> Iterator[str]:
    rules = _of(resources, "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule")
    if not any(_is_world(rule.inputs) for rule in rules):
        return
    for listener in _of(resources, "aws:lb/listener:Listener"):
        redirects = all(action["type"] == "redirect" for action in listener.inputs["defaultActions"])
        if listener.inputs["protocol"] != "HTTPS" and not redirects:
            yield f"{listener.name}: serves the world over {listener.inputs['protocol']}"


def no_machine_is_public(resources: Sequence[Resource]) -> Iterator[str]:
    """Neither by its own address nor by its subnet; and nothing but the web's balancer faces the internet."""
    routed_out = _public_subnets(resources)
    for instance in _of(resources, _INSTANCE):
        if instance.inputs.get("associatePublicIpAddress") is not False:
            yield f"{instance.name}: may get a public address"
        if instance.inputs.get("subnetId") in routed_out:
            yield f"{instance.name}: is in a public subnet"
    for template in _of(resources, _TEMPLATE):
        for interface in template.inputs.get("networkInterfaces") or [{}]:
            if str(interface.get("associatePublicIpAddress")).lower() != "false":
                yield f"{template.name}: may get a public address"
    for group in _of(resources, "aws:autoscaling/group:Group"):
        if set(group.inputs["vpcZoneIdentifiers"]) & routed_out:
            yield f"{group.name}: is in a public subnet"
    for subnet in _of(resources, "aws:ec2/subnet:Subnet"):
        if subnet.inputs.get("mapPublicIpOnLaunch"):
            yield f"{subnet.name}: gives public addresses away"
    for balancer in _of(resources, "aws:lb/loadBalancer:LoadBalancer"):
        if not balancer.inputs.get("internal") and balancer.inputs.get("loadBalancerType") != "application":
            yield f"{balancer.name}: faces the internet and is no web balancer"


def disks_are_encrypted(resources: Sequence[Resource]) -> Iterator[str]:
    for instance in _of(resources, _INSTANCE):
        disks = [instance.inputs.get("rootBlockDevice") or {}, *(instance.inputs.get("ebsBlockDevices") or [])]
        if not all(disk.get("encrypted") is True for disk in disks):
            yield f"{instance.name}: a disk is not encrypted"
    for template in _of(resources, _TEMPLATE):
        mappings = template.inputs.get("blockDeviceMappings") or [{}]
        if not all(str(mapping.get("ebs", {}).get("encrypted")).lower() == "true" for mapping in mappings):
            yield f"{template.name}: a disk is not encrypted"
    for volume in _of(resources, "aws:ebs/volume:Volume"):
        if volume.inputs.get("encrypted") is not True:
            yield f"{volume.name}: is not encrypted"


def metadata_needs_a_token(resources: Sequence[Resource]) -> Iterator[str]:
    """IMDSv2: a request that a service was tricked into cannot read the role's credentials."""
    for machine in (*_of(resources, _INSTANCE), *_of(resources, _TEMPLATE)):
        if (machine.inputs.get("metadataOptions") or {}).get("httpTokens") != "required":
            yield f"{machine.name}: answers metadata requests without a token (IMDSv1)"


def buckets_are_private(resources: Sequence[Resource]) -> Iterator[str]:
    blocks = {
        block.inputs["bucket"]: block.inputs
        for block in _of(resources, "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock")
    }
    switches = ("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets")
    for bucket in _of(resources, "aws:s3/bucket:Bucket"):
        if not all(blocks.get(bucket.id, {}).get(switch) is True for switch in switches):
            yield f"{bucket.name}: public access is not blocked"


def roles_name_what_they_may(resources: Sequence[Resource]) -> Iterator[str]:
    for policy in _of(resources, "aws:iam/rolePolicy:RolePolicy"):
        for statement in json.loads(policy.inputs["policy"])["Statement"]:
            actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
            if any("*" in action for action in actions):
                yield f"{policy.name}: an action with * ({', '.join(actions)})"
            if statement["Resource"] == "*" and not set(actions) <= _KNOWS_NO_RESOURCES:
                yield f"{policy.name}: any resource for {', '.join(actions)}"


def parameters_are_encrypted(resources: Sequence[Resource]) -> Iterator[str]:
    for parameter in _of(resources, "aws:ssm/parameter:Parameter"):
        if parameter.inputs.get("type") != "SecureString":
            yield f"{parameter.name}: is no SecureString"


def user_data_holds_no_secret_and_fits(resources: Sequence[Resource]) -> Iterator[str]:
    secrets = {parameter.inputs["value"] for parameter in _of(resources, "aws:ssm/parameter:Parameter")} - {
        "taskservice"
    }
    for machine in (*_of(resources, _INSTANCE), *_of(resources, _TEMPLATE)):
        text = user_data_of(machine)
        if any(secret in text for secret in secrets):
            yield f"{machine.name}: its user data holds a secret, which DescribeInstanceAttribute shows"
        if len(text.encode()) > MAX_BYTES:
            yield f"{machine.name}: its user data is longer than EC2 takes"


CHECKS: tuple[Check, ...] = (
    only_the_balancer_is_open_to_the_world,
    what_is_open_to_the_world_is_encrypted,
    no_machine_is_public,
    disks_are_encrypted,
    metadata_needs_a_token,
    buckets_are_private,
    roles_name_what_they_may,
    parameters_are_encrypted,
    user_data_holds_no_secret_and_fits,
)


def user_data_of(machine: Resource) -> str:
    """As the machine runs it: a launch template carries it in base64, an instance does not."""
    text = machine.inputs.get("userData") or ""
    return base64.b64decode(text).decode() if machine.type == _TEMPLATE else text


def _of(resources: Sequence[Resource], type_: str) -> list[Resource]:
    return [resource for resource in resources if resource.type == type_]


def _is_world(rule: dict[str, Any]) -> bool:
    return rule.get("cidrIpv4") in WORLD or rule.get("cidrIpv6") in WORLD


def _balancer_groups(resources: Sequence[Resource]) -> set[str]:
    balancers = _of(resources, "aws:lb/loadBalancer:LoadBalancer")
    return {group for balancer in balancers for group in balancer.inputs.get("securityGroups") or []}


def _public_subnets(resources: Sequence[Resource]) -> set[str]:
    """Those whose route table leads to an internet gateway."""
    tables = {
        table.id
        for table in _of(resources, "aws:ec2/routeTable:RouteTable")
        if any(route.get("gatewayId") for route in table.inputs.get("routes") or [])
    }
    return {
        association.inputs["subnetId"]
        for association in _of(resources, "aws:ec2/routeTableAssociation:RouteTableAssociation")
        if association.inputs["routeTableId"] in tables
    }
