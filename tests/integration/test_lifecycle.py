"""What becomes of a task that is cancelled, held back, too late, or too much for its worker; with real processes."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import kombu
import pytest

from taskservice.model import Priority, Submission, now
from tests.conftest import WaitUntil
from tests.support.service import Service


@contextmanager
def paused(service: Service, queue: str) -> Iterator[None]:
    service.call("PUT", f"/api/queues/{queue}/pause")
    try:
        yield
    finally:
        service.call("PUT", f"/api/queues/{queue}/resume")


def test_a_paused_queue_holds_its_tasks_and_loses_none(service: Service, wait_until: WaitUntil) -> None:
    with paused(service, "low_priority"):
        held = [service.submit({"seconds": 0.1}, priority="low") for _ in range(5)]
        other = service.submit({}, priority="normal")
        wait_until(lambda: service.is_final(other), 10, "another queue's task ran")
        time.sleep(2)  # long enough for a worker that does not know of the pause
        while_paused = {service.status(task_id) for task_id in held}
        is_ready = service.call("GET", "/readyz")["status"]
    wait_until(lambda: service.are_final(held), 20, "the held tasks ran")

    assert (while_paused, is_ready) == ({"queued"}, "ready")
    assert [service.executions(task_id) for task_id in held] == [1] * 5


def test_a_pause_is_in_force_while_the_worker_restarts(service: Service, wait_until: WaitUntil) -> None:
    with paused(service, "low_priority"):
        service.system.supervisor.kill("worker-low")
        held = service.submit({}, priority="low")
        wait_until(lambda: service.system.supervisor.is_alive("worker-low"), 20, "the worker is back")
        time.sleep(6)  # it is up, and would have run the task by now
        while_paused = service.status(held)
    wait_until(lambda: service.is_final(held), 30, "the held task ran")

    assert (while_paused, service.executions(held)) == ("queued", 1)


def test_a_queued_task_that_is_cancelled_never_runs(service: Service, wait_until: WaitUntil) -> None:
    with paused(service, "low_priority"):
        cancelled = service.submit({}, priority="low")
        answer = service.call("DELETE", f"/api/tasks/{cancelled}")
    behind_it = service.submit({}, priority="low")
    wait_until(lambda: service.is_final(behind_it), 20, "the task behind it ran")

    assert (answer["status"], answer["state"]) == ("cancelled", "REVOKED")
    assert (service.status(cancelled), service.executions(cancelled)) == ("cancelled", 0)


def test_a_running_task_stops_at_its_next_progress_report(service: Service, wait_until: WaitUntil) -> None:
    task_id = service.submit({"seconds": 15, "reports": 150})
    wait_until(lambda: service.status(task_id) == "running", 10, "it runs")
    asked_at = time.monotonic()
    answer = service.call("DELETE", f"/api/tasks/{task_id}", status=202)
    wait_until(lambda: service.is_final(task_id), 10, "it stopped")

    assert answer["cancel_requested"]
    assert service.status(task_id) == "cancelled"
    assert time.monotonic() - asked_at < 5  # before the worker would have killed it


def test_a_running_task_that_does_not_listen_is_killed_and_its_worker_goes_on(
    service: Service, wait_until: WaitUntil
) -> None:
    task_id = service.submit({"seconds": 18, "stubborn": True})
    wait_until(lambda: service.status(task_id) == "running", 10, "it runs")
    service.call("DELETE", f"/api/tasks/{task_id}", status=202)
    wait_until(lambda: service.is_final(task_id), 15, "it was ended")
    after = [service.submit({}) for _ in range(4)]
    wait_until(lambda: service.are_final(after), 20, "the worker goes on")

    assert (service.status(task_id), service.executions(task_id)) == ("cancelled", 1)


def test_a_task_that_ignores_its_time_limit_is_killed(service: Service, wait_until: WaitUntil) -> None:
    task_id = service.submit({"seconds": 60, "stubborn": True}, task_type="short_sleep")  # its limit is 3 s

    wait_until(lambda: service.is_final(task_id), 40, "the hard limit ended it")
    task = service.task(task_id)

    assert (task["status"], task["error"]["code"], task["attempt"]) == ("failed", "timed_out", 1)
    assert service.executions(task_id) == 1


def test_a_task_that_is_not_started_in_time_expires(service: Service, wait_until: WaitUntil) -> None:
    with paused(service, "low_priority"):
        task_id = service.submit({}, priority="low", expires_in=1)
        wait_until(lambda: service.is_final(task_id), 10, "it expired while nobody could claim it")

    assert service.status(task_id) == "expired"


def test_over_the_rate_limit_means_later_and_never_a_failed_attempt(service: Service, wait_until: WaitUntil) -> None:
    began = time.monotonic()
    task_ids = [service.submit({}, task_type="short_sleep") for _ in range(8)]  # 2 a second

    wait_until(lambda: service.are_final(task_ids), 30, "all ran")
    took_s = time.monotonic() - began
    tasks = [service.task(task_id) for task_id in task_ids]

    assert [(task["status"], task["attempt"]) for task in tasks] == [("succeeded", 1)] * 8
    assert took_s > 2.5  # 2 at once, the other 6 at 2 a second


def test_run_now_does_not_wait_and_runs_once(service: Service, wait_until: WaitUntil) -> None:
    task_id = service.submit({}, delay=5)
    service.call("POST", f"/api/tasks/{task_id}/run", status=202)
    wait_until(lambda: service.is_final(task_id), 4, "it ran before it was due")
    time.sleep(5)  # until the delayed copy has arrived too

    assert (service.status(task_id), service.executions(task_id)) == ("succeeded", 1)


def test_a_poison_task_is_a_dead_letter_and_can_be_repeated(service: Service, wait_until: WaitUntil) -> None:
    poison = service.submit({"exit_worker": True}, priority="high")
    wait_until(lambda: service.is_final(poison), 60, "it was given up")
    wait_until(lambda: poison in kept(service), 20, "its letter is kept")
    again = service.call("POST", f"/api/tasks/{poison}/retry", status=202, json={"parameters": {}})["task_id"]
    wait_until(lambda: service.is_final(again), 20, "the repetition ran")

    assert service.task(poison)["error"]["code"] == "worker_lost"
    assert f"task.worker_lost task_id={poison}" in service.system.supervisor.log("worker-high").read_text()
    assert (service.status(again), service.task(again)["retried_from"]) == ("succeeded", poison)


def wrong_shape(headers: dict[str, Any], **members: Any) -> str:
    moment = now()
    right = Submission(headers["id"], "sleep", Priority.LOW, {}, moment, moment, 3)
    return json.dumps([[right.to_message() | members], {}, {}])


MANGLED: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "undecodable body": (lambda _: "{not json", "undecodable_message"),
    "not a submission": (lambda _: "[[1], {}, {}]", "undecodable_message"),
    "a moment no clock has": (lambda headers: wrong_shape(headers, due_at_ms=10**20), "undecodable_message"),
    "no sequence": (lambda headers: wrong_shape(headers, sequence=None), "undecodable_message"),
    "tags that are no words": (lambda headers: wrong_shape(headers, tags=[{}]), "undecodable_message"),
    "unknown task type": (lambda headers: headers.update(task="nobody_knows") or "[[{}], {}, {}]", "unknown_task_type"),
}


@pytest.mark.parametrize("how", MANGLED)
def test_a_message_nobody_can_run_fails_its_task_and_blocks_nobody(
    service: Service, wait_until: WaitUntil, how: str
) -> None:
    """The task waits for its hour; a mangled copy of its message arrives instead."""
    mangle, code = MANGLED[how]
    task_id = service.submit({}, priority="low", delay=3600)
    publish_mangled(service, task_id, mangle)
    wait_until(lambda: service.is_final(task_id), 20, "its record says so")
    wait_until(lambda: task_id in kept(service), 10, "the letter is kept")
    after = service.submit({}, priority="low")
    wait_until(lambda: service.is_final(after), 20, "the queue goes on")

    assert service.task(task_id)["error"]["code"] == code
    assert not service.letters("dead_letter_intake")


def test_a_message_without_an_id_is_a_dead_letter_and_blocks_nobody(service: Service, wait_until: WaitUntil) -> None:
    before = len(service.letters("dead_letter"))

    publish_mangled(service, str(uuid.uuid4()), lambda headers: headers.pop("id") and "[[{}], {}, {}]")
    after = service.submit({}, priority="low")
    wait_until(lambda: service.is_final(after), 20, "the queue goes on")

    wait_until(lambda: len(service.letters("dead_letter")) > before, 10, "the letter is kept")


def publish_mangled(service: Service, task_id: str, mangle: Callable[[dict[str, Any]], Any]) -> None:
    headers = {"id": task_id, "task": "sleep", "lang": "py", "retries": 0, "root_id": task_id, "parent_id": None}
    body = mangle(headers)
    with kombu.Connection(service.system.broker_url) as connection:
        connection.Producer().publish(
            body,
            exchange="low_priority",
            routing_key="low",
            headers=headers,
            correlation_id=str(uuid.uuid4()),
            content_type="application/json",
            content_encoding="utf-8",
        )


def kept(service: Service) -> set[str]:
    return {str(headers.get("id")) for headers in service.letters("dead_letter")}
