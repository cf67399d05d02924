"""Submit many tasks at once, and see how far they are.

Must not know how a task is validated, published or kept.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from flask import Response, jsonify
from flask_openapi3.blueprint import APIBlueprint
from pydantic import BaseModel, Field

from taskservice.api import access, views
from taskservice.api.bodies import MAX_JSON_BYTES, read_json_with
from taskservice.api.deadlines import publish_until
from taskservice.api.description import body_of, problems
from taskservice.api.errors import Problem, Refusal, unavailable
from taskservice.api.promises import Answer, KeyHeader, once, still_missing
from taskservice.api.rooms import open_room
from taskservice.api.services import Services
from taskservice.api.strict_json import parse_json, unusable_values
from taskservice.api.tasks import is_task_id
from taskservice.errors import FieldError, InvalidSubmission, Unavailable
from taskservice.model import Submission
from taskservice.request_bodies import MAX_BATCH, BatchRequest, validated
from taskservice.submission import parse_submission, submit_all

ENDPOINT = "batches.submit_batch"
MAX_BODY_BYTES = 10 * 2**20
MAX_ERRORS = 100

Result = views.BatchAccepted | views.BatchRejected


class BatchAddress(BaseModel):
    batch_id: str = Field(description="As the batch's answer named it.")


def create_blueprint(services: Services) -> APIBlueprint:
    """`/api/tasks/batch` and `/api/batches/{batch_id}`."""
    blueprint = open_room("batches", "/api", tag="tasks")

    @blueprint.post(
        "/tasks/batch",
        summary="Submit many tasks at once",
        description=_SUBMITTING,
        openapi_extensions={"requestBody": body_of("BatchRequest")},
        responses={202: views.AcceptedBatch, **problems(**_SUBMIT_PROBLEMS)},
    )
    def submit_batch(header: KeyHeader) -> Response:
        sent = read_json_with(_decode)
        body = sent.value
        submissions, rejected = _parse(validated(BatchRequest, body).tasks, sent.faults, services)
        if not submissions:
            raise Refusal(_nothing_valid(rejected))

        def run(batch_id: str, is_repetition: bool) -> Answer:
            return _submit(_named(submissions, batch_id), rejected, services, is_repetition=is_repetition)

        return once(str(uuid.uuid4()), services, key=header.key, body=body, run=run)

    @blueprint.get(
        "/batches/<batch_id>",
        summary="Count the tasks of a batch by status",
        responses={200: views.Batch, **problems(_404="No task of such a batch is kept.", _503=_NO_STORE)},
    )
    def read_batch(path: BatchAddress) -> Response:
        counts = services.index.batch_counts(path.batch_id) if is_task_id(path.batch_id) else {}
        if not counts:
            raise Refusal(_NOT_FOUND)
        return jsonify(views.batch(path.batch_id, counts).model_dump())

    return blueprint


@dataclass(frozen=True, slots=True)
class Sent:
    """A batch's body, and by its place why an item is not to be validated: unusable values, or None: too large."""

    value: Any
    faults: Mapping[int, Sequence[FieldError] | None]


def _decode(body: bytes) -> Sent:
    """Raises InvalidJSON."""
    parsed = parse_json(body)
    items = parsed.value.get("tasks") if isinstance(parsed.value, dict) else None
    faults: dict[int, Sequence[FieldError] | None] = {}
    for index, item in enumerate(items[:MAX_BATCH] if isinstance(items, list) else ()):
        if len(body) > MAX_JSON_BYTES and _size_bytes(item) > MAX_JSON_BYTES:
            faults[index] = None
        elif parsed.is_suspicious and (errors := unusable_values(item)):
            faults[index] = errors
    return Sent(parsed.value, faults)


def _size_bytes(item: object) -> int:
    return len(json.dumps(item, ensure_ascii=False).encode("utf-8", "replace"))


def _parse(
    items: Sequence[Any], faults: Mapping[int, Sequence[FieldError] | None], services: Services
) -> tuple[dict[int, Submission], list[views.BatchRejected]]:
    """The valid ones by their place, and why the others are not."""
    submissions: dict[int, Submission] = {}
    rejected: list[views.BatchRejected] = []
    for index, item in enumerate(items):
        time.sleep(0)  # other requests of this process come in between
        if index in faults:
            rejected.append(_fault_of(index, faults[index]))
            continue
        try:
            submissions[index] = parse_submission(
                item, services.task_types, allow_private_callbacks=services.allows_private_callbacks
            )
        except InvalidSubmission as error:
            rejected.append(_invalid(index, error.errors))
    return submissions, rejected


def _named(submissions: Mapping[int, Submission], batch_id: str) -> dict[int, Submission]:
    """Ids follow from the batch's, so that a repetition with its Idempotency-Key means the same tasks."""
    namespace = uuid.UUID(batch_id)
    return {
        index: replace(
            one, task_id=str(uuid.uuid5(namespace, str(index))), batch_id=batch_id, key_id=access.caller_id()
        )
        for index, one in submissions.items()
    }


