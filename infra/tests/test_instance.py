"""Chapter 2's machine: user data, setup, backup, restore, update and restart, run for real in a container with systemd.

Must not need AWS. Not seen here: real certificates, a real reboot, cloud-init itself, the base images' public versions.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests import machines
from tests.machines import Machine, wait_until
from tests.pages import ROOT, blocks

pytestmark = pytest.mark.skipif(bool(machines.reason_to_skip()), reason=machines.reason_to_skip())

DOMAIN = "tasks.localhost"  # Caddy signs such a name itself
SETUP = "/opt/taskservice/infra/instance/setup.sh"
UPDATE = "/opt/taskservice/infra/instance/update.sh"
READY = "curl -fsS http://127.0.0.1:5000/readyz"
WITH_KEY = '-H "Authorization: Bearer $(cat /etc/taskservice/first-key)"'
TO_CADDY = f"-k --resolve {DOMAIN}:443:127.0.0.1"
FOR_HTTPS = f"{TO_CADDY} {WITH_KEY}"
CLIENTS = 4
# One after the other, each longer than it takes to lead callers elsewhere.
LONG_POLLS = f"""while :; do
  curl -s -o /dev/null -w '%{{{{http_code}}}}\\n' {FOR_HTTPS} 'https://{DOMAIN}/api/tasks/{{task_id}}?wait=8'
done
"""


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Set up by its user data alone, as cloud-init would."""
    with machines.site() as site:
        machine = site.add("instance")
        _publish_repository(machine, tmp_path_factory.mktemp("repository"))
        machine.write("/root/user-data.sh", _user_data())
        # Its output goes where cloud-init would keep it.
        machine.run("set -o pipefail; bash /root/user-data.sh 2>&1 | tee /root/user-data.log", timeout_s=1200)
        yield machine


def test_user_data_brings_the_service_up(machine: Machine) -> None:
    assert "ready" in machine.run(READY)


def test_secrets_are_the_accounts_own_and_fresh(machine: Machine) -> None:
    values = dict(line.split("=", 1) for line in machine.run("grep -v '^#' /opt/taskservice/.env").splitlines())

    assert machine.run("stat -c '%a %U' /opt/taskservice/.env") == "600 taskservice"
    assert re.fullmatch(r"[0-9a-f]{32}", values["RABBITMQ_PASSWORD"])
    assert values["RABBITMQ_PASSWORD"] != values["REDIS_PASSWORD"]


def test_other_machines_reach_caddy_and_nothing_else(machine: Machine) -> None:
    reachable = {port for port in (80, 443, 5000, 5555, 8025, 15672, 5672, 6379) if _connects(machine, port)}

    assert reachable == {80, 443}


def test_nobody_gets_in_without_the_key(machine: Machine) -> None:
    status = "curl -s -o /dev/null -w '%{http_code}'"

    assert machine.run(f"{status} {TO_CADDY} https://{DOMAIN}/api/tasks") == "401"
    assert machine.run(f"{status} http://127.0.0.1:5000/api/tasks") == "401"
    assert machine.run(f"{status} {FOR_HTTPS} https://{DOMAIN}/api/tasks") == "200"
    assert machine.run("stat -c '%a %U' /etc/taskservice/first-key") == "600 root"
    assert "tsk_" not in machine.run("cat /root/user-data.log")


def test_the_service_knows_that_caddy_stands_in_front(machine: Machine) -> None:
    metrics = "curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:5000/metrics"  # open to loopback otherwise

    assert machine.run("grep ^TRUSTED_PROXIES= /opt/taskservice/.env") == "TRUSTED_PROXIES=1"
    assert machine.run(metrics) == "401"


def test_a_second_run_changes_no_secret_and_makes_no_second_key(machine: Machine) -> None:
    secrets = "sha256sum /opt/taskservice/.env /etc/taskservice/first-key"
    before = machine.run(secrets)

    output = machine.run(f"{SETUP} --domain {DOMAIN}")

    assert machine.run(secrets) == before
    assert "keeping /opt/taskservice/.env" in output


