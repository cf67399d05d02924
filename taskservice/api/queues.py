"""The work queues: how full they are, and pause, resume and purge.

Must not know how a worker learns of a pause.
"""

from __future__ import annotations

from itertools import islice

from flask import Response, jsonify
from flask_openapi3.blueprint import APIBlueprint
from pydantic import BaseModel, Field

from taskservice.api import views
from taskservice.api.description import problems
from taskservice.api.errors import Problem, Refusal
from taskservice.api.rooms import open_room
from taskservice.api.selection import ids_of
from taskservice.api.services import Services
from taskservice.model import Cancellation, Priority, QueueState, Status, TaskFilter

AT_ONCE = 1000


class QueueAddress(BaseModel):
    name: str = Field(description="As GET /api/queues names it.")


def create_blueprint(services: Services) -> APIBlueprint:
    """The routes below /api/queues."""
    blueprint = open_room("queues", "/api/queues")

    @blueprint.get("", summary="List the queues", responses={200: views.Queues, **problems(_503=_ANY_MISSING)})
    def list_queues() -> Response:
        states, paused = services.publisher.queue_states(), services.pauses.paused()
        queues = [_view(priority, states[priority.queue], paused, services) for priority in Priority]
        return jsonify(views.Queues(data=queues).model_dump())

    @blueprint.put(
        "/<name>/pause",
        summary="Start no task of a queue until it is resumed",
        responses={200: views.QueueView, **problems(**_PROBLEMS)},
    )
    def pause_queue(path: QueueAddress) -> Response:
        priority = _priority_of(path.name)
        state = services.publisher.queue_states()[priority.queue]  # before the change: a 503 has changed nothing
        services.pauses.pause(priority.queue)
        return _answer(priority, state, services)

    @blueprint.put(
        "/<name>/resume",
        summary="Start the tasks of a paused queue again",
        responses={200: views.QueueView, **problems(**_PROBLEMS)},
    )
    def resume_queue(path: QueueAddress) -> Response:
        priority = _priority_of(path.name)
        state = services.publisher.queue_states()[priority.queue]
        services.pauses.resume(priority.queue)
        return _answer(priority, state, services)

    @blueprint.post(
        "/<name>/purge",
        summary="Cancel every queued task of a queue; scheduled and retrying ones stay",
        responses={200: views.Purged, **problems(**_PROBLEMS)},
    )
    def purge_queue(path: QueueAddress) -> Response:
        task_ids = ids_of(_queued(_priority_of(path.name)), services.index)
        cancelled = 0
        while chunk := list(islice(task_ids, AT_ONCE)):
            cancelled += services.records.cancel_many(chunk).count(Cancellation.CANCELLED)
        return jsonify(views.Purged(cancelled=cancelled).model_dump())

    return blueprint


def _priority_of(name: str) -> Priority:
    for priority in Priority:
        if priority.queue == name:
            return priority
    raise Refusal(Problem(404, "queue_not_found", "No queue has this name; GET /api/queues lists them."))


def _queued(priority: Priority) -> TaskFilter:
    return TaskFilter(statuses=frozenset({Status.QUEUED}), priority=priority)


def _answer(priority: Priority, state: QueueState, services: Services) -> Response:
    view = _view(priority, state, services.pauses.paused(), services)
    return jsonify(view.model_dump())


def _view(priority: Priority, state: QueueState, paused: frozenset[str], services: Services) -> views.QueueView:
    oldest_at = services.index.oldest_created_at(_queued(priority))
    return views.queue(state, priority, oldest_at=oldest_at, is_paused=priority.queue in paused)


_ANY_MISSING = "The broker or the store cannot be reached."
_PROBLEMS = {"_404": "No queue has this name.", "_503": _ANY_MISSING}
