"""What the blueprints need of the rest of the service, as protocols, so that a test can bring its own.

Must not know who implements them: app.py does the wiring.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from taskservice.model import Cancellation, FileStore, QueueState, Record, Submission, TaskFilter, TaskType
from taskservice.records.idempotency import Reservation
from taskservice.submission import Publisher, Records


class TaskPublisher(Publisher, Protocol):
    """Hands submissions to the broker and knows the state of its queues."""

    def publish(self, submission: Submission, *, attempt: int = 1) -> None:
        """Returns once the broker has confirmed the message. Raises Unavailable."""

    def queue_states(self) -> Mapping[str, QueueState]:
        """Each work queue by name. Raises Unavailable."""


class TaskRecords(Records, Protocol):
    """The store of records."""

    def get(self, task_id: str) -> Record | None:
        """Raises Unavailable."""

    def get_many(self, task_ids: Sequence[str]) -> list[Record]:
        """In that order, missing ones left out. Raises Unavailable."""

    def lift(self, task_id: str) -> None:
        """Undo a refusal, so that the id may be published again. Raises Unavailable."""

    def cancel(self, task_id: str) -> Cancellation:
        """Atomic. Raises Unavailable."""

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

    def oldest_created_at(self, wanted: TaskFilter) -> datetime | None:
        """None when there is none. Raises Unavailable."""


class QueuePauses(Protocol):
    """Which queues are paused."""

    def pause(self, queue: str) -> None:
        """Raises Unavailable."""

    def resume(self, queue: str) -> None:
        """Raises Unavailable."""

    def paused(self) -> frozenset[str]:
        """Raises Unavailable."""


class KeyReservations(Protocol):
    """Idempotency keys: of all requests with one key, one runs at a time and one is answered for all."""

    def reserve(self, key: str, *, fingerprint: str, task_id: str) -> Reservation:
        """Raises Unavailable."""

    def settle(self, key: str, answer: Mapping[str, Any]) -> None:
        """Raises Unavailable."""

    def release(self, key: str) -> None:
        """Raises Unavailable."""


@dataclass(frozen=True, slots=True)
class Services:
    """Everything a request may use."""

    publisher: TaskPublisher
    records: TaskRecords
    index: TaskIndex
    pauses: QueuePauses
    reservations: KeyReservations
    files: FileStore
    task_types: Mapping[str, TaskType]
    max_upload_bytes: int