def test_every_command_for_the_instance_in_the_chapter_runs(machine: Machine) -> None:
    commands = [block.commands for block in blocks("Lab-02/aws-deployment.md") if block.place == "instance"]
    as_on_the_page = f'set -euo pipefail\nDOMAIN={DOMAIN}\nsudo() {{ "$@"; }}\n'
    machine.run("cp -p /etc/taskservice/first-key /root/first-key")  # the page reads and deletes it

    for text in commands:
        machine.run(as_on_the_page + text, timeout_s=1200)

    machine.run("mv /root/first-key /etc/taskservice/first-key")
    assert len(commands) == 6
    assert "ready" in machine.run(READY)


def test_an_update_under_load_loses_nothing_and_nobody_notices(machine: Machine) -> None:
    machine.copy(Path(__file__).with_name("submit.sh"), "/root/submit.sh")
    _change_upstream(machine, "echo '# changed' >> app.py")
    waiting = _submit(machine, delay_s=3600)
    for number in range(CLIENTS):
        machine.run(f"nohup /root/submit.sh 600 https://{DOMAIN} {FOR_HTTPS} > /root/answers-{number} 2>&1 &")
    machine.write("/root/poll.sh", LONG_POLLS.format(task_id=waiting))
    machine.run("nohup bash /root/poll.sh > /root/polled 2>&1 &")
    machine.run(f"nohup curl -sN {FOR_HTTPS} https://{DOMAIN}/api/events > /root/stream 2>&1 &")

    machine.run(f"{UPDATE} --ref main", timeout_s=900)

    machine.run("pkill -x submit.sh; pkill -f '[p]oll.sh'; pkill -f 'api/[e]vents'; true")
    assert "# changed" in machine.run("cd /opt/taskservice && docker compose exec -T web tail -n 1 app.py")
    assert set(machine.run("sort -u /root/polled").split()) == {"200"}
    _assert_all_were_accepted_and_run_once(machine)


def test_an_image_whose_web_does_not_start_touches_nothing(machine: Machine) -> None:
    _change_upstream(machine, "echo 'raise SystemExit(3)' >> app.py")
    running = "cd /opt/taskservice && docker compose ps -q | sort"
    before = machine.run(running)

    status, output = machine.attempt(f"{UPDATE} --ref main --patience 20", timeout_s=900)

    assert status == 1
    assert "the running service was not touched" in output
    assert machine.run(running) == before
    assert machine.run("docker ps -aq --filter name=stand-in") == ""
    _change_upstream(machine, "sed -i '$d' app.py")


def test_an_update_whose_workers_do_not_start_is_undone(machine: Machine) -> None:
    _change_upstream(machine, "echo 'raise SystemExit(3)' >> tasks.py")

    status, output = machine.attempt(f"{UPDATE} --ref main --patience 30", timeout_s=900)

    assert status == 1
    assert "the update was undone" in output
    assert "ready" in machine.run(READY)
    assert machine.run("docker ps -aq --filter name=stand-in") == ""
    _change_upstream(machine, "sed -i '$d' tasks.py")


def test_a_backup_is_whole_and_can_be_put_back(machine: Machine) -> None:
    compose = "cd /opt/taskservice && docker compose exec -T"
    task_id = _submit(machine)
    wait_until(60, lambda: _status(machine, task_id) == "succeeded")
    machine.run(f"{compose} rabbitmq rabbitmqctl set_policy of-mine '^mine' '{{\"max-length\":5}}'")
    machine.run(
        f"printf kept > /root/kept.txt && curl -fsS {WITH_KEY} -F file=@/root/kept.txt http://127.0.0.1:5000/api/files"
    )
    machine.run("systemctl start taskservice-backup.service")
    backup = machine.run("find /var/backups/taskservice -name '2*Z' | sort | tail -n 1")
    machine.run(f"{compose} redis sh -c 'REDISCLI_AUTH=$REDIS_PASSWORD redis-cli flushall'")
    machine.run(f"{compose} rabbitmq rabbitmqctl clear_policy of-mine && {compose} web rm /data/files/kept.txt")
    wait_until(30, lambda: _status(machine, task_id) == "")

    machine.run(f"/opt/taskservice/infra/instance/restore.sh {backup}")

    wait_until(30, lambda: _status(machine, task_id) == "succeeded")
    assert machine.run(f"stat -c '%a %U' {backup}") == "700 taskservice"
    assert "of-mine" in machine.run(f"{compose} rabbitmq rabbitmqctl -q list_policies")
    assert machine.run(f"curl -fsS {WITH_KEY} http://127.0.0.1:5000/api/files/kept.txt") == "kept"
    later = _submit(machine)
    wait_until(60, lambda: _status(machine, later) == "succeeded")


