"""The fleet for real: the program's own user data in containers that are its machines, a mock of AWS beside them.

Must not need AWS. Not seen here: AWS's balancer (Caddy stands in), disks, the network's rules, scaling itself, ECR.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from moto.server import ThreadedMotoServer

from fleet import policy
from fleet.config import FleetConfig, WorkerGroup
from fleet.policy import Resource
from tests import commands, machines
from tests.cloud import run_fleet
from tests.commands import REGION
from tests.machines import Machine, Site, docker, wait_until
from tests.pages import ROOT
from tests.service import PYTHON

_REASON = machines.reason_to_skip() or (
    "" if os.environ.get("FLEET") else "a fleet of machines takes long: FLEET=1 asks for it"
)
pytestmark = pytest.mark.skipif(bool(_REASON), reason=_REASON)

IMAGE = "taskservice-test-service"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
MAIL_IMAGE = "axllent/mailpit:v1.27"
WEBS = ("web-1", "web-2")
# As the program's: plain HTTP inside, /healthz says who is there, X-Forwarded-* is set and not passed on.
BALANCER = """:80 {{
  reverse_proxy {webs} {{
    health_uri /healthz
    health_interval 2s
    lb_try_duration 5s
    transport http {{
      keepalive off
    }}
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class Fleet:
    """`key` may do everything."""

    machines: dict[str, Machine]
    balancer: Machine
    endpoint: str
    outputs: dict[str, Any]
    key: str
    said_without_key: str  # by a web, in its log

    @property
    def url(self) -> str:
        return f"http://{self.balancer.address}"

    @property
    def webs(self) -> list[Machine]:
        return [self.machines[name] for name in WEBS]

    def curl(self, arguments: str) -> str:
        return self.balancer.run(f"curl -fsS -H 'Authorization: Bearer {self.key}' {arguments}")

    def submit(self, priority: str, *, delay_s: int = 0) -> str:
        """The task's id."""
        answer = self.curl(f"{_submission(priority, delay_s)} http://127.0.0.1/api/tasks")
        return str(json.loads(answer)["task_id"])

    def try_to_submit(self, priority: str) -> int:
        """The answer's status."""
        curl = f"curl -s -o /dev/null -w '%{{http_code}}' -H 'Authorization: Bearer {self.key}'"
        return int(self.balancer.run(f"{curl} {_submission(priority)} http://127.0.0.1/api/tasks"))

    def status(self, task_id: str) -> str:
        return str(json.loads(self.curl(f"http://127.0.0.1/api/tasks/{task_id}"))["status"])

    def client(self, service: str) -> Any:
        return commands.client(service, self.endpoint)


def _submission(priority: str, delay_s: int = 0) -> str:
    body = {"task_type": "data_processing", "priority": priority, "delay": delay_s, "parameters": {"data": "a b c"}}
    return f"-H 'Content-Type: application/json' -d '{json.dumps(body)}'"


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    docker("build", "--network=host", "--quiet", f"--tag={IMAGE}", str(ROOT), timeout_s=900)
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

    result = subprocess.run(
        [PYTHON, "test_tasks.py"],
        cwd=ROOT,
        env={**os.environ, "TASKS_URL": fleet.url, "TASKS_KEY": fleet.key},
        capture_output=True,
        text=True,
        timeout=600,
    )

    print(result.stdout[-6000:])
    assert result.returncode == 0


def test_a_web_without_any_key_does_not_start_and_says_why(fleet: Fleet) -> None:
    assert "there is no API key" in fleet.said_without_key


def test_what_a_boot_waits_for_in_vain_is_named(fleet: Fleet) -> None:
    """The faults of the chapter's table, with less patience than a boot has."""
    web = fleet.machines["web-1"]
    functions = "sed '1,/^# What every machine/d; /^prepare_service$/,$d' /root/user-data.sh > /root/functions.sh"
    settings = f"AWS_REGION={REGION} PARAMETER_PATH=/nowhere"
    exports = " ".join(f"{name}={value}" for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": fleet.endpoint}.items())
    web.run(functions)

    _, no_parameter = web.attempt(f"export {exports} {settings}; . /root/functions.sh; again 1 read_parameters")
    _, no_image = web.attempt(f"export {settings}; . /root/functions.sh; again 1 docker pull -q 127.0.0.1:1/none")

    assert "gave up after 1 s: read_parameters" in no_parameter
    assert "gave up after 1 s: docker pull" in no_image


def test_nobody_gets_in_without_a_key(fleet: Fleet) -> None:
    status = fleet.balancer.run("curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1/api/tasks")

    assert status == "401"


def test_files_are_in_the_bucket_and_every_web_has_them(fleet: Fleet) -> None:
    fleet.balancer.run("printf 'a b c' > /root/shared.txt")
    fleet.curl("-F file=@/root/shared.txt http://127.0.0.1/api/files")

    listed = fleet.client("s3").list_objects_v2(Bucket=fleet.outputs["bucket"], Prefix="files/")
    downloads = {fleet.curl(f"http://{web.address}:5000/api/files/shared.txt") for web in fleet.webs}

    assert any("shared.txt" in item["Key"] for item in listed["Contents"])
    assert downloads == {"a b c"}


def test_the_brokers_report_how_many_tasks_wait_in_every_queue(fleet: Fleet) -> None:
    """What the auto-scaling groups of the workers follow; a broker counts anew every 5 s."""
    fleet.machines["worker-low"].run("docker stop worker")
    for _ in range(7):
        fleet.submit("low")

    wait_until(60, lambda: _published_depths(fleet)["low_priority"] == 7)

    fleet.machines["worker-low"].run("docker start worker")
    depths = _published_depths(fleet)
    assert depths["high_priority"] < 7
    assert set(depths) == {queue for queues in fleet.outputs["queues"].values() for queue in queues}
    for machine in _brokers(fleet):
        assert machine.run("systemctl is-active publish-queue-depth.timer") == "active"


def test_a_dedicated_type_has_its_own_workers_and_nobody_else_runs_it(fleet: Fleet) -> None:
    body = (
        '{"task_type":"email_sending","priority":"high","parameters":{"to":"a@example.com","subject":"s","body":"b"}}'
    )

    answer = json.loads(fleet.curl(f"-H 'Content-Type: application/json' -d '{body}' http://127.0.0.1/api/tasks"))
    task = json.loads(fleet.curl(f"'http://127.0.0.1/api/tasks/{answer['task_id']}?wait=20'"))

    assert answer["queue"] == "high_priority.email_sending"
    assert (task["status"], task["worker"].partition("@")[0]) == ("succeeded", "email-sending")


def test_one_of_three_brokers_may_go_and_nothing_is_lost(fleet: Fleet) -> None:
    accepted = [fleet.submit("normal", delay_s=20) for _ in range(10)]
    fleet.machines["broker-2"].run("docker kill broker")

    # A connection to the broker that went is replaced; until then an honest 503 may come, and is repeated.
    wait_until(60, lambda: fleet.try_to_submit("normal") == 202)
    accepted += [fleet.submit("normal") for _ in range(10)]

    wait_until(90, lambda: {fleet.status(task_id) for task_id in accepted} == {"succeeded"})
    fleet.machines["broker-2"].run("docker start broker")
    wait_until(120, lambda: all(_is_ready(web) for web in fleet.webs))


def test_without_a_majority_of_brokers_the_answer_is_503(fleet: Fleet) -> None:
    for name in ("broker-2", "broker-3"):
        fleet.machines[name].run("docker stop broker")

    wait_until(60, lambda: fleet.try_to_submit("normal") == 503)

    for name in ("broker-2", "broker-3"):
        fleet.machines[name].run("docker start broker")
    wait_until(180, lambda: all(_is_ready(web) for web in fleet.webs))
    wait_until(60, lambda: fleet.try_to_submit("normal") == 202)


def test_a_machine_has_its_own_secrets_and_only_root_reads_them(fleet: Fleet) -> None:
    for name, machine in fleet.machines.items():
        names = set(machine.run("cut -d= -f1 /etc/taskservice/*.env").split())

        assert machine.run("stat -c %a /etc/taskservice/*.env") == "600"
        assert "ERLANG_COOKIE" not in names  # it is in the file that RabbitMQ reads
        assert ("REDIS_PASSWORD" in names) == (not name.startswith("broker"))
        assert ("RABBITMQ_PASSWORD" in names) == (not name.startswith(("broker", "store")))


def test_one_web_may_go_while_the_other_serves(fleet: Fleet) -> None:
    fleet.webs[0].run("docker stop web")

    statuses = fleet.balancer.run(
        f"for n in $(seq 20); do curl -s -o /dev/null -w '%{{http_code}} ' -H 'Authorization: Bearer {fleet.key}' "
        "http://127.0.0.1/api/tasks; done"
    )

    fleet.webs[0].run("docker start web")
    assert set(statuses.split()) == {"200"}


def test_machines_that_restart_come_back_by_themselves(fleet: Fleet) -> None:
    fleet.machines["worker-low"].restart()
    fleet.webs[0].restart()

    for web in fleet.webs:
        wait_until(240, lambda web=web: _is_ready(web))  # type: ignore[misc]


def _bring_up(site: Site, *, endpoint: str) -> Fleet:
    config = FleetConfig(
        stack="test",
        allowed_cidrs=("203.0.113.0/24",),
        brokers=3,
        dedicated={"email_sending": WorkerGroup(concurrency=2)},
        environment={"AWS_ENDPOINT_URL": endpoint, "SMTP_HOST": "mail", "SMTP_PORT": "1025", **CREDENTIALS},
    )
    resources, outputs = run_fleet(config)
    texts = _user_data(resources)
    hosts = {record.name: str(record.inputs["name"]) for record in resources if "route53/record" in record.type}
    _fill_aws(endpoint, resources, bucket=outputs["bucket"])
    site.run_image("mail", MAIL_IMAGE)
    fleet_machines = {
        name: site.add(name, alias=hosts.get(name, ""), images=_images(config, name)) for name in sorted(texts)
    }
    balancer = _start_balancer(site)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: _boot(fleet_machines[name], texts[name], endpoint=endpoint), sorted(texts)))
    said = _first_words(fleet_machines["web-1"])
    key = _make_key(fleet_machines["web-1"])
    for name in WEBS:
        wait_until(180, lambda name=name: _is_ready(fleet_machines[name]))  # type: ignore[misc]
    return Fleet(fleet_machines, balancer, endpoint, outputs, key, said)


def _user_data(resources: list[Resource]) -> dict[str, str]:
    """By machine; a group of the web has two at its least, those of the workers have one."""
    texts = {item.name: policy.user_data_of(item) for item in resources if item.inputs.get("userData")}
    web = texts.pop("web")
    return texts | dict.fromkeys(WEBS, web)


def _images(config: FleetConfig, name: str) -> tuple[str, ...]:
    known = {"broker": config.broker_image, "store": config.store_image}
    return (known.get(name.partition("-")[0], IMAGE),)


def _fill_aws(endpoint: str, resources: list[Resource], *, bucket: str) -> None:
    """What the program would have made in AWS and the machines read."""
    for parameter in (item.inputs for item in resources if "ssm/parameter" in item.type):
        commands.client("ssm", endpoint).put_parameter(
            Name=parameter["name"], Value=parameter["value"], Type=parameter["type"]
        )
    commands.client("s3", endpoint).create_bucket(
        Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION}
    )


def _start_balancer(site: Site) -> Machine:
    balancer = site.add("balancer", images=())
    balancer.run(
        "DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends caddy curl ca-certificates"
    )
    balancer.write("/etc/caddy/Caddyfile", BALANCER.format(webs=" ".join(f"{name}:5000" for name in WEBS)))
    balancer.run("systemctl restart caddy")
    return balancer


def _boot(machine: Machine, text: str, *, endpoint: str) -> None:
    """As cloud-init would; only the role's credentials, the disk and the image's registry are not AWS's."""
    here = "\n".join(
        [
            *(f"export {key}={value}" for key, value in CREDENTIALS.items()),
            f"export AWS_ENDPOINT_URL={endpoint}",
            "DATA_VOLUME=",
            f"SERVICE_IMAGE={IMAGE}",
        ]
    )
    head, marker, scripts = text.partition("\n# What every machine")
    machine.write("/root/user-data.sh", f"{head}\n{here}{marker}{scripts}")
    machine.run("bash /root/user-data.sh", timeout_s=900)


def _first_words(web: Machine) -> str:
    wait_until(60, lambda: "API key" in web.attempt("docker logs web")[1])
    return web.run("docker logs web")


def _make_key(web: Machine) -> str:
    """As chapter 3 does it; until then no web starts."""
    output = web.run("taskservice keys create acceptance --scope submit --scope read --scope manage 2>/dev/null")
    return output.splitlines()[0]


def _is_ready(web: Machine) -> bool:
    return web.attempt("curl -fsS http://127.0.0.1:5000/readyz")[0] == 0


def _brokers(fleet: Fleet) -> list[Machine]:
    return [machine for name, machine in fleet.machines.items() if name.startswith("broker")]


def _published_depths(fleet: Fleet) -> dict[str, float]:
    """The most of each queue so far, after every broker has sent what its timer sends each minute.

    There the role brings the credentials.
    """
    credentials = " ".join(f"{key}={value}" for key, value in CREDENTIALS.items())
    for broker in _brokers(fleet):
        broker.run(f"{credentials} AWS_ENDPOINT_URL={fleet.endpoint} publish-queue-depth")
    namespace = fleet.outputs["metricNamespace"]
    cloudwatch = fleet.client("cloudwatch")
    known = cloudwatch.list_metrics(Namespace=namespace, MetricName="QueueDepth")["Metrics"]
    now = datetime.now(UTC)
    depths = {}
    for dimensions in (metric["Dimensions"] for metric in known):
        [point] = cloudwatch.get_metric_statistics(
            Namespace=namespace,
            MetricName="QueueDepth",
            Dimensions=dimensions,
            StartTime=now - timedelta(minutes=10),
            EndTime=now + timedelta(minutes=10),
            Period=1200,
            Statistics=["Maximum"],
        )["Datapoints"]
        depths[dimensions[0]["Value"]] = point["Maximum"]
    return depths
