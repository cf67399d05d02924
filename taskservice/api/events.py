"""Changes as they happen, as server-sent events: of one task, or of all.

Must not know how changes are found; live.py hands them out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from pydantic import BaseModel, Field

from taskservice.api.description import problems
from taskservice.api.errors import TASK_NOT_FOUND, Refusal, unavailable
from taskservice.api.live.follower import TaskFollower, arriving
from taskservice.api.live.frames import HEARTBEAT, RETRY, changes, frame
from taskservice.api.live.peer import Peer
from taskservice.api.live.resuming import MAX_MISSED, TaskCounter, counts, events_of, parse_id, summaries
from taskservice.api.rooms import open_room
from taskservice.api.services import TaskRecords
from taskservice.api.tasks import TaskAddress, find_task, is_task_id
from taskservice.errors import Unavailable
from taskservice.listeners import Batch, Listener
from taskservice.live import Live
from taskservice.records.events import EventId

MAX_LISTENERS = 800  # per process; gunicorn.conf.py gives it 1000 connections, and others want some too


class ResumeHeader(BaseModel):
    """What is not an id of ours is an id too old to resume from."""

    last_event_id: str | None = Field(
        default=None,
        alias="Last-Event-ID",
        description="Send what came after this event; a snapshot if it is no longer kept or too much came after it.",
    )


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
            missed = live.missed(parse_id(header.last_event_id))
            follower = TaskFollower(listener, Peer.of_request(), records)
            changes_of_task = None if missed is None else events_of(record, missed)
            if missed is None or changes_of_task is None:
                return _stream(follower.begin(record), until_left)
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
            missed = live.missed(parse_id(header.last_event_id))
            if missed is None:
                snapshot = frame(listener.after, "snapshot", counts(index))
                return _stream(_of_all(listener, Peer.of_request(), [snapshot], listener.after), until_left)
            changes_of_all = summaries(live, missed, index)
            return _stream(_of_all(listener, Peer.of_request(), changes_of_all, missed.until), until_left)

    return blueprint


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


def _of_all(listener: Listener, peer: Peer, first: Iterable[bytes], after: EventId) -> Iterator[bytes]:
    yield from first
    for batch in arriving(listener, peer):
        if not batch.events:
            yield HEARTBEAT
        elif batch.events[0].id > after:
            yield changes(batch)
        else:
            yield changes(Batch(tuple(event for event in batch.events if event.id > after)))


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
    "already; 204 when there is nothing left to resume. Who resumes when all tasks together have changed more than "
    f"{MAX_MISSED} times gets a new snapshot."
)
_ALL_EVENTS = (
    "A `snapshot` with the number of tasks of each status, then each change of each task: its task_id, state, status, "
    "task_type, priority, attempt and moment. Who resumes after more than "
    f"{MAX_MISSED} changes gets the first of them, then a new `snapshot` in the place of the rest. With hundreds of "
    "listeners changes arrive up to a second later, together."
)
