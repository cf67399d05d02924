"""One attempt in a worker: claim it, run the handler, classify what it raised, and settle.

The only room that knows what a retry is. Must not know what any handler does.
"""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Callable
from typing import Any, ClassVar, cast

import redis
from celery import Task
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded
from celery.worker.request import Request

from celery_config import broker_delay_s
from taskservice.errors import PermanentError, StoredFileNotFound, TaskError
from taskservice.model import FileStore, Priority, Submission, TaskType
from taskservice.records import Claim
from taskservice.settings import Settings
from taskservice.worker.backend import RecordBackend, error_info
from taskservice.worker.context import AttemptContext

logger = logging.getLogger(__name__)

CLAIM_RETRY_S = 1.0
CONFIRM_TIMEOUT_S = 10  # for the broker to confirm a retry; a blocked one would hold the task for ever
HARD_LIMIT_MARGIN_S = 15  # after the soft limit, before the child is killed
_DELAY_PREFIX = re.compile(r"^(?:[01]\.){28}")  # what delayed delivery puts before the routing key
_QUEUE_OF_KEY = {priority.value: priority.queue for priority in Priority}


class ServiceRequest(Request):
    """A run that is cancelled (shutdown, lost connection) goes back to the broker.

    Celery would also record a retry, which nobody publishes; the redelivered message would then be dropped.
    """

    task: ServiceTask
    _context: Any

    def cancel(self, pool: Any, signal: Any = None, emit_retry: bool = True) -> None:
        super().cancel(pool, signal, emit_retry=False)
        if self.time_start:
            self.task.hand_back(self.id, attempt=int(self._context.retries) + 1)


