"""What this worker consumes: never a paused queue; and a message that cannot be read is dead-lettered, not dropped.

Runs in the worker's main process and event loop. Must not wait for Redis.
"""

from __future__ import annotations

import logging
from typing import Any

from celery import bootsteps
from celery.worker.consumer import Consumer

logger = logging.getLogger(__name__)

_LOOK_S = 1.0


class ServiceConsumer(Consumer):
    """Celery's consumer; Celery itself acknowledges, and so loses, what it cannot decode."""

    connection_errors: tuple[type[BaseException], ...]

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        logger.error("message.undecodable task_id=%s cause=%r", (message.headers or {}).get("id"), str(exc))
        message.reject_log_error(logger, self.connection_errors)


class PauseStep(bootsteps.StartStopStep):
    """Follows the keeper's view of paused queues, once a second and before the first message."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **kwargs: Any) -> None:
        super().__init__(consumer, **kwargs)
        self._queues = tuple(consumer.app.amqp.queues.consume_from)
        self._timer: Any = None

    def start(self, consumer: Any) -> None:
        self._follow(consumer)
        self._timer = consumer.timer.call_repeatedly(_LOOK_S, self._follow, (consumer,))

    def stop(self, consumer: Any) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _follow(self, consumer: Any) -> None:
        paused = consumer.controller.keeper.paused
        for queue in self._queues:
            is_consumed = queue in consumer.app.amqp.queues.consume_from
            if queue in paused and is_consumed:
                logger.warning("queue.paused name=%s", queue)
                consumer.cancel_task_queue(queue)
            elif queue not in paused and not is_consumed:
                logger.warning("queue.resumed name=%s", queue)
                consumer.add_task_queue(queue)
