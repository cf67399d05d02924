"""Messages are lost, with real processes: their tasks run all the same, and no task runs twice for it."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import kombu
import pytest
import redis

from celery_config import make_celery
from taskservice.local.system import LocalSystem
from taskservice.settings import load_settings
from taskservice.worker.republisher import RepublisherStep
from tests.conftest import WaitUntil
from tests.integration.test_forgetful_store import forgetting
from tests.support.service import LEDGER, Service

SOON_S = 40.0  # REPUBLISH_AFTER since the workers have been there, and since the message was due; two looks; the run


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Every `sleep` that fails waits long enough for its next attempt to be lost meanwhile."""
    folder = tmp_path_factory.mktemp("republishing")
    env = {
        "TASK_TYPE_MODULES": "tests.support.task_types",
        "EXECUTION_LEDGER": str(folder / LEDGER),
        "REPUBLISH_AFTER": "5",
        "INITIAL_RETRY_DELAY": "15",
    }
    with LocalSystem(folder, private_ports=True, env=env) as system:
        yield Service(system)


def depth(service: Service, queue: str) -> int:
    return next(int(one["depth"]) for one in service.call("GET", "/api/queues")["data"] if one["name"] == queue)


def purge(service: Service, wait_until: WaitUntil, queue: str, messages: int) -> None:
    """As by hand in RabbitMQ's own pages. A worker that was stopped just now may have to give one back first."""
    wait_until(lambda: depth(service, queue) == messages, 10, "all messages wait in the queue")
    channel: Any
    with kombu.Connection(service.system.broker_url) as connection, connection.channel() as channel:
        assert channel.queue_purge(queue) == messages


def lose_broker_data(system: LocalSystem) -> None:
    """As if its volume had been removed."""
    assert system.rabbitmq is not None
    program = system.supervisor.stop("rabbitmq")
    shutil.rmtree(system.rabbitmq.data_dir / "mnesia")
    system.rabbitmq.prepare()
    system.supervisor.start(program)
    system.rabbitmq.wait_until_ready()


def republished(service: Service) -> int:
    with redis.Redis.from_url(service.system.result_backend) as client:
        return sum(map(int, client.hvals("republished")))


def test_a_task_whose_message_was_purged_runs_once(service: Service, wait_until: WaitUntil) -> None:
    worker = service.system.supervisor.stop("worker-low")
    task_ids = [service.submit({}, priority="low") for _ in range(3)]
    purge(service, wait_until, "low_priority", 3)
    service.system.supervisor.start(worker)
    wait_until(lambda: service.are_final(task_ids), SOON_S, "they were published again")

    assert [service.status(one) for one in task_ids] == ["succeeded"] * 3
    assert [service.executions(one) for one in task_ids] == [1] * 3


def test_a_deep_queue_without_workers_is_not_published_again(service: Service, wait_until: WaitUntil) -> None:
    """The workers of the other queues look; the task that they find lost was accepted after those of the deep queue."""
    supervisor = service.system.supervisor
    before = republished(service)
    workers = [supervisor.stop("worker-low"), supervisor.stop("worker-normal")]
    deep = [service.submit({}, priority="low") for _ in range(5)]
    lost = service.submit({})
    purge(service, wait_until, "normal_priority", 1)
    wait_until(lambda: republished(service) > before, SOON_S, "the lost one was published again")
    left = depth(service, "low_priority")
    for worker in workers:
        supervisor.start(worker)
    wait_until(lambda: service.are_final([*deep, lost]), SOON_S, "all ran")

    assert left == 5
    assert [service.executions(one) for one in (*deep, lost)] == [1] * 6


def test_every_task_outlives_the_brokers_data(service: Service, wait_until: WaitUntil) -> None:
    supervisor = service.system.supervisor
    retrying = service.submit({"fail_attempts": 1}, priority="high")
    scheduled = service.submit({}, delay=20)
    wait_until(lambda: service.status(retrying) == "retrying", 10, "its first attempt has failed")
    worker = supervisor.stop("worker-low")
    queued = [service.submit({}, priority="low") for _ in range(20)]
    lose_broker_data(service.system)
    supervisor.start(worker)
    wait_until(lambda: service.are_final([retrying, scheduled, *queued]), 2 * SOON_S, "all have ended")

    assert {service.status(one) for one in (retrying, scheduled, *queued)} == {"succeeded"}
    assert [service.executions(one) for one in (scheduled, *queued)] == [1] * 21
    assert service.executions(retrying) == 2


def test_an_end_that_redis_forgets_comes_again(service: Service, wait_until: WaitUntil) -> None:
    task_id = service.submit({"seconds": 1})
    wait_until(lambda: service.status(task_id) == "running", 10, "it runs")
    with forgetting(service):
        wait_until(lambda: service.is_final(task_id), 10, "it has ended")
        time.sleep(1)  # and its message is acknowledged, which nobody tells
    forgotten = service.status(task_id)
    wait_until(lambda: service.is_final(task_id), SOON_S + 15, "its lease has lapsed, and it ran again")

    assert forgotten == "running"
    assert service.status(task_id) == "succeeded"
    assert service.executions(task_id) == 2


@pytest.mark.parametrize("env", [{"REPUBLISH_AFTER": "0"}, {"CELERY_BROKER_URL": "redis://localhost/1"}])
def test_never_and_with_the_embedded_broker_nobody_looks(env: dict[str, str]) -> None:
    app = make_celery(load_settings(env), role="worker")

    RepublisherStep(None).start(SimpleNamespace(app=app))

    assert "republisher" not in [thread.name for thread in threading.enumerate()]
