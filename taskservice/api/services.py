"""What the blueprints need of the rest of the service, as protocols, so that a test can bring its own.

Must not know who implements them: app.py does the wiring.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from taskservice.context import FileStore
from taskservice.model import Cancellation, QueueState, Record, Status, Submission, TaskFilter
from taskservice.records.idempotency import Reservation
from taskservice.submission import Publisher, Records
from taskservice.task_type import TaskType


class TaskPublisher(Publisher, Protocol):
    """Hands submissions to the broker and knows the state of its queues."""

    def publish(self, submission: Submission, *, attempt: int = 1) -> None:
        """Returns once the broker has confirmed the message. Raises Unavailable."""

    def queue_states(self) -> Mapping[str, QueueState]:
        """Each work queue by name, also one that is not published to any more while messages are left in it.

        Raises Unavailable.
        """


class TaskRecords(Records, Protocol):
    """The store of records."""

    def ping(self) -> None:
        """Whether it takes writes. Raises Unavailable."""

    def get(self, task_id: str) -> Record | None:
        """Raises Unavailable."""

    def get_many(self, task_ids: Sequence[str]) -> list[Record]:
        """In that order, missing ones left out. Raises Unavailable."""

    def sizes_bytes(self, task_ids: Sequence[str]) -> list[int]:
        """About how large each is as JSON, in that order; 0 for missing ones. Raises Unavailable."""

    def lift_many(self, task_ids: Sequence[str]) -> None:
        """Undo refusals, so that the ids may be published again. Raises Unavailable."""

    def cancel_many(self, task_ids: Sequence[str]) -> list[Cancellation]:
        """Each atomic, each id once, answers in that order. Raises Unavailable; some may be cancelled then."""

    def hasten(self, task_id: str, *, attempt: int) -> bool:
        """Due now, because this attempt was published again; False: it has moved on. Raises Unavailable."""


class IndexPage(Protocol):
    """Some of the tasks that were looked for."""

    @property
    def task_ids(self) -> tuple[str, ...]: ...

    @property
    def next_cursor(self) -> str | None:
        """None after the last page."""


class TaskIndex(Protocol):
    """Which tasks there are."""

    def page(self, wanted: TaskFilter, *, limit: int, cursor: str | None) -> IndexPage:
        """Newest first. Raises ValueError for a malformed cursor, Unavailable."""

    def count(self, wanted: TaskFilter) -> int:
        """Raises Unavailable."""

    def batch_counts(self, batch_id: str) -> Mapping[Status, int]:
        """How many tasks of a batch have each status; empty when none is kept. Raises Unavailable."""

    def oldest_created_at(self, wanted: TaskFilter) -> datetime | None:
        """None when there is none. Raises Unavailable."""


class TaskWaiter(Protocol):
    """Waits for the end of a task."""

    def wait_until_final(self, task_id: str, timeout_s: float) -> Record | None:
        """The task as soon as it is final, or as it is when time is up; None: there is none. Raises Unavailable."""


class RunTimes(Protocol):
    """How long tasks run of late."""

    def mean_s(self, task_type: str) -> float | None:
        """None when it is not known."""


class QueuePauses(Protocol):
    """Which queues are paused."""

    def pause(self, queue: str) -> None:
        """Raises Unavailable."""

    def resume(self, queue: str) -> None:
        """Raises Unavailable."""

    def paused(self) -> frozenset[str]:
        """Raises Unavailable."""


class InHand(Protocol):
    """What workers have received and not yet acknowledged."""

    def unacknowledged(self) -> Mapping[str, int]:
        """By name of queue; nothing when it is not known."""


class KeyReservations(Protocol):
    """Idempotency keys: of all requests with one key, one runs at a time and one is answered for all."""

    def reserve(self, key: str, *, fingerprint: str, task_id: str) -> Reservation:
        """Raises Unavailable."""

    def settle(self, key: str, answer: Mapping[str, Any]) -> None:
        """Raises Unavailable."""

    def release(self, key: str) -> None:
        """Raises Unavailable."""

    def forget(self, key: str) -> None:
        """Raises Unavailable."""


class FilesInUse(Protocol):
    """Which files tasks still need."""

    def user_of(self, filename: str) -> str | None:
        """The id of a task that is not final and names the file. Raises Unavailable."""


@dataclass(frozen=True, slots=True)
class Services:
    """Everything a request may use."""

    publisher: TaskPublisher
    records: TaskRecords
    index: TaskIndex
    waiter: TaskWaiter
    run_times: RunTimes
    pauses: QueuePauses
    reservations: KeyReservations
    in_hand: InHand
    files: FileStore
    files_in_use: FilesInUse
    task_types: Mapping[str, TaskType]
    max_upload_bytes: int
    dedicated: tuple[str, ...] = ()  # the types that have queues of their own
    allows_private_callbacks: bool = False
