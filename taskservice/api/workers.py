"""The workers that are there, and those that were until a moment ago.

Must not know how a worker shows itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from flask import Response, jsonify
from flask_openapi3.blueprint import APIBlueprint
from pydantic import BaseModel, Field

from taskservice.api import views
from taskservice.api.description import problems
from taskservice.api.rooms import open_room
from taskservice.records.roster import SeenWorker


class WorkerRoster(Protocol):
    """Which workers have shown themselves."""

    def seen(self) -> Sequence[SeenWorker]:
        """By name. Raises Unavailable."""


class WorkerView(BaseModel):
    """One worker: a main process and the children that run its tasks."""

    name: str
    host: str
    pid: int
    status: Literal["online", "lost"] = Field(description="lost: silent for more than 10 s; gone after a minute.")
    queues: list[str] = Field(description="What it was started for; it consumes no queue that is paused.")
    concurrency: int = Field(description="Tasks it can run at once.")
    running: list[str] = Field(description="Ids of the tasks it ran when it was seen last.")
    started_at: views.Instant
    last_seen_at: views.Instant


class Workers(BaseModel):
    data: list[WorkerView]


def create_blueprint(roster: WorkerRoster) -> APIBlueprint:
    """`/api/workers`."""
    blueprint = open_room("workers", "/api", tag="look after it")

    @blueprint.get(
        "/workers",
        summary="List the workers",
        responses={200: Workers, **problems(_503="The store cannot be reached.")},
    )
    def list_workers() -> Response:
        return jsonify(Workers(data=[_view(one) for one in roster.seen()]).model_dump())

    return blueprint


def _view(seen: SeenWorker) -> WorkerView:
    worker = seen.worker
    return WorkerView(
        name=worker.name,
        host=worker.host,
        pid=worker.pid,
        status="online" if seen.is_online else "lost",
        queues=list(worker.queues),
        concurrency=worker.concurrency,
        running=list(worker.running),
        started_at=worker.started_at,
        last_seen_at=seen.last_seen_at,
    )
