"""API.md, "Read": one task, many tasks, and changes as they happen.

Each docstring quotes the clause that the test shows; "…" stands between parts of one.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.contract.client import PATIENCE_S, Client, Event, pointers, problem
from tests.support.waiting import wait_until

INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
OF_A_PROMISE = {
    "task_id", "state", "status", "task_type", "priority", "queue", "created_at", "due_at", "message", "links",
}  # fmt: skip
OF_A_TASK = OF_A_PROMISE | {
    "attempt", "max_attempts", "started_at", "finished_at", "wait_s", "run_s", "worker", "progress", "result", "error",
    "attempts", "parameters", "tags", "metadata", "retried_from",
}  # fmt: skip


def listed(client: Client, **query: Any) -> list[str]:
    """The ids of the page."""
    return [task["task_id"] for task in client.document("/api/tasks", params=query)["data"]]


@pytest.fixture(scope="module")
def known(client: Client) -> Iterator[dict[str, Any]]:
    """A tag of these tasks' own, and by their names the ids of some that stay as they are."""
    tag = uuid.uuid4().hex
    text = client.submitted({"data": "x"}, task_type="data_processing", tags=[tag])
    failed = client.submitted({"fail_attempts": 1, "permanent": True}, priority="high", tags=[tag])
    scheduled = client.submitted(priority="low", delay=3600, tags=[tag, "other"])
    for task_id in (text, failed):
        client.finished(task_id)
    yield {"tag": tag, "text": text, "failed": failed, "scheduled": scheduled}
    client.cancel(scheduled)


def test_times_and_durations_have_one_form(client: Client) -> None:
    """Times are RFC 3339 UTC with milliseconds, durations are seconds (numbers), names are snake_case."""
    task = client.run()

    for name in ("created_at", "due_at", "started_at", "finished_at"):
        assert INSTANT.fullmatch(task[name]), name
    assert (type(task["wait_s"]), type(task["run_s"])) == (float, float)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", name) for name in task)


def test_a_task_reads_with_all_of_its_members(client: Client) -> None:
    """`GET /api/tasks/{task_id}` -> 200 with all of the above plus `attempt`, `max_attempts`, `started_at`,
    `finished_at`, `wait_s`, `run_s`, `worker`, `progress` … `result`, `error` … `attempts` … `parameters`, `tags`,
    `metadata`, `retried_from`.
    """
    parameters, metadata = {"seconds": 0.2, "reports": 2}, {"order": 1}
    answer = client.submit(parameters, tags=["a"], metadata=metadata)
    promise = answer.json()

    task = client.finished(promise["task_id"])

    assert task.keys() >= OF_A_TASK
    assert {name: task[name] for name in promise if name not in ("state", "status", "message")} == {
        name: promise[name] for name in promise if name not in ("state", "status", "message")
    }
    assert (task["attempt"], task["max_attempts"], task["retried_from"]) == (1, 4, None)
    assert (task["parameters"], task["tags"], task["metadata"]) == (parameters, ["a"], metadata)
    assert task["created_at"] <= task["started_at"] <= task["finished_at"]
    assert task["run_s"] >= 0.2
    assert task["worker"].startswith("normal@")
    assert task["message"]


def test_progress_has_three_members(client: Client) -> None:
    """`progress` `{current,total,message}`"""
    task_id = client.running()
    wait_until(lambda: client.task(task_id)["progress"], PATIENCE_S, "it told of its progress")

    progress = client.task(task_id)["progress"]
    client.cancel(task_id)

    assert 1 <= progress["current"] <= 150
    assert (progress["total"], progress["message"]) == (150, "asleep")


def test_an_error_has_three_members(client: Client) -> None:
    """`error` `{code,message,retryable}`"""
    permanent = client.run({"fail_attempts": 1, "permanent": True})["error"]
    transient = client.run({"fail_attempts": 1}, max_retries=0)["error"]

    assert permanent == {"code": "file_not_found", "message": "told to fail for good", "retryable": False}
    assert transient == {"code": "smtp_unavailable", "message": "told to fail for now", "retryable": True}


def test_each_attempt_is_told(client: Client) -> None:
    """`attempts` (each one's start, end, worker, error)"""
    first, second = client.run({"fail_attempts": 1}, priority="high")["attempts"]

    assert (first["error"]["code"], second["error"]) == ("smtp_unavailable", None)
    assert first["started_at"] <= first["finished_at"] <= second["started_at"] <= second["finished_at"]
    assert all(attempt["worker"].startswith("high@") for attempt in (first, second))