class ServiceTask(Task[Any, Any]):
    """The base of every task type's Celery task. Bound attributes are set by `task_class_for`."""

    abstract = True
    Request = "taskservice.worker.task:ServiceRequest"
    throws = (TaskError,)  # logged by us, with type, attempt and cause
    kind: ClassVar[TaskType]
    settings: ClassVar[Settings]
    open_files: ClassVar[Callable[[], FileStore]]
    retry_delay_s: ClassVar[Callable[[int], int]]

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        """Claim the attempt; a copy that is not the record's next one is dropped here."""
        submission = Submission.from_message(args[0])
        claim = self._claim(submission)
        if claim is Claim.GRANTED:
            return
        logger.warning("task.skipped task_id=%s type=%s attempt=%d cause=%s", task_id, self.name, self._attempt, claim)
        if claim is Claim.LOST_TOO_OFTEN:
            raise Reject("its worker was lost too often", requeue=False)
        raise Ignore(f"{claim}")

    def run(self, message: dict[str, Any]) -> Any:
        submission = Submission.from_message(message)
        try:
            parameters = self.kind.parameters_model.model_validate(dict(submission.parameters))
            return dict(self.kind.handler(parameters, self._context(submission)))
        except SoftTimeLimitExceeded:
            error = PermanentError("timed_out", f"the task ran longer than {self.kind.time_limit_s} s")
            self._log_failure(error, "task.failed")
            raise error from None
        except StoredFileNotFound as missing:
            self._log_failure(missing, "task.failed")
            raise PermanentError("file_not_found", str(missing)) from missing
        except PermanentError as error:
            self._log_failure(error, "task.failed")
            raise
        except Exception as error:  # noqa: BLE001  the worker's border: anything unexpected is worth another attempt
            return self._retry_or_fail(submission, error)

    def signature_from_request(
        self, request: Any = None, args: Any = None, kwargs: Any = None, queue: str | None = None, **extra: Any
    ) -> Any:
        """A retry goes to the queue its task came from; Celery would send it to the default queue.

        A delayed message's routing key carries its delay in front of the queue's own key.
        """
        request = self.request if request is None else request
        if queue is None:
            key = _DELAY_PREFIX.sub("", (request.delivery_info or {}).get("routing_key") or "")
            queue = _QUEUE_OF_KEY.get(key, Priority.NORMAL.queue)
        extra.pop("routing_key", None)
        signature = super().signature_from_request(request, args, kwargs, queue=queue, **extra)
        signature.options.pop("exchange", None)
        signature.options.pop("routing_key", None)
        return signature

    def hand_back(self, task_id: str, *, attempt: int) -> None:
        """Say that the message returns to the broker on purpose. Never waits: the connection may be gone."""
        try:
            self._backend.records.hand_back(task_id, attempt=attempt)
        except redis.RedisError as error:  # then it counts as a lost delivery, of which three are allowed
            logger.warning("task.hand_back_uncounted task_id=%s cause=%s", task_id, type(error).__name__)

    @property
    def _attempt(self) -> int:
        return int(self.request.retries) + 1

    @property
    def _backend(self) -> RecordBackend:
        return cast(RecordBackend, self.app.backend)

    def _claim(self, submission: Submission) -> Claim:
        """Waits for Redis as long as it takes: a task must not be dropped because its record is out of reach."""
        delivery = str(uuid.uuid4())
        while True:
            try:
                return self._backend.records.claim(
                    submission,
                    attempt=self._attempt,
                    worker=self._worker,
                    delivery=delivery,
                    redelivered=bool((self.request.delivery_info or {}).get("redelivered")),
                )
            except SoftTimeLimitExceeded:  # the wait has eaten the time limit: wait on, with a fresh one
                raise Reject("its record is out of reach", requeue=True) from None
            except redis.RedisError as error:
                logger.warning("task.claim_waits task_id=%s cause=%s", submission.task_id, type(error).__name__)
                time.sleep(CLAIM_RETRY_S)

    @property
    def _worker(self) -> str:
        return str(self.request.hostname or "unknown")

    def _context(self, submission: Submission) -> AttemptContext:
        cls = type(self)
        return AttemptContext(
            task_id=submission.task_id,
            attempt=self._attempt,
            files=cls.open_files(),
            mail_server=cls.settings.mail_server,
            records=self._backend.records,
        )

    def _retry_or_fail(self, submission: Submission, error: Exception) -> Any:
        if self._attempt >= submission.max_attempts:
            self._log_failure(error, "task.failed")
            raise error
        delay_s = broker_delay_s(type(self).retry_delay_s(self._attempt - 1))
        self._log_failure(error, "task.retrying", delay_s=delay_s)
        self.request.update(retry_delay_s=delay_s)  # the backend stores it with the transition
        try:
            options: dict[str, Any] = {"max_retries": submission.max_attempts - 1, "confirm_timeout": CONFIRM_TIMEOUT_S}
            raise self.retry(exc=error, countdown=delay_s, **options)
        except Reject as unpublished:  # the next attempt could not be published: keep this message
            self.hand_back(submission.task_id, attempt=self._attempt)
            time.sleep(delay_s)
            raise Reject(str(unpublished), requeue=True) from error

    def _log_failure(self, error: Exception, event: str, **fields: Any) -> None:
        info = error_info(error)
        extra = "".join(f" {name}={value}" for name, value in fields.items())
        logger.warning(
            "%s task_id=%s type=%s attempt=%d code=%s cause=%r%s",
            event, self.request.id, self.name, self._attempt, info.code, str(error) or type(error).__name__, extra,
            exc_info=error if info.code == "internal" else None,
        )  # fmt: skip


def task_class_for(
    kind: TaskType,
    *,
    settings: Settings,
    open_files: Callable[[], FileStore],
    retry_delay_s: Callable[[int], int],
) -> type[ServiceTask]:
    """The Celery task class of one task type, with its limits."""
    attributes = {
        "name": kind.name,
        "kind": kind,
        "settings": settings,
        "open_files": staticmethod(open_files),
        "retry_delay_s": staticmethod(retry_delay_s),
        "max_retries": None,  # each task carries its own
        "soft_time_limit": kind.time_limit_s,
        "time_limit": kind.time_limit_s + HARD_LIMIT_MARGIN_S,
        "__doc__": kind.description,
    }
    return type(f"{kind.name}_task", (ServiceTask,), attributes)
