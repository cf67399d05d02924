"""What a handler may ask of the world, for one attempt: files, mail server, progress, sent marks.

Implements context.TaskContext; must not know Celery.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import Any

import redis

from taskservice.context import FileStore, MailServer
from taskservice.errors import TaskCancelled
from taskservice.model import Progress
from taskservice.records import Attempts, Run
from taskservice.records.receivers import SlowReceivers
from taskservice.records.webhook_secrets import WebhookSecrets
from taskservice.worker.patience import insist

logger = logging.getLogger(__name__)

PROGRESS_INTERVAL_S = 0.5
PROGRESS_BACKOFF_S = 30.0  # after Redis did not answer


@dataclass(slots=True)
class AttemptContext:
    """One attempt of one task."""

    task_id: str
    attempt: int
    delivery: str
    files: FileStore
    mail_server: MailServer
    attempts: Attempts
    allows_private_webhooks: bool = False
    _next_report_at: float = field(default=0.0, init=False)
    _is_backing_off: bool = field(default=False, init=False)

    @property
    def receivers(self) -> SlowReceivers:
        return SlowReceivers(self.attempts.client)

    def progress(self, current: int, total: int, message: str = "") -> None:
        """At most two a second, and the last one. Lost when Redis is away: a result must not wait for it.

        Raises TaskCancelled once a client wants the task to stop.
        """
        if time.monotonic() < self._next_report_at and (current < total or self._is_backing_off):
            return
        self._next_report_at = time.monotonic() + PROGRESS_INTERVAL_S
        self._is_backing_off = False
        try:
            may_go_on = self._report(Progress(current, total, message))
        except redis.RedisError as error:
            self._is_backing_off = True
            self._next_report_at = time.monotonic() + PROGRESS_BACKOFF_S
            logger.warning("task.progress_lost task_id=%s cause=%s", self.task_id, type(error).__name__)
            return
        if not may_go_on:
            raise TaskCancelled(f"task {self.task_id} was cancelled while it ran")

    def sent_mark(self, key: str) -> Any | None:
        """Waits for Redis: what has happened must not happen again."""
        return insist(lambda: self.attempts.mark(self.task_id, key), "mark", self.task_id)

    def set_sent_mark(self, key: str, value: Any) -> None:
        """Waits for Redis: an effect that is forgotten would happen again."""
        insist(lambda: self.attempts.set_mark(self.task_id, key, value), "mark", self.task_id)

    def webhook_secrets(self, key_id: str | None) -> tuple[str, ...]:
        """Waits for Redis: an unsigned webhook is worth nothing."""
        secrets = WebhookSecrets(self.attempts.client)
        return insist(lambda: secrets.of(key_id), "webhook_secrets", self.task_id)

    def _report(self, progress: Progress) -> bool:
        return self.attempts.report_progress(Run(self.task_id, self.delivery), progress)
