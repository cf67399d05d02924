"""Cancel or repeat many tasks at once, by their ids or by a filter.

Must not know how one task is cancelled, repeated or found.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from functools import partial

from flask import Response, jsonify
from flask_openapi3.blueprint import APIBlueprint

from taskservice.api import views
from taskservice.api.bodies import read_json
from taskservice.api.description import body_of, problems
from taskservice.api.errors import unsent_outcome
from taskservice.api.promises import Answer, KeyHeader, once, refuse_unusable_key
from taskservice.api.repetitions import Repetition
from taskservice.api.rooms import open_room
from taskservice.api.selection import MAX_MATCHED, BulkRequest, wanted_ids
from taskservice.api.services import Services, TaskRecords
from taskservice.api.tally import NOT_FOUND, Tally, act_on, chunks
from taskservice.api.tasks import is_task_id
from taskservice.errors import Unavailable
from taskservice.model import Cancellation
from taskservice.request_bodies import validated

ENDPOINT = "bulk.act_on_many"
TIME_S = 3.0  # then no other chunk is begun, so that there is an answer within 5 s


def create_blueprint(services: Services) -> APIBlueprint:
    """`/api/tasks/bulk`."""
    blueprint = open_room("bulk", "/api/tasks", tag="tasks")

    @blueprint.post(
        "/bulk",
        summary="Cancel or repeat many tasks",
        description=_ACTING,
        openapi_extensions={"requestBody": body_of("BulkRequest")},
        responses={200: views.BulkOutcome, **problems(**_PROBLEMS)},
    )
    def act_on_many(header: KeyHeader) -> Response:
        end_at = time.monotonic() + TIME_S
        body = read_json()
        wish = validated(BulkRequest, body)
        refuse_unusable_key(header.key)
        task_ids = _wanted_ids(wish, services)
        if wish.dry_run:
            matched = len(task_ids) if wish.filter else _count_known(task_ids, services.records)
            return jsonify(_outcome(Tally(), matched).model_dump())

        def run(request_id: str, is_resumed: bool) -> Answer:
            repetition = Repetition(services, request_id, is_resumed)
            act = repetition.run if wish.action == "retry" else partial(_cancel, services.records)
            try:
                tally = act_on(task_ids, act, end_at=end_at)
            except Unavailable as error:  # some of the first chunk may be cancelled
                is_refused = wish.action == "retry" and not is_resumed
                raise Unavailable(error.missing, outcome="refused" if is_refused else "unknown") from error
            return Answer(_outcome(tally, tally.matched).model_dump(), outcome=tally.outcome)

        return once(str(uuid.uuid4()), services, key=header.key, body=body, run=run, status=200)

    return blueprint


def _wanted_ids(wish: BulkRequest, services: Services) -> list[str]:
    try:
        return wanted_ids(wish, services.index)
    except Unavailable as error:
        raise Unavailable(error.missing, outcome=unsent_outcome()) from error


def _count_known(task_ids: Sequence[str], records: TaskRecords) -> int:
    possible = [task_id for task_id in task_ids if is_task_id(task_id)]
    return sum(size_bytes > 0 for chunk in chunks(possible) for size_bytes in records.sizes_bytes(chunk))


def _cancel(records: TaskRecords, chunk: Sequence[str], tally: Tally) -> None:
    """One that runs and was asked to stop counts as succeeded. Raises Unavailable; some may be cancelled then."""
    possible = [task_id for task_id in chunk if is_task_id(task_id)]
    answers = dict(zip(possible, records.cancel_many(possible), strict=True))
    for task_id in chunk:
        what = answers.get(task_id, Cancellation.MISSING)
        if what in _CANNOT_CANCEL:
            tally.failed[task_id] = _CANNOT_CANCEL[what]
        else:
            tally.succeed(task_id)


def _outcome(tally: Tally, matched: int) -> views.BulkOutcome:
    return views.BulkOutcome(
        matched=matched,
        succeeded=tally.succeeded,
        failed=tally.failed,
        created=tally.created,
        has_more=bool(tally.untried),
        untried=tally.untried,
    )


_CANNOT_CANCEL = {Cancellation.MISSING: NOT_FOUND, Cancellation.FINAL: "already_final"}
_ACTING = (
    "As many as there is time for within 5 s: `has_more` says that some were not tried, and `untried` names them. The "
    "same request with its Idempotency-Key goes on with those and repeats no task twice; a complete answer is given "
    "again."
)
_PROBLEMS = {
    "_400": "The body is not JSON.",
    "_408": "The body arrives too slowly.",
    "_409": "Another request with this Idempotency-Key has not ended yet.",
    "_413": "The body is larger than 1 MiB.",
    "_415": "The body is not application/json.",
    "_422": (
        f"The body does not validate, the filter matches more than {MAX_MATCHED} tasks, or the key was used for "
        "another request."
    ),
    "_503": "The store cannot be reached; repeat it, for what was cancelled stays so. `outcome` says what was done.",
}
