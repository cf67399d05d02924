"""Act on one task: repeat it, or run it now.

Must not know how a message finds its worker.
"""

from __future__ import annotations

import uuid
from dataclasses import replace

from flask import Response, request
from flask_openapi3.blueprint import APIBlueprint

from taskservice.api import access, views
from taskservice.api.bodies import read_json
from taskservice.api.description import body_of, problems
from taskservice.api.errors import Problem, Refusal, unsent_outcome
from taskservice.api.promises import Answer, KeyHeader, once, promise
from taskservice.api.rooms import open_room
from taskservice.api.services import Services
from taskservice.api.tasks import TaskAddress, find_task
from taskservice.errors import Unavailable
from taskservice.model import Record, Status, now
from taskservice.request_bodies import RetryRequest, validated
from taskservice.submission import TaskTypeGone, repeat

RETRY_ENDPOINT = "actions.retry_task"


def create_blueprint(services: Services) -> APIBlueprint:
    """The routes below `/api/tasks/{task_id}`."""
    blueprint = open_room("actions", "/api/tasks", tag="tasks")

    @blueprint.post(
        "/<task_id>/retry",
        summary="Repeat a final task as a new one",
        openapi_extensions={"requestBody": body_of("RetryRequest", required=False)},
        responses={202: views.AcceptedTask, **problems(**_RETRY_PROBLEMS)},
    )
    def retry_task(path: TaskAddress, header: KeyHeader) -> Response:
        body = read_json() if request.get_data() else {}
        wish = validated(RetryRequest, body)
        first = _find(path.task_id, services)
        if not first.status.is_final:
            raise Refusal(_NOT_FINAL)
        try:
            submission = repeat(first, services.task_types, parameters=wish.parameters, key_id=access.caller_id())
        except TaskTypeGone as error:
            raise Refusal(Problem(409, "task_type_gone", f"This task cannot be repeated: {error}.")) from error
        return promise(submission, services, key=header.key, body=body)

    @blueprint.post(
        "/<task_id>/run",
        summary="Run a scheduled or retrying task now",
        responses={202: views.Task, **problems(**_RUN_PROBLEMS)},
    )
    def run_task(path: TaskAddress, header: KeyHeader) -> Response:
        record = _find(path.task_id, services)

        def run(_request_id: str, is_repetition: bool) -> Answer:
            has_run = is_repetition and record.status in _RUNS_OR_RAN  # an earlier try was not answered, and did it
            latest = record if has_run else _run_now(record, services)
            return Answer(views.task(latest).model_dump())

        response = once(str(uuid.uuid4()), services, key=header.key, body=None, run=run)
        response.headers["Retry-After"] = "1"  # it runs now
        return response

    return blueprint


def _find(task_id: str, services: Services) -> Record:
    """Raises Refusal when no task has this id; Unavailable, with what that says of a request that changes something."""
    try:
        return find_task(task_id, services.records)
    except Unavailable as error:
        raise Unavailable(error.missing, outcome=unsent_outcome()) from error


def _is_waiting(record: Record) -> bool:
    return record.status in (Status.SCHEDULED, Status.RETRYING)


def _run_now(record: Record, services: Services) -> Record:
    """Publish the attempt it waits for once more; the copy that comes second is dropped by the claim.

    Raises Refusal for a task that does not wait; Unavailable: it runs now, or when it was due.
    """
    if not _is_waiting(record):
        raise Refusal(_NOT_WAITING)
    task_id, attempt = record.submission.task_id, record.next_attempt
    try:
        services.publisher.publish(replace(record.submission, due_at=now()), attempt=attempt)
        is_hastened = services.records.hasten(task_id, attempt=attempt)
        latest = find_task(task_id, services.records)
    except Unavailable as error:
        raise Unavailable(error.missing, outcome="unknown") from error
    has_started = len(latest.attempts) > len(record.attempts)
    if not is_hastened and latest.status.is_final and not has_started:  # cancelled or expired meanwhile
        raise Refusal(_NOT_WAITING)
    return latest


_RUNS_OR_RAN = frozenset({Status.QUEUED, Status.RUNNING, Status.SUCCEEDED, Status.FAILED})
_NOT_FINAL = Problem(409, "task_not_final", "Only a task that has ended can be repeated; this one has not.")
_NOT_WAITING = Problem(
    409, "task_not_waiting", "Only a scheduled or retrying task can be run now; this one is neither."
)
_RETRY_PROBLEMS = {
    "_400": "The body is not JSON.",
    "_408": "The body arrives too slowly.",
    "_404": "No task has this id.",
    "_409": "The task has not ended, its type is gone, or a request with this Idempotency-Key has not ended yet.",
    "_413": "The body is larger than 1 MiB.",
    "_415": "The body is not application/json.",
    "_422": "The parameters do not validate, or the key was used for another request.",
    "_503": "The broker or the store cannot be reached; `outcome` says what became of the new task.",
}
_RUN_PROBLEMS = {
    "_404": "No task has this id.",
    "_409": "The task is neither scheduled nor retrying, or a request with this Idempotency-Key has not ended yet.",
    "_422": "There is a query parameter that nobody defined, or the key was used for another request.",
    "_503": "The broker or the store cannot be reached; it runs when it was due (`refused`), or now (`unknown`).",
}
