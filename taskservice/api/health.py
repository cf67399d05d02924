"""Is the process up, and could a task submitted now run?

Must not know how the broker or the store are asked.
"""

from __future__ import annotations

from flask import Response, jsonify
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from taskservice.api import views
from taskservice.api.description import problems
from taskservice.api.errors import respond, unavailable
from taskservice.api.services import Services, TaskPublisher, TaskRecords
from taskservice.errors import Unavailable
from taskservice.model import Priority


def create_blueprint(services: Services) -> APIBlueprint:
    """`/healthz` and `/readyz`."""
    blueprint = APIBlueprint("health", __name__, abp_tags=[Tag(name="health")])

    @blueprint.get("/healthz", summary="The process is up", responses={200: views.Health, **problems()})
    def healthz() -> Response:
        return jsonify(views.Health(status="ok").model_dump())

    @blueprint.get(
        "/readyz",
        summary="Broker, store and a consumer on every queue are there",
        responses={200: views.Health, **problems(_503="`missing` names what is not there.")},
    )
    def readyz() -> Response:
        missing = [*_missing_store(services.records), *_missing_queues(services.publisher)]
        if missing:
            return respond(unavailable("not_ready", f"Missing: {', '.join(missing)}.", missing=missing))
        return jsonify(views.Health(status="ready").model_dump())

    return blueprint


def _missing_store(records: TaskRecords) -> list[str]:
    try:
        records.ping()
    except Unavailable as error:
        return [error.missing]
    return []


def _missing_queues(publisher: TaskPublisher) -> list[str]:
    """The broker, or the queues that nobody consumes."""
    try:
        consumers = publisher.consumers()
    except Unavailable as error:
        return [error.missing]
    return [priority.queue for priority in Priority if not consumers.get(priority.queue)]
