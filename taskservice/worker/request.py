"""A delivered message in the worker's main process: which delivery it is, and what a lost or stopped run means.

Must not wait for Redis: while the main process waits, no task starts or ends.
"""

from __future__ import annotations

import logging
import uuid
from typing import TYPE_CHECKING, Any

import redis
from billiard.exceptions import WorkerLostError
from celery.worker.request import Request
from celery.worker.state import task_ready

from taskservice.model import Submission
from taskservice.records import Run

if TYPE_CHECKING:
    from taskservice.worker.task import ServiceTask

logger = logging.getLogger(__name__)

_DELAY_LEVELS = 28  # words that delayed delivery puts before the routing key


class ServiceRequest(Request):
    """Celery's request, with a word of its own for this delivery; the claim in the child carries it."""

    task: ServiceTask
    _request_dict: dict[str, Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.delivery = self._request_dict["delivery"] = str(uuid.uuid4())
        if str(self.delivery_info.get("routing_key")).count(".") >= _DELAY_LEVELS:
            self._eta = None  # the broker has held it; a worker whose clock is behind would hold it again

    @property
    def attempt(self) -> int:
        """0 when its message does not say."""
        retries = self._request_dict.get("retries")
        return retries + 1 if type(retries) is int else 0

    @property
    def submission(self) -> Submission:
        """Of a run that was granted: what its message carries has been read before."""
        return Submission.from_message(self.args[0])

    @property
    def as_run(self) -> Run:
        return Run(self.id, self.delivery, self.attempt)

    def cancel(self, pool: Any, signal: Any = None, emit_retry: bool = True) -> None:
        """Shutdown: end the run and hand its message back.

        Celery would also record a retry, which nobody publishes; the redelivered message would then be dropped.
        """
        super().cancel(pool, signal, emit_retry=False)
        if self.time_start:
            self._give_up(is_lost=False)

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> None:
        """A child that died: its message goes back at once, and the record says why."""
        # billiard wraps what was raised, to keep its traceback
        error = getattr(exc_info.exception, "exc", exc_info.exception)
        if not isinstance(error, WorkerLostError):
            super().on_failure(exc_info, send_failed_event, return_ok)
            return
        logger.warning("task.worker_lost task_id=%s type=%s cause=%r", self.id, self.name, str(error))
        task_ready(self)
        self._give_up(is_lost=True)
        self.reject(requeue=True)

    def _give_up(self, *, is_lost: bool) -> None:
        try:
            self.task.give_up(self.as_run, is_lost=is_lost)
        except redis.RedisError as error:  # then its lease lapses, and it counts as a lost delivery
            logger.warning("task.give_up_unrecorded task_id=%s cause=%s", self.id, type(error).__name__)