@pytest.mark.parametrize("task_id", [str(uuid.uuid4()), "nonsense", "..", "a" * 300, "%00", "%ff"])
@pytest.mark.parametrize("query", ["", "?wait=5"])
def test_an_unknown_id_is_404(client: Client, task_id: str, query: str) -> None:
    """Unknown or malformed id: **404**, never PENDING."""
    problem(client.get(f"/api/tasks/{task_id}{query}"), 404)


def test_an_etag_saves_the_body_until_the_task_changes(client: Client) -> None:
    """`ETag`, `If-None-Match` -> 304."""
    task_id = client.submitted(delay=3600)
    path = f"/api/tasks/{task_id}"
    etag = client.get(path).headers["ETag"]

    same = client.get(path, headers={"If-None-Match": etag})
    client.cancel(task_id)
    changed = client.get(path, headers={"If-None-Match": etag})

    assert (same.status_code, same.content, same.headers["ETag"]) == (304, b"", etag)
    assert (changed.status_code, changed.json()["status"]) == (200, "cancelled")
    assert changed.headers["ETag"] != etag


def test_retry_after_is_said_while_a_task_is_not_final(client: Client) -> None:
    """`Retry-After` while not final."""
    task_id = client.submitted(delay=3600)

    before = client.get(f"/api/tasks/{task_id}")
    client.cancel(task_id)
    after = client.get(f"/api/tasks/{task_id}")

    assert int(before.headers["Retry-After"]) >= 1
    assert "Retry-After" not in after.headers


def test_a_reader_can_wait_for_the_end(client: Client) -> None:
    """`GET /api/tasks/{task_id}?wait=N` (N <= 30): answers when the task is final"""
    task_id = client.submitted({"seconds": 1}, delay=1)
    began = time.monotonic()

    task = client.document(f"/api/tasks/{task_id}?wait=30")

    assert task["status"] == "succeeded"
    assert time.monotonic() - began < 25  # so it was the end that was answered to
    for other in ("31", "-1", "soon", "nan"):
        assert pointers(client.get(f"/api/tasks/{task_id}?wait={other}")) == ["/wait"]


def test_a_reader_waits_no_longer_than_it_said(client: Client) -> None:
    """or N s have passed."""
    task_id = client.submitted(delay=3600)
    began = time.monotonic()

    task = client.document(f"/api/tasks/{task_id}?wait=1.5")
    waited_s = time.monotonic() - began
    client.cancel(task_id)

    assert task["status"] == "scheduled"
    assert 1.4 < waited_s < 20


def test_a_list_is_filtered(client: Client, known: dict[str, Any]) -> None:
    """`GET /api/tasks?status=&state=&task_type=&priority=&tag=&created_after=&created_before=&limit=&cursor=`"""
    tag, text, failed, scheduled = (known[name] for name in ("tag", "text", "failed", "scheduled"))
    created = {name: client.task(known[name])["created_at"] for name in ("text", "scheduled")}

    assert listed(client, tag=tag) == [scheduled, failed, text]
    assert listed(client, tag=tag, status="failed") == [failed]
    assert listed(client, tag=tag, status=["failed", "scheduled"]) == [scheduled, failed]
    assert listed(client, tag=tag, state="SUCCESS") == [text]
    assert listed(client, tag=tag, task_type="sleep") == [scheduled, failed]
    assert listed(client, tag=tag, priority="low") == [scheduled]
    assert listed(client, tag=tag, created_after=created["scheduled"]) == []
    assert text not in listed(client, tag=tag, created_after=created["text"])
    assert listed(client, tag=tag, created_before=created["text"]) == []
    assert scheduled not in listed(client, tag=tag, created_before=created["scheduled"])
    assert listed(client, tag=tag, status="failed", priority="low") == []


def test_a_list_is_newest_first_with_ties_in_order_of_acceptance(client: Client) -> None:
    """newest first (ties in order of acceptance"""
    tag = uuid.uuid4().hex
    # held back: a worker that is faster than the web makes a task's record before its neighbours'
    task = {"task_type": "sleep", "delay": 3600, "tags": [tag]}
    batch = client.post("/api/tasks/batch", json={"tasks": [task] * 40}).json()
    accepted = [result["task_id"] for result in batch["results"]]

    found = client.document("/api/tasks", params={"tag": tag})["data"]

    assert [task["task_id"] for task in found] == accepted[::-1]
    assert len({task["created_at"] for task in found}) < len(found), "no two of them were created together"


