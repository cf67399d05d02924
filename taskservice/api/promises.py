"""The answer of a request that changes something, given once for all requests with one Idempotency-Key.

Must not know what the tasks do, nor how keys and records are kept.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from flask import Response, g, jsonify, request
from pydantic import BaseModel, Field

from taskservice.api import access, views
from taskservice.api.deadlines import publish_until
from taskservice.api.errors import Problem, Refusal
from taskservice.api.services import Services, TaskRecords
from taskservice.errors import FieldError, InvalidSubmission, Unavailable
from taskservice.model import Submission
from taskservice.records.idempotency import Outcome, Reservation
from taskservice.submission import submit

logger = logging.getLogger(__name__)

_KEY = re.compile(r"[\x20-\x7e]{1,255}")


class KeyHeader(BaseModel):
    """Validated in `refuse_unusable_key`, so that what is wrong is named as everywhere."""

    key: str | None = Field(
        default=None,
        alias="Idempotency-Key",
        description="Within 24 h the same request with the same key is the same task and gets the same answer.",
        json_schema_extra={"minLength": 1, "maxLength": 255},
    )


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request came to. `outcome` is that of what was not accepted, None when everything was.

    Only a complete answer is given again: a repetition of any other makes up for what is missing.
    """

    body: Mapping[str, Any]
    outcome: str | None = None  # "refused" or "unknown"
    problem: Problem | None = None  # answered in the place of the body when nothing was accepted


def promise(submission: Submission, services: Services, *, key: str | None, body: object) -> Response:
    """Publish, record and answer 202. Raises as `once` does."""

    def run(task_id: str, is_repetition: bool) -> Answer:
        named = replace(submission, task_id=task_id, key_id=submission.key_id or access.caller_id())
        if is_repetition:
            return Answer(_answer(_submit_again(named, services)))
        submit(named, services.publisher, services.records, until=publish_until())
        return Answer(_answer(named))

    return once(submission.task_id, services, key=key, body=body, run=run)


def once(
    first_id: str,
    services: Services,
    *,
    key: str | None,
    body: object,
    run: Callable[[str, bool], Answer],
    status: int = 202,
) -> Response:
    """The answer of `run`, or of an earlier request with this key. A key belongs to the decoded body and the address.

    `run` gets the id of what is submitted, and whether that is an earlier request's that had no complete answer. The
    `links.self` of a 202 is its location.

    Raises:
        Unavailable: with an outcome.
        Refusal: another request with this key is in flight, or was for something else.
        InvalidSubmission: the key is not one.
    """
    refuse_unusable_key(key)
    if key is None:
        return _respond(run(first_id, False), status)
    key = f"{access.caller_id() or ''}:{key}"  # each caller's own
    reservation = _reserve(key, first_id, services, body)
    if reservation.answer is not None:
        return _accepted(reservation.answer, status, is_replayed=True)
    try:
        answer = run(reservation.task_id, reservation.task_id != first_id)
    except Unavailable as error:
        if error.outcome == "refused":
            _release(key, services)
        raise
    except Refusal:  # a repetition must not find that something had been begun
        _tell("not_forgotten", lambda: services.reservations.forget(key))
        raise
    if answer.outcome == "refused":
        _release(key, services)
    elif answer.outcome is None:
        _tell("not_settled", lambda: services.reservations.settle(key, answer.body))
    return _respond(answer, status)


def refuse_unusable_key(key: str | None) -> None:
    """Raises InvalidSubmission."""
    if key is not None and not _KEY.fullmatch(key):
        raise InvalidSubmission([FieldError("/Idempotency-Key", "expected 1 to 255 printable ASCII characters")])


def _release(key: str, services: Services) -> None:
    _tell("not_released", lambda: services.reservations.release(key))


def _reserve(key: str, first_id: str, services: Services, body: object) -> Reservation:
    """Reserved or replayed; everything else is raised."""
    try:
        reservation = services.reservations.reserve(key, fingerprint=_fingerprint(body), task_id=first_id)
    except Unavailable as error:
        # an earlier try with this key may be in the broker
        raise Unavailable(error.missing, outcome="unknown") from error
    if reservation.outcome is Outcome.IN_FLIGHT:
        raise Refusal(_IN_FLIGHT)
    if reservation.outcome is Outcome.MISMATCH:
        raise Refusal(_REUSED)
    return reservation


def _fingerprint(body: object) -> str:
    """The same for bodies that are the same JSON value, whatever their spaces and the order of members."""
    canonical = json.dumps([request.path, body], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _submit_again(submission: Submission, services: Services) -> Submission:
    """An earlier request with this key was refused, ended unknown, or died: keep its promise now, under its id.

    The task as it is kept, which may be the earlier request's.
    """
    try:
        known = services.records.get(submission.task_id)
        if known is not None:  # then its message has been confirmed or even claimed: another copy is of no use
            services.records.accept_many([known.submission])  # changes nothing, but perhaps no replica had it
            return known.submission
        services.records.lift_many([submission.task_id])
    except Unavailable as error:
        raise Unavailable(error.missing, outcome="unknown") from error
    submit(submission, services.publisher, services.records, until=publish_until())
    with suppress(Unavailable):  # promised already
        known = services.records.get(submission.task_id)
    return known.submission if known else submission


def still_missing(submissions: Sequence[Submission], records: TaskRecords) -> list[Submission]:
    """Of many whose earlier request was not answered in full, those that are not kept: free to be published again.

    The others keep its promise. Raises Unavailable.
    """
    sizes_bytes = records.sizes_bytes([one.task_id for one in submissions])
    missing = [one for one, size_bytes in zip(submissions, sizes_bytes, strict=True) if not size_bytes]
    kept = [one for one, size_bytes in zip(submissions, sizes_bytes, strict=True) if size_bytes]
    records.accept_many(kept[:1])  # changes nothing, but perhaps no replica had them: this write comes after theirs
    records.lift_many([one.task_id for one in missing])
    return missing


def _tell(event: str, change: Callable[[], None]) -> None:
    """The answer is true without it: an untold reservation frees itself, and a repetition finds the task's record."""
    try:
        change()
    except Unavailable as error:
        logger.warning("idempotency.%s missing=%s request_id=%s", event, error.missing, g.request_id)


def _answer(submission: Submission) -> dict[str, Any]:
    return views.accepted_task(submission).model_dump()


def _respond(answer: Answer, status: int) -> Response:
    if answer.problem is not None:
        raise Refusal(answer.problem)
    return _accepted(answer.body, status)


def _accepted(answer: Mapping[str, Any], status: int, *, is_replayed: bool = False) -> Response:
    response = jsonify(answer)
    response.status_code = status
    if status == 202:
        response.headers["Location"] = answer["links"]["self"]
    if is_replayed:
        response.headers["Idempotency-Replayed"] = "true"
    return response


_IN_FLIGHT = Problem(
    409, "idempotency_in_flight", "Another request with this Idempotency-Key has not ended yet.",
    headers={"Retry-After": "1"},
)  # fmt: skip
_REUSED = Problem(422, "idempotency_key_reused", "This Idempotency-Key was used for another request.")
