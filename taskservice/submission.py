"""From a request's JSON to a task that is promised: validate, publish, record.

Knows neither HTTP nor AMQP nor Redis; they come as protocols.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Protocol

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from taskservice.errors import FieldError, InvalidSubmission, Unavailable
from taskservice.model import Priority, Submission, TaskType, now

LONGEST_DELAY_S = 30 * 86_400


class SubmissionRequest(BaseModel):
    """The body of POST /api/tasks."""

    model_config = ConfigDict(extra="forbid", strict=True)

    task_type: str = Field(description="A registered type; GET /api/task-types lists them.")
    priority: Annotated[Priority, Field(strict=False)] = Priority.NORMAL
    parameters: dict[str, Any] = Field(default_factory=dict, description="Validated against the type's own schema.")
    delay: Annotated[float, Field(ge=0, le=LONGEST_DELAY_S)] | None = Field(
        default=None, description="Seconds until it is due, fractions allowed; not together with run_at."
    )
    run_at: Annotated[AwareDatetime, Field(strict=False)] | None = Field(
        default=None, description="RFC 3339 instant at which it is due; in the past means now."
    )
    max_retries: Annotated[int, Field(ge=0, le=20)] | None = Field(
        default=None, description="The type's own if absent."
    )


class Publisher(Protocol):
    def publish(self, submission: Submission) -> None:
        """Returns once the broker has confirmed the message. Raises Unavailable."""


class Records(Protocol):
    def accept(self, submission: Submission) -> None:
        """Make the task readable, unless a worker already did. Raises Unavailable."""

    def refuse(self, task_id: str) -> bool:
        """Make sure a late copy never runs; False when a worker has claimed it already. Raises Unavailable."""


def parse_submission(payload: object, task_types: Mapping[str, TaskType]) -> Submission:
    """Validate a decoded body. Raises InvalidSubmission naming each member that is wrong."""
    if not isinstance(payload, dict):
        raise InvalidSubmission([FieldError("", "expected a JSON object")])
    try:
        request = SubmissionRequest.model_validate(payload)
    except ValidationError as error:
        raise InvalidSubmission(field_errors(error)) from error
    kind = task_types.get(request.task_type)
    if kind is None:
        known = ", ".join(task_types)
        raise InvalidSubmission([FieldError("/task_type", f"{request.task_type!r} is not one of: {known}")])
    created_at = now()
    return Submission(
        task_id=str(uuid.uuid4()),
        task_type=kind.name,
        priority=request.priority,
        parameters=_validated_parameters(request.parameters, kind),
        created_at=created_at,
        due_at=_due_at(request, created_at),
        max_attempts=1 + (kind.max_retries if request.max_retries is None else request.max_retries),
    )


def submit(submission: Submission, publisher: Publisher, records: Records) -> None:
    """Publish, then record. Returning is the promise that the task will run and can be read.

    Raises Unavailable: outcome "refused" if it will not run, "unknown" if that could not be made sure.
    """
    try:
        publisher.publish(submission)
    except Unavailable as error:
        if _is_refused(submission.task_id, records):
            raise Unavailable(error.missing, outcome="refused") from error
        return
    try:
        records.accept(submission)
    except Unavailable as error:
        raise Unavailable(error.missing, outcome="unknown") from error


def field_errors(error: ValidationError, prefix: str = "") -> list[FieldError]:
    """A pydantic error as RFC 6901 pointers and sentences."""
    return [
        FieldError(
            prefix + "".join(f"/{_escape(str(part))}" for part in one["loc"]), one["msg"].removeprefix("Value error, ")
        )
        for one in error.errors(include_url=False, include_context=False, include_input=False)
    ]


def _escape(part: str) -> str:
    return part.replace("~", "~0").replace("/", "~1")


def _validated_parameters(parameters: dict[str, Any], kind: TaskType) -> dict[str, Any]:
    try:
        model = kind.parameters_model.model_validate(parameters)
    except ValidationError as error:
        raise InvalidSubmission(field_errors(error, "/parameters")) from error
    dumped: dict[str, Any] = model.model_dump(mode="json", exclude_unset=True)
    return dumped


def _due_at(request: SubmissionRequest, created_at: datetime) -> datetime:
    if request.run_at is None:
        return created_at + timedelta(seconds=request.delay or 0)
    if request.delay is not None:
        raise InvalidSubmission([FieldError("/run_at", "give either delay or run_at, not both")])
    run_at = request.run_at.astimezone(UTC)
    if run_at > created_at + timedelta(seconds=LONGEST_DELAY_S):
        raise InvalidSubmission([FieldError("/run_at", "at most 30 days ahead")])
    return max(run_at, created_at)


def _is_refused(task_id: str, records: Records) -> bool:
    try:
        return records.refuse(task_id)
    except Unavailable as error:
        raise Unavailable(error.missing, outcome="unknown") from error
