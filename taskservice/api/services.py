"""What the blueprints need of the rest of the service, as protocols, so that a test can bring its own.

Must not know who implements them: app.py does the wiring.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from taskservice.model import FileStore, Record, TaskType
from taskservice.submission import Publisher, Records


class TaskPublisher(Publisher, Protocol):
    """Hands submissions to the broker and knows who listens there."""

    def consumers(self) -> Mapping[str, int]:
        """Number of consumers by queue name. Raises Unavailable."""


class TaskRecords(Records, Protocol):
    """The store of records."""

    def get(self, task_id: str) -> Record | None:
        """Raises Unavailable."""

    def ping(self) -> None:
        """Raises Unavailable."""


@dataclass(frozen=True, slots=True)
class Services:
    """Everything a request may use."""

    publisher: TaskPublisher
    records: TaskRecords
    files: FileStore
    task_types: Mapping[str, TaskType]
    max_upload_bytes: int
