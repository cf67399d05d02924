"""Repeat many tasks that have ended, each as a new one.

Must not know how they were found.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from taskservice.api import access
from taskservice.api.deadlines import publish_until
from taskservice.api.promises import still_missing
from taskservice.api.selection import fitting
from taskservice.api.services import Services, TaskRecords
from taskservice.api.tally import NOT_FOUND, OUTCOME_UNKNOWN, Tally
from taskservice.api.tasks import is_task_id
from taskservice.errors import InvalidSubmission, Unavailable
from taskservice.model import Record, Submission
from taskservice.submission import TaskTypeGone, repeat, submit_all
from taskservice.task_type import TaskType


@dataclass(frozen=True, slots=True)
class Repetition:
    """One request's. The ids of its new tasks follow from its own, so that the same request means the same tasks.

    `is_resumed`: an earlier request with its Idempotency-Key was not answered in full; what is kept is not done again.
    """

    services: Services
    request_id: str
    is_resumed: bool

    def run(self, chunk: Sequence[str], tally: Tally) -> None:
        """Raises Unavailable: then nothing of what was not tallied was done."""
        for portion in _portions(chunk, self.services.records):
            if tally.lost is not None:
                tally.fail(portion, tally.lost)
            else:
                self._run(portion, tally)

    def _run(self, task_ids: Sequence[str], tally: Tally) -> None:
        found = {record.submission.task_id: record for record in self.services.records.get_many(task_ids)}
        submissions = [self._named(one) for one in _repeatable(task_ids, found, self.services.task_types, tally)]
        missing = self._missing(submissions, tally) if self.is_resumed else submissions
        if not missing:
            return
        services = self.services
        failures = submit_all(missing, services.publisher, services.records, until=publish_until())
        for submission, failure in zip(missing, failures, strict=True):
            _tell(submission, failure, tally)

    def _named(self, submission: Submission) -> Submission:
        new_id = uuid.uuid5(uuid.UUID(self.request_id), str(submission.retried_from))
        return replace(submission, task_id=str(new_id))

    def _missing(self, submissions: Sequence[Submission], tally: Tally) -> list[Submission]:
        """Those that no earlier request has submitted; the others have succeeded."""
        missing = still_missing(submissions, self.services.records)
        missing_ids = {one.task_id for one in missing}
        for one in submissions:
            if one.task_id not in missing_ids:
                tally.succeed(str(one.retried_from), created=one.task_id)
        return missing


def _portions(task_ids: Sequence[str], records: TaskRecords) -> Iterator[Sequence[str]]:
    """So many at once as need little memory. Raises Unavailable."""
    possible = [task_id for task_id in task_ids if is_task_id(task_id)]
    sizes_of = dict(zip(possible, records.sizes_bytes(possible), strict=True))
    rest = task_ids
    while rest:
        count = fitting([sizes_of.get(task_id, 0) for task_id in rest])
        yield rest[:count]
        rest = rest[count:]


def _repeatable(
    task_ids: Sequence[str], found: Mapping[str, Record], task_types: Mapping[str, TaskType], tally: Tally
) -> list[Submission]:
    submissions: list[Submission] = []
    for task_id in task_ids:
        record = found.get(task_id)
        if record is None:
            tally.failed[task_id] = NOT_FOUND
        elif not record.status.is_final:
            tally.failed[task_id] = "not_final"
        else:
            try:
                submissions.append(repeat(record, task_types, key_id=access.caller_id()))
            except TaskTypeGone:
                tally.failed[task_id] = "task_type_gone"
            except InvalidSubmission:
                tally.failed[task_id] = "invalid_parameters"
    return submissions


def _tell(submission: Submission, failure: Unavailable | None, tally: Tally) -> None:
    first_id = str(submission.retried_from)
    if failure is None:
        tally.succeed(first_id, created=submission.task_id)
        return
    tally.lost = failure
    is_refused = failure.outcome == "refused"
    tally.failed[first_id] = f"{failure.missing}_unavailable" if is_refused else OUTCOME_UNKNOWN