def _submit(
    submissions: Mapping[int, Submission],
    rejected: Sequence[views.BatchRejected],
    services: Services,
    *,
    is_repetition: bool,
) -> Answer:
    failures = _submit_missing(submissions, services) if is_repetition else _submit_all(submissions, services)
    results: list[Result] = [
        views.BatchAccepted(index=index, task_id=one.task_id)
        for index, one in submissions.items()
        if index not in failures
    ]
    accepted = len(results)
    results += [*rejected, *(_failed(index, failure) for index, failure in failures.items())]
    results.sort(key=lambda result: result.index)
    (batch_id,) = {str(one.batch_id) for one in submissions.values()}
    body = views.AcceptedBatch(
        batch_id=batch_id,
        accepted=accepted,
        rejected=len(results) - accepted,
        results=results,
        links=views.BatchLinks(self=views.batch_path(batch_id)),
    )
    outcome = _worst_outcome(failures)
    problem = None if accepted else _nothing_accepted(failures, results, outcome)
    return Answer(body.model_dump(), outcome=outcome, problem=problem)


def _submit_all(submissions: Mapping[int, Submission], services: Services) -> dict[int, Unavailable]:
    """By its place, why each that was not accepted was not."""
    settled = submit_all(list(submissions.values()), services.publisher, services.records, until=publish_until())
    failures = zip(submissions, settled, strict=True)
    return {index: failure for index, failure in failures if failure is not None}


def _submit_missing(submissions: Mapping[int, Submission], services: Services) -> dict[int, Unavailable]:
    """An earlier request with this key was not answered in full: what is kept already keeps its promise."""
    try:
        missing = {one.task_id for one in still_missing(list(submissions.values()), services.records)}
    except Unavailable as error:
        raise Unavailable(error.missing, outcome="unknown") from error
    rest = {index: one for index, one in submissions.items() if one.task_id in missing}
    return _submit_all(rest, services) if rest else {}


def _worst_outcome(failures: Mapping[int, Unavailable]) -> str | None:
    outcomes = {failure.outcome for failure in failures.values()}
    return "unknown" if "unknown" in outcomes else "refused" if outcomes else None


def _rejected(index: int, error: str, detail: str, errors: Sequence[FieldError] = ()) -> views.BatchRejected:
    named = [views.FieldProblem(**asdict(one)) for one in errors]
    return views.BatchRejected(index=index, error=error, detail=detail, errors=named, outcome=None)


def _invalid(index: int, errors: Sequence[FieldError]) -> views.BatchRejected:
    return _rejected(index, "invalid_request", "The submission does not validate.", errors)


def _fault_of(index: int, errors: Sequence[FieldError] | None) -> views.BatchRejected:
    if errors is None:
        return _rejected(index, "body_too_large", "The submission is larger than 1 MiB.")
    return _invalid(index, errors)


def _failed(index: int, failure: Unavailable) -> views.BatchRejected:
    rejected = _rejected(index, f"{failure.missing}_unavailable", f"The {failure.missing} cannot be reached.")
    return rejected.model_copy(update={"outcome": failure.outcome})


def _nothing_valid(rejected: Sequence[views.BatchRejected]) -> Problem:
    errors = [
        FieldError(f"/tasks/{one.index}{error.pointer}", error.detail)
        for one in rejected
        for error in one.errors or [views.FieldProblem(pointer="", detail=one.detail)]
    ]
    detail = f"No submission of the batch validates; `errors` names the first {MAX_ERRORS} members."
    return Problem(422, "invalid_request", detail, errors[:MAX_ERRORS], members=_results(rejected))


def _nothing_accepted(failures: Mapping[int, Unavailable], results: Sequence[Result], outcome: str | None) -> Problem:
    missing = next(iter(failures.values())).missing
    detail = f"The {missing} cannot be reached, so nothing of the batch was accepted; `results` tells of each."
    return unavailable(f"{missing}_unavailable", detail, outcome=outcome, **_results(results))


def _results(results: Sequence[Result]) -> dict[str, Any]:
    return {"results": [one.model_dump() for one in results]}


_NOT_FOUND = Problem(404, "batch_not_found", "No task of such a batch is kept.")
_NO_STORE = "The store cannot be reached."
_SUBMITTING = (
    "Each submission is validated, accepted or rejected by itself. `results` has one entry for each, in order: its "
    "task_id, or error, detail and errors as a problem document has them. When nothing is accepted the answer is a "
    "problem document with the same `results`: 422 when no submission validates, else 503. A repetition with its "
    "Idempotency-Key submits what broker or store did not take, and only that."
)
_SUBMIT_PROBLEMS = {
    "_400": "The body is not JSON.",
    "_408": "The body arrives too slowly.",
    "_409": "Another request with this Idempotency-Key has not ended yet.",
    "_413": "The body is larger than 10 MiB.",
    "_415": "The body is not application/json.",
    "_422": "The body or every single submission does not validate, or the key was used for another request.",
    "_503": "Nothing was accepted: the broker or the store cannot be reached. `outcome` says what became of the tasks.",
}
