"""The whole service with real processes: what holds when workers die, queues are long and the broker waits."""

from __future__ import annotations

import os
import signal
import time

import psutil
import pytest
from celery import Celery

from celery_config import make_celery
from taskservice.local.system import LocalSystem
from taskservice.settings import load_settings
from tests.conftest import WaitUntil
from tests.support.service import Service


@pytest.fixture
def celery(service: Service) -> Celery:
    return make_celery(load_settings(service.system.environment), role="web")


def test_a_delayed_task_is_held_by_the_broker_not_by_a_worker(
    service: Service, celery: Celery, wait_until: WaitUntil
) -> None:
    task_id = service.submit({}, delay=4)

    inspect = celery.control.inspect(timeout=1.0)
    held = [*(inspect.scheduled() or {}).values(), *(inspect.reserved() or {}).values()]
    waiting = service.task(task_id)
    wait_until(lambda: service.is_final(task_id), 20, "the delayed task ran")

    assert waiting["status"] == "scheduled"
    assert not any(held)
    assert service.task(task_id)["wait_s"] < 5


def test_retries_stay_on_the_queue_and_count_attempts(service: Service, wait_until: WaitUntil) -> None:
    task_id = service.submit({"fail_attempts": 2}, priority="low")

    wait_until(lambda: service.is_final(task_id), 30, "the third attempt ran")
    task = service.task(task_id)

    assert (task["status"], task["result"]["attempt"]) == ("succeeded", 3)
    assert {attempt["worker"].split("@")[0] for attempt in task["attempts"]} == {"low"}


def test_attempts_end_with_the_last_error(service: Service, wait_until: WaitUntil) -> None:
    task_id = service.submit({"fail_attempts": 9}, max_retries=1)

    wait_until(lambda: service.is_final(task_id), 30, "both attempts ran")
    task = service.task(task_id)

    assert (task["status"], task["attempt"], task["max_attempts"]) == ("failed", 2, 2)
    assert task["error"] == {"code": "smtp_unavailable", "message": "told to fail for now", "retryable": True}


def test_a_task_beyond_its_time_limit_fails_once(service: Service, wait_until: WaitUntil) -> None:
    task_id = service.submit({"seconds": 30}, priority="low")  # the type's limit is 20 s

    wait_until(lambda: service.is_final(task_id), 45, "the time limit ended it")
    task = service.task(task_id)

    assert (task["status"], task["attempt"], task["error"]["code"]) == ("failed", 1, "timed_out")


def test_a_high_task_does_not_wait_behind_low_ones(service: Service, wait_until: WaitUntil) -> None:
    low = [service.submit({"seconds": 0.3}, priority="low") for _ in range(40)]
    slowest_s = 0.0
    for _ in range(5):
        began = time.monotonic()
        high = service.submit({}, priority="high")
        wait_until(lambda high=high: service.is_final(high), 10, "the high task ran")  # type: ignore[misc]
        slowest_s = max(slowest_s, time.monotonic() - began)
    unfinished = sum(not service.is_final(task_id) for task_id in low)
    wait_until(lambda: all(service.is_final(task_id) for task_id in low), 60, "the low tasks ran too")

    assert unfinished > 0, "the low queue was empty before the high tasks ran: the test shows nothing"
    assert slowest_s < 5  # generous: the low tasks take longer than that


def test_a_killed_worker_loses_nothing(service: Service, celery: Celery, wait_until: WaitUntil) -> None:
    task_ids = [service.submit({"seconds": 0.5}, priority="normal") for _ in range(12)]
    wait_until(lambda: any(service.task(task_id)["status"] == "running" for task_id in task_ids), 20, "one runs")

    os.kill(main_process_of("normal@", service.system), signal.SIGKILL)
    wait_until(lambda: all(service.is_final(task_id) for task_id in task_ids), 90, "all ran after the restart")

    assert {service.task(task_id)["status"] for task_id in task_ids} == {"succeeded"}


def test_a_task_that_kills_its_worker_is_failed_in_the_end(service: Service, wait_until: WaitUntil) -> None:
    poison = service.submit({"kill_worker": True}, priority="high")

    wait_until(lambda: service.is_final(poison), 90, "the poison task was given up")
    after = service.submit({}, priority="high")
    wait_until(lambda: service.is_final(after), 30, "the worker goes on")

    assert service.task(poison)["error"]["code"] == "worker_lost"
    assert service.task(after)["status"] == "succeeded"


def main_process_of(node: str, system: LocalSystem) -> int:
    """The pid of the worker whose node name starts so; its pool's children have it as their parent."""
    mine = system.environment["CELERY_BROKER_URL"]
    workers = [
        process
        for process in psutil.process_iter(["cmdline"])
        if any(word.startswith(node) for word in process.info["cmdline"] or [])
        and process.environ().get("CELERY_BROKER_URL") == mine
    ]
    return min(workers, key=lambda process: process.create_time()).pid
