"""A task type as a client reads it, and what a submission of it would become.

Must not know how types are declared.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from pydantic import BaseModel, Field

from taskservice.api.views.instants import Instant
from taskservice.model import Priority, RateLimit, Submission
from taskservice.task_type import TaskType


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


def dry_run(submission: Submission, kind: TaskType) -> DryRun:
    expires_in_s = submission.expires_in_s
    return DryRun(
        task_type=submission.task_type,
        priority=submission.priority,
        queue=submission.queue,
        parameters=dict(submission.parameters),
        due_at=submission.due_at,
        expires_at=None if expires_in_s is None else submission.due_at + timedelta(seconds=expires_in_s),
        max_attempts=submission.max_attempts,
        time_limit_s=kind.time_limit_s,
        rate_limit=_rate_limit(kind.rate_limit),
    )


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


def _rate_limit(limit: RateLimit | None) -> RateLimitView | None:
    return None if limit is None else RateLimitView(count=limit.count, period_s=limit.period_s)
