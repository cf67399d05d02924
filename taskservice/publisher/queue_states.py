"""What the broker's work queues hold, also those of types that have none of their own any more.

Must not know who asks. Over a connection of its own each time, so that it may be called from any thread.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from typing import Any

import kombu
from amqp.exceptions import NotFound
from celery import Celery

from celery_config import BROKER_ERRORS
from taskservice.errors import Unavailable
from taskservice.model import QueueState
from taskservice.queues import unlisted_queues, work_queues

CONNECT_S = 3
TIMEOUTS = {"read_timeout": 3, "write_timeout": 3}
LOOK_S = 30.0  # until it is asked again which unlisted queues exist: only a deployment with other settings makes one


class QueueStates:
    """The state of every work queue. Every method raises Unavailable."""

    def __init__(self, celery_app: Celery, known_types: Collection[str]) -> None:
        self._app = celery_app
        dedicated = celery_app.conf.dedicated_task_types
        self._listed = tuple(one.name for one in work_queues(dedicated))
        self._unlisted = tuple(one.name for one in unlisted_queues(known_types, dedicated))
        self._existing: tuple[str, ...] = ()  # of the unlisted ones
        self._look_at = 0.0

    def ask(self) -> dict[str, QueueState]:
        """By name: those that tasks are published to, then those of unlisted types that still hold messages."""
        try:
            with self._app.connection_for_read(transport_options=TIMEOUTS) as connection:
                connection.ensure_connection(max_retries=1, interval_start=0, timeout=CONNECT_S)
                return self._ask(connection)
        except BROKER_ERRORS as error:
            raise Unavailable("broker") from error

    def _ask(self, connection: kombu.Connection) -> dict[str, QueueState]:
        """Only AMQP counts consumers; the embedded broker's workers are asked."""
        states = found_queues(connection, (*self._listed, *self._candidates()))
        if time.monotonic() >= self._look_at:
            self._existing = tuple(name for name in states if name in self._unlisted)
            self._look_at = time.monotonic() + LOOK_S
        if connection.transport.driver_type != "amqp":
            consuming = self._consumed_queues()
            states = {name: QueueState(name, one.depth, consuming.count(name)) for name, one in states.items()}
        if missing := set(self._listed) - set(states):
            raise NotFound(f"nobody has declared {', '.join(sorted(missing))}")
        return {name: state for name, state in states.items() if name in self._listed or state.depth}

    def _candidates(self) -> tuple[str, ...]:
        return self._unlisted if time.monotonic() >= self._look_at else self._existing

    def _consumed_queues(self) -> list[str]:
        """A queue's name for each worker that consumes it."""
        active = self._app.control.inspect(timeout=1.0).active_queues() or {}
        return [one["name"] for queues in active.values() for one in queues]


def found_queues(connection: kombu.Connection, names: Iterable[str]) -> dict[str, QueueState]:
    """Those of them that exist. The embedded broker has every queue, and counts no consumers."""
    is_amqp = connection.transport.driver_type == "amqp"
    states: dict[str, QueueState] = {}
    channel: Any = connection.channel()
    for name in names:
        try:
            declared = channel.queue_declare(name, passive=is_amqp)
        except NotFound:  # which has closed the channel
            channel = connection.channel()
            continue
        states[name] = QueueState(name, int(declared.message_count), int(declared.consumer_count) if is_amqp else 0)
    channel.close()
    return states
