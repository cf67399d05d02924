"""Submit a task, read it, cancel it; list the task types.

Must not know how tasks are validated, published, kept or stopped.
"""

from __future__ import annotations

import re

from flask import Response, jsonify
from flask_openapi3.blueprint import APIBlueprint
from pydantic import BaseModel, Field

from taskservice.api import views
from taskservice.api.bodies import read_json
from taskservice.api.description import problems, submission_body
from taskservice.api.errors import TASK_NOT_FOUND, Problem, Refusal
from taskservice.api.promises import KeyHeader, promise
from taskservice.api.rooms import open_room
from taskservice.api.services import Services, TaskRecords
from taskservice.model import Cancellation, Record, now
from taskservice.submission import parse_submission

_TASK_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class TaskAddress(BaseModel):
    task_id: str = Field(description="As the submission's answer named it.")


def create_blueprint(services: Services) -> APIBlueprint:
    """`/api/tasks`, `/api/tasks/{task_id}` and `/api/task-types`."""
    blueprint = open_room("tasks", "/api")

    @blueprint.post(
        "/tasks",
        summary="Submit a task",
        openapi_extensions={"requestBody": submission_body(services)},
        responses={202: views.AcceptedTask, **problems(**_SUBMIT_PROBLEMS)},
    )
    def submit_task(header: KeyHeader) -> Response:
        body = read_json()
        return promise(parse_submission(body, services.task_types), services, key=header.key, body=body)

    @blueprint.get(
        "/tasks/<task_id>",
        summary="Read a task",
        responses={200: views.Task, **problems(_404="No task has this id.", _503="The store cannot be reached.")},
    )
    def read_task(path: TaskAddress) -> Response:
        return task_view(find_task(path.task_id, services.records))

    @blueprint.delete(
        "/tasks/<task_id>",
        summary="Cancel a task",
        responses={200: views.Task, 202: views.Task, **problems(**_CANCEL_PROBLEMS)},
    )
    def cancel_task(path: TaskAddress) -> Response:
        what = services.records.cancel(path.task_id) if is_task_id(path.task_id) else Cancellation.MISSING
        if what in _CANNOT_CANCEL:
            raise Refusal(_CANNOT_CANCEL[what])
        status = 202 if what is Cancellation.REQUESTED else 200
        return task_view(find_task(path.task_id, services.records), status)

    @blueprint.get("/task-types", summary="List the task types", responses={200: views.TaskTypes, **problems()})
    def list_task_types() -> Response:
        kinds = [views.task_type(kind) for kind in services.task_types.values()]
        return jsonify(views.TaskTypes(data=kinds).model_dump())

    return blueprint


def is_task_id(text: str) -> bool:
    """Whether a task could have this id; what could not is not looked up."""
    return _TASK_ID.fullmatch(text) is not None


def find_task(task_id: str, records: TaskRecords) -> Record:
    """Raises Refusal when no task has this id, Unavailable."""
    record = records.get(task_id) if is_task_id(task_id) else None
    if record is None:
        raise Refusal(TASK_NOT_FOUND)
    return record


def task_view(record: Record, status: int = 200) -> Response:
    """The task as it reads now, and when to read it again."""
    moment = now()
    response = jsonify(views.task(record, moment).model_dump())
    response.status_code = status
    if not record.status.is_final:
        response.headers["Retry-After"] = str(views.retry_after_s(record, moment))
    return response


_CANNOT_CANCEL = {
    Cancellation.MISSING: TASK_NOT_FOUND,
    Cancellation.FINAL: Problem(409, "task_final", "The task has ended already."),
}
_CANCEL_PROBLEMS = {
    "_404": "No task has this id.",
    "_409": "The task has ended already.",
    "_503": "The store cannot be reached.",
}
_SUBMIT_PROBLEMS = {
    "_400": "The body is not JSON.",
    "_409": "Another request with this Idempotency-Key has not ended yet.",
    "_413": "The body is larger than 1 MiB.",
    "_415": "The body is not application/json.",
    "_422": "The submission does not validate, `errors` names each member; or the key was used for another request.",
    "_503": "The broker or the store cannot be reached; `outcome` says what became of the task.",
}
