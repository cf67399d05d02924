"""Events as a client reads them: the data of each, and the bytes of the stream.

Must not know who listens.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from pydantic import BaseModel

from taskservice.api import views
from taskservice.listeners import Batch
from taskservice.model import Attempt, Priority, Record, Status
from taskservice.records.events import EventId, TaskEvent

RETRY = b"retry: 3000\n\n"
HEARTBEAT = b": heartbeat\n\n"
NAMES = frozenset({"progress", "started", *Status} - {Status.RUNNING})  # a client is told of these


class Change(BaseModel):
    """The data of an event of GET /api/events, and of one whose task is no longer kept."""

    task_id: str
    state: str
    status: Status
    task_type: str
    priority: Priority
    attempt: int
    at: views.Instant


class ProgressChange(BaseModel):
    """The data of a progress event."""

    task_id: str
    state: str
    status: Status
    attempt: int
    progress: views.ProgressView | None


def frame(event_id: EventId, name: str, data: BaseModel | Mapping[str, Any]) -> bytes:
    """One event of the stream."""
    document = data.model_dump() if isinstance(data, BaseModel) else data
    return f"id: {event_id}\nevent: {name}\ndata: {json.dumps(document)}\n\n".encode()


@lru_cache(maxsize=8)  # hundreds of listeners send the same bytes
def changes(batch: Batch) -> bytes:
    """All of them, each with a summary of its task."""
    return b"".join(frame(event.id, event.name, _change(event)) for event in batch.events if event.name in NAMES)


def changed(event: TaskEvent, record: Record | None) -> bytes:
    """The event with its task, which may have moved on since, or be gone."""
    return frame(event.id, event.name, _data(event, record))


def _data(event: TaskEvent, record: Record | None) -> BaseModel:
    if record is None:
        return _change(event)
    if event.name == "progress":
        progress = views.task(record).progress
        return ProgressChange(
            task_id=event.task_id,
            state=event.status.state,
            status=event.status,
            attempt=event.attempt,
            progress=progress if record.attempt == event.attempt else None,
        )
    return views.task(_as_of(event, record), event.at)


def _as_of(event: TaskEvent, record: Record) -> Record:
    """The record as it was at the event, or nearly: what has been overwritten since (due_at) reads as it is now."""
    if record.version <= event.version or event.status.is_final:
        return record
    attempts = tuple(_attempt_as_of(event, one) for one in record.attempts if one.number <= event.attempt)
    return replace(
        record,
        status=event.status,
        attempts=attempts,
        progress=record.progress if record.attempt == event.attempt else None,
        result=None,
        error=attempts[-1].error if attempts and event.status is Status.RETRYING else None,
        finished_at=None,
    )


def _attempt_as_of(event: TaskEvent, attempt: Attempt) -> Attempt:
    runs = event.status is Status.RUNNING and attempt.number == event.attempt
    return replace(attempt, finished_at=None, error=None) if runs else attempt


def _change(event: TaskEvent) -> Change:
    return Change(
        task_id=event.task_id,
        state=event.status.state,
        status=event.status,
        task_type=event.task_type,
        priority=event.priority,
        attempt=event.attempt,
        at=event.at,
    )
