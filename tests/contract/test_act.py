"""API.md, "Act": cancel, repeat and hasten tasks, one or many; watch, pause and purge queues.

Each docstring quotes the clause that the test shows; "…" stands between parts of one.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

import pytest

from tests.contract.client import PATIENCE_S, Client, pointers, problem
from tests.support.service import Service
from tests.support.waiting import wait_until

QUEUES = ("high_priority", "normal_priority", "low_priority")


def test_a_task_that_waits_is_cancelled_and_never_runs(client: Client, service: Service) -> None:
    """`DELETE /api/tasks/{task_id}`: 200 cancelled before it ran (its code never runs"""
    with client.paused():
        task_id = client.submitted(priority="low")
        answer = client.cancel(task_id)
        behind_it = client.submitted(priority="low")
    client.finished(behind_it)

    assert (answer.status_code, answer.json()["status"], answer.json()["state"]) == (200, "cancelled", "REVOKED")
    assert (client.status(task_id), service.executions(task_id)) == ("cancelled", 0)


def test_a_running_task_is_asked_to_stop(client: Client) -> None:
    """202 running and asked to stop"""
    task_id = client.running()

    answer = client.cancel(task_id)

    assert (answer.status_code, answer.json()["cancel_requested"]) == (202, True)
    assert client.finished(task_id)["status"] == "cancelled"


def test_a_final_task_is_not_cancelled(client: Client) -> None:
    """409 already final"""
    task_id = client.run()["task_id"]

    problem(client.cancel(task_id), 409, "task_final")
    assert client.status(task_id) == "succeeded"


@pytest.mark.parametrize("task_id", [str(uuid.uuid4()), "nonsense"])
def test_nobody_is_not_cancelled(client: Client, task_id: str) -> None:
    """404."""
    problem(client.cancel(task_id), 404, "task_not_found")


def test_a_final_task_is_repeated_as_a_new_one(client: Client) -> None:
    """`POST /api/tasks/{task_id}/retry` `{parameters?}`: 202, a final task again, as a new one with `retried_from`"""
    first = client.run({"fail_attempts": 1, "permanent": True}, priority="high", tags=["a"])

    same = client.post(f"/api/tasks/{first['task_id']}/retry")
    other = client.post(f"/api/tasks/{first['task_id']}/retry", json={"parameters": {"mark": "again"}})
    again, better = (client.finished(answer.json()["task_id"]) for answer in (same, other))

    assert (same.status_code, other.status_code) == (202, 202)
    assert len({first["task_id"], again["task_id"], better["task_id"]}) == 3
    assert (again["status"], better["status"]) == ("failed", "succeeded")
    assert [task["retried_from"] for task in (again, better)] == [first["task_id"]] * 2
    assert (again["parameters"], better["parameters"]) == (first["parameters"], {"mark": "again"})
    assert (again["priority"], again["tags"]) == ("high", ["a"])


def test_a_task_that_is_not_final_is_not_repeated(client: Client) -> None:
    """409 if not final."""
    task_id = client.submitted(delay=3600)

    problem(client.post(f"/api/tasks/{task_id}/retry"), 409, "task_not_final")
    client.cancel(task_id)
    problem(client.post(f"/api/tasks/{uuid.uuid4()}/retry"), 404)


def test_a_scheduled_or_retrying_task_is_run_now(client: Client) -> None:
    """`POST /api/tasks/{task_id}/run`: a scheduled or retrying one now."""
    scheduled = client.submitted(delay=3600)
    retrying = client.submitted({"fail_attempts": 5}, max_retries=5)
    wait_until(lambda: client.task(retrying)["attempt"] == 4, PATIENCE_S, "the fourth attempt, before a wait of 8 s")
    wait_until(lambda: client.status(retrying) == "retrying", PATIENCE_S, "it waits")
    due_at = client.task(retrying)["due_at"]

    answers = [client.post(f"/api/tasks/{task_id}/run") for task_id in (scheduled, retrying)]
    wait_until(lambda: client.task(retrying)["attempt"] == 5, PATIENCE_S, "the next attempt ran")
    attempts = client.task(retrying)["attempts"]
    client.cancel(retrying)

    assert [answer.status_code for answer in answers] == [202, 202]
    assert client.finished(scheduled)["status"] == "succeeded"
    assert attempts[4]["started_at"] < due_at
    problem(client.post(f"/api/tasks/{scheduled}/run"), 409, "task_not_waiting")


def test_many_are_cancelled_or_repeated_by_their_ids(client: Client) -> None:
    """`POST /api/tasks/bulk` `{"action": "retry"|"cancel", "task_ids": […] … -> `{matched, succeeded: […],
    failed: {id: reason}}`.
    """
    done, waiting, unknown = client.run()["task_id"], client.submitted(delay=3600), str(uuid.uuid4())
    task_ids = [done, waiting, unknown]

    repeated = client.post("/api/tasks/bulk", json={"action": "retry", "task_ids": task_ids})
    cancelled = client.post("/api/tasks/bulk", json={"action": "cancel", "task_ids": task_ids})

    assert (repeated.status_code, cancelled.status_code) == (200, 200)
    assert [answer.json()["matched"] for answer in (repeated, cancelled)] == [2, 2]
    assert (repeated.json()["succeeded"], cancelled.json()["succeeded"]) == ([done], [waiting])
    assert repeated.json()["failed"] == {waiting: "not_final", unknown: "task_not_found"}
    assert cancelled.json()["failed"] == {done: "already_final", unknown: "task_not_found"}


def test_many_are_found_by_a_filter(client: Client) -> None:
    """ "filter": {…}, … `filter` in bulk takes the list's parameters."""
    tag = uuid.uuid4().hex
    low, high = (client.submitted(delay=3600, tags=[tag], priority=word) for word in ("low", "high"))
    everything = {
        "status": ["scheduled"], "state": "PENDING", "task_type": "sleep", "priority": "low", "tag": tag,
        "created_after": "2020-01-01T00:00:00Z", "created_before": "2100-01-01T00:00:00Z",
    }  # fmt: skip

    some = client.post("/api/tasks/bulk", json={"action": "cancel", "filter": everything}).json()
    rest = client.post("/api/tasks/bulk", json={"action": "cancel", "filter": {"tag": tag, "status": "scheduled"}})

    assert (some["succeeded"], rest.json()["succeeded"]) == ([low], [high])
    assert pointers(client.post("/api/tasks/bulk", json={"action": "cancel"})) == [""]
    both = {"action": "cancel", "filter": {"tag": tag}, "task_ids": [low]}
    assert pointers(client.post("/api/tasks/bulk", json=both)) == [""]


def test_a_dry_run_of_many_does_nothing(client: Client) -> None:
    """ "dry_run": bool}"""
    task_id = client.submitted(delay=3600)

    wish = {"action": "cancel", "task_ids": [task_id], "dry_run": True}
    answer = client.post("/api/tasks/bulk", json=wish).json()
    status = client.status(task_id)
    client.cancel(task_id)

    assert (answer["matched"], answer["succeeded"], answer["failed"]) == (1, [], {})
    assert status == "scheduled"


def test_each_queue_tells_how_full_it_is(client: Client) -> None:
    """`GET /api/queues`: per queue depth, unacknowledged, consumers, oldest task's age, paused (`unacknowledged` is
    null without the management API).
    """
    with client.paused():
        waiting = [client.submitted(priority="low") for _ in range(3)]
        wait_until(lambda: low(client)["depth"] >= 3, PATIENCE_S, "the broker counted them")
        held = low(client)
    for task_id in waiting:
        client.finished(task_id)
    queues = {queue["name"]: queue for queue in client.document("/api/queues")["data"]}

    assert tuple(queues) == QUEUES
    assert held["paused"] is True
    assert held["oldest_age_s"] > 0
    assert all(queue["unacknowledged"] is None or queue["unacknowledged"] >= 0 for queue in queues.values())
    assert queues["high_priority"]["consumers"] >= 1
    assert (queues["high_priority"]["paused"], queues["high_priority"]["oldest_age_s"]) == (False, None)


def test_a_paused_queue_holds_its_tasks_at_once_and_runs_them_later(client: Client) -> None:
    """`PUT /api/queues/{name}/pause` and `/resume` … in force when answered; held tasks stay `queued` and run within
    15 s of resume
    """
    with client.paused():
        held = [client.submitted(priority="low") for _ in range(3)]
        client.run(priority="normal")
        client.run(priority="high")
        while_paused = {client.status(task_id) for task_id in held}
        paused = low(client)["paused"]
    resumed_at = client.run()["created_at"]
    tasks = [client.finished(task_id) for task_id in held]

    assert (while_paused, paused, low(client)["paused"]) == ({"queued"}, True, False)
    assert {task["status"] for task in tasks} == {"succeeded"}
    assert all(seconds_after(resumed_at, task["started_at"]) < 15 for task in tasks)
    problem(client.call("PUT", "/api/queues/no_such_queue/pause"), 404)


def test_a_purge_cancels_what_waits(client: Client) -> None:
    """`POST …/purge` cancels what waits."""
    with client.paused():
        waiting = [client.submitted(priority="low") for _ in range(3)]
        later = client.submitted(priority="low", delay=3600)
        answer = client.post("/api/queues/low_priority/purge")
        statuses = {client.status(task_id) for task_id in waiting}
        untouched = client.status(later)
    client.cancel(later)

    assert (answer.status_code, answer.json()["cancelled"]) == (200, 3)
    assert (statuses, untouched) == ({"cancelled"}, "scheduled")


def low(client: Client) -> dict[str, Any]:
    queues: list[dict[str, Any]] = client.document("/api/queues")["data"]
    return next(queue for queue in queues if queue["name"] == "low_priority")


def seconds_after(earlier: str, later: str) -> float:
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()
