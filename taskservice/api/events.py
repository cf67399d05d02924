"""Changes as they happen, as server-sent events: of one task, or of all.

Must not know how changes are found; live.py hands them out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Protocol

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from pydantic import BaseModel, Field

from taskservice.api import views
from taskservice.api.description import problems
from taskservice.api.errors import TASK_NOT_FOUND, Refusal, unavailable
from taskservice.api.live.frames import HEARTBEAT, NAMES, RETRY, changed, changes, frame
from taskservice.api.live.peer import HEARTBEAT_S, Peer
from taskservice.api.rooms import open_room
from taskservice.api.services import TaskRecords
from taskservice.api.tasks import TaskAddress, find_task, is_task_id
from taskservice.errors import Unavailable
from taskservice.live import Batch, Listener, Live, Missed
from taskservice.model import Record, Status, TaskFilter, to_ms
from taskservice.records.events import EventId, TaskEvent

AWAY_S = 1.0  # between two tries while the store is away
MAX_LISTENERS = 800  # per process; gunicorn.conf.py gives it 1000 connections, and others want some too
CLOCK_SLACK_MS = 1000  # an event's id may be younger than the moment its change notes


class ResumeHeader(BaseModel):
    """What is not an id of ours is an id too old to resume from."""

    last_event_id: str | None = Field(
        default=None, alias="Last-Event-ID", description="Send what came after this event; a snapshot if it is too old."
    )


class TaskCounter(Protocol):
    """Where tasks are counted."""

    def count(self, wanted: TaskFilter) -> int:
        """Raises Unavailable."""


def create_blueprint(records: TaskRecords, index: TaskCounter, live: Live) -> APIBlueprint:
    """`/api/tasks/{task_id}/events` and `/api/events`."""
    blueprint = open_room("events", "/api")

    @blueprint.get(
        "/tasks/<task_id>/events",
        summary="Follow a task",
        description=_TASK_EVENTS,
        responses={200: _STREAM, 204: None, **problems(_404="No task has this id.", _503=_AWAY)},
    )
    def follow_task(path: TaskAddress, header: ResumeHeader) -> Response:
        if not is_task_id(path.task_id):
            raise Refusal(TASK_NOT_FOUND)
        with ExitStack() as until_left:
            listener = _listen(live, path.task_id, until_left)
            record = find_task(path.task_id, records)
            missed = live.missed(_parse_id(header.last_event_id))
            follower = _TaskFollower(listener, Peer.of_request(), records)
            if missed is None:
                return _stream(follower.begin(record), until_left)
            changes_of_task = _of_task(record, missed)
            if record.status.is_final and not changes_of_task:
                return Response(status=204)  # a browser would come back for ever
            return _stream(follower.resume(changes_of_task, missed.until), until_left)

    @blueprint.get(
        "/events",
        summary="Follow all tasks",
        description=_ALL_EVENTS,
        responses={200: _STREAM, **problems(_503=_AWAY)},
    )
    def follow_all(header: ResumeHeader) -> Response:
        with ExitStack() as until_left:
            listener = _listen(live, None, until_left)
            missed = live.missed(_parse_id(header.last_event_id))
            if missed is None:
                snapshot = frame(listener.after, "snapshot", _counts(index))
                return _stream(_of_all(listener, Peer.of_request(), [snapshot], listener.after), until_left)
            return _stream(_of_all(listener, Peer.of_request(), _summaries(live, missed), missed.until), until_left)

    return blueprint


@dataclass(slots=True)
class _TaskFollower:
    """One stream of one task."""

    listener: Listener
    peer: Peer
    records: TaskRecords

    def begin(self, record: Record) -> Iterator[bytes]:
        """A snapshot, then each change that is not in it."""
        view = views.task(record)
        yield frame(self.listener.after, "snapshot", view)
        if record.status.is_final:
            yield frame(self.listener.after, record.status, view)  # who waits for this name need not know snapshots
            return
        yield from self._follow(after=self.listener.after, version=record.version)

    def resume(self, missed: Sequence[TaskEvent], until: EventId) -> Iterator[bytes]:
        """What was missed, then each change."""
        for event in missed:
            yield from self._told(event)
            if event.status.is_final:
                return
        yield from self._follow(after=missed[-1].id if missed else until, version=0)

    def _follow(self, *, after: EventId, version: int) -> Iterator[bytes]:
        for batch in _arriving(self.listener, self.peer):
            if not batch.events:
                yield HEARTBEAT
            for event in batch.events:
                if event.status.is_final:  # whatever its version: the record may have been lost and made again
                    yield from self._told(event)
                    return
                if event.id > after and event.version > version:
                    yield from self._told(event)

    def _told(self, event: TaskEvent) -> Iterator[bytes]:
        """The event, as soon as the store answers. Raises Unavailable when the stream ends before."""
        if event.name not in NAMES:
            return
        while True:
            try:
                frame_of_event = changed(event, self.records.get(event.task_id))
                break
            except Unavailable:
                if not self.listener.is_open or self.peer.has_left():
                    raise
            yield HEARTBEAT
            self.listener.pause(AWAY_S)
        yield frame_of_event


def _listen(live: Live, task_id: str | None, until_left: ExitStack) -> Listener:
    if live.listener_count >= MAX_LISTENERS:
        raise Refusal(_TOO_MANY)
    listener = live.listen(task_id)
    until_left.callback(live.leave, listener)
    return listener


def _stream(frames: Iterator[bytes], until_left: ExitStack) -> Response:
    """The response that owns the listener from now on, whether its body is ever iterated or not."""
    response = Response(_sent(frames, Peer.of_request()), content_type="text/event-stream")
    response.headers["Cache-Control"] = "no-cache"
    response.headers["X-Accel-Buffering"] = "no"  # nginx would keep events until a buffer is full
    response.call_on_close(until_left.pop_all().close)
    return response


def _sent(frames: Iterator[bytes], peer: Peer) -> Iterator[bytes]:
    peer.hold()
    yield RETRY
    with suppress(Unavailable):  # in the middle: the client resumes where it is
        yield from frames
    peer.release()


def _arriving(listener: Listener, peer: Peer) -> Iterator[Batch]:
    """Until the client has left or is dropped, or this process stops; an empty batch when nothing came for a while."""
    while listener.is_open and not peer.has_left():
        batch = listener.receive(HEARTBEAT_S)
        if listener.is_open:
            yield batch


def _of_all(listener: Listener, peer: Peer, first: Iterable[bytes], after: EventId) -> Iterator[bytes]:
    yield from first
    for batch in _arriving(listener, peer):
        if not batch.events:
            yield HEARTBEAT
        elif batch.events[0].id > after:
            yield changes(batch)
        else:
            yield changes(Batch(tuple(event for event in batch.events if event.id > after)))


def _summaries(live: Live, missed: Missed) -> Iterator[bytes]:
    for page in missed.pages:
        yield changes(Batch(tuple(live.shown(page))))


def _of_task(record: Record, missed: Missed) -> list[TaskEvent]:
    """This task's share. Raises Unavailable."""
    last_ms = to_ms(record.finished_at) + CLOCK_SLACK_MS if record.finished_at else None
    found: list[TaskEvent] = []
    for page in missed.pages:
        found += [event for event in page if event.task_id == record.submission.task_id]
        if (found and found[-1].version >= record.version) or (last_ms and page[-1].id.ms > last_ms):
            break  # the rest is about others; or younger than the record, then the listener has it
    return found


