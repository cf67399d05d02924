"""The AWS commands among chapter 3's, taken from the page and run against a local mock of AWS.

Must not run pulumi, docker, ssh or curl: functions of their names stand there, so only `aws` is shown to be right.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.commands import REGION, client, mock_of_aws, run
from tests.pages import ROOT, blocks

PAGE = "Lab-03/pulumi.md"
REPOSITORY = "taskservice-dev"
BUCKET = "taskservice-dev-files-1"
MANIFEST = (
    '{"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json", '
    '"config": {"digest": "sha256:0", "size": 1}, "layers": []}'
)
# The tunnel needs AWS itself.
STAND_INS = f"""
pulumi() {{
  case "$*" in
    'stack output repository') echo 123456789012.dkr.ecr.{REGION}.amazonaws.com/{REPOSITORY} ;;
    'stack output bucket') echo {BUCKET} ;;
    'stack output brokers --json') echo '["i-1", "i-2"]' ;;
    'stack output url') echo http://balancer.example.org ;;
  esac
}}
docker() {{ if [ "$1" = login ]; then cat >../password; fi; }}
ssh() {{ :; }}
curl() {{ :; }}
KEY=made-up
aws() {{ if [ "$1" = ec2-instance-connect ]; then echo "$*" >>../tunnels; else command aws "$@"; fi; }}
"""


@dataclass(frozen=True, slots=True)
class Walk:
    """What the commands found and what they left."""

    web: str
    password: str
    tunnels: str
    objects_left: int
    images_left: int
    key_pairs_left: int


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walk]:
    directory = tmp_path_factory.mktemp("chapter-3")
    (directory / "infra").mkdir()
    with mock_of_aws() as endpoint:
        web = _fill(endpoint)
        run(STAND_INS + "\n".join([*(block.commands for block in blocks(PAGE)), "wait"]), directory, endpoint)
        yield Walk(
            web=web,
            password=(directory / "password").read_text(),
            tunnels=(directory / "tunnels").read_text(),
            objects_left=client("s3", endpoint).list_objects_v2(Bucket=BUCKET)["KeyCount"],
            images_left=len(client("ecr", endpoint).list_images(repositoryName=REPOSITORY)["imageIds"]),
            key_pairs_left=len(client("ec2", endpoint).describe_key_pairs()["KeyPairs"]),
        )


def test_every_aws_command_of_the_chapter_runs(walk: Walk) -> None:
    assert walk.password.strip()
    assert walk.tunnels.splitlines() == [
        f"ec2-instance-connect open-tunnel --instance-id {machine} --local-port 2222" for machine in (walk.web, "i-1")
    ]


def test_the_clean_up_removes_what_pulumi_would_not_delete(walk: Walk) -> None:
    assert (walk.objects_left, walk.images_left, walk.key_pairs_left) == (0, 0, 0)


def test_every_block_says_that_it_needs_an_account() -> None:
    assert {block.place for block in blocks(PAGE)} == {"account"}


def test_every_file_that_the_page_names_is_there() -> None:
    page = (ROOT / "DOC" / PAGE).read_text(encoding="utf-8")
    named = [word for word in page.split("`") if word.startswith("infra/fleet/") and "*" not in word]

    assert named
    assert [name for name in named if not Path(ROOT / name).exists()] == []


def _fill(endpoint: str) -> str:
    """What the program would have made, as far as the commands look at it; the web machine's id."""
    client("ecr", endpoint).create_repository(repositoryName=REPOSITORY)
    client("ecr", endpoint).put_image(repositoryName=REPOSITORY, imageManifest=MANIFEST, imageTag="latest")
    s3 = client("s3", endpoint)
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.put_object(Bucket=BUCKET, Key="files/a.txt", Body=b"a")
    ec2 = client("ec2", endpoint)
    image = ec2.describe_images()["Images"][0]["ImageId"]
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "taskservice-dev-web"}]}]
    [machine] = ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, TagSpecifications=tags)["Instances"]
    return str(machine["InstanceId"])
