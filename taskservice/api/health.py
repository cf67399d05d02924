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
from taskservice.errors import Unavailable
from taskservice.model import Priority


def create_blueprint(services: Services) -> APIBlueprint:
    """`/healthz` and `/readyz`."""
    blueprint = open_room("health")

    @blueprint.get("/healthz", summary="The process is up", responses={200: views.Health, **open_problems()})
    def healthz() -> Response:
        return jsonify(views.Health(status="ok").model_dump())

    @blueprint.get(
        "/readyz",
        summary="Broker, store and a consumer on every queue that is not paused are there",
        responses={200: views.Health, **open_problems(_503="`missing` names what is not there.")},
    )
    def readyz() -> Response:
        missing = _missing(services)
        if missing:
            return respond(unavailable("not_ready", f"Missing: {', '.join(missing)}.", missing=missing))
        return jsonify(views.Health(status="ready").model_dump())

    return blueprint


def _missing(services: Services) -> list[str]:
    """The store, the broker, or the queues that nobody consumes although they are not paused."""
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
    idle = [priority.queue for priority in Priority if not states[priority.queue].consumers]
    return missing + [queue for queue in idle if queue not in paused]
