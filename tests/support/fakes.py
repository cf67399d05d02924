"""The broker and the store in memory, for tests of the HTTP border: each keeps what it is given, or is unreachable."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from taskservice.errors import Unavailable
from taskservice.model import Cancellation, Priority, QueueState, Record, Status, Submission, TaskFilter, now
from taskservice.records.idempotency import Outcome, Reservation


class MemoryBroker:
    """A publisher whose queues nobody empties."""

    def __init__(self) -> None:
        self.published: list[Submission] = []
        self.attempts: list[int] = []  # of each message that was published
        self.consuming = {priority.queue: 1 for priority in Priority}
        self.left_over: dict[str, int] = {}  # messages in queues of types that are listed no more
        self.is_down = False
        self.takes: int | None = None  # of several messages, only the first so many
        self.publish_until: float | None = None  # how long it was given for several

    def publish(self, submission: Submission, *, attempt: int = 1) -> None:
        if self.is_down:
            raise Unavailable("broker")
        self.published.append(submission)
        self.attempts.append(attempt)

    def publish_all(self, submissions: Sequence[Submission], *, until: float | None = None) -> list[Unavailable | None]:
        self.publish_until = until
        if self.is_down:
            return [Unavailable("broker") for _ in submissions]
        taken = submissions[: self.takes]
        for submission in taken:
            self.publish(submission)
        return [None if place < len(taken) else Unavailable("broker") for place in range(len(submissions))]

    def queue_states(self) -> Mapping[str, QueueState]:
        if self.is_down:
            raise Unavailable("broker")
        carried = [submission.priority.queue for submission in self.published]
        names = [priority.queue for priority in Priority]
        depths = {name: carried.count(name) for name in names} | self.left_over
        return {name: QueueState(name, depth, self.consuming.get(name, 0)) for name, depth in depths.items()}


class MemoryRecords:
    """A store of records in a dictionary. `accept_fails` and `fault` break some of its answers."""

    def __init__(self) -> None:
        self.kept: dict[str, Record] = {}
        self.refused: set[str] = set()
        self.is_down = False
        self.accept_fails = False
        self.has_no_replica = False  # tasks are kept, but no promise can be made
        self.fault: Exception | None = None
        self.cancels_left: int | None = None  # then the store goes away

    def put(self, record: Record) -> str:
        """Arrange what a task has become; its id."""
        self.kept[record.submission.task_id] = record
        return record.submission.task_id

    def accept_many(self, submissions: Sequence[Submission]) -> None:
        self.ping()
        if self.accept_fails:
            raise Unavailable("store")
        for one in submissions:
            self.refused.discard(one.task_id)
            self.kept.setdefault(one.task_id, Record(one, one.initial_status, one.due_at))
        if self.has_no_replica:
            raise Unavailable("store")

    def refuse_many(self, task_ids: Sequence[str]) -> list[bool]:
        self.ping()
        self.refused.update(task_id for task_id in task_ids if task_id not in self.kept)
        return [task_id not in self.kept for task_id in task_ids]

    def lift_many(self, task_ids: Sequence[str]) -> None:
        self.ping()
        self.refused.difference_update(task_ids)

    def get(self, task_id: str) -> Record | None:
        self.ping()
        if self.fault:
            raise self.fault
        return self.kept.get(task_id)

    def get_many(self, task_ids: Sequence[str]) -> list[Record]:
        self.ping()
        return [self.kept[task_id] for task_id in task_ids if task_id in self.kept]

    def sizes_bytes(self, task_ids: Sequence[str]) -> list[int]:
        self.ping()
        return [self._size_bytes(self.kept[task_id]) if task_id in self.kept else 0 for task_id in task_ids]

    def cancel_many(self, task_ids: Sequence[str]) -> list[Cancellation]:
        self.ping()
        return [self._cancel(task_id) for task_id in task_ids]

    def _cancel(self, task_id: str) -> Cancellation:
        if self.cancels_left is not None:
            self.cancels_left -= 1
            self.is_down = self.cancels_left == 0
        record = self.kept.get(task_id)
        if record is None:
            return Cancellation.MISSING
        if record.status.is_final:
            return Cancellation.FINAL
        if record.status is Status.RUNNING:
            self.put(replace(record, is_cancel_requested=True))
            return Cancellation.REQUESTED
        self.put(replace(record, status=Status.CANCELLED, finished_at=now()))
        return Cancellation.CANCELLED

    def hasten(self, task_id: str, *, attempt: int) -> bool:
        self.ping()
        record = self.kept[task_id]
        if record.status not in (Status.SCHEDULED, Status.RETRYING) or attempt != record.next_attempt:
            return False
        status = Status.QUEUED if record.status is Status.SCHEDULED else record.status
        self.put(replace(record, status=status, due_at=now()))
        return True

    def ping(self) -> None:
        if self.is_down:
            raise Unavailable("store")

    def _size_bytes(self, record: Record) -> int:
        return len(json.dumps([record.submission.to_message(), record.result]))


@dataclass(frozen=True, slots=True)
class MemoryPage:
    task_ids: tuple[str, ...]
    next_cursor: str | None


class MemoryIndex:
    """Looks through the records in memory; a page holds two tasks, so that there are several."""

    PAGE = 2

    def __init__(self, records: MemoryRecords) -> None:
        self._records = records
        self.uncounted = 0  # tasks that match anything, besides those that are kept

    def page(self, wanted: TaskFilter, *, limit: int, cursor: str | None) -> MemoryPage:
        found = [record.submission.task_id for record in self._matching(wanted)]
        if cursor is not None and cursor not in found:
            raise ValueError("not a cursor that a page has given")
        start = 0 if cursor is None else found.index(cursor) + 1
        ids = tuple(found[start : start + min(limit, self.PAGE)])
        return MemoryPage(ids, ids[-1] if ids and ids[-1] != found[-1] else None)

    def count(self, wanted: TaskFilter) -> int:
        return len(self._matching(wanted)) + self.uncounted

    def batch_counts(self, batch_id: str) -> Mapping[Status, int]:
        self._records.ping()
        return Counter(one.status for one in self._records.kept.values() if one.submission.batch_id == batch_id)

    def oldest_created_at(self, wanted: TaskFilter) -> datetime | None:
        return min((record.submission.created_at for record in self._matching(wanted)), default=None)

    def _matching(self, wanted: TaskFilter) -> list[Record]:
        self._records.ping()
        return sorted(
            (record for record in self._records.kept.values() if _matches(record, wanted)),
            key=lambda record: record.submission.created_at,
            reverse=True,
        )


class MemoryRunTimes:
    def __init__(self) -> None:
        self.means_s: dict[str, float] = {}

    def mean_s(self, task_type: str) -> float | None:
        return self.means_s.get(task_type)


class MemoryPauses:
    def __init__(self, records: MemoryRecords) -> None:
        self._records = records
        self._paused: set[str] = set()

    def pause(self, queue: str) -> None:
        self._records.ping()
        self._paused.add(queue)

    def resume(self, queue: str) -> None:
        self._records.ping()
        self._paused.discard(queue)

    def paused(self) -> frozenset[str]:
        self._records.ping()
        return frozenset(self._paused)


class MemoryFilesInUse:
    """Of parameters that are flat, as those of the service's own types are."""

    def __init__(self, records: MemoryRecords) -> None:
        self._records = records

    def user_of(self, filename: str) -> str | None:
        self._records.ping()
        for task_id, record in self._records.kept.items():
            if not record.status.is_final and filename in record.submission.parameters.values():
                return task_id
        return None


