"""The reaper: settles the records of dead letters and moves the letters to where they are kept.

A thread of each worker's main process, on a broker connection of its own. Must not know any handler.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Collection, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, cast

import redis
from celery import Celery, bootsteps
from kombu import Connection, Consumer, Producer
from kombu.message import Message

from celery_config import DEAD_LETTER_QUEUES
from taskservice.model import ErrorInfo, Submission
from taskservice.records import Attempts
from taskservice.records.script import connect
from taskservice.worker.backend import RecordBackend
from taskservice.worker.patience import insist
from taskservice.worker.threads import CONFIRM_TIMEOUT_S, BrokerThread

logger = logging.getLogger(__name__)

STORE_TIMEOUT_S = 2.0
MAX_EXPIRATION_S = 2**32 // 1000  # what RabbitMQ takes: 49 days
# What reading a foreign message, or writing it out, ends in.
UNUSABLE = (LookupError, TypeError, ValueError, ArithmeticError)
_LOOK_S = 1.0
_INTAKE, _KEPT = DEAD_LETTER_QUEUES
_PASSED_ON = ("id", "task", "retries", "x-death", "x-first-death-queue", "x-first-death-reason")


class Reaper(BrokerThread):
    """Consumes the intake."""

    def __init__(self, app: Celery, attempts: Attempts, *, known_types: Collection[str], retention_s: int) -> None:
        super().__init__("reaper", app)
        self._attempts = attempts
        self._known_types = known_types
        self._retention_s = retention_s

    def use(self, connection: Connection) -> None:
        """Settles between deliveries: inside one, each letter would be settled in the confirm of the one before."""
        producer, arrived = self.open_producer(connection), deque[Message]()
        channel: Any = connection.channel()
        consumer = Consumer(channel, [_INTAKE], callbacks=None, on_message=arrived.append)
        consumer.qos(prefetch_count=10)
        with consumer:
            while True:
                with suppress(TimeoutError):
                    connection.drain_events(timeout=_LOOK_S)
                while arrived:
                    self._settle(arrived.popleft(), producer)

    def _settle(self, letter: Message, producer: Producer) -> None:
        """The record first, then the letter: a crash between them only repeats both."""
        headers = letter.headers or {}
        submission = _submission(letter)
        error = self._reason(headers, submission)
        code = self._end_task(headers, submission, error) or error.code
        logger.error("dead_letter task_id=%s type=%s code=%s", headers.get("id"), headers.get("task"), code)
        producer.publish(
            letter.body,
            exchange=_KEPT.exchange.name,
            routing_key="letter",
            headers={name: headers[name] for name in _PASSED_ON if name in headers} | {"x-reason": code},
            content_type=letter.content_type,
            content_encoding=letter.content_encoding,
            delivery_mode=2,
            mandatory=True,
            expiration=min(self._retention_s, MAX_EXPIRATION_S),
            confirm_timeout=CONFIRM_TIMEOUT_S,
            retry=False,
        )
        letter.ack()

    def _end_task(self, headers: Mapping[str, Any], submission: Submission | None, error: ErrorInfo) -> str | None:
        """The code that its task has failed with. A submission that makes no record must not keep the letter here."""
        task_id, retries = headers.get("id"), headers.get("retries")
        if not isinstance(task_id, str):
            return None
        attempt = retries + 1 if type(retries) is int else None
        for known in (submission, None):
            bury = partial(self._attempts.bury, task_id, error=error, submission=known, attempt=attempt)
            try:
                return insist(bury, "bury", task_id)
            except (redis.RedisError, *UNUSABLE):
                logger.exception("reaper.cannot_bury task_id=%s", task_id)
        return None

    def _reason(self, headers: Mapping[str, Any], submission: Submission | None) -> ErrorInfo:
        name = headers.get("task")
        if headers.get("x-first-death-reason") == "delivery_limit":
            return ErrorInfo("worker_lost", "its workers were lost until the broker gave up", retryable=True)
        if not isinstance(name, str) or name not in self._known_types:
            return ErrorInfo("unknown_task_type", "no worker of its queue knows its task type", retryable=False)
        if submission is None:
            return ErrorInfo("undecodable_message", "its message cannot be read", retryable=False)
        return ErrorInfo("internal", "a worker could not start it, or not store its end", retryable=True)


class ReaperStep(bootsteps.StartStopStep):
    """Celery starts it with the worker; only RabbitMQ has dead letters."""

    requires = ("celery.worker.components:Pool",)

    def start(self, worker: Any) -> None:
        app = worker.app
        with app.connection_for_read() as connection:
            if connection.transport.driver_type != "amqp":
                return
        retention_s = int(app.conf.result_expires)
        attempts = Attempts(
            connect(cast(RecordBackend, app.backend).url, timeout_s=STORE_TIMEOUT_S), retention_s=retention_s
        )
        known_types = frozenset(name for name in app.tasks if not name.startswith("celery."))
        Reaper(app, attempts, known_types=known_types, retention_s=retention_s).start()


def _submission(letter: Message) -> Submission | None:
    """What the message asked for, if that can be read and is what its headers name."""
    headers = letter.headers or {}
    try:
        submission = Submission.from_message(json.loads(cast(str | bytes, letter.body))[0][0])
    except (*UNUSABLE, RecursionError):
        return None
    is_named = (submission.task_id, submission.task_type) == (headers.get("id"), headers.get("task"))
    return submission if is_named else None
