"""What a handler may ask of the world, for one attempt: files, mail server, progress, sent marks.

Implements model.TaskContext; must not know Celery.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import Any

import redis

from taskservice.model import FileStore, MailServer, Progress
from taskservice.records import Records

logger = logging.getLogger(__name__)

PROGRESS_INTERVAL_S = 0.5


@dataclass(slots=True)
class AttemptContext:
    """One attempt of one task."""

    task_id: str
    attempt: int
    files: FileStore
    mail_server: MailServer
    records: Records
    _reported_at: float = field(default=0.0, init=False)

    def progress(self, current: int, total: int, message: str = "") -> None:
        """At most two a second, and the last one. Lost when Redis is away: a result must not wait for it."""
        if time.monotonic() - self._reported_at < PROGRESS_INTERVAL_S and current < total:
            return
        self._reported_at = time.monotonic()
        try:
            self.records.report_progress(self.task_id, attempt=self.attempt, progress=Progress(current, total, message))
        except redis.RedisError as error:
            logger.warning("task.progress_lost task_id=%s cause=%s", self.task_id, type(error).__name__)

    def sent_mark(self, key: str) -> Any | None:
        return self.records.mark(self.task_id, key)

    def set_sent_mark(self, key: str, value: Any) -> None:
        self.records.set_mark(self.task_id, key, value)
