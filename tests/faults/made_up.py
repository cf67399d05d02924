"""Evidence made up for the tests of the judge."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from tests.faults.ledger import Answer, Call, Execution, Outcome, Sighting, Submitted, Verb

UNAVAILABLE: dict[str, Any] = {
    "error": "broker_unavailable",
    "detail": "The broker cannot be reached. The task will not run; submit it again.",
    "outcome": "refused",
}


def accepted_at(at: float, task_id: str = "t") -> Answer:
    return Answer(at - 0.1, at, 202, Outcome.ACCEPTED, {"task_id": task_id})


def refused(took_s: float = 1.0, document: dict[str, Any] = UNAVAILABLE, retry_after: str = "5") -> Answer:
    return Answer(0.0, took_s, 503, Outcome.REFUSED, document, {"Retry-After": retry_after})


def submitted(
    *answers: Answer,
    statuses: tuple[str, ...] = ("succeeded",),
    body: dict[str, Any] | None = None,
    **members: Any,
) -> Submitted:
    one = Submitted({"task_type": "sleep", **(body or {})}, mark="m", **members)
    one.answers.extend(answers)
    one.sightings.extend(Sighting(float(at), 200, status, 1) for at, status in enumerate(statuses))
    return one


def execution(started_at: float = 0.5, ended_at: float | None = 0.6, task_id: str = "t") -> Execution:
    return Execution("m", task_id, 1, "host", 7, started_at, ended_at)


def call(
    verb: Verb,
    *names: Submitted,
    at: float = 1.0,
    status_code: int = 200,
    document: dict[str, Any] | None = None,
    queue: str = "",
) -> Call:
    """One that succeeded a tenth of a second after it was asked."""
    answer = Answer(at - 0.1, at, status_code, Outcome.ACCEPTED, document or {}, verb=verb)
    return Call(answer, names, queue)


def due(one: Submitted, at: float) -> Submitted:
    """Accepted, to run at that moment."""
    one.answers[0] = replace(one.answers[0], document={"task_id": "t", "due_at": instant(at)})
    return one


def instant(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()
