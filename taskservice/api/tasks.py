"""Submit a task, read a task, list the task types.

Must not know how tasks are validated, published or kept.
"""

from __future__ import annotations

import re

from flask import Response, jsonify
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel, Field

from taskservice.api import views
from taskservice.api.bodies import read_json, refuse_query_parameters
from taskservice.api.description import problems, submission_body
from taskservice.api.errors import TaskNotFound
from taskservice.api.services import Services
from taskservice.model import now
from taskservice.submission import parse_submission, submit

_TASK_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class TaskAddress(BaseModel):
    task_id: str = Field(description="As the submission's answer named it.")


def create_blueprint(services: Services) -> APIBlueprint:
    """The routes below /api/tasks, and /api/task-types."""
    blueprint = APIBlueprint("tasks", __name__, url_prefix="/api", abp_tags=[Tag(name="tasks")])
    blueprint.before_request(refuse_query_parameters)

    @blueprint.post(
        "/tasks",
        summary="Submit a task",
        openapi_extensions={"requestBody": submission_body(services)},
        responses={202: views.AcceptedTask, **problems(**_SUBMIT_PROBLEMS)},
    )
    def submit_task() -> Response:
        submission = parse_submission(read_json(), services.task_types)
        submit(submission, services.publisher, services.records)
        response = jsonify(views.accepted_task(submission).model_dump())
        response.status_code = 202
        response.headers["Location"] = views.task_path(submission.task_id)
        return response

    @blueprint.get(
        "/tasks/<task_id>",
        summary="Read a task",
        responses={200: views.Task, **problems(_404="No task has this id.", _503="The store cannot be reached.")},
    )
    def read_task(path: TaskAddress) -> Response:
        record = services.records.get(path.task_id) if _TASK_ID.fullmatch(path.task_id) else None
        if record is None:
            raise TaskNotFound
        moment = now()
        response = jsonify(views.task(record, moment).model_dump())
        if not record.status.is_final:
            response.headers["Retry-After"] = str(views.retry_after_s(record, moment))
        return response

    @blueprint.get("/task-types", summary="List the task types", responses={200: views.TaskTypes, **problems()})
    def list_task_types() -> Response:
        kinds = [views.task_type(kind) for kind in services.task_types.values()]
        return jsonify(views.TaskTypes(data=kinds).model_dump())

    return blueprint


_SUBMIT_PROBLEMS = {
    "_400": "The body is not JSON.",
    "_413": "The body is larger than 1 MiB.",
    "_415": "The body is not application/json.",
    "_422": "The submission does not validate; `errors` names each member.",
    "_503": "The broker or the store cannot be reached; `outcome` says what became of the task.",
}
