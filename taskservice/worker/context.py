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
PROGRESS_BACKOFF_S = 30.0  # after Redis did not answer
MARK_RETRY_S = 1.0


@dataclass(slots=True)
class AttemptContext:
    """One attempt of one task."""

    task_id: str
    attempt: int
    files: FileStore
    mail_server: MailServer
    records: Records
    _next_report_at: float = field(default=0.0, init=False)
    _is_backing_off: bool = field(default=False, init=False)

    def progress(self, current: int, total: int, message: str = "") -> None:
        """At most two a second, and the last one. Lost when Redis is away: a result must not wait for it."""
        if time.monotonic() < self._next_report_at and (current < total or self._is_backing_off):
            return
        self._next_report_at = time.monotonic() + PROGRESS_INTERVAL_S
        self._is_backing_off = False
        try:
            self.records.report_progress(self.task_id, attempt=self.attempt, progress=Progress(current, total, message))
        except redis.RedisError as error:
            self._is_backing_off = True
            self._next_report_at = time.monotonic() + PROGRESS_BACKOFF_S
            logger.warning("task.progress_lost task_id=%s cause=%s", self.task_id, type(error).__name__)

    def sent_mark(self, key: str) -> Any | None:
        return self.records.mark(self.task_id, key)

    def set_sent_mark(self, key: str, value: Any) -> None:
        """Waits for Redis: an effect that is forgotten would happen again."""
        while True:
            try:
                return self.records.set_mark(self.task_id, key, value)
            except redis.RedisError as error:
                logger.warning("task.mark_waits task_id=%s cause=%s", self.task_id, type(error).__name__)
                time.sleep(MARK_RETRY_S)
