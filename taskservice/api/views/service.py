"""What is not a task: queues, files, health.

Must not know how the broker or the store are asked.
"""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, Field

from taskservice.api.views.instants import seconds
from taskservice.context import StoredFile
from taskservice.model import Priority, QueueState, now


class QueueView(BaseModel):
    name: str
    priority: Priority
    depth: int = Field(description="Messages that no worker has yet.")
    unacknowledged: int | None = Field(description="Messages that workers have; null: the broker was not asked.")
    consumers: int
    oldest_age_s: float | None = Field(description="Since the oldest queued task was accepted; null: none is queued.")
    paused: bool


class Queues(BaseModel):
    data: list[QueueView]


class Purged(BaseModel):
    cancelled: int


class FileView(BaseModel):
    filename: str
    size_bytes: int
    sha256: str
    mime_type: str


class Files(BaseModel):
    data: list[FileView]


class Health(BaseModel):
    status: str


def queue(
    state: QueueState,
    priority: Priority,
    *,
    unacknowledged: int | None,
    oldest_at: datetime | None,
    is_paused: bool,
) -> QueueView:
    return QueueView(
        name=state.name,
        priority=priority,
        depth=state.depth,
        unacknowledged=unacknowledged,
        consumers=state.consumers,
        oldest_age_s=None if oldest_at is None else seconds(oldest_at, now()),
        paused=is_paused,
    )


def stored_file(file: StoredFile) -> FileView:
    return FileView(filename=file.filename, size_bytes=file.size_bytes, sha256=file.sha256, mime_type=file.mime_type)
