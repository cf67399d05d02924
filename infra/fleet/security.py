"""Who may talk to whom: one security group per role, and rules that name groups, not addresses.

Must not open anything to the world but the balancer's port, and that only to the configured networks.
"""

from __future__ import annotations

from dataclasses import dataclass

import pulumi_aws as aws

from fleet.config import FleetConfig
from fleet.network import Network

WEB_PORT = 5000
AMQP_PORT = 5672
REDIS_PORT = 6379
CLUSTER_PORTS = (4369, 25672)  # how RabbitMQ nodes find and talk to each other
SSH_PORT = 22


@dataclass(frozen=True, slots=True)
class Groups:
    balancer: aws.ec2.SecurityGroup
    web: aws.ec2.SecurityGroup
    worker: aws.ec2.SecurityGroup
    broker: aws.ec2.SecurityGroup
    store: aws.ec2.SecurityGroup


def create_groups(config: FleetConfig, network: Network) -> Groups:
    groups = Groups(
        **{
            role: aws.ec2.SecurityGroup(
                role,
                vpc_id=network.vpc.id,
                description=f"{config.prefix} {role}",
                # Only rules of their own: an empty list would be undone by the rules below at every update.
                tags={"Name": f"{config.prefix}-{role}"},
            )
            for role in ("balancer", "web", "worker", "broker", "store")
        }
    )
    _let_clients_in(config, groups)
    _let_machines_talk(groups)
    _let_machines_out(groups)
    if config.ssh_key_name:
        _let_operators_in(network, groups)
    return groups


def _let_clients_in(config: FleetConfig, groups: Groups) -> None:
    ports = (443, 80) if config.serves_https else (80,)
    for port in ports:
        for number, cidr in enumerate(config.allowed_cidrs):
            aws.vpc.SecurityGroupIngressRule(
                f"balancer-{port}-{number}",
                security_group_id=groups.balancer.id,
                ip_protocol="tcp",
                from_port=port,
                to_port=port,
                cidr_ipv4=cidr,
            )


def _let_machines_talk(groups: Groups) -> None:
    _allow("balancer-to-web", groups.balancer, groups.web, WEB_PORT)
    aws.vpc.SecurityGroupEgressRule(
        "balancer-to-web",
        security_group_id=groups.balancer.id,
        ip_protocol="tcp",
        from_port=WEB_PORT,
        to_port=WEB_PORT,
        referenced_security_group_id=groups.web.id,
    )
    for role, group in (("web", groups.web), ("worker", groups.worker)):
        _allow(f"{role}-to-broker", group, groups.broker, AMQP_PORT)
        _allow(f"{role}-to-store", group, groups.store, REDIS_PORT)
    for port in (AMQP_PORT, *CLUSTER_PORTS):  # AMQP: an empty node waits until the first one takes messages
        _allow(f"broker-to-broker-{port}", groups.broker, groups.broker, port)


def _let_machines_out(groups: Groups) -> None:
    """Packages, images, Parameter Store, mail servers, webhooks."""
    for role in ("web", "worker", "broker", "store"):
        aws.vpc.SecurityGroupEgressRule(
            f"{role}-out", security_group_id=getattr(groups, role).id, ip_protocol="-1", cidr_ipv4="0.0.0.0/0"
        )


def _let_operators_in(network: Network, groups: Groups) -> None:
    """AWS checks who may use the endpoint; no machine has a public address and no SSH port is open to one."""
    endpoint = aws.ec2.SecurityGroup("operator", vpc_id=network.vpc.id, description="Instance Connect Endpoint")
    for role in ("web", "worker", "broker", "store"):
        group = getattr(groups, role)
        _allow(f"operator-to-{role}", endpoint, group, SSH_PORT)
        aws.vpc.SecurityGroupEgressRule(
            f"operator-to-{role}",
            security_group_id=endpoint.id,
            ip_protocol="tcp",
            from_port=SSH_PORT,
            to_port=SSH_PORT,
            referenced_security_group_id=group.id,
        )
    aws.ec2transitgateway.InstanceConnectEndpoint(
        "operator", subnet_id=network.private[0].id, security_group_ids=[endpoint.id], preserve_client_ip=False
    )


def _allow(name: str, source: aws.ec2.SecurityGroup, target: aws.ec2.SecurityGroup, port: int) -> None:
    aws.vpc.SecurityGroupIngressRule(
        name,
        security_group_id=target.id,
        ip_protocol="tcp",
        from_port=port,
        to_port=port,
        referenced_security_group_id=source.id,
    )
