"""Every AWS command of chapter 2, taken from the page and run with the real command line against a local mock of AWS.

Must not run what needs a machine; test_instance.py does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.commands import client, mock_of_aws, run
from tests.pages import ROOT, blocks

PAGE = "Lab-02/aws-deployment.md"
DEBIAN = {
    "ami_id": "ami-0debian130000000",
    "name": "debian-13-amd64-20261101-2290",
    "owner_id": "136693071363",
    "creation_date": "2026-11-01T00:00:00.000Z",
    "description": "Debian 13",
    "architecture": "x86_64",
    "virtualization_type": "hvm",
    "root_device_name": "/dev/xvda",
    "root_device_type": "ebs",
    "hypervisor": "xen",
    "image_type": "machine",
    "image_location": "debian",
    "public": True,
    "platform": None,
    "sriov": "simple",
    "state": "available",
}


@dataclass(frozen=True, slots=True)
class Walk:
    """What the mock of AWS held before and after the last block of the page, the clean-up."""

    machine: dict[str, Any]
    volume: dict[str, Any]
    opened: set[tuple[int, str]]
    left_over: list[Any]


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walk]:
    """The page from its first block to its last, once."""
    directory = tmp_path_factory.mktemp("chapter-2")
    (directory / "infra").symlink_to(ROOT / "infra")
    (directory / "images.json").write_text(json.dumps([DEBIAN]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOTO_AMIS_PATH", str(directory / "images.json"))
        with mock_of_aws() as endpoint:
            yield _walk(directory, endpoint=endpoint)


def test_every_aws_command_of_the_chapter_runs(walk: Walk) -> None:
    assert walk.machine["InstanceType"] == "t3.medium"
    assert walk.machine["ImageId"] == DEBIAN["ami_id"]


def test_the_instance_has_an_encrypted_disk_and_wants_a_token_for_its_metadata(walk: Walk) -> None:
    assert walk.volume["Encrypted"]
    assert walk.volume["Size"] == 30
    assert walk.machine["MetadataOptions"]["HttpTokens"] == "required"


def test_the_chapter_opens_only_what_it_says(walk: Walk) -> None:
    assert walk.opened == {(443, "0.0.0.0/0"), (80, "0.0.0.0/0"), (22, "203.0.113.7/32")}


def test_the_clean_up_leaves_nothing_that_costs_money(walk: Walk) -> None:
    assert walk.left_over == []


def test_no_command_that_needs_a_machine_is_without_its_mark() -> None:
    here = [block.commands for block in blocks(PAGE) if block.place == "here"]

    assert not [text for text in here if "ssh " in text or "sudo " in text or "curl " in text]


def _walk(directory: Path, *, endpoint: str) -> Walk:
    *build, clean_up = [block.commands for block in blocks(PAGE) if block.place == "here"]
    ec2 = client("ec2", endpoint)
    # The variables of the reader's shell go on from block to block.
    names = " ".join(sorted(set(re.findall(r"^([A-Z]+)=", "\n".join(build), re.MULTILINE))))
    run("\n".join([*build, f"declare -p {names} > variables"]), directory, endpoint)
    [machine] = ec2.describe_instances()["Reservations"][0]["Instances"]
    [volume] = ec2.describe_volumes()["Volumes"]
    group = ec2.describe_security_groups(GroupIds=[machine["SecurityGroups"][0]["GroupId"]])["SecurityGroups"][0]
    run("\n".join([build[0], "source variables", clean_up]), directory, endpoint)
    return Walk(
        machine=machine,
        volume=volume,
        opened={
            (permission["FromPort"], network["CidrIp"])
            for permission in group["IpPermissions"]
            for network in permission["IpRanges"]
        },
        left_over=_what_costs_money(ec2),
    )


def _what_costs_money(ec2: Any) -> list[Any]:
    machines = [machine for group in ec2.describe_instances()["Reservations"] for machine in group["Instances"]]
    return [
        *(machine for machine in machines if machine["State"]["Name"] != "terminated"),
        *(vpc for vpc in ec2.describe_vpcs()["Vpcs"] if not vpc["IsDefault"]),
        # The mock keeps a snapshot for its image under the same account.
        *ec2.describe_snapshots(Filters=[{"Name": "description", "Values": ["taskservice"]}])["Snapshots"],
        *ec2.describe_addresses()["Addresses"],
        *ec2.describe_volumes()["Volumes"],
    ]
