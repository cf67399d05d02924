"""The work queues: how full they are, and pause, resume and purge.

Must not know how a worker learns of a pause.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
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
from taskservice.model import Cancellation, QueueState, Status, TaskFilter
from taskservice.queues import WorkQueue, work_queues

AT_ONCE = 1000


class QueueAddress(BaseModel):
    name: str = Field(description="As GET /api/queues names it.")


def create_blueprint(services: Services) -> APIBlueprint:
    """The routes below /api/queues."""
    blueprint = open_room("queues", "/api/queues")

    @blueprint.get(
        "",
        summary="List the queues",
        description=_LISTED,
        responses={200: views.Queues, **problems(_503=_ANY_MISSING)},
    )
    def list_queues() -> Response:
        states, paused = services.publisher.queue_states(), services.pauses.paused()
        in_hand = services.in_hand.unacknowledged()
        queues = [_view(state, in_hand, paused, services) for state in states.values()]
        return jsonify(views.Queues(data=queues).model_dump())

    @blueprint.put(
        "/<name>/pause",
        summary="Start no task of a queue until it is resumed",
        description=_ITSELF_ALONE,
        responses={200: views.QueueView, **problems(**_PROBLEMS)},
    )
    def pause_queue(path: QueueAddress) -> Response:
        state = _state_of(path.name, services)  # before the change: a 503 has changed nothing
        services.pauses.pause(path.name)
        return _answer(state, services)

    @blueprint.put(
        "/<name>/resume",
        summary="Start the tasks of a paused queue again",
        responses={200: views.QueueView, **problems(**_PROBLEMS)},
    )
    def resume_queue(path: QueueAddress) -> Response:
        state = _state_of(path.name, services)
        services.pauses.resume(path.name)
        return _answer(state, services)

    @blueprint.post(
        "/<name>/purge",
        summary="Cancel every queued task of a queue; scheduled and retrying ones stay",
        responses={200: views.Purged, **problems(**_PROBLEMS)},
    )
    def purge_queue(path: QueueAddress) -> Response:
        _refuse_unlisted(path.name, services)
        cancelled = 0
        for wanted in queued_in(path.name, services.task_types, services.dedicated):
            task_ids = ids_of(wanted, services.index)
            while chunk := list(islice(task_ids, AT_ONCE)):
                cancelled += services.records.cancel_many(chunk).count(Cancellation.CANCELLED)
        return jsonify(views.Purged(cancelled=cancelled).model_dump())

    return blueprint


def queued_in(name: str, task_types: Iterable[str], dedicated: Collection[str]) -> list[TaskFilter]:
    """Filters that together match what is queued in this queue; none for a queue that nothing is published to."""
    queue = WorkQueue.named(name)
    queued = TaskFilter(statuses=frozenset({Status.QUEUED}), priority=queue.priority)
    if queue.task_type is None and not dedicated:
        return [queued]
    if queue.task_type is None:
        return [replace(queued, task_type=kind) for kind in task_types if kind not in dedicated]
    return [replace(queued, task_type=queue.task_type)] if queue.task_type in dedicated else []


def _state_of(name: str, services: Services) -> QueueState:
    _refuse_unlisted(name, services)
    return services.publisher.queue_states()[name]


def _refuse_unlisted(name: str, services: Services) -> None:
    if name not in {queue.name for queue in work_queues(services.dedicated)}:
        raise Refusal(Problem(404, "queue_not_found", "No task is put into a queue of this name."))


def _answer(state: QueueState, services: Services) -> Response:
    view = _view(state, services.in_hand.unacknowledged(), services.pauses.paused(), services)
    return jsonify(view.model_dump())


def _view(state: QueueState, in_hand: Mapping[str, int], paused: frozenset[str], services: Services) -> views.QueueView:
    wanted = queued_in(state.name, services.task_types, services.dedicated)
    oldest = [found for one in wanted if (found := services.index.oldest_created_at(one))]
    return views.queue(
        state,
        WorkQueue.named(state.name).priority,
        unacknowledged=in_hand.get(state.name),
        oldest_at=min(oldest, default=None),
        is_paused=state.name in paused,
    )


_LISTED = (
    "The shared queue of each priority; the queues of each type in DEDICATED_TASK_TYPES; and those of types that are "
    "listed no more while messages are left in them, which can be neither paused nor purged."
)
_ITSELF_ALONE = (
    "Of this queue alone: pausing `high_priority` does not pause `high_priority.email_sending`, nor the reverse."
)
_ANY_MISSING = "The broker or the store cannot be reached."
_PROBLEMS = {"_404": "No queue has this name.", "_503": _ANY_MISSING}
