"""One connection whose confirms are counted, and the message of a submission.

Knows the topology and AMQP; must not know who waits, nor what is done when the broker is away.
"""

from __future__ import annotations

import logging
import time
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

import kombu
from celery import Celery

from celery_config import BROKER_ERRORS, broker_delay_s, declare_topology
from taskservice.errors import Unavailable
from taskservice.failover import FailoverConnection
from taskservice.model import Submission, now
from taskservice.queues import queue_for

logger = logging.getLogger(__name__)

PATIENCE_S = 3.5  # how long a request waits for its confirm; leaves time to mark a refusal, 5 s in all
CONNECT_S = 2


@dataclass(slots=True)
class Waiting:
    """A submission and the request that waits for its confirm."""

    submission: Submission
    attempt: int = 1
    settled: Future[None] = field(default_factory=Future)
    give_up_at: float = field(default_factory=lambda: time.monotonic() + PATIENCE_S)

    @property
    def is_overdue(self) -> bool:
        return time.monotonic() >= self.give_up_at or self.settled.done()

    def settle(self, failure: Exception | None = None) -> None:
        """Tell the waiting request, unless it has given up."""
        if self.settled.done() or not self.settled.set_running_or_notify_cancel():
            return
        if failure is None:
            self.settled.set_result(None)
        else:
            self.settled.set_exception(failure)


class ConfirmingChannel:
    """One connection with the topology declared and confirms counted. Belongs to the publishing thread."""

    def __init__(self, app: Celery) -> None:
        """Connects. Raises BROKER_ERRORS."""
        self._app = app
        self._unconfirmed: dict[int, Waiting] = {}
        self._last_tag = 0
        self._connection = app.connection_for_write()
        self._confirms = self._connection.transport.driver_type == "amqp"
        with ExitStack() as unless_open:
            unless_open.callback(self.discard)
            self._producer = self._open()
            unless_open.pop_all()

    @property
    def has_alternatives(self) -> bool:
        """Whether another node could be asked instead of this one."""
        return bool(self._connection.alt)

    def _open(self) -> kombu.Producer:
        self._connection.ensure_connection(max_retries=1, interval_start=0, timeout=CONNECT_S)
        declare_topology(self._connection, self._app.conf.task_queues)
        channel: Any = self._connection.channel()
        if self._confirms:
            channel.confirm_select()
            channel.events["basic_ack"].add(self._on_ack)
            channel.events["basic_nack"].add(self._on_nack)
            channel.events["basic_return"].add(self._on_return)
        return kombu.Producer(channel, auto_declare=False)

    def publish(self, batch: list[Waiting], *, until: float | None = None) -> None:
        """Write all, then wait until each is confirmed, refused, or overdue.

        Raises BROKER_ERRORS; TimeoutError also at the moment `until`.
        """
        for one in batch:
            self._send(one)
        while any(not one.settled.done() for one in self._unconfirmed.values()):
            longest_until = max(one.give_up_at for one in self._unconfirmed.values())
            longest_s = min(longest_until, until or longest_until) - time.monotonic()
            if longest_s <= 0:
                raise TimeoutError("the broker did not confirm in time")
            self._connection.drain_events(timeout=longest_s)

    def keep_alive(self) -> None:
        """Answer the broker's heartbeats while nothing is published."""
        if not self._confirms:
            return
        self._connection.heartbeat_check()
        with suppress(TimeoutError):
            self._connection.drain_events(timeout=0.01)

    def give_up(self) -> None:
        """Discard it; the next one begins with another node, if there are several."""
        if isinstance(self._connection, FailoverConnection):
            self._connection.avoid()
        self.discard()

    def discard(self) -> None:
        """Close without the polite handshake, which a hung broker never answers."""
        with suppress(*BROKER_ERRORS):  # it is broken already
            self._connection.collect(socket_timeout=0.1)

    def _send(self, one: Waiting) -> None:
        submission = one.submission
        if self._confirms:
            self._last_tag += 1
            self._unconfirmed[self._last_tag] = one
        send_submission(self._app, submission, attempt=one.attempt, producer=self._producer, mandatory=self._confirms)
        if not self._confirms:
            one.settle()

    def _on_ack(self, delivery_tag: int, multiple: bool) -> None:
        for one in self._confirmed(delivery_tag, multiple):
            one.settle()

    def _on_nack(self, delivery_tag: int, multiple: bool) -> None:
        for one in self._confirmed(delivery_tag, multiple):
            one.settle(Unavailable("broker"))

    def _on_return(self, error: Exception, exchange: str, routing_key: str, message: Any) -> None:
        """Unroutable. The broker returns a message before it confirms it, so the confirm finds it settled."""
        task_id = message.properties.get("correlation_id")
        for one in self._unconfirmed.values():
            if one.submission.task_id == task_id:
                logger.error("publish.unroutable task_id=%s exchange=%s routing_key=%s", task_id, exchange, routing_key)
                one.settle(Unavailable("broker"))

    def _confirmed(self, delivery_tag: int, multiple: bool) -> list[Waiting]:
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
        queue=queue_for(submission.task_type, submission.priority, app.conf.dedicated_task_types),
        countdown=delay_s or None,
        retries=attempt - 1,
        retry=False,
        **options,
    )