def test_a_damaged_backup_is_refused_before_anything_is_stopped(machine: Machine) -> None:
    machine.run(
        "rm -rf /root/damaged && cp -r $(find /var/backups/taskservice -name '2*Z' | sort | tail -n 1) /root/damaged"
    )
    machine.run("echo >> /root/damaged/redis.rdb")

    status, output = machine.attempt("/opt/taskservice/infra/instance/restore.sh /root/damaged")

    assert status == 1
    assert "damaged" in output
    assert "ready" in machine.run(READY)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--domain 'a b'", "--domain a b: expected a host name"),
        ("--checkout /tmp", "no docker-compose.yml there"),
        ("--colour red", "unknown argument: --colour"),
    ],
)
def test_what_setup_cannot_use_is_refused_by_name(machine: Machine, arguments: str, message: str) -> None:
    status, output = machine.attempt(f"{SETUP} {arguments}")

    assert status == 1
    assert message in output


def test_another_system_is_refused(machine: Machine) -> None:
    status, output = machine.attempt(
        "cp /etc/os-release /root/os-release && printf 'ID=fedora\\nVERSION_ID=44\\n' > /root/other && "
        f"mount --bind /root/other /etc/os-release; {SETUP}; status=$?; umount /etc/os-release; exit $status"
    )

    assert status == 1
    assert "fedora 44: expected Debian 12" in output


def test_caddy_is_not_put_in_front_of_a_service_that_does_not_know_it(machine: Machine) -> None:
    before = machine.run("sha256sum /etc/caddy/Caddyfile")
    machine.run("sed -i 's/^TRUSTED_PROXIES=1/TRUSTED_PROXIES=0/' /opt/taskservice/.env")

    status, output = machine.attempt(f"{SETUP} --domain {DOMAIN}")

    machine.run("sed -i 's/^TRUSTED_PROXIES=0/TRUSTED_PROXIES=1/' /opt/taskservice/.env")
    assert status == 1
    assert "set TRUSTED_PROXIES=1" in output
    assert machine.run("sha256sum /etc/caddy/Caddyfile") == before


def test_a_changed_broker_password_is_seen_as_broker_missing(machine: Machine) -> None:
    machine.run("cp -p /opt/taskservice/.env /root/env")
    machine.run("sed -i 's/^RABBITMQ_PASSWORD=.*/RABBITMQ_PASSWORD=another/' /opt/taskservice/.env")
    machine.run("cd /opt/taskservice && docker compose up -d --no-deps web")

    wait_until(60, lambda: '"broker"' in machine.attempt("curl -s http://127.0.0.1:5000/readyz")[1])

    machine.run("cp -p /root/env /opt/taskservice/.env && cd /opt/taskservice && docker compose up -d")
    wait_until(120, lambda: machine.attempt(READY)[0] == 0)


def test_a_taken_port_is_named_in_the_journal(machine: Machine) -> None:
    machine.run("systemctl stop taskservice && cd /opt/taskservice && docker compose rm -f web")
    machine.run("systemd-run --unit=squatter caddy file-server --listen 127.0.0.1:5000")

    status, output = machine.attempt(SETUP)

    journal = machine.run("journalctl -u taskservice --since -5min --no-pager")
    machine.run("systemctl stop squatter")
    assert status == 1
    assert "see: journalctl -u taskservice" in output
    assert "address already in use" in journal
    machine.run(SETUP)


