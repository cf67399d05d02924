"""The words of the service: priority, status, submission, record, and what else rooms tell one another of a task.

Standard library only; every room may import this one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from taskservice.messages import check_message


class Priority(StrEnum):
    """Reserved capacity: each priority has its own exchange, queue and workers."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"

    @property
    def queue(self) -> str:
        """The name of the exchange and of the queue that carry this priority."""
        return f"{self.value}_priority"


class Status(StrEnum):
    """Where a task is. Never moves backwards except running -> retrying -> running."""

    SCHEDULED = "scheduled"  # accepted, held by the broker until due_at
    QUEUED = "queued"  # accepted, in its priority queue, no worker has started it
    RUNNING = "running"  # a worker is executing an attempt
    RETRYING = "retrying"  # an attempt failed, the next is held by the broker until due_at
    SUCCEEDED = "succeeded"  # final; a result is there
    FAILED = "failed"  # final; an error is there
    CANCELLED = "cancelled"  # final; a client cancelled it
    EXPIRED = "expired"  # final; it did not start before its expires_in ran out

    @property
    def is_final(self) -> bool:
        return self in (Status.SUCCEEDED, Status.FAILED, Status.CANCELLED, Status.EXPIRED)

    @property
    def state(self) -> str:
        """Celery's own word for it, as Flower and AsyncResult say it."""
        return _CELERY_STATE[self]

    @property
    def followers(self) -> frozenset[Status]:
        """What may come next; nothing after a final one. The store's script makes these and no others."""
        return _FOLLOWERS.get(self, frozenset())


_CELERY_STATE = {
    Status.SCHEDULED: "PENDING",
    Status.QUEUED: "PENDING",
    Status.RUNNING: "STARTED",
    Status.RETRYING: "RETRY",
    Status.SUCCEEDED: "SUCCESS",
    Status.FAILED: "FAILURE",
    Status.CANCELLED: "REVOKED",
    Status.EXPIRED: "REVOKED",
}


_ENDS_UNSTARTED = {Status.FAILED, Status.CANCELLED, Status.EXPIRED}  # failed: its message is a dead letter
_FOLLOWERS = {
    Status.SCHEDULED: frozenset({Status.QUEUED, Status.RUNNING} | _ENDS_UNSTARTED),
    Status.QUEUED: frozenset({Status.RUNNING} | _ENDS_UNSTARTED),
    Status.RUNNING: frozenset({Status.RETRYING, Status.SUCCEEDED, Status.FAILED, Status.CANCELLED}),
    # succeeded: by the worker that was believed lost
    Status.RETRYING: frozenset({Status.RUNNING, Status.SUCCEEDED, Status.FAILED, Status.CANCELLED}),
}


@dataclass(frozen=True, slots=True)
class Callback:
    """Where a client wants to hear of its task: a URL, and the events it asked for."""

    url: str
    events: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Submission:
    """What a client asked for, already valid. Nothing after this checks it again."""

    task_id: str
    task_type: str
    priority: Priority
    parameters: Mapping[str, Any]  # as validated by the type's model, JSON values only
    created_at: datetime  # UTC
    due_at: datetime  # UTC; not before created_at
    max_attempts: int  # the first one and its retries
    expires_in_s: float | None = None  # from due_at, to its first start; None: never
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)  # the client's own, echoed back
    retried_from: str | None = None  # the task this one repeats
    callback: Callback | None = None
    key_id: str | None = None  # the API key it was submitted with
    batch_id: str | None = None
    sequence: int = 0  # its place among the tasks that its process accepted in one millisecond
    own_queue: str | None = None  # the queue of its type that it was put into, when its type had its own

    @property
    def queue(self) -> str:
        """The queue it was put into when it was accepted."""
        return self.own_queue or self.priority.queue

    @property
    def delay_s(self) -> float:
        return (self.due_at - self.created_at).total_seconds()

    @property
    def initial_status(self) -> Status:
        return Status.SCHEDULED if self.due_at > self.created_at else Status.QUEUED

    def to_message(self) -> dict[str, Any]:
        """Everything a worker needs to create the record by itself, as JSON values."""
        return {
            "task_id": self.task_id,
            "task_type": self.task_type,
            "priority": self.priority.value,
            "parameters": dict(self.parameters),
            "created_at_ms": to_ms(self.created_at),
            "due_at_ms": to_ms(self.due_at),
            "max_attempts": self.max_attempts,
            "expires_in_s": self.expires_in_s,
            "tags": list(self.tags),
            "metadata": dict(self.metadata),
            "retried_from": self.retried_from,
            "callback": {"url": self.callback.url, "events": list(self.callback.events)} if self.callback else None,
            "key_id": self.key_id,
            "batch_id": self.batch_id,
            "sequence": self.sequence,
            "own_queue": self.own_queue,
        }

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> Submission:
        """The border: whoever sent the message. Raises ValueError, and nothing else, naming what is wrong."""
        check_message(message)
        return cls(
            task_id=message["task_id"],
            task_type=message["task_type"],
            priority=Priority(message["priority"]),
            parameters=message["parameters"],
            created_at=from_ms(message["created_at_ms"]),
            due_at=from_ms(message["due_at_ms"]),
            max_attempts=message["max_attempts"],
            expires_in_s=message.get("expires_in_s"),
            tags=tuple(message.get("tags", ())),
            metadata=message.get("metadata", {}),
            retried_from=message.get("retried_from"),
            callback=_callback(message.get("callback")),
            key_id=message.get("key_id"),
            batch_id=message.get("batch_id"),
            sequence=message.get("sequence", 0),
            own_queue=message.get("own_queue"),
        )