def _parse_id(text: str | None) -> EventId | None:
    try:
        return EventId.parse(text) if text else None
    except ValueError:
        return None


def _counts(index: TaskCounter) -> Mapping[str, Mapping[str, int]]:
    """Raises Unavailable."""
    return {"counts": {status.value: index.count(TaskFilter(statuses=frozenset({status}))) for status in Status}}


_AWAY = "The store cannot be reached, or too many listen already."
_TOO_MANY = unavailable("too_many_listeners", "Too many clients listen to events here.")
_STREAM = {
    "description": "Server-sent events, and a comment every 15 s while nothing happens",
    "content": {"text/event-stream": {"schema": {"type": "string"}}},
}
_TASK_EVENTS = (
    "A `snapshot`, then each change: `scheduled`, `queued`, `started`, `progress`, `retrying`, `succeeded`, `failed`, "
    "`cancelled`, `expired`. The data is the task as GET reads it, as it was then; of `progress` only task_id, state, "
    "status, attempt and progress. Ends after the final event, which follows the snapshot of a task that is final "
    "already; 204 when there is nothing left to resume."
)
_ALL_EVENTS = (
    "A `snapshot` with the number of tasks of each status, then each change of each task: its task_id, state, status, "
    "task_type, priority, attempt and moment. With hundreds of listeners changes arrive up to a second later, together."
)
