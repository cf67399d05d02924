"""An empty broker waits for the first one: the boot's own functions, the first one played by a port of this machine.

Must not start RabbitMQ.
"""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

BOOT = Path(__file__).resolve().parents[1] / "fleet" / "boot"
FIRST = "127.0.0.77"  # the port is AMQP's own, which another program may have on 127.0.0.1
SECOND = "127.0.0.78"


@pytest.fixture
def first_broker() -> Iterator[None]:
    with socket.create_server((FIRST, 5672)):
        yield


def test_it_goes_on_once_the_first_one_takes_messages(tmp_path: Path, first_broker: None) -> None:
    assert _wait(tmp_path, host=SECOND, patience_s=60) == ""


def test_it_does_not_wait_for_ever(tmp_path: Path) -> None:
    said = _wait(tmp_path, host=SECOND, patience_s=0)

    assert f"gave up after 0 s: listens {FIRST}" in said
    assert f"goes on without {FIRST}" in said


def test_one_with_data_does_not_wait(tmp_path: Path) -> None:
    (tmp_path / "mnesia").mkdir()

    assert _wait(tmp_path, host=SECOND, patience_s=0) == ""


def test_the_first_one_does_not_wait(tmp_path: Path) -> None:
    assert _wait(tmp_path, host=FIRST, patience_s=0) == ""


def test_the_wait_is_over_before_rabbitmq_runs() -> None:
    steps = (BOOT / "broker.sh").read_text().partition("\ninstall_packages\n")[2].splitlines()

    assert steps.index("wait_for_first_broker") < steps.index("run_broker")


def _wait(data: Path, *, host: str, patience_s: int) -> str:
    """What it said."""
    functions = [(BOOT / name).read_text().partition("\ninstall_packages\n")[0] for name in ("machine.sh", "broker.sh")]
    settings = f"BROKER_HOSTS='{FIRST} {SECOND}' BROKER_HOST={host} data={data}"
    script = "\n".join([*functions, settings, f"wait_for_first_broker {patience_s}"])
    result = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, timeout=60)
    return result.stdout + result.stderr
