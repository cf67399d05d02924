"""Submit a task, list tasks, read one, cancel it; list the task types.

Must not know how tasks are validated, published, kept or stopped.
"""

from __future__ import annotations

import re
from typing import Literal

from flask import Response, jsonify, request
from flask_openapi3.blueprint import APIBlueprint
from pydantic import BaseModel, Field

from taskservice.api import views
from taskservice.api.bodies import read_json
from taskservice.api.description import problems, submission_body
from taskservice.api.errors import TASK_NOT_FOUND, Problem, Refusal
from taskservice.api.promises import KeyHeader, promise, refuse_unusable_key
from taskservice.api.rooms import open_room
from taskservice.api.selection import ListRequest, page_of
from taskservice.api.services import Services, TaskRecords
from taskservice.model import Cancellation, Record, now
from taskservice.submission import parse_submission

ENDPOINT = "tasks.submit_task"
MAX_WAIT_S = 30
_TASK_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class TaskAddress(BaseModel):
    task_id: str = Field(description="As the submission's answer named it.")


class SubmitQuery(BaseModel):
    dry_run: Literal["true", "false"] = Field(default="false", description="Validate, store nothing, answer 200.")


class ReadQuery(BaseModel):
    wait: float = Field(
        default=0, ge=0, le=MAX_WAIT_S, allow_inf_nan=False, description="Seconds to wait for the task's end."
    )


class MatchHeader(BaseModel):
    """Documented here; the response compares it by itself."""

    match: str | None = Field(
        default=None, alias="If-None-Match", description="The ETag of an earlier answer: 304 while it still holds."
    )


def create_blueprint(services: Services) -> APIBlueprint:
    """`/api/tasks`, `/api/tasks/{task_id}` and `/api/task-types`."""
    blueprint = open_room(
        "tasks",
        "/api",
        submit_task=frozenset(SubmitQuery.model_fields),
        list_tasks=frozenset(ListRequest.model_fields),
        read_task=frozenset(ReadQuery.model_fields),
    )

    @blueprint.post(
        "/tasks",
        summary="Submit a task",
        openapi_extensions={"requestBody": submission_body(services)},
        responses={200: views.DryRun, 202: views.AcceptedTask, **problems(**_SUBMIT_PROBLEMS)},
    )
    def submit_task(header: KeyHeader, query: SubmitQuery) -> Response:
        body = read_json()
        submission = parse_submission(
            body, services.task_types, allow_private_callbacks=services.allows_private_callbacks
        )
        if query.dry_run == "true":
            refuse_unusable_key(header.key)
            view = views.dry_run(submission, services.task_types[submission.task_type])
            return jsonify(view.model_dump())
        return promise(submission, services, key=header.key, body=body)

    @blueprint.get(
        "/tasks",
        summary="List tasks, newest first",
        description="Every parameter given must hold; `status` and `state` may be given several times: one of them.",
        responses={200: views.Tasks, **problems(_422="A query parameter does not validate.", _503=_NO_STORE)},
    )
    def list_tasks(query: ListRequest) -> Response:
        records, next_cursor = page_of(query, services)
        moment = now()
        page = [views.task(record, moment) for record in records]
        return jsonify(views.Tasks(data=page, has_more=next_cursor is not None, next_cursor=next_cursor).model_dump())

    @blueprint.get(
        "/tasks/<task_id>",
        summary="Read a task",
        responses={200: views.Task, 304: None, **problems(**_READ_PROBLEMS)},
    )
    def read_task(path: TaskAddress, header: MatchHeader, query: ReadQuery) -> Response:
        record = _awaited(path.task_id, query.wait, services)
        response = task_view(record, typical_run_s=_typical_run_s(record, services))
        response.headers["Cache-Control"] = "no-cache"  # it may be kept, and is asked about each time
        response.add_etag()
        response.make_conditional(request)
        return response

    @blueprint.delete(
        "/tasks/<task_id>",
        summary="Cancel a task",
        responses={200: views.Task, 202: views.Task, **problems(**_CANCEL_PROBLEMS)},
    )
    def cancel_task(path: TaskAddress) -> Response:
        known = [path.task_id] if is_task_id(path.task_id) else []
        (what,) = services.records.cancel_many(known) or [Cancellation.MISSING]
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


def _awaited(task_id: str, wait_s: float, services: Services) -> Record:
    """Raises Refusal when no task has this id, Unavailable."""
    if wait_s == 0 or not is_task_id(task_id):
        return find_task(task_id, services.records)
    record = services.waiter.wait_until_final(task_id, wait_s)
    if record is None:
        raise Refusal(TASK_NOT_FOUND)
    return record


def _typical_run_s(record: Record, services: Services) -> float | None:
    return None if record.status.is_final else services.run_times.mean_s(record.submission.task_type)


def task_view(record: Record, status: int = 200, *, typical_run_s: float | None = None) -> Response:
    """The task as it reads now, and when to read it again."""
    moment = now()
    response = jsonify(views.task(record, moment).model_dump())
    response.status_code = status
    if not record.status.is_final:
        response.headers["Retry-After"] = str(views.retry_after_s(record, moment, typical_run_s))
    return response


_NO_STORE = "The store cannot be reached."
_READ_PROBLEMS = {"_404": "No task has this id.", "_422": "A query parameter does not validate.", "_503": _NO_STORE}
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
    "_408": "The body arrives too slowly.",
    "_409": "Another request with this Idempotency-Key has not ended yet.",
    "_413": "The body is larger than 1 MiB.",
    "_415": "The body is not application/json.",
    "_422": "The submission does not validate, `errors` names each member; or the key was used for another request.",
    "_503": "The broker or the store cannot be reached; `outcome` says what became of the task.",
}
