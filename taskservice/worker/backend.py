"""Celery's result backend on our records, so that AsyncResult and the HTTP API cannot differ.

Knows Celery and the records; must not know what a task does.
"""

from __future__ import annotations

import logging
from functools import cached_property
from typing import Any

import redis
from celery import states
from celery.backends.redis import RedisBackend
from celery.exceptions import Reject

from taskservice.errors import TaskError
from taskservice.model import ErrorInfo, Status, Submission
from taskservice.records import Attempts, Records
from taskservice.records.connection import without_secrets
from taskservice.worker.patience import is_own_fault

logger = logging.getLogger(__name__)


class RecordBackend(RedisBackend):
    """Every transition Celery reports becomes one atomic transition of the task's record."""

    app: Any
    url: str
    connection_errors: tuple[type[BaseException], ...]  # empty when redis-py could not be imported whole

    @cached_property
    def records(self) -> Records:
        """Connects at first use, and anew after a fork."""
        conf = self.app.conf
        return Records.connect(self.url, retention_s=int(conf.result_expires), timeout_s=conf.redis_socket_timeout)

    @cached_property
    def attempts(self) -> Attempts:
        return Attempts(self.records.client, retention_s=int(self.app.conf.result_expires))

    def as_uri(self, include_password: bool = False) -> str:
        """What a worker prints when it starts."""
        return self.url if include_password else without_secrets(self.url)

    def on_task_call(self, producer: Any, task_id: str) -> None:
        """Nothing: subscribing here would make publishing depend on Redis."""

    def exception_safe_to_retry(self, exc: BaseException) -> bool:
        """A worker waits for an absent Redis, also a full or read-only one: it must not drop results."""
        return isinstance(exc, redis.RedisError) and not is_own_fault(exc)

    def _params_from_url(self, url: str, defaults: dict[str, Any]) -> dict[str, Any]:
        """Celery's reading knows one host; `records` reads the URL itself."""
        return defaults

    def _create_client(self, **params: Any) -> redis.Redis:
        return self.records.client

    def encode_result(self, result: Any, state: str) -> Any:
        return result

    def _store_result(
        self, task_id: str, result: Any, state: str, traceback: Any = None, request: Any = None, **kwargs: Any
    ) -> Any:
        delivery, arguments = getattr(request, "delivery", None), getattr(request, "args", None)
        if state == states.REVOKED:  # Flower's Revoke and Terminate
            self.attempts.stop(task_id, delivery=delivery or "")
        elif delivery and arguments and not isinstance(result, Reject):  # those are dead letters: the reaper settles
            try:
                self._report(Submission.from_message(arguments[0]), result, state, request)
            except (redis.RedisError, ValueError) as error:
                if isinstance(error, redis.RedisError) and not is_own_fault(error):
                    raise
                logger.exception("task.unreportable task_id=%s state=%s", task_id, state)
                raise Reject("its end cannot be stored", requeue=False) from error
        return result

    def _report(self, submission: Submission, result: Any, state: str, request: Any) -> None:
        owner = {"delivery": request.delivery, "attempt": request.retries + 1}
        if state == states.SUCCESS:
            self.attempts.succeed(submission, **owner, result=result)
        elif state == states.RETRY:
            self.attempts.retry(submission, **owner, error=error_info(result), delay_s=request.retry_delay_s)
        elif state == states.FAILURE:
            self.attempts.fail(submission, **owner, error=error_info(result))

    def _get_task_meta_for(self, task_id: str) -> dict[str, Any]:
        record = self.records.get(task_id)  # Unavailable here means that AsyncResult fails at once, as it should
        if record is None:
            return {"status": states.PENDING, "result": None}
        meta: dict[str, Any] = {"task_id": task_id, "status": record.status.state, "result": record.result}
        if record.status in (Status.FAILED, Status.RETRYING) and record.error:
            meta["result"] = TaskError(record.error.code, record.error.message)
        if record.finished_at:
            meta["date_done"] = record.finished_at.isoformat()
        return meta


def error_info(error: object) -> ErrorInfo:
    """What clients may know of a failure: never a traceback, an exception's repr or a host name."""
    if isinstance(error, TaskError):
        return ErrorInfo(error.code, error.message, error.retryable)
    return ErrorInfo("internal", f"the task failed unexpectedly ({type(error).__name__})", retryable=True)
