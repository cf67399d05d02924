"""The network: public subnets for the balancer and the way out, private ones for every machine, and names inside.

Must not know which machines there will be.
"""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from fleet.config import FleetConfig

_NETWORK = "10.40.0.0/16"


@dataclass(frozen=True, slots=True)
class Network:
    """Subnets are in the order of the configuration's zones."""

    vpc: aws.ec2.Vpc
    public: tuple[aws.ec2.Subnet, ...]
    private: tuple[aws.ec2.Subnet, ...]
    names: aws.route53.Zone


def create_network(config: FleetConfig) -> Network:
    vpc = aws.ec2.Vpc(
        "vpc", cidr_block=_NETWORK, enable_dns_hostnames=True, enable_dns_support=True, tags={"Name": config.prefix}
    )
    public = _subnets(config, vpc, kind="public", first=0)
    private = _subnets(config, vpc, kind="private", first=100)
    _lead_out(config, vpc, public, private)
    names = aws.route53.Zone("names", name=config.domain, vpcs=[aws.route53.ZoneVpcArgs(vpc_id=vpc.id)])
    return Network(vpc=vpc, public=public, private=private, names=names)


def _subnets(config: FleetConfig, vpc: aws.ec2.Vpc, *, kind: str, first: int) -> tuple[aws.ec2.Subnet, ...]:
    """No machine gets a public address, in the public ones neither: the balancer and the NAT gateway bring theirs."""
    return tuple(
        aws.ec2.Subnet(
            f"{kind}-{number}",
            vpc_id=vpc.id,
            cidr_block=f"10.40.{first + number}.0/24",
            availability_zone=zone,
            map_public_ip_on_launch=False,
            tags={"Name": f"{config.prefix}-{kind}-{number}"},
        )
        for number, zone in enumerate(config.zones)
    )


def _lead_out(
    config: FleetConfig, vpc: aws.ec2.Vpc, public: tuple[aws.ec2.Subnet, ...], private: tuple[aws.ec2.Subnet, ...]
) -> None:
    """One NAT gateway: machines need it to install packages and pull images, not while they work."""
    gateway = aws.ec2.InternetGateway("internet", vpc_id=vpc.id)
    address = aws.ec2.Eip("nat", domain="vpc")
    nat = aws.ec2.NatGateway(
        "nat", allocation_id=address.id, subnet_id=public[0].id, opts=pulumi.ResourceOptions(depends_on=[gateway])
    )
    outside = aws.ec2.RouteTable(
        "public", vpc_id=vpc.id, routes=[aws.ec2.RouteTableRouteArgs(cidr_block="0.0.0.0/0", gateway_id=gateway.id)]
    )
    inside = aws.ec2.RouteTable(
        "private", vpc_id=vpc.id, routes=[aws.ec2.RouteTableRouteArgs(cidr_block="0.0.0.0/0", nat_gateway_id=nat.id)]
    )
    for number, (outer, inner) in enumerate(zip(public, private, strict=True)):
        aws.ec2.RouteTableAssociation(f"public-{number}", subnet_id=outer.id, route_table_id=outside.id)
        aws.ec2.RouteTableAssociation(f"private-{number}", subnet_id=inner.id, route_table_id=inside.id)
    # Files go to S3 directly and cost no NAT traffic.
    aws.ec2.VpcEndpoint(
        "s3",
        vpc_id=vpc.id,
        service_name=f"com.amazonaws.{config.region}.s3",
        vpc_endpoint_type="Gateway",
        route_table_ids=[inside.id],
    )
