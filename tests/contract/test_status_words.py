"""API.md, "Two words for where a task is": each status with its state, and no way back.

Each docstring quotes the clause that the test shows; "…" stands between parts of one.
"""

from __future__ import annotations

from typing import Any

from celery_config import make_celery
from taskservice.settings import load_settings
from tests.contract.client import FINAL, PATIENCE_S, Client
from tests.support.service import Service
from tests.support.waiting import wait_until


def words(task: dict[str, Any]) -> tuple[str, str]:
    return task["status"], task["state"]


def test_the_state_is_what_celery_s_own_clients_read(client: Client, service: Service) -> None:
    """`state` is Celery's own word, so that what a client reads here is what … `AsyncResult` say."""
    celery = make_celery(load_settings(service.system.environment), role="web")
    cancelled = client.submitted(delay=3600)
    client.cancel(cancelled)
    task_ids = {
        "PENDING": client.submitted(delay=3600),
        "STARTED": client.running(),
        "SUCCESS": client.run()["task_id"],
        "FAILURE": client.run({"fail_attempts": 1, "permanent": True})["task_id"],
        "REVOKED": cancelled,
    }

    here = {state: client.task(task_id)["state"] for state, task_id in task_ids.items()}
    there = {state: celery.AsyncResult(task_id).state for state, task_id in task_ids.items()}
    for state in ("PENDING", "STARTED"):
        client.cancel(task_ids[state])

    assert here == there == {state: state for state in task_ids}


def test_a_scheduled_task(client: Client) -> None:
    """scheduled | PENDING | accepted, held by the broker until `due_at`"""
    task_id = client.submitted(delay=3600)

    task = client.task(task_id)
    client.cancel(task_id)

    assert words(task) == ("scheduled", "PENDING")
    assert task["due_at"] > task["created_at"]
    assert task["attempt"] == 0


def test_a_queued_task(client: Client) -> None:
    """queued | PENDING | accepted, in its priority queue, no worker has started it"""
    with client.paused():
        task_id = client.submitted(priority="low")
        task = client.task(task_id)
        client.cancel(task_id)

    assert words(task) == ("queued", "PENDING")
    assert (task["attempt"], task["started_at"], task["worker"]) == (0, None, None)


def test_a_running_task(client: Client) -> None:
    """running | STARTED | a worker is executing attempt `attempt`"""
    task_id = client.running()

    task = client.task(task_id)
    client.cancel(task_id)

    assert words(task) == ("running", "STARTED")
    assert task["attempt"] == 1
    assert task["started_at"]
    assert task["finished_at"] is None


def test_a_retrying_task(client: Client) -> None:
    """retrying | RETRY | attempt failed, the next one is held by the broker until `due_at`"""
    task_id = client.submitted({"fail_attempts": 9}, max_retries=9)
    wait_until(lambda: client.task(task_id)["attempt"] >= 3, PATIENCE_S, "it was tried three times")
    wait_until(lambda: client.status(task_id) == "retrying", PATIENCE_S, "it waits for the next attempt")

    task = client.task(task_id)
    client.cancel(task_id)

    assert words(task) == ("retrying", "RETRY")
    assert task["due_at"] > task["attempts"][-1]["finished_at"]
    assert task["attempts"][-1]["error"]


def test_a_succeeded_task(client: Client) -> None:
    """succeeded | SUCCESS | final; `result` is there"""
    task = client.run()

    assert words(task) == ("succeeded", "SUCCESS")
    assert task["result"]["attempt"] == 1
    assert task["error"] is None


def test_a_failed_task(client: Client) -> None:
    """failed | FAILURE | final; `error` is there"""
    task = client.run({"fail_attempts": 1, "permanent": True})

    assert words(task) == ("failed", "FAILURE")
    assert task["error"]["code"]
    assert task["result"] is None


def test_a_cancelled_task(client: Client) -> None:
    """cancelled | REVOKED | final; a client cancelled it"""
    task_id = client.submitted(delay=3600)
    client.cancel(task_id)

    task = client.task(task_id)

    assert words(task) == ("cancelled", "REVOKED")
    assert task["finished_at"]


def test_an_expired_task(client: Client) -> None:
    """expired | REVOKED | final; it did not start before its `expires_in` ran out"""
    with client.paused():
        task = client.finished(client.submitted(priority="low", expires_in=0.1))

    assert words(task) == ("expired", "REVOKED")
    assert task["started_at"] is None


def test_a_status_moves_forwards_except_for_a_retry(client: Client) -> None:
    """`status` is the precise lifecycle word. Both are always present; `status` never moves backwards except running
    -> retrying -> running.
    """
    with client.events("/api/events") as events:
        next(events)
        task_id = client.submitted({"fail_attempts": 2, "seconds": 0.1}, delay=1)
        told: list[dict[str, Any]] = []
        while not told or told[-1]["status"] not in FINAL:
            event = next(events)
            told += [event.data] if event.data["task_id"] == task_id else []
    statuses = [one["status"] for one in told if one["status"] != "queued"]

    assert all(one["state"] for one in told)
    assert statuses == ["scheduled", "running", "retrying", "running", "retrying", "running", "succeeded"]


def test_nothing_moves_a_final_task(client: Client) -> None:
    """`status` never moves backwards"""
    task = client.run()
    path = f"/api/tasks/{task['task_id']}"

    answers = [client.call("DELETE", path), client.post(f"{path}/run")]

    assert [answer.status_code for answer in answers] == [409, 409]
    assert client.task(task["task_id"]) == task
