"""A broker of several nodes: relays to one RabbitMQ that are closed, cut and silenced while all goes on."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import kombu
import pytest
from celery import Celery

from celery_config import make_celery
from taskservice.local.ports import choose_port
from taskservice.local.system import LocalSystem
from taskservice.model import Priority, Submission, now
from taskservice.publisher import PATIENCE_S, Publisher
from taskservice.publisher.queue_states import found_queues
from taskservice.settings import load_settings
from taskservice.worker import threads
from taskservice.worker.threads import BrokerThread
from tests.conftest import WaitUntil
from tests.support.relay import Relay, relays
from tests.support.service import LEDGER, Service

VIRTUAL_HOST = "several"


@pytest.fixture(scope="module")
def amqp_port(stores: LocalSystem) -> int:
    """Of the one RabbitMQ; a virtual host of its own keeps what these tests leave from all others."""
    rabbitmq = stores.rabbitmq
    assert rabbitmq is not None
    rabbitmq.control("add_vhost", VIRTUAL_HOST)
    rabbitmq.control("set_permissions", "-p", VIRTUAL_HOST, "guest", ".*", ".*", ".*")
    return rabbitmq.port


@pytest.fixture
def nodes(amqp_port: int) -> Iterator[list[Relay]]:
    with relays(2, amqp_port) as nodes:
        yield nodes


def url_of(*ports: int) -> str:
    return ";".join(f"amqp://guest:guest@127.0.0.1:{port}/{VIRTUAL_HOST}" for port in ports)


def celery_of(*ports: int) -> Celery:
    return make_celery(load_settings({"CELERY_BROKER_URL": url_of(*ports)}), role="web")


def submission() -> Submission:
    moment = now()
    return Submission(str(uuid.uuid4()), "data_processing", Priority.LOW, {"data": "x"}, moment, moment, 1)


def publish(publisher: Publisher) -> float:
    """How long it took."""
    began = time.monotonic()
    publisher.publish(submission())
    return time.monotonic() - began


def test_a_node_that_is_away_at_the_start_is_passed_by(nodes: list[Relay]) -> None:
    publisher = Publisher(celery_of(choose_port(), nodes[0].port))

    took_s = publish(publisher)
    states = publisher.queue_states()

    assert took_s < PATIENCE_S
    assert states["low_priority"].depth >= 0


def test_publishing_goes_on_when_a_node_dies_and_when_it_comes_back_and_the_other_dies(nodes: list[Relay]) -> None:
    first, second = nodes
    publisher = Publisher(celery_of(first.port, second.port))
    publish(publisher)

    first.cut()
    took_s = [publish(publisher) for _ in range(3)]
    first.restore()
    second.cut()
    took_s += [publish(publisher) for _ in range(3)]

    assert second.accepted
    assert max(took_s) < PATIENCE_S


def test_publishing_goes_on_when_a_node_falls_silent(nodes: list[Relay]) -> None:
    first, second = nodes
    publisher = Publisher(celery_of(first.port, second.port))
    publish(publisher)

    first.silence()
    took_s = publish(publisher)
    after_s = publish(publisher)

    assert took_s < PATIENCE_S
    assert after_s < 1
    assert second.accepted


def test_two_silent_nodes_of_three_leave_time_for_the_third(nodes: list[Relay], amqp_port: int) -> None:
    for node in nodes:
        node.silence()
    publisher = Publisher(celery_of(*(node.port for node in nodes), amqp_port))

    assert publish(publisher) < PATIENCE_S


class _Looking(BrokerThread):
    """Asks a node that falls silent when it has answered once."""

    def __init__(self, app: Celery, node: Relay) -> None:
        super().__init__("looking", app)
        self._node = node

    def use(self, connection: kombu.Connection) -> None:
        assert found_queues(connection, ["celery"]) == {}
        self._node.silence()
        found_queues(connection, ["celery"])


def test_a_workers_thread_does_not_wait_for_a_silent_node_for_ever(
    nodes: list[Relay], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "TIMEOUTS", {"read_timeout": 1, "write_timeout": 1})
    began = time.monotonic()

    _Looking(celery_of(nodes[0].port), nodes[0]).turn()

    assert 1 <= time.monotonic() - began < 10


def test_every_connection_of_a_process_begins_where_the_last_one_succeeded(nodes: list[Relay]) -> None:
    first, second = nodes
    first.silence()
    publisher = Publisher(celery_of(first.port, second.port))
    publish(publisher)

    began = time.monotonic()
    for _ in range(5):
        publisher.queue_states()

    assert time.monotonic() - began < 2
    assert first.accepted == 1


def test_the_service_starts_with_a_dead_node_and_outlives_another(
    stores: LocalSystem, nodes: list[Relay], tmp_path: Path, wait_until: WaitUntil
) -> None:
    first, second = nodes
    env = {
        "CELERY_BROKER_URL": url_of(choose_port(), first.port, second.port),
        "CELERY_RESULT_BACKEND": stores.result_backend.replace("/0", "/7"),
        "TASK_TYPE_MODULES": "tests.support.task_types",
        "EXECUTION_LEDGER": str(tmp_path / LEDGER),
    }
    with LocalSystem(tmp_path, private_ports=True, env=env) as system:
        service = Service(system)
        before = [service.submit({"seconds": 1}, priority=priority) for priority in ("high", "normal", "low")]
        delayed = service.submit({}, delay=5)
        first.cut()
        with ThreadPoolExecutor(4) as threads:
            after = list(threads.map(lambda _: service.submit({"fail_attempts": 1}), range(20)))
        wait_until(lambda: service.are_final([*before, delayed, *after]), 60, "all ran")
        succeeded = [one for one in (*before, delayed, *after) if service.status(one) == "succeeded"]
        executions = [service.executions(one) for one in (*before, delayed, *after)]
        wait_until(lambda: service.call("GET", "/readyz"), 30, "ready")

    assert len(succeeded) == len(before) + 1 + len(after)
    assert executions == [1] * 4 + [2] * 20
