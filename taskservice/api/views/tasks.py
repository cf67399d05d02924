"""A task as a client reads it: when it is accepted, and at any moment after.

Must not know how a request arrives or where records are kept.
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from taskservice.api.views.instants import Instant, seconds
from taskservice.model import Attempt, ErrorInfo, Priority, Progress, Record, Status, Submission, now

MAX_RETRY_AFTER_S = 60


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
        queue=submission.queue,
        created_at=submission.created_at,
        due_at=submission.due_at,
        message=f"Task accepted into {submission.queue}.",
        links=_links(submission.task_id),
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
        queue=submission.queue,
        created_at=submission.created_at,
        due_at=record.due_at,
        message=_MESSAGES[status].format(queue=submission.queue),
        attempt=record.attempt,
        max_attempts=submission.max_attempts,
        started_at=started_at,
        finished_at=record.finished_at,
        wait_s=seconds(submission.due_at, started_at),
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


def _run_s(attempts: tuple[Attempt, ...]) -> float | None:
    durations = [seconds(one.started_at, one.finished_at) for one in attempts]
    finished = [duration for duration in durations if duration is not None]
    return round(sum(finished), 3) if finished else None
