"""The webhooks of a task: what became of each, and sending one again.

Must not know how a webhook is written, signed or sent.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Protocol

from flask import Response, jsonify
from flask_openapi3.blueprint import APIBlueprint
from pydantic import BaseModel, Field

from taskservice.api import views
from taskservice.api.deadlines import publish_until
from taskservice.api.description import problems
from taskservice.api.errors import Problem, Refusal
from taskservice.api.rooms import open_room
from taskservice.api.services import Services
from taskservice.api.tasks import TaskAddress, find_task
from taskservice.errors import Unavailable
from taskservice.handlers.webhook_delivery.parameters import DeliveryParameters, delivery_task
from taskservice.model import Attempt, ErrorInfo, Record, Status
from taskservice.records.deliveries import Delivery
from taskservice.submission import submit


class Deliveries(Protocol):
    """The webhooks of each task; every method raises Unavailable."""

    def add(self, task_id: str, delivery: Delivery) -> None:
        """As the task's last one."""

    def of_task(self, task_id: str) -> list[Delivery]:
        """In order."""

    def answers(self, deliveries: Sequence[Delivery]) -> list[dict[int, int]]:
        """For each: the status codes other than 2xx that were answered, by attempt."""


class DeliveryAddress(TaskAddress):
    n: str = Field(description="The delivery's number in the task's list.")


class DeliveryAttempt(BaseModel):
    number: int
    at: views.Instant
    status_code: int | None = Field(description="What the receiver answered; null: nothing, or not yet.")
    error: views.ErrorView | None


class DeliveryView(BaseModel):
    """One webhook: the change it tells of, and how its delivery goes."""

    n: int = Field(description="From 1, in the order in which they were published.")
    event: str
    webhook_id: str = Field(description="The header webhook-id of all its attempts and replays.")
    is_replay: bool
    status: Status | None = Field(description="As a task's; null: it is not kept any more.")
    attempts: list[DeliveryAttempt]
    next_attempt_at: views.Instant | None = Field(description="null: there will be none, or it is running.")


class DeliveryList(BaseModel):
    data: list[DeliveryView]


def create_blueprint(services: Services, deliveries: Deliveries) -> APIBlueprint:
    """`/api/tasks/{task_id}/deliveries` and below."""
    blueprint = open_room("deliveries", "/api/tasks", tag="webhooks")

    @blueprint.get(
        "/<task_id>/deliveries",
        summary="List the webhooks of a task",
        responses={200: DeliveryList, **problems(_404="No task has this id.", _503="The store cannot be reached.")},
    )
    def list_deliveries(path: TaskAddress) -> Response:
        find_task(path.task_id, services.records)
        listed = _look_up(deliveries.of_task(path.task_id), services, deliveries)
        return jsonify(DeliveryList(data=listed).model_dump())

    @blueprint.post(
        "/<task_id>/deliveries/<n>/replay",
        summary="Deliver a webhook again: a new series of attempts with the same webhook-id and body",
        responses={202: DeliveryView, **problems(**_REPLAY_PROBLEMS)},
    )
    def replay_delivery(path: DeliveryAddress) -> Response:
        find_task(path.task_id, services.records)
        replayed = _replay(_find(path.n, deliveries.of_task(path.task_id)), path.task_id, services, deliveries)
        response = jsonify(replayed.model_dump())
        response.status_code = 202
        response.headers["Location"] = f"{views.task_path(path.task_id)}/deliveries"
        return response

    return blueprint


def _find(n: str, listed: Sequence[Delivery]) -> Delivery:
    found = next((delivery for delivery in listed if str(delivery.n) == n), None)
    if found is None:
        raise Refusal(Problem(404, "delivery_not_found", "This task has no delivery of this number."))
    return found


def _replay(first: Delivery, task_id: str, services: Services, deliveries: Deliveries) -> DeliveryView:
    record = services.records.get(first.delivery_id)
    if record is None:
        raise Refusal(_GONE)
    if not record.status.is_final:
        raise Refusal(_NOT_FINAL)
    again = Delivery(str(uuid.uuid4()), first.event, first.webhook_id, is_replay=True)
    parameters = DeliveryParameters.model_validate(record.submission.parameters)
    submit(delivery_task(again.delivery_id, parameters), services.publisher, services.records, until=publish_until())
    try:
        deliveries.add(task_id, again)
        kept = [one for one in deliveries.of_task(task_id) if one.delivery_id == again.delivery_id]
        if not kept:  # the task was forgotten in this moment; the webhook is sent nevertheless
            raise Refusal(_GONE)
        return _look_up(kept, services, deliveries)[0]
    except Unavailable as error:  # it is sent, though it may be missing in the list
        raise Unavailable(error.missing, outcome="unknown") from error


def _look_up(listed: Sequence[Delivery], services: Services, deliveries: Deliveries) -> list[DeliveryView]:
    found = services.records.get_many([delivery.delivery_id for delivery in listed])
    records = {record.submission.task_id: record for record in found}
    answers = deliveries.answers(listed)
    return [
        _view(delivery, records.get(delivery.delivery_id), codes)
        for delivery, codes in zip(listed, answers, strict=True)
    ]


def _view(delivery: Delivery, record: Record | None, codes: Mapping[int, int]) -> DeliveryView:
    waits = record is not None and record.status in (Status.SCHEDULED, Status.QUEUED, Status.RETRYING)
    return DeliveryView(
        n=delivery.n,
        event=delivery.event,
        webhook_id=delivery.webhook_id,
        is_replay=delivery.is_replay,
        status=record.status if record else None,
        attempts=[_attempt(one, record, codes) for one in record.attempts] if record else [],
        next_attempt_at=record.due_at if record and waits else None,
    )


def _attempt(attempt: Attempt, record: Record, codes: Mapping[int, int]) -> DeliveryAttempt:
    has_succeeded = record.status is Status.SUCCEEDED and attempt.number == record.attempt
    code = record.result["status_code"] if has_succeeded else codes.get(attempt.number)
    return DeliveryAttempt(number=attempt.number, at=attempt.started_at, status_code=code, error=_error(attempt.error))


def _error(error: ErrorInfo | None) -> views.ErrorView | None:
    return None if error is None else views.ErrorView(**asdict(error))


_GONE = Problem(409, "delivery_gone", "This delivery is not kept any more, so it cannot be sent again.")
_NOT_FINAL = Problem(
    409, "delivery_not_final", "This delivery has not ended: it will be tried again without being asked to."
)
_REPLAY_PROBLEMS = {
    "_404": "No task has this id, or it has no delivery of this number.",
    "_409": "The delivery has not ended yet, or is not kept any more.",
    "_503": "The broker or the store cannot be reached; `outcome` says what became of the new delivery.",
}
