"""What this worker consumes: never a paused queue, but also what was left in a queue that is listed no more.

A message that cannot be read is dead-lettered, not dropped.

Runs in the worker's main process and event loop. Must not wait for Redis.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, ClassVar

from celery import bootsteps
from celery.worker.consumer import Consumer
from kombu import pools

from celery_config import declare_topology, queue_of
from taskservice.queues import WorkQueue

logger = logging.getLogger(__name__)

_LOOK_S = 1.0
# The event loop publishes events and answers only. Waiting for their confirms, from a broker that has fallen silent, it
# would not even notice that.
_WITHOUT_CONFIRMS = {"confirm_publish": False}
_BOUNDED = {"read_timeout": 5, "write_timeout": 5}  # its polite close would wait for such a broker's answer for ever


class ServiceConsumer(Consumer):
    """Celery's consumer; Celery itself acknowledges, and so loses, what it cannot decode."""

    connection_errors: tuple[type[BaseException], ...]

    class Blueprint(Consumer.Blueprint):  # type: ignore[misc,valid-type]
        """Celery's step for delayed delivery connects to each node of the broker, and waits long for a dead one."""

        default_steps: ClassVar[list[str]] = [
            one for one in Consumer.Blueprint.default_steps if ":DelayedDelivery" not in one
        ]

    def connection_for_read(self, heartbeat: Any = None) -> Any:
        options = {"heartbeat": heartbeat, "transport_options": _WITHOUT_CONFIRMS}
        return self.ensure_connected(self.app.connection_for_read(**options))

    def connection_for_write(self, url: Any = None, heartbeat: Any = None) -> Any:
        """For events."""
        options = {"heartbeat": heartbeat, "transport_options": _WITHOUT_CONFIRMS | _BOUNDED}
        return self.ensure_connected(self.app.connection_for_write(url=url, **options))

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """The pool's connections, which answer control commands, went to the same node and may be as silent."""
        super().on_connection_error_after_connected(exc)
        pools.reset()
        app: Any = self.app
        app._pool = app.amqp._producer_pool = None  # Celery keeps each beside kombu's own

    def create_task_handler(self, *args: Any, **options: Any) -> Callable[[Any], Any]:
        """Celery trusts that a message has an id, and one without ends its queue's consumer for good."""
        handle = super().create_task_handler(*args, **options)

        def on_task_received(message: Any) -> Any:
            if isinstance((message.headers or {}).get("id"), str):
                return handle(message)
            return self.on_decode_error(message, ValueError("its headers have no id"))

        return on_task_received

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        logger.error("message.undecodable task_id=%s cause=%r", (message.headers or {}).get("id"), str(exc))
        message.reject_log_error(logger, self.connection_errors)


class TopologyStep(bootsteps.StartStopStep):
    """Declares it anew on every connection: the broker, or this node of it, may have lost it."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, consumer: Any) -> None:
        declare_topology(consumer.connection, consumer.app.conf.task_queues)


class PauseStep(bootsteps.StartStopStep):
    """Follows what is paused and what was left over, once a second and before the first message."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **kwargs: Any) -> None:
        super().__init__(consumer, **kwargs)
        self._queues = tuple(consumer.app.amqp.queues.consume_from)
        self._leftovers: set[WorkQueue] = set()
        self._timer: Any = None

    def start(self, consumer: Any) -> None:
        """What was left over waits for the first look: here nobody would take its messages yet."""
        self._follow_pauses(consumer, consumer.controller.keeper.paused)
        self._timer = consumer.timer.call_repeatedly(_LOOK_S, self._follow, (consumer,))

    def stop(self, consumer: Any) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _follow(self, consumer: Any) -> None:
        paused = consumer.controller.keeper.paused
        self._follow_pauses(consumer, paused)
        waiting = consumer.controller.leftovers.waiting
        self._follow_leftovers(consumer, {one for one in waiting if one.priority.queue not in paused})

    def _follow_leftovers(self, consumer: Any, waiting: set[WorkQueue]) -> None:
        for left in self._leftovers - waiting:
            logger.warning("queue.left name=%s", left.name)
            consumer.cancel_task_queue(left.name)
        for left in waiting - self._leftovers:
            logger.warning("queue.left_over name=%s", left.name)
            consumer.app.amqp.queues.add(queue_of(left))
            consumer.add_task_queue(left.name)
        self._leftovers = waiting

    def _follow_pauses(self, consumer: Any, paused: frozenset[str]) -> None:
        for queue in self._queues:
            is_consumed = queue in consumer.app.amqp.queues.consume_from
            if queue in paused and is_consumed:
                logger.warning("queue.paused name=%s", queue)
                consumer.cancel_task_queue(queue)
            elif queue not in paused and not is_consumed:
                logger.warning("queue.resumed name=%s", queue)
                consumer.add_task_queue(queue)
