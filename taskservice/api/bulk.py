"""Cancel or repeat many tasks at once, by their ids or by a filter.

Must not know how one task is cancelled, repeated or found.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from flask import Response, jsonify
from flask_openapi3.blueprint import APIBlueprint

from taskservice.api import views
from taskservice.api.bodies import read_json
from taskservice.api.description import body_of, problems
from taskservice.api.rooms import open_room
from taskservice.api.selection import MAX_MATCHED, BulkRequest, wanted_ids
from taskservice.api.services import Services, TaskRecords
from taskservice.api.tasks import is_task_id
from taskservice.errors import InvalidSubmission, Unavailable
from taskservice.model import Cancellation, Record, Submission, TaskType
from taskservice.submission import TaskTypeGone, repeat, submit_all, validated

AT_ONCE = 100


@dataclass(slots=True)
class Tally:
    """What became of each task."""

    succeeded: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)  # id: stable reason
    created: dict[str, str] = field(default_factory=dict)  # id: the new task's

    def fail(self, task_ids: Sequence[str], failure: Unavailable) -> None:
        """These were not reached, or not surely. Raises the failure itself when nothing has been done yet."""
        if not (self.succeeded or self.failed):
            raise failure
        self.failed.update(dict.fromkeys(task_ids, f"{failure.missing}_unavailable"))


def create_blueprint(services: Services) -> APIBlueprint:
    """`/api/tasks/bulk`."""
    blueprint = open_room("bulk", "/api/tasks", tag="tasks")

    @blueprint.post(
        "/bulk",
        summary="Cancel or repeat many tasks",
        openapi_extensions={"requestBody": body_of("BulkRequest")},
        responses={200: views.BulkOutcome, **problems(**_PROBLEMS)},
    )
    def act_on_many() -> Response:
        wish = validated(BulkRequest, read_json())
        task_ids, tally = wanted_ids(wish, services.index), Tally()
        if wish.dry_run:
            matched = len(task_ids) if wish.filter else _count_known(task_ids, services.records)
        else:
            act = _cancel if wish.action == "cancel" else _repeat
            act(task_ids, services, tally)
            matched = len(task_ids) - list(tally.failed.values()).count(_NOT_FOUND)
        outcome = views.BulkOutcome(
            matched=matched, succeeded=tally.succeeded, failed=tally.failed, created=tally.created
        )
        return jsonify(outcome.model_dump())

    return blueprint


def _count_known(task_ids: Sequence[str], records: TaskRecords) -> int:
    return sum(len(_found(chunk, records)) for chunk in _chunks(task_ids))


def _cancel(task_ids: Sequence[str], services: Services, tally: Tally) -> None:
    """One that runs and was asked to stop counts as succeeded."""
    for position, chunk in enumerate(_chunks(task_ids)):
        possible = [task_id for task_id in chunk if is_task_id(task_id)]
        try:
            answers = dict(zip(possible, services.records.cancel_many(possible), strict=True))
        except Unavailable as error:  # each further try would wait as long as this one
            return tally.fail(task_ids[position * AT_ONCE :], error)
        for task_id in chunk:
            what = answers.get(task_id, Cancellation.MISSING)
            if what in _CANNOT_CANCEL:
                tally.failed[task_id] = _CANNOT_CANCEL[what]
            else:
                tally.succeeded.append(task_id)
    return None


def _repeat(task_ids: Sequence[str], services: Services, tally: Tally) -> None:
    """In chunks, because records may be large; what is left when broker or store fails is not tried."""
    for position, chunk in enumerate(_chunks(task_ids)):
        rest = task_ids[position * AT_ONCE :]
        try:
            found = _found(chunk, services.records)
        except Unavailable as error:
            return tally.fail(rest, error)
        submissions = _repeatable(chunk, found, services.task_types, tally)
        lost = _submit(submissions, services, tally)
        if lost is not None:
            return tally.fail(rest[len(chunk) :], lost)
    return None


def _repeatable(
    chunk: Sequence[str], found: Mapping[str, Record], task_types: Mapping[str, TaskType], tally: Tally
) -> list[Submission]:
    submissions: list[Submission] = []
    for task_id in chunk:
        record = found.get(task_id)
        if record is None:
            tally.failed[task_id] = _NOT_FOUND
        elif not record.status.is_final:
            tally.failed[task_id] = "not_final"
        else:
            try:
                submissions.append(repeat(record, task_types))
            except TaskTypeGone:
                tally.failed[task_id] = "task_type_gone"
            except InvalidSubmission:
                tally.failed[task_id] = "invalid_parameters"
    return submissions


def _submit(submissions: Sequence[Submission], services: Services, tally: Tally) -> Unavailable | None:
    """The last failure, if there was one."""
    lost: Unavailable | None = None
    failures = submit_all(submissions, services.publisher, services.records)
    for submission, failure in zip(submissions, failures, strict=True):
        first_id = str(submission.retried_from)
        if failure is None:
            tally.succeeded.append(first_id)
            tally.created[first_id] = submission.task_id
        else:
            lost = failure
            is_refused = failure.outcome == "refused"
            tally.failed[first_id] = f"{failure.missing}_unavailable" if is_refused else "outcome_unknown"
    return lost


def _found(task_ids: Sequence[str], records: TaskRecords) -> dict[str, Record]:
    known = records.get_many([task_id for task_id in task_ids if is_task_id(task_id)])
    return {record.submission.task_id: record for record in known}


def _chunks(task_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(task_ids), AT_ONCE):
        yield task_ids[start : start + AT_ONCE]


_NOT_FOUND = "task_not_found"
_CANNOT_CANCEL = {Cancellation.MISSING: _NOT_FOUND, Cancellation.FINAL: "already_final"}
_PROBLEMS = {
    "_400": "The body is not JSON.",
    "_413": "The body is larger than 1 MiB.",
    "_415": "The body is not application/json.",
    "_422": f"The body does not validate, or the filter matches more than {MAX_MATCHED} tasks.",
    "_503": "The store cannot be reached; repeat it, for what was cancelled stays so.",
}