@dataclass(slots=True)
class _Key:
    fingerprint: str
    task_id: str
    is_in_flight: bool = True
    answer: Mapping[str, Any] | None = None


class MemoryReservations:
    """Keys in a dictionary. What is in flight stays so until `forget_flights`: no clock runs here."""

    def __init__(self, records: MemoryRecords) -> None:
        self._records = records
        self._keys: dict[str, _Key] = {}
        self.settle_fails = False

    def reserve(self, key: str, *, fingerprint: str, task_id: str) -> Reservation:
        self._records.ping()
        known = self._keys.setdefault(key, _Key(fingerprint, task_id, is_in_flight=False))
        if known.fingerprint != fingerprint:
            return Reservation(Outcome.MISMATCH, known.task_id)
        if known.answer is not None:
            return Reservation(Outcome.REPLAYED, known.task_id, known.answer)
        if known.is_in_flight:
            return Reservation(Outcome.IN_FLIGHT, known.task_id)
        known.is_in_flight = True
        return Reservation(Outcome.RESERVED, known.task_id)

    def settle(self, key: str, answer: Mapping[str, Any]) -> None:
        self._records.ping()
        if self.settle_fails:
            raise Unavailable("store")
        self._keys[key].answer = answer

    def release(self, key: str) -> None:
        self._records.ping()
        self._keys[key].is_in_flight = False

    def forget(self, key: str) -> None:
        self._records.ping()
        del self._keys[key]

    def forget_flights(self) -> None:
        """As if ten seconds had passed."""
        for key in self._keys.values():
            key.is_in_flight = False


def _matches(record: Record, wanted: TaskFilter) -> bool:
    submission = record.submission
    return (
        (not wanted.statuses or record.status in wanted.statuses)
        and wanted.task_type in (None, submission.task_type)
        and wanted.priority in (None, submission.priority)
        and (wanted.tag is None or wanted.tag in submission.tags)
        and (wanted.created_after is None or submission.created_at > wanted.created_after)
        and (wanted.created_before is None or submission.created_at < wanted.created_before)
    )


class MemoryWaiter:
    """Looks again and again, as a test may change the records from another thread."""

    def __init__(self, records: MemoryRecords) -> None:
        self._records = records

    def wait_until_final(self, task_id: str, timeout_s: float) -> Record | None:
        deadline = time.monotonic() + timeout_s
        while (record := self._records.get(task_id)) and not record.status.is_final and time.monotonic() < deadline:
            time.sleep(0.02)
        return record
