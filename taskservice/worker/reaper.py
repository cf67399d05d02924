"""The reaper: settles the records of dead letters and moves the letters to where they are kept.

A thread of each worker's main process, on a broker connection of its own. Must not know any handler.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Collection, Mapping
from typing import Any, cast

from celery import Celery, bootsteps
from kombu import Connection, Consumer, Producer
from kombu.message import Message

from celery_config import BROKER_ERRORS, DEAD_LETTER_QUEUES, declare_topology
from taskservice.model import ErrorInfo, Submission
from taskservice.records import Attempts
from taskservice.records.script import connect
from taskservice.worker.backend import RecordBackend
from taskservice.worker.patience import insist

logger = logging.getLogger(__name__)

RECONNECT_S = 3.0
STORE_TIMEOUT_S = 2.0
CONFIRM_TIMEOUT_S = 10
MAX_EXPIRATION_S = 2**32 // 1000  # what RabbitMQ takes: 49 days
_LOOK_S = 1.0
_INTAKE, _KEPT = DEAD_LETTER_QUEUES
_PASSED_ON = ("id", "task", "retries", "x-death", "x-first-death-queue", "x-first-death-reason")


class Reaper(threading.Thread):
    """Consumes the intake for as long as the process lives."""

    def __init__(self, app: Celery, attempts: Attempts, *, known_types: Collection[str], retention_s: int) -> None:
        super().__init__(name="reaper", daemon=True)
        self._app = app
        self._attempts = attempts
        self._known_types = known_types
        self._retention_s = retention_s

    def run(self) -> None:
        while True:
            try:
                with self._app.connection_for_read(heartbeat=0) as connection:
                    self._consume(connection)
            except BROKER_ERRORS as error:
                logger.info("reaper.reconnects cause=%s", type(error).__name__)
            except Exception:
                logger.exception("reaper.failed")
            time.sleep(RECONNECT_S)

    def _consume(self, connection: Connection) -> None:
        connection.ensure_connection(max_retries=1, timeout=5)
        declare_topology(connection, self._app.conf.task_queues)
        channel: Any = connection.channel()
        producer = Producer(connection.channel(), auto_declare=False)
        consumer = Consumer(channel, [_INTAKE], callbacks=None, on_message=lambda one: self._settle(one, producer))
        consumer.qos(prefetch_count=10)
        with consumer:
            while True:
                try:
                    connection.drain_events(timeout=_LOOK_S)
                except TimeoutError:
                    continue

    def _settle(self, letter: Message, producer: Producer) -> None:
        """The record first, then the letter: a crash between them only repeats both."""
        headers = letter.headers or {}
        task_id, submission = headers.get("id"), _submission(letter)
        error = self._reason(headers, submission)
        if isinstance(task_id, str):
            insist(lambda: self._attempts.bury(task_id, error=error, submission=submission), "bury", task_id)
        logger.error("dead_letter task_id=%s type=%s code=%s", task_id, headers.get("task"), error.code)
        producer.publish(
            letter.body,
            exchange=_KEPT.exchange.name,
            routing_key="letter",
            headers={name: headers[name] for name in _PASSED_ON if name in headers} | {"x-reason": error.code},
            content_type=letter.content_type,
            content_encoding=letter.content_encoding,
            delivery_mode=2,
            mandatory=True,
            expiration=min(self._retention_s, MAX_EXPIRATION_S),
            confirm_timeout=CONFIRM_TIMEOUT_S,
            retry=False,
        )
        letter.ack()

    def _reason(self, headers: Mapping[str, Any], submission: Submission | None) -> ErrorInfo:
        name = headers.get("task")
        if headers.get("x-first-death-reason") == "delivery_limit":
            return ErrorInfo("worker_lost", "its workers were lost until the broker gave up", retryable=True)
        if name not in self._known_types:
            return ErrorInfo("unknown_task_type", "no worker of its queue knows its task type", retryable=False)
        if submission is None:
            return ErrorInfo("undecodable_message", "its message cannot be read", retryable=False)
        return ErrorInfo("worker_lost", "a worker rejected its message", retryable=True)


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
    """What the message asked for, if that can still be read."""
    try:
        return Submission.from_message(json.loads(cast(str | bytes, letter.body))[0][0])
    except (LookupError, TypeError, ValueError, AttributeError):
        return None