@pytest.mark.parametrize(
    "query",
    [
        "status=done", "state=DONE", "task_type=", "priority=urgent", "tag=", "created_after=yesterday",
        "created_before=2026-01-01", "limit=0", "limit=201", "limit=many", "cursor=x", "cursor=", "color=red",
        "limit=1&limit=2",
    ],
)  # fmt: skip
def test_bad_query_parameters_are_422(client: Client, query: str) -> None:
    """bad query parameters 422"""
    (pointer,) = pointers(client.get(f"/api/tasks?{query}"))

    assert pointer.removeprefix("/").startswith(query.partition("=")[0])


def test_a_list_comes_in_pages(client: Client, known: dict[str, Any]) -> None:
    """`{"data": […], "has_more": bool, "next_cursor": "…"}`"""
    first = client.document("/api/tasks", params={"tag": known["tag"], "limit": 2})
    last = client.document("/api/tasks", params={"tag": known["tag"], "limit": 2, "cursor": first["next_cursor"]})

    assert first.keys() == last.keys() == {"data", "has_more", "next_cursor"}
    assert (first["has_more"], last["has_more"], last["next_cursor"]) == (True, False, None)
    pages = [[task["task_id"] for task in page["data"]] for page in (first, last)]
    assert pages == [[known["scheduled"], known["failed"]], [known["text"]]]


def test_a_page_has_50_tasks_unless_asked(client: Client) -> None:
    """limit 1-200, default 50."""
    tag = uuid.uuid4().hex
    client.post("/api/tasks/batch", json={"tasks": [{"task_type": "sleep", "tags": [tag]}] * 201})

    assert len(listed(client, tag=tag)) == 50
    assert len(listed(client, tag=tag, limit=1)) == 1
    assert len(listed(client, tag=tag, limit=200)) == 200


def test_a_task_is_followed_from_a_snapshot_to_its_end(client: Client) -> None:
    """`GET /api/tasks/{task_id}/events`: server-sent events, a snapshot first, then each change
    (`scheduled`, `queued`, `started`, `progress`, `retrying`, `succeeded`, … ends after the final one.
    """
    with client.paused():
        task_id = client.submitted({"seconds": 1, "reports": 4, "fail_attempts": 1}, priority="low")
        stream = client.events(f"/api/tasks/{task_id}/events")
        events = stream.__enter__()
        first = next(events)
    rest = list(events)  # as many as there are until the service ends the stream
    stream.__exit__(None, None, None)
    told = [event.name for event in rest]

    assert (first.name, first.data["task_id"], first.data["status"]) == ("snapshot", task_id, "queued")
    assert [name for name in told if name != "progress"] == ["started", "retrying", "started", "succeeded"]
    assert "progress" in told
    assert rest[-1].data["status"] == "succeeded"


def test_all_tasks_are_followed(client: Client) -> None:
    """`GET /api/events`: the same for all tasks. … `scheduled`, `queued`, `started` … `succeeded`, `failed`,
    `cancelled`, `expired`
    """
    with client.paused(), client.events("/api/events") as events:
        first = next(events)
        ids = {
            "scheduled": client.submitted(delay=3600),
            "cancelled": client.submitted(priority="low"),
            "expired": client.submitted(priority="low", expires_in=0.2),
            "failed": client.submitted({"fail_attempts": 1, "permanent": True}),
            "succeeded": client.submitted(),
        }
        client.cancel(ids["cancelled"])
        seen: set[tuple[str, str]] = set()
        while not {(ids[name], name) for name in ids} <= seen:
            event = next(events)
            seen.add((event.data["task_id"], event.name))
    client.cancel(ids["scheduled"])

    assert first.name == "snapshot"
    assert {(ids["succeeded"], "queued"), (ids["succeeded"], "started")} <= seen


def test_a_stream_is_resumed(client: Client) -> None:
    """`Last-Event-ID` resumes"""
    with client.events("/api/events") as everything:
        next(everything)  # the snapshot: from here on nothing is missed
        task_id = client.submitted({"fail_attempts": 1})
        whole: list[Event] = []
        while not whole or whole[-1].name != "succeeded":
            event = next(everything)
            whole += [event] if event.data["task_id"] == task_id else []

    with client.events(f"/api/tasks/{task_id}/events", after=whole[1].id) as events:
        rest = list(events)

    assert [event.name for event in whole] == ["queued", "started", "retrying", "started", "succeeded"]
    assert [(event.id, event.name) for event in rest] == [(event.id, event.name) for event in whole[2:]]
