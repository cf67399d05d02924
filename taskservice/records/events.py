"""The stream of changes that the transitions write: where it stands, what comes next, what lies between two places.

Must not know who listens, nor how often.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import redis

from taskservice.model import Priority, Status, from_ms
from taskservice.records.script import guarded

_KEY = "events"
_AT_ONCE = 1000


class EventId(NamedTuple):
    """A place in the stream; Redis counts milliseconds, then events of one millisecond."""

    ms: int
    number: int

    @classmethod
    def parse(cls, text: str) -> EventId:
        """From its text form, such as 1700000000000-0. Raises ValueError."""
        ms, _, number = text.partition("-")
        if not (text.isascii() and ms.isdigit() and number.isdigit()):
            raise ValueError(f"{text!r} is not the id of an event")
        return cls(int(ms), int(number))

    def __str__(self) -> str:
        return f"{self.ms}-{self.number}"


BEGINNING = EventId(0, 0)


@dataclass(frozen=True, slots=True)
class TaskEvent:
    """One change of one task, as the task was then."""

    id: EventId
    task_id: str
    name: str  # the new status, or started, progress, cancel_requested
    status: Status
    attempt: int
    task_type: str
    priority: Priority
    version: int  # the record's, after this change
    at: datetime


class EventStream:
    """Reads the stream; every method raises Unavailable."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def bounds(self) -> tuple[EventId, EventId]:
        """Ids of the oldest event that is kept and of the newest; both BEGINNING while there is none."""
        pipeline = self._client.pipeline(transaction=True)
        pipeline.xrange(_KEY, count=1)
        pipeline.xrevrange(_KEY, count=1)
        oldest, newest = guarded(pipeline.execute)
        if not oldest:
            return BEGINNING, BEGINNING
        return EventId.parse(oldest[0][0]), EventId.parse(newest[0][0])

    def read(self, after: EventId, *, wait_s: float) -> list[TaskEvent]:
        """The next events in order, at most 1000; waits for one, and is empty when time is up.

        `wait_s` must be less than the client's own time-out.
        """
        place: dict[Any, Any] = {_KEY: str(after)}
        found: Any = guarded(lambda: self._client.xread(place, count=_AT_ONCE, block=round(wait_s * 1000)))
        return [_to_event(one) for _, entries in found or () for one in entries]

    def between(self, after: EventId, until: EventId) -> Iterator[list[TaskEvent]]:
        """Events later than `after` and not later than `until`, in order, a page at a time."""
        while after < until and (page := self._page(after, until)):
            yield page
            after = page[-1].id

    def _page(self, after: EventId, until: EventId) -> list[TaskEvent]:
        found: Any = guarded(lambda: self._client.xrange(_KEY, f"({after}", str(until), count=_AT_ONCE))
        return [_to_event(one) for one in found]


def _to_event(entry: tuple[str, Mapping[str, str]]) -> TaskEvent:
    event_id, fields = entry
    return TaskEvent(
        id=EventId.parse(event_id),
        task_id=fields["task_id"],
        name=fields["event"],
        status=Status(fields["status"]),
        attempt=int(fields["attempt"]),
        task_type=fields["task_type"],
        priority=Priority(fields["priority"]),
        version=int(fields["version"]),
        at=from_ms(int(fields["at_ms"])),
    )
