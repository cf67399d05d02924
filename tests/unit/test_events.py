"""Live events without a store: what the hub hands to whom, and the streams of the API held to API.md."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import pytest
from flask.testing import FlaskClient
from flask_openapi3.models.info import Info
from flask_openapi3.openapi import OpenAPI
from werkzeug.test import TestResponse

from taskservice.api import errors, events
from taskservice.api.live import follower, resuming
from taskservice.errors import Unavailable
from taskservice.listeners import INBOX_BATCHES
from taskservice.live import Live
from taskservice.model import Attempt, Priority, Progress, Record, Status, Submission, now
from taskservice.records.events import BEGINNING, EventId, TaskEvent
from tests.support.api import UNKNOWN_ID, assert_problem
from tests.support.fakes import MemoryIndex, MemoryRecords
from tests.support.waiting import wait_until

TASK_ID = "aaaaaaaa-0000-4000-8000-000000000001"
OTHER_ID = "aaaaaaaa-0000-4000-8000-000000000002"
STEPS = {"queued": Status.QUEUED, "started": Status.RUNNING, "progress": Status.RUNNING, "retrying": Status.RETRYING}


class MemoryStream:
    """A stream in a list, which a test may trim or take away."""

    def __init__(self) -> None:
        self.events: list[TaskEvent] = []
        self.is_down = False
        self.reads = 0
        self._changed = threading.Condition()

    def append(self, event: TaskEvent) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def bounds(self) -> tuple[EventId, EventId]:
        self._check()
        return (self.events[0].id, self.events[-1].id) if self.events else (BEGINNING, BEGINNING)

    def read(self, after: EventId, *, wait_s: float) -> list[TaskEvent]:
        self._check()
        self.reads += 1
        with self._changed:
            self._changed.wait_for(lambda: self._later_than(after), min(wait_s, 0.05))
            return self._later_than(after)

    def between(self, after: EventId, until: EventId) -> Iterator[list[TaskEvent]]:
        self._check()
        for event in list(self.events):
            if after < event.id <= until:
                yield [event]

    def _later_than(self, after: EventId) -> list[TaskEvent]:
        return [event for event in self.events if event.id > after]

    def _check(self) -> None:
        if self.is_down:
            raise Unavailable("store")


@dataclass(frozen=True, slots=True)
class Sent:
    """One event as a client read it."""

    id: str
    name: str
    data: dict[str, Any]


class Stage:
    """A hub and the API over it; `change` does what the transitions do."""

    def __init__(self) -> None:
        self.stream = MemoryStream()
        self.records = MemoryRecords()
        self.live = Live(self.stream, self.records, hidden_types=("own_work",))
        app = OpenAPI(__name__, info=Info(title="", version=""), doc_ui=False)
        errors.answer_problems(app)
        app.register_api(events.create_blueprint(self.records, MemoryIndex(self.records), self.live))
        self.client: FlaskClient = app.test_client()

    def change(
        self, name: str, *, task_id: str = TASK_ID, attempt: int = 0, task_type: str = "sleep", **members: Any
    ) -> TaskEvent:
        status = STEPS.get(name) or Status(name)
        record = self.records.kept.get(task_id) or _record(task_id)
        record = replace(record, status=status, version=record.version + 1, **members)
        self.records.put(record)
        event = TaskEvent(
            id=EventId(1000, len(self.stream.events) + 1),
            task_id=task_id,
            name=name,
            status=status,
            attempt=attempt,
            task_type=task_type,
            priority=Priority.LOW,
            version=record.version,
            at=now(),
        )
        self.stream.append(event)
        return event

    def open(self, path: str, *, after: object = None) -> TestResponse:
        headers = {} if after is None else {"Last-Event-ID": str(after)}
        return self.client.get(path, headers=headers, buffered=False)

    def follow(self, *, after: object = None) -> TestResponse:
        return self.open(f"/api/tasks/{TASK_ID}/events", after=after)


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.live.close()


def _record(task_id: str) -> Record:
    moment = now()
    return Record(Submission(task_id, "sleep", Priority.LOW, {}, moment, moment, 4), Status.QUEUED, moment)


def _sent(chunks: Iterator[bytes]) -> Iterator[Sent]:
    """Events, without comments and instructions."""
    for chunk in chunks:
        for block in chunk.decode().split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
            if "event" in fields:
                yield Sent(fields["id"], fields["event"], json.loads(fields["data"]))


def _read(response: TestResponse) -> Iterator[Sent]:
    assert response.status_code == 200, response.text
    return _sent(response.iter_encoded())


def _names(response: TestResponse) -> list[str]:
    return [one.name for one in _read(response)]


def _readers() -> int:
    return [thread.name for thread in threading.enumerate()].count("live")


def test_a_snapshot_comes_first_then_each_change_until_the_final_one(stage: Stage) -> None:
    stage.change("queued")
    response = stage.follow()
    sent = _read(response)
    first = next(sent)
    running = (Attempt(1, "w", now()),)
    stage.change("started", attempt=1, attempts=running)
    stage.change("progress", attempt=1, progress=Progress(1, 2, "half"))
    stage.change("succeeded", attempt=1, result={"n": 1}, finished_at=now())
    rest = list(sent)

    assert (first.name, first.data["status"], first.data["task_id"]) == ("snapshot", "queued", TASK_ID)
    assert [one.name for one in rest] == ["started", "progress", "succeeded"]
    assert (rest[0].data["status"], rest[0].data["result"], rest[0].data["finished_at"]) == ("running", None, None)
    assert rest[1].data == {
        "task_id": TASK_ID,
        "state": "STARTED",
        "status": "running",
        "attempt": 1,
        "progress": {"current": 1, "total": 2, "message": "half"},
    }
    assert (rest[2].data["status"], rest[2].data["result"]) == ("succeeded", {"n": 1})


def test_a_stream_says_what_a_proxy_and_a_browser_must_know(stage: Stage) -> None:
    stage.change("queued")
    response = stage.follow()
    first = next(response.iter_encoded())

    assert first == b"retry: 3000\n\n"
    assert response.headers["Content-Type"] == "text/event-stream"
    assert response.headers["Cache-Control"] == "no-cache"
    assert response.headers["X-Accel-Buffering"] == "no"


def test_the_final_event_of_a_final_task_follows_its_snapshot(stage: Stage) -> None:
    stage.change("queued")
    stage.change("cancelled", finished_at=now())

    assert _names(stage.follow()) == ["snapshot", "cancelled"]


def test_what_changes_between_snapshot_and_subscription_is_told_once(stage: Stage) -> None:
    stage.change("queued")
    with_record = stage.records.get

    def change_meanwhile(task_id: str) -> Record | None:
        stage.records.get = with_record  # type: ignore[method-assign]
        stage.change("started", attempt=1)  # after the subscription: in the snapshot and in the stream
        record = with_record(task_id)
        stage.change("retrying", attempt=1)  # after the snapshot was read
        return record

    stage.records.get = change_meanwhile  # type: ignore[method-assign]
    sent = _read(stage.follow())
    first, second = next(sent), next(sent)
    stage.change("failed", attempt=1, finished_at=now())

    assert (first.name, first.data["status"]) == ("snapshot", "running")
    assert second.name == "retrying"
    assert [one.name for one in sent] == ["failed"]


def test_a_client_resumes_after_its_last_event_without_a_snapshot(stage: Stage) -> None:
    first = stage.change("queued")
    stage.change("started", attempt=1)
    stage.change("queued", task_id=OTHER_ID)
    stage.change("retrying", attempt=1)
    sent = _read(stage.follow(after=first.id))
    missed = [next(sent).name, next(sent).name]
    stage.change("failed", attempt=1, finished_at=now())

    assert missed == ["started", "retrying"]
    assert [one.name for one in sent] == ["failed"]


def test_every_place_a_client_can_resume_from_gives_exactly_the_rest(stage: Stage) -> None:
    names = ["queued", "started", "progress", "retrying", "started", "succeeded"]
    told = [stage.change(name, attempt=1) for name in names]

    for number, event in enumerate(told[:-1], start=1):
        assert _names(stage.follow(after=event.id)) == names[number:]


def test_a_client_that_has_the_final_event_is_told_to_stay_away(stage: Stage) -> None:
    stage.change("queued")
    last = stage.change("expired", finished_at=now())

    assert stage.follow(after=last.id).status_code == 204
    assert stage.live.listener_count == 0


@pytest.mark.parametrize("after", ["999-0", "9999999-0", "rubbish", "1-", "-1-1"])
def test_an_id_that_the_stream_does_not_reach_gives_a_snapshot(stage: Stage, after: str) -> None:
    stage.change("queued")
    stage.change("succeeded", finished_at=now())

    assert _names(stage.follow(after=after)) == ["snapshot", "succeeded"]


def test_a_change_told_late_is_told_as_it_was(stage: Stage) -> None:
    first = stage.change("queued")
    stage.change("started", attempt=1, attempts=(Attempt(1, "w", now()),))
    ended = Attempt(1, "w", now(), finished_at=now())
    stage.change("succeeded", attempt=1, attempts=(ended,), result={"n": 1}, finished_at=now())
    started, succeeded = _read(stage.follow(after=first.id))

    assert (started.data["status"], started.data["state"], started.data["result"]) == ("running", "STARTED", None)
    assert started.data["attempts"][0]["finished_at"] is None
    assert succeeded.data["attempts"][0]["finished_at"] is not None


def test_all_tasks_are_followed_with_a_summary_each(stage: Stage) -> None:
    stage.change("queued")
    sent = _read(stage.open("/api/events"))
    first = next(sent)
    stage.change("started", attempt=1)
    stage.change("queued", task_id=OTHER_ID)
    second, third = next(sent), next(sent)

    assert (first.name, first.data["counts"]["queued"], first.data["counts"]["failed"]) == ("snapshot", 1, 0)
    assert second.data.keys() == {"task_id", "state", "status", "task_type", "priority", "attempt", "at"}
    assert [(one.name, one.data["task_id"]) for one in (second, third)] == [("started", TASK_ID), ("queued", OTHER_ID)]


def test_following_all_tasks_resumes_too(stage: Stage) -> None:
    first = stage.change("queued")
    stage.change("started", attempt=1)
    sent = _read(stage.open("/api/events", after=first.id))
    missed = next(sent)
    stage.change("succeeded", attempt=1)

    assert (missed.name, next(sent).name) == ("started", "succeeded")


def test_the_services_own_tasks_are_told_only_to_who_follows_one(stage: Stage) -> None:
    first = stage.change("queued")
    stage.change("queued", task_id=OTHER_ID, task_type="own_work")
    everything = _read(stage.open("/api/events", after=first.id))
    one = _read(stage.open(f"/api/tasks/{OTHER_ID}/events"))
    next(one)
    stage.change("started", task_id=OTHER_ID, task_type="own_work")
    stage.change("started")

    assert next(everything).data["task_id"] == TASK_ID
    assert next(one).name == "started"


@pytest.mark.parametrize("task_id", [UNKNOWN_ID, "nonsense"])
def test_an_unknown_task_has_no_events(stage: Stage, task_id: str) -> None:
    assert_problem(stage.open(f"/api/tasks/{task_id}/events"), 404, "task_not_found")
    assert stage.live.listener_count == 0


@pytest.mark.parametrize("path", [f"/api/tasks/{TASK_ID}/events", "/api/events"])
def test_a_query_parameter_nobody_defined_is_refused(stage: Stage, path: str) -> None:
    stage.change("queued")

    assert_problem(stage.open(f"{path}?since=1"), 422, "invalid_request")


@pytest.mark.parametrize("path", [f"/api/tasks/{TASK_ID}/events", "/api/events"])
def test_a_stream_does_not_begin_while_the_store_is_away(stage: Stage, path: str) -> None:
    stage.change("queued")
    stage.stream.is_down = True

    assert_problem(stage.open(path), 503, "store_unavailable")


def test_no_more_listen_than_leave_room_for_others(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MAX_LISTENERS", 1)
    stage.change("queued")
    stage.live.listen()

    assert_problem(stage.follow(), 503, "too_many_listeners")


def test_a_stream_outlives_the_store_and_misses_nothing(stage: Stage) -> None:
    stage.change("queued")
    sent = _read(stage.follow())
    next(sent)
    stage.stream.is_down = stage.records.is_down = True
    time.sleep(0.2)  # the reader has met the outage
    stage.stream.is_down = stage.records.is_down = False
    stage.change("started", attempt=1)

    assert next(sent).name == "started"


def test_a_change_waits_for_the_store_that_holds_its_task(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower, "AWAY_S", 0.05)
    stage.change("queued")
    chunks = stage.follow().iter_encoded()
    next(chunks), next(chunks)
    stage.records.is_down = True
    stage.change("started", attempt=1)
    while_away = next(chunks)
    stage.records.is_down = False
    then = next(one for one in chunks if not one.startswith(b":"))

    assert while_away == b": heartbeat\n\n"
    assert b"event: started\n" in then


def test_a_silent_stream_says_that_it_is_there(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower, "HEARTBEAT_S", 0.05)
    stage.change("queued")
    chunks = stage.follow().iter_encoded()
    next(chunks), next(chunks)

    assert [next(chunks), next(chunks)] == [b": heartbeat\n\n"] * 2


def test_whoever_leaves_is_counted_no_more_and_the_reader_rests(stage: Stage) -> None:
    stage.change("queued")
    response = stage.follow()
    next(response.iter_encoded())
    while_open = stage.live.listener_count
    response.close()
    wait_until(lambda: _readers() == 0, 5, "the reader has ended")

    assert (while_open, stage.live.listener_count) == (1, 0)


def test_a_stream_that_is_never_read_is_left_too(stage: Stage) -> None:
    stage.change("queued")
    stage.client.head(f"/api/tasks/{TASK_ID}/events").close()

    assert stage.live.listener_count == 0


def test_all_listeners_share_one_reader(stage: Stage) -> None:
    for _ in range(20):
        stage.live.listen(TASK_ID)
        stage.live.listen()

    wait_until(lambda: _readers() == 1, 5, "one reads, and no earlier test's")


def test_a_listener_that_does_not_keep_up_is_dropped_and_others_are_not(stage: Stage) -> None:
    slow, other = stage.live.listen(TASK_ID), stage.live.listen(OTHER_ID)
    for _ in range(INBOX_BATCHES):
        slow.offer(other.receive(0))
    stage.change("started")
    wait_until(lambda: not slow.is_open, 5, "it is dropped")

    assert stage.live.listener_count == 1
    assert other.is_open


def test_closing_ends_every_stream_at_once(stage: Stage) -> None:
    stage.change("queued")
    sent = _read(stage.follow())
    next(sent)
    threading.Timer(0.1, stage.live.close).start()
    began = time.monotonic()

    assert list(sent) == []
    assert time.monotonic() - began < 2
    assert stage.live.listener_count == 0
    assert _names(stage.follow()) == ["snapshot"]


def test_a_long_poll_is_answered_when_the_task_is_final(stage: Stage) -> None:
    stage.change("queued")
    threading.Timer(0.1, lambda: stage.change("succeeded", finished_at=now())).start()
    began = time.monotonic()
    record = stage.live.wait_until_final(TASK_ID, 10)

    assert record is not None
    assert record.status is Status.SUCCEEDED
    assert time.monotonic() - began < 3
    assert stage.live.listener_count == 0


def test_a_long_poll_ends_in_time_with_the_task_as_it_is(stage: Stage) -> None:
    stage.change("queued")
    record = stage.live.wait_until_final(TASK_ID, 0.1)

    assert record is not None
    assert record.status is Status.QUEUED


def test_a_long_poll_does_not_hold_up_a_stop(stage: Stage) -> None:
    stage.change("queued")
    threading.Timer(0.1, stage.live.close).start()
    began = time.monotonic()
    stage.live.wait_until_final(TASK_ID, 10)

    assert time.monotonic() - began < 2


def test_nobody_waits_for_a_task_that_is_not_there(stage: Stage) -> None:
    assert stage.live.wait_until_final(UNKNOWN_ID, 10) is None


def test_a_long_poll_does_not_depend_on_the_stream(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taskservice.live.READ_ANYWAY_S", 0.1)
    stage.change("queued")

    def finish_in_silence() -> None:
        stage.records.put(replace(stage.records.kept[TASK_ID], status=Status.SUCCEEDED))

    threading.Timer(0.1, finish_in_silence).start()
    record = stage.live.wait_until_final(TASK_ID, 10)

    assert record is not None
    assert record.status is Status.SUCCEEDED


# Who comes back after too much


def test_who_missed_too_much_of_a_task_gets_a_snapshot(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resuming, "MAX_MISSED", 3)
    first = stage.change("queued")
    for _ in range(4):
        stage.change("queued", task_id=OTHER_ID)
    stage.change("succeeded")

    assert [event.name for event in _read(stage.follow(after=first.id))] == ["snapshot", "succeeded"]


def test_who_missed_too_much_of_all_tasks_gets_the_first_then_a_snapshot(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resuming, "MAX_MISSED", 3)
    first = stage.change("queued")
    missed = [stage.change("progress") for _ in range(5)]

    response = stage.open("/api/events", after=first.id)
    sent = list(islice(_read(response), 4))
    response.close()

    assert [event.name for event in sent] == ["progress"] * 3 + ["snapshot"]
    assert [event.id for event in sent] == [str(event.id) for event in [*missed[:3], missed[-1]]]
