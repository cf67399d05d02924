"""The fleet for real: the program's own user data in containers that are its machines, a mock of AWS beside them.

Must not need AWS. Not seen here: the balancer, disks, the network's rules, scaling itself, ECR.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from fleet import policy
from fleet.config import FleetConfig
from fleet.policy import Resource
from tests import machines
from tests.cloud import run_fleet
from tests.machines import Machine, Site, docker, wait_until
from tests.pages import ROOT

_REASON = machines.reason_to_skip() or (
    "" if os.environ.get("FLEET") else "six machines take long: FLEET=1 asks for them"
)
pytestmark = pytest.mark.skipif(bool(_REASON), reason=_REASON)

IMAGE = "taskservice-test-fleet"
REGION = "ap-southeast-1"
PYTHON = ROOT / ".venv" / "bin" / "python"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
IMAGES = {"broker-1": ("rabbitmq:4-management",), "store": ("redis:8",)}


@dataclass(frozen=True, slots=True)
class Fleet:
    machines: dict[str, Machine]
    endpoint: str
    outputs: dict[str, Any]

    def client(self, service: str) -> Any:
        return boto3.client(
            service,
            region_name=REGION,
            endpoint_url=self.endpoint,
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    _build_image()
    with machines.site() as site:
        server = ThreadedMotoServer(ip_address=site.gateway, port=0, verbose=False)
        server.start()
        try:
            yield _bring_up(site, endpoint="http://{}:{}".format(*server.get_host_and_port()))
        finally:
            server.stop()


def test_every_machine_runs_its_container(fleet: Fleet) -> None:
    running = {name: machine.run("docker ps --format '{{.Names}}'") for name, machine in fleet.machines.items()}

    assert running == {name: name.partition("-")[0] for name in fleet.machines}


def test_the_acceptance_suite_passes_against_the_fleet(fleet: Fleet) -> None:
    if not PYTHON.exists():
        pytest.skip("no .venv: the acceptance suite needs the service's own, made by `make test`")

    url = f"http://{fleet.machines['web'].address}:5000"
    result = subprocess.run(
        [PYTHON, "test_tasks.py"], cwd=ROOT, env={**os.environ, "TASKS_URL": url}, capture_output=True, text=True
    )

    print(result.stdout[-3000:])
    assert result.returncode == 0


def test_files_are_in_the_bucket(fleet: Fleet) -> None:
    web = fleet.machines["web"]
    web.run(
        "printf 'a b c' > /root/in-the-bucket.txt && curl -fsS -F file=@/root/in-the-bucket.txt http://127.0.0.1:5000/api/files"
    )

    listed = fleet.client("s3").list_objects_v2(Bucket=fleet.outputs["bucket"], Prefix="files/")

    assert any("in-the-bucket.txt" in item["Key"] for item in listed["Contents"])


def test_the_broker_reports_the_depth_of_every_queue(fleet: Fleet) -> None:
    cloudwatch = fleet.client("cloudwatch")
    broker = fleet.machines["broker-1"]
    credentials = " ".join(f"{key}={value}" for key, value in CREDENTIALS.items())
    broker.run(f"{credentials} AWS_ENDPOINT_URL={fleet.endpoint} publish-queue-depth")

    metrics = cloudwatch.list_metrics(Namespace=fleet.outputs["metricNamespace"], MetricName="QueueDepth")["Metrics"]

    queues = {dimension["Value"] for metric in metrics for dimension in metric["Dimensions"]}
    assert {"high_priority", "normal_priority", "low_priority"} <= queues
    assert broker.run("systemctl is-active publish-queue-depth.timer") == "active"


def test_a_machine_has_its_own_secrets_and_only_root_reads_them(fleet: Fleet) -> None:
    for name, machine in fleet.machines.items():
        names = set(machine.run("cut -d= -f1 /etc/taskservice/*.env").split())

        assert machine.run("stat -c %a /etc/taskservice/*.env") == "600"
        assert "ERLANG_COOKIE" not in names  # it is in the file that RabbitMQ reads
        assert ("REDIS_PASSWORD" in names) == (name != "broker-1")
        assert ("RABBITMQ_PASSWORD" in names) == (name not in ("broker-1", "store"))


def test_a_machine_that_restarts_comes_back_by_itself(fleet: Fleet) -> None:
    web = fleet.machines["web"]

    fleet.machines["worker-low"].restart()
    web.restart()

    wait_until(180, lambda: web.attempt("curl -fsS http://127.0.0.1:5000/readyz")[0] == 0)


def _bring_up(site: Site, *, endpoint: str) -> Fleet:
    config = FleetConfig(
        stack="test",
        allowed_cidrs=("203.0.113.0/24",),
        # BIND_ADDRESS: without API keys the web refuses to know that it can be reached.
        environment={"AWS_ENDPOINT_URL": endpoint, "BIND_ADDRESS": "127.0.0.1", **CREDENTIALS},
    )
    resources, outputs = run_fleet(config)
    hosts = {record.name: str(record.inputs["name"]) for record in resources if "route53/record" in record.type}
    texts = {item.name: policy.user_data_of(item) for item in resources if item.inputs.get("userData")}
    fleet = Fleet(
        machines={
            name: site.add(name, alias=hosts.get(name, ""), images=IMAGES.get(name, (IMAGE,))) for name in sorted(texts)
        },
        endpoint=endpoint,
        outputs=outputs,
    )
    _fill_aws(fleet, resources)
    with ThreadPoolExecutor(2) as pool:  # two processors
        list(pool.map(lambda name: _boot(fleet, name, texts[name]), sorted(texts)))
    wait_until(180, lambda: fleet.machines["web"].attempt("curl -fsS http://127.0.0.1:5000/readyz")[0] == 0)
    return fleet


def _fill_aws(fleet: Fleet, resources: list[Resource]) -> None:
    """What the program would have made in AWS and the machines read."""
    for parameter in (item.inputs for item in resources if "ssm/parameter" in item.type):
        fleet.client("ssm").put_parameter(Name=parameter["name"], Value=parameter["value"], Type=parameter["type"])
    fleet.client("s3").create_bucket(
        Bucket=fleet.outputs["bucket"], CreateBucketConfiguration={"LocationConstraint": REGION}
    )


def _boot(fleet: Fleet, name: str, text: str) -> None:
    """As cloud-init would; only the role's credentials, the disk and the image's registry are not AWS's."""
    here = "\n".join(
        [
            *(f"export {key}={value}" for key, value in CREDENTIALS.items()),
            f"export AWS_ENDPOINT_URL={fleet.endpoint}",
            "DATA_VOLUME=",
            f"SERVICE_IMAGE={IMAGE}",
        ]
    )
    head, marker, scripts = text.partition("\n# What every machine")
    fleet.machines[name].write("/root/user-data.sh", f"{head}\n{here}{marker}{scripts}")
    fleet.machines[name].run("bash /root/user-data.sh", timeout_s=900)


def _build_image() -> None:
    docker("build", "--network=host", "--quiet", "--tag=taskservice-test-service", str(ROOT), timeout_s=900)
    here = ROOT / "infra" / "tests"
    docker(
        "build",
        "--network=host",
        "--quiet",
        f"--tag={IMAGE}",
        f"--file={here / 'fleet.Dockerfile'}",
        str(here),
        timeout_s=600,
    )
