"""One attempt in a worker's child: claim it, run the handler, classify what it raised, and settle.

The only room that knows what a retry is. Must not know what any handler does.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, ClassVar, NoReturn, cast

import redis
from celery import Task
from celery.exceptions import Ignore, Reject

from celery_config import BROKER_ERRORS, broker_delay_s
from taskservice.errors import PermanentError, StoredFileNotFound, TaskCancelled, TaskError
from taskservice.model import Submission
from taskservice.queues import queue_for
from taskservice.records import Claim, ClaimAnswer, Run
from taskservice.records.made_files import MadeFile, MadeFiles
from taskservice.settings import Settings
from taskservice.task_type import TaskType
from taskservice.worker.backend import RecordBackend, error_info
from taskservice.worker.context import AttemptContext
from taskservice.worker.limits import TimeLimitReached, time_limit
from taskservice.worker.noted_files import NotedFiles, VersionedFiles
from taskservice.worker.patience import RETRY_S, insist

logger = logging.getLogger(__name__)

CONFIRM_TIMEOUT_S = 10  # for the broker to confirm a retry; a blocked one would hold the task for ever
PAUSED_LOOK_S = 0.5  # the consumer stops within a second; until then the message must not spin
MAX_RESULT_BYTES = 4 * 2**20
RetryDelay = Callable[[int, int | None], int]  # seconds, by earlier retries and the type's own longest wait


class ServiceTask(Task[Any, Any]):
    """The base of every task type's Celery task. Bound attributes are set by `task_class_for`."""

    abstract = True
    Request = "taskservice.worker.request:ServiceRequest"
    throws = (TaskError,)  # logged by us, with type, attempt and cause
    kind: ClassVar[TaskType]
    settings: ClassVar[Settings]
    open_files: ClassVar[Callable[[], VersionedFiles]]
    retry_delay_s: ClassVar[RetryDelay]

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        """Claim the attempt. What may not run now goes back to the broker or is dropped, and never reaches `run`."""
        submission = self._read_message(args)
        answer = self._claimed(submission)
        if answer.claim is Claim.GRANTED:
            return
        if answer.claim in (Claim.WAIT, Claim.PAUSED):
            self._put_back(submission, answer)
        logger.warning(
            "task.skipped task_id=%s type=%s attempt=%d cause=%s", task_id, self.name, self._attempt, answer.claim
        )
        if answer.claim is Claim.DEAD_LETTER:
            raise Reject("its worker was lost too often", requeue=False)
        if answer.claim is Claim.REVOKED:
            self._tell_flower("task-revoked", terminated=False, signum=None, expired=False)
        raise Ignore(f"{answer.claim}")

    def run(self, message: dict[str, Any]) -> Any:
        submission = Submission.from_message(message)
        try:
            with time_limit(self.kind.time_limit_s):
                result = self._handle(submission)
            return checked(result)
        except TimeLimitReached:
            error = PermanentError("timed_out", f"the task ran longer than {self.kind.time_limit_s} s")
            self._log_failure(error, "task.failed")
            raise error from None
        except TaskCancelled:
            self._stop(submission)
        except StoredFileNotFound as missing:
            self._log_failure(missing, "task.failed")
            raise PermanentError("file_not_found", str(missing)) from missing
        except PermanentError as error:
            self._log_failure(error, "task.failed")
            raise
        except Exception as error:  # noqa: BLE001  the worker's border: anything unexpected is worth another attempt
            self._retry_or_fail(submission, error)

    def signature_from_request(
        self, request: Any = None, args: Any = None, kwargs: Any = None, queue: str | None = None, **extra: Any
    ) -> Any:
        """A retry goes to its task's queue, as a submission does; Celery would send it to the default queue."""
        request = self.request if request is None else request
        extra.pop("routing_key", None)
        queue = queue or self._queue_of(Submission.from_message(request.args[0]))
        signature = super().signature_from_request(request, args, kwargs, queue=queue, **extra)
        signature.options.pop("exchange", None)
        signature.options.pop("routing_key", None)
        return signature

    def give_up(self, run: Run, *, is_lost: bool) -> None:
        """The message of this run goes back to the broker. Raises redis.RedisError at once."""
        self._backend.attempts.give_up(run, is_lost=is_lost)

    @property
    def _attempt(self) -> int:
        return int(self.request.retries) + 1

    @property
    def _delivery(self) -> str:
        return str(cast(Any, self.request).delivery)

    @property
    def _backend(self) -> RecordBackend:
        return cast(RecordBackend, self.app.backend)

    def _read_message(self, args: Any) -> Submission:
        """Raises Reject for what our publisher would not have sent."""
        try:
            submission = Submission.from_message(args[0])
            self._check_headers(submission)
        except (LookupError, TypeError, ValueError) as error:
            raise Reject(f"the message is no submission: {error!r}", requeue=False) from error
        return submission

    def _check_headers(self, submission: Submission) -> None:
        """Celery goes by the headers, the record by the submission. Raises ValueError."""
        if (submission.task_id, submission.task_type) != (self.request.id, self.name):
            raise ValueError("its headers name another task")
        retries: object = self.request.retries
        if type(retries) is not int or not 0 <= retries < submission.max_attempts:
            raise ValueError("retries is no number of an attempt that the task may have")

    def _claimed(self, submission: Submission) -> ClaimAnswer:
        """Waits for Redis. Raises Reject when the claim itself fails: those behind it must not wait for ever."""
        try:
            return insist(lambda: self._claim(submission), "claim", submission.task_id)
        except redis.RedisError as error:
            logger.exception("task.unclaimable task_id=%s type=%s", submission.task_id, self.name)
            raise Reject("its claim fails", requeue=False) from error

    def _claim(self, submission: Submission) -> ClaimAnswer:
        return self._backend.attempts.claim(
            submission,
            attempt=self._attempt,
            worker=str(self.request.hostname or "unknown"),
            delivery=self._delivery,
            queue=self._queue_of(submission),
            rate=self.kind.rate_limit,
        )

    def _queue_of(self, submission: Submission) -> str:
        return queue_for(str(self.name), submission.priority, self.app.conf.dedicated_task_types)

    def _put_back(self, submission: Submission, answer: ClaimAnswer) -> NoReturn:
        """The same attempt again, as a new message: returning this one would burn the broker's delivery limit."""
        if answer.claim is Claim.PAUSED:
            time.sleep(PAUSED_LOOK_S)
        delay_s = broker_delay_s(answer.wait_s)
        logger.info(
            "task.put_back task_id=%s type=%s cause=%s delay_s=%d", submission.task_id, self.name, answer.claim, delay_s
        )

        def publish() -> None:
            self.app.send_task(
                self.name,
                args=self.request.args,
                argsrepr=f"({submission.priority.value})",  # parameters stay out of events and logs
                task_id=submission.task_id,
                queue=self._queue_of(submission),
                countdown=delay_s or None,
                retries=self.request.retries,
                retry=False,
                confirm_timeout=CONFIRM_TIMEOUT_S,
                add_to_parent=False,
            )

        insist(publish, "put_back", submission.task_id)
        raise Ignore(f"{answer.claim}")

    def _handle(self, submission: Submission) -> Mapping[str, Any]:
        parameters = self.kind.parameters_model.model_validate(dict(submission.parameters))
        return self.kind.handler(parameters, self._context(submission))

    def _context(self, submission: Submission) -> AttemptContext:
        cls = type(self)
        return AttemptContext(
            task_id=submission.task_id,
            attempt=self._attempt,
            delivery=self._delivery,
            files=NotedFiles(cls.open_files(), self._note_file),
            mail_server=cls.settings.mail_server,
            attempts=self._backend.attempts,
            allows_private_webhooks=cls.settings.webhooks_allow_http,
        )

    def _note_file(self, made: MadeFile) -> None:
        """Waits for Redis: a file that is not noted would never be deleted."""
        task_id, made_files = str(self.request.id), MadeFiles(self._backend.attempts.client)
        insist(lambda: made_files.note(task_id, made), "note_file", task_id)

    def _stop(self, submission: Submission) -> NoReturn:
        logger.warning("task.cancelled task_id=%s type=%s attempt=%d", submission.task_id, self.name, self._attempt)
        stop = self._backend.attempts.stop
        insist(lambda: stop(submission.task_id, delivery=self._delivery), "cancel", submission.task_id)
        self._tell_flower("task-revoked", terminated=True, signum=None, expired=False)
        raise Ignore("cancelled")

    def _retry_or_fail(self, submission: Submission, error: Exception) -> NoReturn:
        if self._attempt >= submission.max_attempts:
            self._log_failure(error, "task.failed")
            raise error
        delay_s = broker_delay_s(type(self).retry_delay_s(self._attempt - 1, self.kind.max_retry_delay_s))
        self._log_failure(error, "task.retrying", delay_s=delay_s)
        self.request.update(retry_delay_s=delay_s)  # the backend stores it with the transition
        options: dict[str, Any] = {"max_retries": submission.max_attempts - 1, "confirm_timeout": CONFIRM_TIMEOUT_S}
        attempts, run = self._backend.attempts, Run(submission.task_id, self._delivery)
        while True:
            try:
                raise self.retry(exc=error, countdown=delay_s, **options)
            except Reject as unpublished:  # wait with the message in hand: running it again would be another attempt
                insist(lambda: attempts.note_settling(run), "retry", submission.task_id)
                logger.warning("task.retry_waits task_id=%s cause=%s", submission.task_id, unpublished)
                time.sleep(RETRY_S)

    def _tell_flower(self, event: str, **fields: Any) -> None:
        with suppress(*BROKER_ERRORS):
            self.send_event(event, retry=False, **fields)

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
    open_files: Callable[[], VersionedFiles],
    retry_delay_s: RetryDelay,
) -> type[ServiceTask]:
    """The Celery task class of one task type. Its limits are ours: Celery's would count the waits for Redis too."""
    attributes = {
        "name": kind.name,
        "kind": kind,
        "settings": settings,
        "open_files": staticmethod(open_files),
        "retry_delay_s": staticmethod(retry_delay_s),
        "max_retries": None,  # each task carries its own
        "__doc__": kind.description,
    }
    return type(f"{kind.name}_task", (ServiceTask,), attributes)


def checked(result: Mapping[str, Any]) -> dict[str, Any]:
    """The result as it can be kept. Raises PermanentError."""
    try:
        size_bytes = len(json.dumps(result, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise PermanentError("internal", "the handler's result is not JSON") from error
    if size_bytes > MAX_RESULT_BYTES:
        raise PermanentError("result_too_large", f"the result has {size_bytes} bytes, more than {MAX_RESULT_BYTES}")
    return dict(result)
