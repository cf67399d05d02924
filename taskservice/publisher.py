"""One publisher per web process: many requests share a connection and a confirm.

Knows the topology and AMQP; must not know HTTP, Redis records or what a task does.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import amqp
import kombu
from celery import Celery
from kombu.exceptions import KombuError

from celery_config import WORK_QUEUES, broker_delay_s, declare_topology
from taskservice.errors import Unavailable
from taskservice.model import QueueState, Submission, now

logger = logging.getLogger(__name__)

PATIENCE_S = 3.5  # how long a request waits for its confirm; leaves time to mark a refusal, 5 s in all
PATIENCE_FOR_ALL_S = 8.0  # and for many; a reservation of their Idempotency-Key lasts 10 s
BATCH = 200
IDLE_S = 5.0
BROKER_ERRORS = (amqp.exceptions.AMQPError, KombuError, OSError)


@dataclass(slots=True)
class _Waiting:
    """A submission and the request that waits for its confirm."""

    submission: Submission
    attempt: int = 1
    settled: Future[None] = field(default_factory=Future)
    give_up_at: float = field(default_factory=lambda: time.monotonic() + PATIENCE_S)

    @property
    def is_overdue(self) -> bool:
        return time.monotonic() >= self.give_up_at or self.settled.done()


class Publisher:
    """Publishes submissions with confirms. Starts its thread at first use, so nothing is open before a fork."""

    def __init__(self, celery_app: Celery) -> None:
        self._app = celery_app
        self._inbox: queue.SimpleQueue[_Waiting] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._pid: int | None = None
        self._channel: _ConfirmingChannel | None = None

    def publish(self, submission: Submission, *, attempt: int = 1) -> None:
        """Returns once the broker has confirmed the message on disk. Raises Unavailable within 4 s."""
        (failure,) = self._publish([_Waiting(submission, attempt)])
        if failure is not None:
            raise failure

    def publish_all(self, submissions: Sequence[Submission]) -> list[Unavailable | None]:
        """First attempts: for each, in that order, None once it is confirmed, else why not. Within 4 s for each 200.

        Takes at most 8 s altogether, and 4 s when the broker is away.
        """
        deadline = time.monotonic() + PATIENCE_FOR_ALL_S
        failures: list[Unavailable | None] = []
        for start in range(0, len(submissions), BATCH):  # what others publish meanwhile comes in between
            together = submissions[start : start + BATCH]
            is_hopeless = bool(failures) and all(failures[-BATCH:])
            if is_hopeless or time.monotonic() + PATIENCE_S > deadline:
                failures += [Unavailable("broker") for _ in together]
            else:
                failures += self._publish([_Waiting(submission) for submission in together])
        return failures

    def queue_states(self) -> dict[str, QueueState]:
        """Each work queue by name, as the broker sees it now. Raises Unavailable."""
        try:
            with self._app.connection_for_read(transport_options={"read_timeout": 3, "write_timeout": 3}) as connection:
                connection.ensure_connection(max_retries=1, interval_start=0, timeout=3)
                return self._ask_for_queues(connection)
        except BROKER_ERRORS as error:
            raise Unavailable("broker") from error

    def start(self) -> None:
        """Start the publishing thread of this process unless it runs."""
        with self._lock:
            if self._pid == os.getpid():
                return
            self._pid = os.getpid()
            threading.Thread(target=self._run, name="publisher", daemon=True).start()

    def _publish(self, waiting: list[_Waiting]) -> list[Unavailable | None]:
        self.start()
        for one in waiting:
            self._inbox.put(one)
        deadline = time.monotonic() + PATIENCE_S
        return [_failure(one, deadline) for one in waiting]

    def _ask_for_queues(self, connection: kombu.Connection) -> dict[str, QueueState]:
        """Only AMQP counts consumers; the embedded broker's workers are asked, and its empty queues do not exist."""
        is_amqp = connection.transport.driver_type == "amqp"
        consuming = [] if is_amqp else self._consumed_queues()
        states: dict[str, QueueState] = {}
        channel: Any
        with connection.channel() as channel:
            for name in (q.name for q in WORK_QUEUES):
                declared = channel.queue_declare(name, passive=is_amqp)
                consumers = declared.consumer_count if is_amqp else consuming.count(name)
                states[name] = QueueState(name, int(declared.message_count), int(consumers))
        return states

    def _consumed_queues(self) -> list[str]:
        """A queue's name for each worker that consumes it."""
        active = self._app.control.inspect(timeout=1.0).active_queues() or {}
        return [one["name"] for queues in active.values() for one in queues]

    def _run(self) -> None:
        self._warm_up()
        while True:
            batch = self._next_batch()
            if batch:
                self._publish_batch(batch)
            else:
                self._keep_alive()

    def _warm_up(self) -> None:
        """Connect and declare before the first request waits for it."""
        try:
            self._open_channel()
        except Exception as error:  # noqa: BLE001  the thread outlives anything; the first batch tries again
            logger.warning("publisher.not_connected cause=%s", type(error).__name__)

    def _next_batch(self) -> list[_Waiting]:
        """What waits now, at least one unless nothing came for a while."""
        batch: list[_Waiting] = []
        try:
            batch.append(self._inbox.get(timeout=IDLE_S))
            while len(batch) < BATCH:
                batch.append(self._inbox.get_nowait())
        except queue.Empty:
            pass
        return batch

    def _publish_batch(self, batch: list[_Waiting]) -> None:
        """Two tries: a connection that broke while idle shows only when it is used."""
        failure: Exception | None = None
        for _ in range(2):
            unsettled = [one for one in batch if not one.is_overdue]
            if not unsettled:
                break
            try:
                self._open_channel().publish(unsettled)
            except Exception as error:  # noqa: BLE001  the thread outlives anything
                failure = error
                self._drop_channel()
        for one in batch:
            if not one.settled.done():
                logger.warning("publish.failed task_id=%s cause=%s", one.submission.task_id, type(failure).__name__)
                _settle(one, Unavailable("broker"))

    def _open_channel(self) -> _ConfirmingChannel:
        if self._channel is None:
            self._channel = _ConfirmingChannel(self._app)
        return self._channel

    def _drop_channel(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            with suppress(Exception):  # it is broken already
                channel.discard()

    def _keep_alive(self) -> None:
        if self._channel is None:
            return
        try:
            self._channel.keep_alive()
        except Exception:  # noqa: BLE001  the thread outlives anything
            self._drop_channel()


class _ConfirmingChannel:
    """One connection with the topology declared and confirms counted. Belongs to the publishing thread."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._unconfirmed: dict[int, _Waiting] = {}
        self._last_tag = 0
        self._connection = app.connection_for_write()
        self._confirms = self._connection.transport.driver_type == "amqp"
        try:
            self._producer = self._open()
        except BaseException:
            self.discard()
            raise

    def _open(self) -> kombu.Producer:
        self._connection.ensure_connection(max_retries=1, interval_start=0, timeout=2)
        declare_topology(self._connection)
        channel: Any = self._connection.channel()
        if self._confirms:
            channel.confirm_select()
            channel.events["basic_ack"].add(self._on_ack)
            channel.events["basic_nack"].add(self._on_nack)
            channel.events["basic_return"].add(self._on_return)
        return kombu.Producer(channel, auto_declare=False)

    def publish(self, batch: list[_Waiting]) -> None:
        """Write all, then wait until each is confirmed, refused, or overdue."""
        for one in batch:
            self._send(one)
        while any(not one.settled.done() for one in self._unconfirmed.values()):
            longest_s = max(one.give_up_at for one in self._unconfirmed.values()) - time.monotonic()
            if longest_s <= 0:
                raise TimeoutError("the broker did not confirm in time")
            self._connection.drain_events(timeout=longest_s)

    def keep_alive(self) -> None:
        """Answer the broker's heartbeats while nothing is published."""
        if not self._confirms:
            return
        self._connection.heartbeat_check()
        try:
            self._connection.drain_events(timeout=0.01)
        except TimeoutError:
            return

    def discard(self) -> None:
        """Close without the polite handshake, which a hung broker never answers."""
        self._connection.collect(socket_timeout=0.1)

    def _send(self, one: _Waiting) -> None:
        submission = one.submission
        if self._confirms:
            self._last_tag += 1
            self._unconfirmed[self._last_tag] = one
        send_submission(self._app, submission, attempt=one.attempt, producer=self._producer, mandatory=self._confirms)
        if not self._confirms:
            _settle(one)

    def _on_ack(self, delivery_tag: int, multiple: bool) -> None:
        for one in self._confirmed(delivery_tag, multiple):
            _settle(one)

    def _on_nack(self, delivery_tag: int, multiple: bool) -> None:
        for one in self._confirmed(delivery_tag, multiple):
            _settle(one, Unavailable("broker"))

    def _on_return(self, error: Exception, exchange: str, routing_key: str, message: Any) -> None:
        """Unroutable. The broker returns a message before it confirms it, so the confirm finds it settled."""
        task_id = message.properties.get("correlation_id")
        for one in self._unconfirmed.values():
            if one.submission.task_id == task_id:
                logger.error("publish.unroutable task_id=%s exchange=%s routing_key=%s", task_id, exchange, routing_key)
                _settle(one, Unavailable("broker"))

    def _confirmed(self, delivery_tag: int, multiple: bool) -> list[_Waiting]:
        tags = [tag for tag in self._unconfirmed if tag <= delivery_tag] if multiple else [delivery_tag]
        return [self._unconfirmed.pop(tag) for tag in tags if tag in self._unconfirmed]


def send_submission(app: Celery, submission: Submission, *, attempt: int = 1, **options: Any) -> None:
    """Hand an attempt's message to `producer`; one that is not due yet goes to the broker's delay queues."""
    delay_s = broker_delay_s((submission.due_at - now()).total_seconds())
    app.send_task(
        submission.task_type,
        args=(submission.to_message(),),
        argsrepr=f"({submission.priority.value})",  # parameters stay out of events and logs
        task_id=submission.task_id,
        queue=submission.priority.queue,
        countdown=delay_s or None,
        retries=attempt - 1,
        retry=False,
        **options,
    )


def _failure(one: _Waiting, deadline: float) -> Unavailable | None:
    """What became of it; whoever is not settled at the deadline gives up."""
    try:
        one.settled.result(timeout=max(0.0, deadline - time.monotonic()))
    except FutureTimeoutError:
        one.settled.cancel()
        return Unavailable("broker")
    except Unavailable as failure:
        return failure
    return None


def _settle(one: _Waiting, failure: Exception | None = None) -> None:
    """Tell the waiting request, unless it has given up."""
    if one.settled.done() or not one.settled.set_running_or_notify_cancel():
        return
    if failure is None:
        one.settled.set_result(None)
    else:
        one.settled.set_exception(failure)