def test_after_a_restart_everything_comes_back_by_itself(machine: Machine) -> None:
    waiting = _submit(machine, delay_s=45)

    machine.restart()

    wait_until(240, lambda: machine.attempt(READY)[0] == 0)
    assert machine.run("systemctl is-active taskservice caddy taskservice-backup.timer").split() == ["active"] * 3
    wait_until(120, lambda: _status(machine, waiting) == "succeeded")


def _publish_repository(machine: Machine, directory: Path) -> None:
    """This tree as it is now, committed or not, as the repository the machine clones."""
    names = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True, check=True,
    ).stdout  # fmt: skip
    here = b"\0".join(name for name in names.split(b"\0") if name and (ROOT / name.decode()).exists())
    archive = directory / "tree.tar"
    subprocess.run(["tar", "-C", str(ROOT), "--null", "-T", "-", "-cf", str(archive)], input=here, check=True)
    machine.run(
        "apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends git procps"
    )
    machine.copy(archive, "/root/tree.tar")
    machine.run(
        "git config --global user.name test && git config --global user.email test@localhost && "
        "git init -q -b main /srv/taskservice && cd /srv/taskservice && tar --no-same-owner -xf /root/tree.tar && "
        "git add -A && git commit -q -m one"
    )


def _user_data() -> str:
    text = (ROOT / "infra/instance/user-data.sh").read_text()
    text = re.sub(r"^REPOSITORY=$", "REPOSITORY=file:///srv/taskservice", text, flags=re.MULTILINE)
    return re.sub(r"^DOMAIN=$", f"DOMAIN={DOMAIN}", text, flags=re.MULTILINE)


def _change_upstream(machine: Machine, change: str) -> None:
    machine.run(f"cd /srv/taskservice && {change} && git commit -q -a -m change")


def _submit(machine: Machine, *, delay_s: int = 0) -> str:
    body = f'{{"task_type":"data_processing","parameters":{{"data":"a b c"}},"delay":{delay_s}}}'
    answer = machine.run(
        f"curl -fsS {WITH_KEY} http://127.0.0.1:5000/api/tasks -H 'Content-Type: application/json' -d '{body}'"
    )
    found = re.search(r'"task_id": *"([^"]+)"', answer)
    assert found, answer
    return found[1]


def _status(machine: Machine, task_id: str) -> str:
    """Empty when the service does not know it."""
    _, answer = machine.attempt(f"curl -s {WITH_KEY} http://127.0.0.1:5000/api/tasks/{task_id}")
    found = re.search(r'"status": *"([a-z]+)"', answer)
    return found[1] if found else ""


def _assert_all_were_accepted_and_run_once(machine: Machine) -> None:
    answers = [line.split() for line in machine.run("cat /root/answers-?").splitlines()]
    accepted = [task_id for code, _, task_id in answers if code == "202"]
    refused = [(code, retry_after) for code, retry_after, _ in answers if code != "202"]

    assert all(code == "503" and retry_after.isdigit() for code, retry_after in refused), refused
    assert len(accepted) > 100
    assert len(set(accepted)) == len(accepted)
    wait_until(120, lambda: set(_loaded(machine).values()) == {"succeeded"})
    # The last request of each client was cut off: it may have been accepted and its answer not written.
    assert 0 <= len(set(_loaded(machine)) - set(accepted)) <= CLIENTS
    assert set(accepted) <= set(_loaded(machine))


def _loaded(machine: Machine) -> dict[str, str]:
    """The status of every task with the tag of submit.sh, whoever was told of it."""
    found: dict[str, str] = {}
    cursor = ""
    while True:
        page = json.loads(
            machine.run(f"curl -fsS {WITH_KEY} 'http://127.0.0.1:5000/api/tasks?tag=load&limit=200{cursor}'")
        )
        found |= {task["task_id"]: task["status"] for task in page["data"]}
        if not page["has_more"]:
            return found
        cursor = "&cursor=" + quote(page["next_cursor"], safe="")


def _connects(machine: Machine, port: int) -> bool:
    with socket.socket() as client:
        client.settimeout(2)
        return client.connect_ex((machine.address, port)) == 0
