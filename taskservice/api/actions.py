"""Act on one task: repeat it, or run it now.

Must not know how a message finds its worker.
"""

from __future__ import annotations

from dataclasses import replace

from flask import Response, request
from flask_openapi3.blueprint import APIBlueprint

from taskservice.api import views
from taskservice.api.bodies import read_json
from taskservice.api.description import body_of, problems
from taskservice.api.errors import Problem, Refusal
from taskservice.api.promises import KeyHeader, promise
from taskservice.api.rooms import open_room
from taskservice.api.services import Services
from taskservice.api.tasks import TaskAddress, find_task, task_view
from taskservice.model import Record, Status, now
from taskservice.submission import RetryRequest, TaskTypeGone, repeat, validated


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
        first = find_task(path.task_id, services.records)
        if not first.status.is_final:
            raise Refusal(_NOT_FINAL)
        try:
            submission = repeat(first, services.task_types, parameters=wish.parameters)
        except TaskTypeGone as error:
            raise Refusal(Problem(409, "task_type_gone", f"This task cannot be repeated: {error}.")) from error
        return promise(submission, services, key=header.key, body=body)

    @blueprint.post(
        "/<task_id>/run",
        summary="Run a scheduled or retrying task now",
        responses={202: views.Task, **problems(**_RUN_PROBLEMS)},
    )
    def run_task(path: TaskAddress) -> Response:
        return task_view(_run_now(find_task(path.task_id, services.records), services), 202)

    return blueprint


def _run_now(record: Record, services: Services) -> Record:
    """Publish the attempt it waits for once more; the copy that comes second is dropped by the claim."""
    if record.status not in (Status.SCHEDULED, Status.RETRYING):
        raise Refusal(_NOT_WAITING)
    task_id, attempt = record.submission.task_id, record.attempt + 1
    services.publisher.publish(replace(record.submission, due_at=now()), attempt=attempt)
    is_hastened = services.records.hasten(task_id, attempt=attempt)
    latest = find_task(task_id, services.records)
    if not is_hastened and latest.status.is_final and latest.attempt < attempt:  # cancelled or expired meanwhile
        raise Refusal(_NOT_WAITING)
    return latest


_NOT_FINAL = Problem(409, "task_not_final", "Only a task that has ended can be repeated; this one has not.")
_NOT_WAITING = Problem(
    409, "task_not_waiting", "Only a scheduled or retrying task can be run now; this one is neither."
)
_RETRY_PROBLEMS = {
    "_400": "The body is not JSON.",
    "_404": "No task has this id.",
    "_409": "The task has not ended, its type is gone, or a request with this Idempotency-Key has not ended yet.",
    "_413": "The body is larger than 1 MiB.",
    "_415": "The body is not application/json.",
    "_422": "The parameters do not validate, or the key was used for another request.",
    "_503": "The broker or the store cannot be reached; `outcome` says what became of the new task.",
}
_RUN_PROBLEMS = {
    "_404": "No task has this id.",
    "_409": "The task is neither scheduled nor retrying.",
    "_503": "The broker or the store cannot be reached; it runs when it was due, or now.",
}