def _callback(wanted: Mapping[str, Any] | None) -> Callback | None:
    return None if wanted is None else Callback(wanted["url"], tuple(wanted["events"]))


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """Why a task or one attempt failed. `retryable`: the service itself would try again."""

    code: str
    message: str
    retryable: bool


@dataclass(frozen=True, slots=True)
class Attempt:
    """One execution: which, where, from when to when, and how it failed if it did."""

    number: int
    worker: str
    started_at: datetime
    finished_at: datetime | None = None
    error: ErrorInfo | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a running task is: current of total, in units the message names."""

    current: int
    total: int
    message: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """What we keep of a task, as it was at one moment."""

    submission: Submission
    status: Status
    due_at: datetime  # of the next attempt while scheduled or retrying
    attempts: tuple[Attempt, ...] = ()
    progress: Progress | None = None
    result: Any = None  # JSON value; only when succeeded
    error: ErrorInfo | None = None  # the last failure while retrying, the final one when failed
    finished_at: datetime | None = None
    is_cancel_requested: bool = False  # while running: asked to stop
    version: int = 0  # grows with every change
    repeats_attempt: bool = False  # while retrying: its worker was lost or stopped, so the same attempt comes again

    @property
    def attempt(self) -> int:
        """The number of the latest attempt; 0 before the first."""
        return self.attempts[-1].number if self.attempts else 0

    @property
    def next_attempt(self) -> int:
        """The number that the next message has to carry."""
        return self.attempt if self.repeats_attempt else self.attempt + 1


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """Which tasks; a member that is None or empty does not restrict. Everything given must hold."""

    statuses: frozenset[Status] = frozenset()
    task_type: str | None = None
    priority: Priority | None = None
    tag: str | None = None
    created_after: datetime | None = None  # exclusive
    created_before: datetime | None = None  # exclusive


class Cancellation(StrEnum):
    """What became of the wish to cancel."""

    CANCELLED = "cancelled"  # it had not started and never will
    REQUESTED = "requested"  # it runs and was asked to stop
    FINAL = "final"  # it had ended already
    MISSING = "missing"  # there is no such task


@dataclass(frozen=True, slots=True)
class QueueState:
    """A work queue as the broker sees it."""

    name: str
    depth: int  # messages that no worker has yet
    consumers: int


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most `count` starts in any `period_s` seconds, over all workers together."""

    count: int
    period_s: float

    @classmethod
    def parse(cls, text: str) -> RateLimit:
        """From "10/s", "100/m" or "1000/h". Raises ConfigurationError."""
        count, _, unit = text.strip().partition("/")
        if not count.isdecimal() or int(count) == 0 or unit not in _PERIODS_S:
            raise ValueError(f"{text!r} is no rate: expected a number and a period such as 10/s, 100/m or 1000/h")
        return cls(int(count), _PERIODS_S[unit])

    def __str__(self) -> str:
        unit = next(unit for unit, period_s in _PERIODS_S.items() if period_s == self.period_s)
        return f"{self.count}/{unit}"


_PERIODS_S = {"s": 1.0, "m": 60.0, "h": 3600.0}


def now() -> datetime:
    return datetime.now(UTC)


def to_ms(instant: datetime) -> int:
    """Milliseconds since the epoch, the form instants have in messages and in Redis."""
    return round(instant.timestamp() * 1000)


def from_ms(milliseconds: int) -> datetime:
    """Raises ValueError for one that no datetime can hold."""
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (OverflowError, OSError) as error:
        raise ValueError(f"{milliseconds} ms is no instant that can be told") from error
