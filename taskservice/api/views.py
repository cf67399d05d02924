"""Representations: what a record, a task type or a file looks like to a client. They are the OpenAPI schemas too.

Must not know how a request arrives or where records are kept.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import BaseModel, Field, PlainSerializer, WithJsonSchema

from taskservice.model import (
    Attempt,
    ErrorInfo,
    Priority,
    Progress,
    QueueState,
    RateLimit,
    Record,
    Status,
    StoredFile,
    Submission,
    TaskType,
    now,
)

MAX_RETRY_AFTER_S = 60


def instant(moment: datetime) -> str:
    """RFC 3339 in UTC with milliseconds and Z."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


Instant = Annotated[
    datetime,
    PlainSerializer(instant, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2026-01-31T12:00:00.000Z"]}),
]


class Links(BaseModel):
    self: str
    cancel: str = Field(description="To DELETE.")
    events: str = Field(description="Server-sent events.")
    deliveries: str = Field(description="Its webhooks.")


class AcceptedTask(BaseModel):
    """The promise: the broker holds the message and the task can be read."""

    task_id: str
    state: str = Field(description="Celery's own word.")
    status: Status
    task_type: str
    priority: Priority
    queue: str
    created_at: Instant
    due_at: Instant
    message: str
    links: Links


class ErrorView(BaseModel):
    code: str
    message: str
    retryable: bool


class ProgressView(BaseModel):
    current: int
    total: int
    message: str


class AttemptView(BaseModel):
    number: int
    worker: str
    started_at: Instant
    finished_at: Instant | None
    error: ErrorView | None


class Task(BaseModel):
    """A task as it is now."""

    task_id: str
    state: str = Field(description="Celery's own word.")
    status: Status
    task_type: str
    priority: Priority
    queue: str
    created_at: Instant
    due_at: Instant = Field(description="Of the next attempt while scheduled or retrying.")
    message: str = Field(description="Where it is, for people.")
    attempt: int = Field(description="The latest attempt's number; 0 before the first.")
    max_attempts: int
    started_at: Instant | None = Field(description="Of the first attempt.")
    finished_at: Instant | None
    wait_s: float | None = Field(description="From the moment it was first due to its first attempt.")
    run_s: float | None = Field(description="Sum of its finished attempts; pauses between them do not count.")
    worker: str | None = Field(description="Of the latest attempt.")
    progress: ProgressView | None
    result: Any
    error: ErrorView | None
    attempts: list[AttemptView]
    parameters: dict[str, Any]
    expires_in: float | None = Field(description="Seconds after it was first due within which it must start.")
    cancel_requested: bool = Field(description="It was asked to stop.")
    tags: list[str]
    metadata: dict[str, Any]
    retried_from: str | None = Field(description="The task that this one repeats.")
    links: Links


class Tasks(BaseModel):
    """One page, newest first."""

    data: list[Task]
    has_more: bool
    next_cursor: str | None = Field(description="For the next page; null after the last.")


class RateLimitView(BaseModel):
    """At most so many starts in any such period, over all workers together; the others wait."""

    count: int
    period_s: float


class TaskTypeView(BaseModel):
    name: str
    description: str
    parameters_schema: dict[str, Any]
    max_retries: int
    time_limit_s: int
    rate_limit: RateLimitView | None
    example: dict[str, Any]


class TaskTypes(BaseModel):
    data: list[TaskTypeView]


class DryRun(BaseModel):
    """What a submission would become."""

    task_type: str
    priority: Priority
    queue: str
    parameters: dict[str, Any] = Field(description="As validated.")
    due_at: Instant
    expires_at: Instant | None = Field(description="It must start before; null: it never expires.")
    max_attempts: int
    time_limit_s: int = Field(description="Of each attempt.")
    rate_limit: RateLimitView | None


class FieldProblem(BaseModel):
    """One thing that is wrong with the request."""

    pointer: str = Field(description="RFC 6901 pointer to the member.")
    detail: str


class BatchAccepted(BaseModel):
    index: int
    task_id: str


class BatchRejected(BaseModel):
    index: int
    error: str = Field(description="A stable code, as in a problem document.")
    detail: str
    errors: list[FieldProblem] = Field(description="Pointers into this submission.")
    outcome: str | None = Field(description="Where broker or store failed: refused or unknown.")


class BatchLinks(BaseModel):
    self: str


class AcceptedBatch(BaseModel):
    """The promise for each that has a task_id; in the order of the submissions."""

    batch_id: str
    accepted: int
    rejected: int
    results: list[BatchAccepted | BatchRejected]
    links: BatchLinks


class Batch(BaseModel):
    """How far the tasks of a batch are."""

    batch_id: str
    total: int = Field(description="Tasks that are still kept.")
    is_final: bool = Field(description="All of them have ended.")
    counts: dict[Status, int] = Field(description="Of each status.")
    links: BatchLinks


class BulkOutcome(BaseModel):
    """What became of each task that was matched."""

    matched: int
    succeeded: list[str] = Field(description="Ids of tasks that were cancelled, asked to stop, or repeated.")
    failed: dict[str, str] = Field(description="By id, why not: a stable code.")
    created: dict[str, str] = Field(description="Of a retry: by id, the id of the new task.")


class QueueView(BaseModel):
    name: str
    priority: Priority
    depth: int = Field(description="Messages that no worker has yet.")
    unacknowledged: int | None = Field(description="Messages that workers have; null: the broker was not asked.")
    consumers: int
    oldest_age_s: float | None = Field(description="Since the oldest queued task was accepted; null: none is queued.")
    paused: bool


class Queues(BaseModel):
    data: list[QueueView]


class Purged(BaseModel):
    cancelled: int


class FileView(BaseModel):
    filename: str
    size_bytes: int
    sha256: str
    mime_type: str


class Files(BaseModel):
    data: list[FileView]


class Health(BaseModel):
    status: str


def task_path(task_id: str) -> str:
    return f"/api/tasks/{task_id}"


def accepted_task(submission: Submission) -> AcceptedTask:
    status = submission.initial_status
    return AcceptedTask(
        task_id=submission.task_id,
        state=status.state,
        status=status,
        task_type=submission.task_type,
        priority=submission.priority,
        queue=submission.priority.queue,
        created_at=submission.created_at,
        due_at=submission.due_at,
        message=f"Task accepted into {submission.priority.queue}.",
        links=_links(submission.task_id),
    )


def batch_path(batch_id: str) -> str:
    return f"/api/batches/{batch_id}"


def dry_run(submission: Submission, kind: TaskType) -> DryRun:
    expires_in_s = submission.expires_in_s
    return DryRun(
        task_type=submission.task_type,
        priority=submission.priority,
        queue=submission.priority.queue,
        parameters=dict(submission.parameters),
        due_at=submission.due_at,
        expires_at=None if expires_in_s is None else submission.due_at + timedelta(seconds=expires_in_s),
        max_attempts=submission.max_attempts,
        time_limit_s=kind.time_limit_s,
        rate_limit=_rate_limit(kind.rate_limit),
    )


def batch(batch_id: str, counts: Mapping[Status, int]) -> Batch:
    return Batch(
        batch_id=batch_id,
        total=sum(counts.values()),
        is_final=all(status.is_final for status in counts),
        counts={status: counts.get(status, 0) for status in Status},
        links=BatchLinks(self=batch_path(batch_id)),
    )


def task(record: Record, at: datetime | None = None) -> Task:
    """The record as it reads at the given moment, now unless given."""
    submission = record.submission
    status = status_at(record, at or now())
    latest = record.attempts[-1] if record.attempts else None
    started_at = record.attempts[0].started_at if record.attempts else None
    return Task(
        task_id=submission.task_id,
        state=status.state,
        status=status,
        task_type=submission.task_type,
        priority=submission.priority,
        queue=submission.priority.queue,
        created_at=submission.created_at,
        due_at=record.due_at,
        message=_MESSAGES[status].format(queue=submission.priority.queue),
        attempt=record.attempt,
        max_attempts=submission.max_attempts,
        started_at=started_at,
        finished_at=record.finished_at,
        wait_s=_seconds(submission.due_at, started_at),
        run_s=_run_s(record.attempts),
        worker=latest.worker if latest else None,
        progress=_progress(record.progress),
        result=record.result,
        error=_error(record.error),
        attempts=[_attempt(one) for one in record.attempts],
        parameters=dict(submission.parameters),
        expires_in=submission.expires_in_s,
        cancel_requested=record.is_cancel_requested,
        tags=list(submission.tags),
        metadata=dict(submission.metadata),
        retried_from=submission.retried_from,
        links=_links(submission.task_id),
    )


_MESSAGES = {
    Status.SCHEDULED: "Task held until it is due.",
    Status.QUEUED: "Task waiting in {queue}.",
    Status.RUNNING: "Task running.",
    Status.RETRYING: "Task failed and held until its next attempt.",
    Status.SUCCEEDED: "Task succeeded.",
    Status.FAILED: "Task failed.",
    Status.CANCELLED: "Task cancelled.",
    Status.EXPIRED: "Task expired before it could start.",
}


def status_at(record: Record, moment: datetime) -> Status:
    """Nobody writes that a delay is over: the broker just delivers. So a scheduled task that is due reads as queued."""
    if record.status is Status.SCHEDULED and record.due_at <= moment:
        return Status.QUEUED
    return record.status


def retry_after_s(record: Record, moment: datetime, typical_run_s: float | None = None) -> int:
    """When reading again is worth it: in 1 to 60 s.

    As soon as a held task is due, and one that waits or runs has had the time that its type's runs take of late.
    """
    status = status_at(record, moment)
    if status in (Status.SCHEDULED, Status.RETRYING):
        left_s = (record.due_at - moment).total_seconds()
    else:
        ran_s = (moment - record.attempts[-1].started_at).total_seconds() if status is Status.RUNNING else 0.0
        left_s = (typical_run_s or 0.0) - ran_s
    return min(max(1, math.ceil(left_s)), MAX_RETRY_AFTER_S)


def task_type(kind: TaskType) -> TaskTypeView:
    return TaskTypeView(
        name=kind.name,
        description=kind.description,
        parameters_schema=kind.parameters_model.model_json_schema(),
        max_retries=kind.max_retries,
        time_limit_s=kind.time_limit_s,
        rate_limit=_rate_limit(kind.rate_limit),
        example=dict(kind.example),
    )


def queue(state: QueueState, priority: Priority, *, oldest_at: datetime | None, is_paused: bool) -> QueueView:
    return QueueView(
        name=state.name,
        priority=priority,
        depth=state.depth,
        unacknowledged=None,
        consumers=state.consumers,
        oldest_age_s=None if oldest_at is None else _seconds(oldest_at, now()),
        paused=is_paused,
    )


def stored_file(file: StoredFile) -> FileView:
    return FileView(filename=file.filename, size_bytes=file.size_bytes, sha256=file.sha256, mime_type=file.mime_type)


def _links(task_id: str) -> Links:
    path = task_path(task_id)
    return Links(self=path, cancel=path, events=f"{path}/events", deliveries=f"{path}/deliveries")


def _attempt(attempt: Attempt) -> AttemptView:
    return AttemptView(
        number=attempt.number,
        worker=attempt.worker,
        started_at=attempt.started_at,
        finished_at=attempt.finished_at,
        error=_error(attempt.error),
    )


def _error(error: ErrorInfo | None) -> ErrorView | None:
    if error is None:
        return None
    return ErrorView(code=error.code, message=error.message, retryable=error.retryable)


def _progress(progress: Progress | None) -> ProgressView | None:
    if progress is None:
        return None
    return ProgressView(current=progress.current, total=progress.total, message=progress.message)


def _rate_limit(limit: RateLimit | None) -> RateLimitView | None:
    return None if limit is None else RateLimitView(count=limit.count, period_s=limit.period_s)


def _run_s(attempts: tuple[Attempt, ...]) -> float | None:
    durations = [_seconds(one.started_at, one.finished_at) for one in attempts]
    finished = [duration for duration in durations if duration is not None]
    return round(sum(finished), 3) if finished else None


def _seconds(start: datetime, end: datetime | None) -> float | None:
    """Never negative, although the two clocks may be different machines'."""
    return None if end is None else round(max(0.0, (end - start).total_seconds()), 3)
