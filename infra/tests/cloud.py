"""A program run against nothing: every resource it makes is kept, with made-up ids for what AWS would name.

Must not know what the fleet should look like.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pulumi
import pulumi.runtime
from pulumi.runtime import mocks, rpc, settings

from fleet.config import FleetConfig
from fleet.policy import Resource
from fleet.program import build_fleet

RANDOM = "made-up-random-value"


class Cloud(mocks.Mocks):
    """Pulumi's mocks: what a provider would answer, and a list of what it was asked for."""

    def __init__(self) -> None:
        self.resources: list[Resource] = []

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        resource_id = f"{args.name}-id"
        inputs = _revealed(args.inputs)
        self.resources.append(Resource(type=args.typ, name=args.name, id=resource_id, inputs=inputs))
        return resource_id, {**args.inputs, **_answer(args)}

    def call(self, args: mocks.MockCallArgs) -> tuple[dict[str, Any], list[tuple[str, str]]]:
        if args.token == "aws:ec2/getAmi:getAmi":
            return {"id": "ami-0123456789abcdef0", **args.args}, []
        if args.token == "aws:index/getCallerIdentity:getCallerIdentity":
            return {"accountId": "123456789012"}, []
        raise AssertionError(f"the program asks AWS for {args.token}, which the mocks do not know")


def _revealed(value: Any) -> Any:
    """Without Pulumi's wrapping of secrets."""
    if isinstance(value, dict):
        if rpc.is_rpc_secret(value):
            return _revealed(rpc.unwrap_rpc_secret(value))
        return {name: _revealed(member) for name, member in value.items()}
    return [_revealed(member) for member in value] if isinstance(value, list) else value


def _answer(args: mocks.MockResourceArgs) -> dict[str, Any]:
    """What AWS computes and other resources use."""
    arn = f"arn:aws:mock:{args.name}"
    known: dict[str, dict[str, Any]] = {
        "aws:ec2/instance:Instance": {"privateIp": "10.40.100.10"},
        "aws:route53/zone:Zone": {"zoneId": "ZONE"},
        "aws:ecr/repository:Repository": {
            "repositoryUrl": "123456789012.dkr.ecr.ap-southeast-1.amazonaws.com/taskservice-test"
        },
        "aws:lb/loadBalancer:LoadBalancer": {"dnsName": "balancer.example.org"},
        "aws:ec2/launchTemplate:LaunchTemplate": {"latestVersion": 1},
        "random:index/randomPassword:RandomPassword": {"result": f"{RANDOM}-{args.name}"},
    }
    return {"arn": arn, "name": args.inputs.get("name", args.name), **known.get(args.typ, {})}


def run_fleet(config: FleetConfig) -> tuple[list[Resource], dict[str, Any]]:
    """Every resource of the program, and its outputs resolved."""
    cloud = Cloud()
    asyncio.set_event_loop(asyncio.new_event_loop())
    settings.reset_options()
    pulumi.runtime.set_mocks(cloud, project="taskservice", stack=config.stack, preview=False)
    outputs: dict[str, Any] = {}

    @pulumi.runtime.test  # type: ignore[untyped-decorator]
    def run() -> pulumi.Output[Any]:
        return pulumi.Output.from_input(dict(build_fleet(config))).apply(outputs.update)

    run()
    return cloud.resources, outputs
