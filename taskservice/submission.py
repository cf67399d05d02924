"""From a request's JSON to a task that is promised: validate, publish, record.

Knows neither HTTP nor AMQP nor Redis; they come as protocols.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from pydantic import ValidationError

from taskservice.errors import FieldError, InvalidSubmission, TaskServiceError, Unavailable
from taskservice.handlers.webhook_delivery.parameters import CallbackRequest, to_callback
from taskservice.model import Callback, Priority, Record, Submission, from_ms, to_ms
from taskservice.moments import Moments
from taskservice.queues import WorkQueue
from taskservice.request_bodies import LONGEST_DELAY_S, SubmissionRequest, field_errors, validated
from taskservice.task_type import TaskType

_moments = Moments()


class TaskTypeGone(TaskServiceError):
    """A task cannot be repeated: its type is no longer registered."""

    def __init__(self, task_type: str) -> None:
        super().__init__(f"the task type {task_type!r} is no longer registered")
        self.task_type = task_type


class Publisher(Protocol):
    def publish_all(self, submissions: Sequence[Submission], *, until: float | None = None) -> list[Unavailable | None]:
        """For each, in that order: None once the broker has confirmed its message, else why it did not.

        `until`: a moment of time.monotonic, for a request that has not as long as the publisher would wait.
        """


class Records(Protocol):
    def accept_many(self, submissions: Sequence[Submission]) -> None:
        """Make the tasks readable, unless a worker already did. Raises Unavailable; some may be accepted then."""

    def refuse_many(self, task_ids: Sequence[str]) -> list[bool]:
        """Make sure late copies never run; for each, in that order, False when a worker has claimed it already.

        Raises Unavailable; some may be refused then.
        """


def parse_submission(
    payload: object, task_types: Mapping[str, TaskType], *, allow_private_callbacks: bool = False
) -> Submission:
    """Validate a decoded body. Raises InvalidSubmission naming each member that is wrong."""
    request = validated(SubmissionRequest, payload)
    kind = task_types.get(request.task_type)
    if kind is None:
        known = ", ".join(task_types)
        raise InvalidSubmission([FieldError("/task_type", f"{request.task_type!r} is not one of: {known}")])
    created_at, sequence = _moments.take()
    return Submission(
        task_id=str(uuid.uuid4()),
        task_type=kind.name,
        priority=request.priority,
        parameters=_validated_parameters(request.parameters, kind),
        created_at=created_at,
        due_at=_due_at(request, created_at),
        max_attempts=1 + (kind.max_retries if request.max_retries is None else request.max_retries),
        expires_in_s=request.expires_in,
        tags=tuple(dict.fromkeys(request.tags)),
        metadata=request.metadata,
        callback=_callback(request.callback, allow_private=allow_private_callbacks),
        sequence=sequence,
        own_queue=_own_queue(kind, request.priority),
    )


def repeat(
    record: Record,
    task_types: Mapping[str, TaskType],
    *,
    key_id: str | None,
    parameters: Mapping[str, Any] | None = None,
) -> Submission:
    """The same task again, as a new one that is due now; its parameters are validated anew.

    `key_id`: of who repeats it; the first task's key must not sign what another asks for.

    Raises:
        TaskTypeGone: no worker could run it.
        InvalidSubmission: the type does not accept the parameters, or no longer does.
    """
    first = record.submission
    kind = task_types.get(first.task_type)
    if kind is None:
        raise TaskTypeGone(first.task_type)
    created_at, sequence = _moments.take()
    return Submission(
        task_id=str(uuid.uuid4()),
        task_type=first.task_type,
        priority=first.priority,
        parameters=_validated_parameters(first.parameters if parameters is None else parameters, kind),
        created_at=created_at,
        due_at=created_at,
        max_attempts=first.max_attempts,
        expires_in_s=first.expires_in_s,
        tags=first.tags,
        metadata=first.metadata,
        retried_from=first.task_id,
        callback=first.callback,
        key_id=key_id,
        sequence=sequence,
        own_queue=_own_queue(kind, first.priority),
    )


def submit(submission: Submission, publisher: Publisher, records: Records, *, until: float | None = None) -> None:
    """Publish, then record. Returning is the promise that the task will run and can be read. `until`: see Publisher.

    Raises Unavailable: outcome "refused" if it will not run, "unknown" if that could not be made sure.
    """
    (failure,) = submit_all([submission], publisher, records, until=until)
    if failure is not None:
        raise failure


def submit_all(
    submissions: Sequence[Submission], publisher: Publisher, records: Records, *, until: float | None = None
) -> list[Unavailable | None]:
    """`submit` for many: for each, in that order, None or what `submit` would raise. `until`: see Publisher."""
    settled = publisher.publish_all(submissions, until=until)
    failures = dict(zip((one.task_id for one in submissions), settled, strict=True))
    try:
        _settle(submissions, failures, records)
    except Unavailable as error:  # for whoever else is in there it was not made sure either
        return [Unavailable(error.missing, outcome="unknown") for _ in submissions]
    return list(failures.values())


def _validated_parameters(parameters: Mapping[str, Any], kind: TaskType) -> dict[str, Any]:
    try:
        model = kind.parameters_model.model_validate(dict(parameters))
    except ValidationError as error:
        raise InvalidSubmission(field_errors(error, "/parameters")) from error
    dumped: dict[str, Any] = model.model_dump(mode="json", exclude_unset=True)
    return dumped


def _own_queue(kind: TaskType, priority: Priority) -> str | None:
    return WorkQueue(priority, kind.name).name if kind.is_dedicated else None


def _callback(request: CallbackRequest | None, *, allow_private: bool) -> Callback | None:
    return None if request is None else to_callback(request, allow_private=allow_private)


def _due_at(request: SubmissionRequest, created_at: datetime) -> datetime:
    if request.run_at is None:
        return _to_the_millisecond(created_at + timedelta(seconds=request.delay or 0))
    if request.delay is not None:
        raise InvalidSubmission([FieldError("/run_at", "give either delay or run_at, not both")])
    run_at = request.run_at.astimezone(UTC)
    if run_at > created_at + timedelta(seconds=LONGEST_DELAY_S):
        raise InvalidSubmission([FieldError("/run_at", "at most 30 days ahead")])
    return max(_to_the_millisecond(run_at), created_at)


def _to_the_millisecond(moment: datetime) -> datetime:
    """As messages and records keep instants, so that the first answer and every later one tell the same."""
    return from_ms(to_ms(moment))


def _settle(submissions: Sequence[Submission], failures: dict[str, Unavailable | None], records: Records) -> None:
    """Record what was confirmed, refuse what was not; `failures` becomes what the clients are told.

    Raises Unavailable when the store cannot be reached.
    """
    if confirmed := [one for one in submissions if failures[one.task_id] is None]:
        records.accept_many(confirmed)
    lost = {task_id: failure for task_id, failure in failures.items() if failure is not None}
    if not lost:
        return
    for (task_id, failure), is_refused in zip(lost.items(), records.refuse_many(list(lost)), strict=True):
        # a worker may have had it although its confirm was late
        failures[task_id] = Unavailable(failure.missing, outcome="refused") if is_refused else None
