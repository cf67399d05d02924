"""What the service answers, typed. Members that a later version adds are kept in `document`.

Must not know how an answer travelled here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from taskservice.context import StoredFile
from taskservice.model import Attempt, ErrorInfo, Priority, Progress, Status

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class AcceptedTask:
    """The promise of a 202. `is_replayed`: an earlier request with the same Idempotency-Key was accepted, not this."""

    task_id: str
    task_type: str
    status: Status
    state: str  # Celery's own word
    priority: Priority
    queue: str
    created_at: datetime
    due_at: datetime
    is_replayed: bool
    document: Document = field(repr=False, compare=False)

    @classmethod
    def from_document(cls, document: Document, *, is_replayed: bool = False) -> AcceptedTask:
        return cls(
            task_id=str(document["task_id"]),
            task_type=document["task_type"],
            status=Status(document["status"]),
            state=document["state"],
            priority=Priority(document["priority"]),
            queue=document["queue"],
            created_at=datetime.fromisoformat(document["created_at"]),
            due_at=datetime.fromisoformat(document["due_at"]),
            is_replayed=is_replayed,
            document=document,
        )


@dataclass(frozen=True, slots=True)
class Task:
    """A task as it was when it was read."""

    task_id: str
    task_type: str
    status: Status
    state: str  # Celery's own word
    priority: Priority
    queue: str
    created_at: datetime
    due_at: datetime  # of the next attempt while scheduled or retrying
    attempt: int  # 0 before the first
    max_attempts: int
    started_at: datetime | None
    finished_at: datetime | None
    wait_s: float | None
    run_s: float | None
    worker: str | None
    progress: Progress | None
    result: Any  # JSON value; only when succeeded
    error: ErrorInfo | None  # the last failure while retrying, the final one when failed
    attempts: tuple[Attempt, ...]
    parameters: Mapping[str, Any]
    tags: tuple[str, ...]
    metadata: Mapping[str, Any]
    retried_from: str | None
    document: Document = field(repr=False, compare=False)

    @property
    def is_final(self) -> bool:
        return self.status.is_final

    @property
    def has_succeeded(self) -> bool:
        return self.status is Status.SUCCEEDED

    @classmethod
    def from_document(cls, document: Document) -> Task:
        """What a list leaves out reads as absent."""
        return cls(
            task_id=str(document["task_id"]),
            task_type=document["task_type"],
            status=Status(document["status"]),
            state=document["state"],
            priority=Priority(document["priority"]),
            queue=document["queue"],
            created_at=datetime.fromisoformat(document["created_at"]),
            due_at=datetime.fromisoformat(document["due_at"]),
            attempt=document.get("attempt") or 0,
            max_attempts=document.get("max_attempts") or 0,
            started_at=_instant(document.get("started_at")),
            finished_at=_instant(document.get("finished_at")),
            wait_s=document.get("wait_s"),
            run_s=document.get("run_s"),
            worker=document.get("worker"),
            progress=_progress(document.get("progress")),
            result=document.get("result"),
            error=_error(document.get("error")),
            attempts=tuple(_attempt(one) for one in document.get("attempts") or ()),
            parameters=document.get("parameters") or {},
            tags=tuple(document.get("tags") or ()),
            metadata=document.get("metadata") or {},
            retried_from=document.get("retried_from"),
            document=document,
        )


@dataclass(frozen=True, slots=True)
class BulkOutcome:
    """What became of many tasks at once: `failed` gives each id its reason, `untried` names those to ask for again."""

    matched: int
    succeeded: tuple[str, ...]
    failed: Mapping[str, str]
    untried: tuple[str, ...]
    document: Document = field(repr=False, compare=False)

    @classmethod
    def from_document(cls, document: Document) -> BulkOutcome:
        return cls(
            matched=document["matched"],
            succeeded=tuple(document["succeeded"]),
            failed=dict(document["failed"]),
            untried=tuple(document["untried"]),
            document=document,
        )


@dataclass(frozen=True, slots=True)
class Queue:
    """A work queue: how much waits, who takes from it."""

    name: str
    depth: int
    unacknowledged: int | None  # None: the service has no management API to ask
    consumers: int
    oldest_age_s: float | None  # None: nothing waits
    is_paused: bool
    document: Document = field(repr=False, compare=False)

    @classmethod
    def from_document(cls, document: Document) -> Queue:
        return cls(
            name=document["name"],
            depth=document["depth"],
            unacknowledged=document.get("unacknowledged"),
            consumers=document["consumers"],
            oldest_age_s=document.get("oldest_age_s"),
            is_paused=document["paused"],
            document=document,
        )


@dataclass(frozen=True, slots=True)
class Worker:
    """A running worker. The contract promises no member but its name; the rest is in `document`."""

    name: str
    document: Document = field(repr=False, compare=False)

    @classmethod
    def from_document(cls, document: Document) -> Worker:
        return cls(name=document["name"], document=document)


@dataclass(frozen=True, slots=True)
class TaskTypeInfo:
    """A registered task type, with the JSON Schema of its parameters and an example that works."""

    name: str
    description: str
    parameters_schema: Mapping[str, Any]
    example: Mapping[str, Any]
    document: Document = field(repr=False, compare=False)

    @classmethod
    def from_document(cls, document: Document) -> TaskTypeInfo:
        return cls(
            name=document["name"],
            description=document.get("description") or "",
            parameters_schema=document["parameters_schema"],
            example=document.get("example") or {},
            document=document,
        )


def stored_file(document: Document) -> StoredFile:
    return StoredFile(
        filename=document["filename"],
        size_bytes=document["size_bytes"],
        sha256=document["sha256"],
        mime_type=document["mime_type"],
    )


def _attempt(document: Document) -> Attempt:
    return Attempt(
        number=document["number"],
        worker=document["worker"],
        started_at=datetime.fromisoformat(document["started_at"]),
        finished_at=_instant(document.get("finished_at")),
        error=_error(document.get("error")),
    )


def _error(document: Document | None) -> ErrorInfo | None:
    if document is None:
        return None
    return ErrorInfo(code=document["code"], message=document["message"], retryable=document["retryable"])


def _progress(document: Document | None) -> Progress | None:
    if document is None:
        return None
    return Progress(document["current"], document["total"], document.get("message") or "")


def _instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
