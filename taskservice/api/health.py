"""Is the process up, and could a task submitted now run?

Must not know how the broker or the store are asked.
"""

from __future__ import annotations

from flask import Response, jsonify
from flask_openapi3.blueprint import APIBlueprint

from taskservice.api import views
from taskservice.api.description import open_problems
from taskservice.api.errors import respond, unavailable
from taskservice.api.rooms import open_room
from taskservice.api.services import Services
from taskservice.api.verdicts import Shared
from taskservice.errors import Unavailable
from taskservice.queues import WorkQueue


def create_blueprint(services: Services) -> APIBlueprint:
    """`/healthz` and `/readyz`."""
    blueprint = open_room("health")
    verdict = Shared(lambda: _missing(services))  # each asks the broker over a connection of its own

    @blueprint.get("/healthz", summary="The process is up", responses={200: views.Health, **open_problems()})
    def healthz() -> Response:
        return jsonify(views.Health(status="ok").model_dump())

    @blueprint.get(
        "/readyz",
        summary="Broker, store and a consumer on every queue that is not paused are there",
        description="Up to a second old.",
        responses={200: views.Health, **open_problems(_503="`missing` names what is not there.")},
    )
    def readyz() -> Response:
        missing = verdict.get()
        if missing:
            return respond(unavailable("not_ready", f"Missing: {', '.join(missing)}.", missing=missing))
        return jsonify(views.Health(status="ready").model_dump())

    return blueprint


def _missing(services: Services) -> list[str]:
    """The store, the broker, or the queues that nobody consumes although they are not paused.

    What is left in a queue that is listed no more is the shared queue's workers' to consume, unless that is paused.
    """
    missing: list[str] = []
    paused: frozenset[str] = frozenset()
    try:
        services.records.ping()
        paused = services.pauses.paused()
    except Unavailable as error:
        missing.append(error.missing)
    try:
        states = services.publisher.queue_states()
    except Unavailable as error:
        return [*missing, error.missing]
    idle = [name for name, state in states.items() if not state.consumers]
    return missing + [name for name in idle if name not in paused and not _is_held_back(name, paused, services)]


def _is_held_back(name: str, paused: frozenset[str], services: Services) -> bool:
    queue = WorkQueue.named(name)
    is_listed = queue.task_type is None or queue.task_type in services.dedicated
    return not is_listed and queue.priority.queue in paused
