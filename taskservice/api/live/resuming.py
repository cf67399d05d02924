"""What a client that comes back has missed, within bounds: a snapshot takes the place of what is too much.

Must not know how it is sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from taskservice.api.live.frames import changes, frame
from taskservice.listeners import Batch
from taskservice.live import Live, Missed
from taskservice.model import Record, Status, TaskFilter, to_ms
from taskservice.records.events import EventId, TaskEvent

MAX_MISSED = 10_000  # events of all tasks that are looked through for one who resumes
CLOCK_SLACK_MS = 1000  # an event's id may be younger than the moment its change notes


class TaskCounter(Protocol):
    """Where tasks are counted."""

    def count(self, wanted: TaskFilter) -> int:
        """Raises Unavailable."""


def summaries(live: Live, missed: Missed, index: TaskCounter) -> Iterator[bytes]:
    """What was missed; the end of it, if it was too much, as a snapshot. Raises Unavailable."""
    sent = 0
    for page in missed.pages:
        if sent >= MAX_MISSED:
            yield frame(missed.until, "snapshot", counts(index))
            return
        sent += len(page)
        yield changes(Batch(tuple(live.shown(page))))


def events_of(record: Record, missed: Missed) -> list[TaskEvent] | None:
    """This task's share; None: it is somewhere among too many. Raises Unavailable."""
    last_ms = to_ms(record.finished_at) + CLOCK_SLACK_MS if record.finished_at else None
    found: list[TaskEvent] = []
    seen = 0
    for page in missed.pages:
        if seen >= MAX_MISSED:
            return None
        seen += len(page)
        found += [event for event in page if event.task_id == record.submission.task_id]
        if (found and found[-1].version >= record.version) or (last_ms and page[-1].id.ms > last_ms):
            break  # the rest is about others; or younger than the record, then the listener has it
    return found


def parse_id(text: str | None) -> EventId | None:
    try:
        return EventId.parse(text) if text else None
    except ValueError:
        return None


def counts(index: TaskCounter) -> Mapping[str, Mapping[str, int]]:
    """Raises Unavailable."""
    return {"counts": {status.value: index.count(TaskFilter(statuses=frozenset({status}))) for status in Status}}
