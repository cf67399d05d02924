"""Finds messages in queues that nobody publishes to any more: a type was taken off DEDICATED_TASK_TYPES.

A thread of each shared worker's main process, over a broker connection of its own. Must not know who consumes them.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Iterable
from typing import Any

from celery import Celery, bootsteps

from celery_config import BROKER_ERRORS
from taskservice.publisher.queue_states import found_queues
from taskservice.queues import WorkQueue, unlisted_queues

logger = logging.getLogger(__name__)

LOOK_S = 20.0
CONNECT_S = 5


class Leftovers(threading.Thread):
    """Looks at once and again and again; a retry that was delayed may arrive there long after."""

    def __init__(self, app: Celery, queues: Collection[WorkQueue]) -> None:
        super().__init__(name="leftovers", daemon=True)
        self._app = app
        self._queues = {queue.name: queue for queue in queues}
        self.waiting: frozenset[WorkQueue] = frozenset()  # those that hold messages no worker has

    def run(self) -> None:
        while self._queues:
            try:
                self._look()
            except BROKER_ERRORS as error:
                logger.info("leftovers.broker_unreachable cause=%s", type(error).__name__)
            time.sleep(LOOK_S)

    def _look(self) -> None:
        with self._app.connection_for_read(heartbeat=0) as connection:
            connection.ensure_connection(max_retries=1, timeout=CONNECT_S)
            states = found_queues(connection, self._queues)
        self.waiting = frozenset(self._queues[name] for name, state in states.items() if state.depth)


class LeftoversStep(bootsteps.StartStopStep):
    """Celery starts it with the worker. A worker of a type's own queues looks at none."""

    requires = ("celery.worker.components:Pool",)

    def start(self, worker: Any) -> None:
        app = worker.app
        worker.leftovers = Leftovers(app, _unlisted_beside(app, app.amqp.queues.consume_from))
        worker.leftovers.start()


def _unlisted_beside(app: Celery, consumed: Iterable[str]) -> list[WorkQueue]:
    """Of the priorities whose shared queue is consumed here."""
    shared = {WorkQueue.named(name).priority for name in consumed if WorkQueue.named(name).task_type is None}
    known = [name for name in app.tasks if not name.startswith("celery.")]
    return [queue for queue in unlisted_queues(known, app.conf.dedicated_task_types) if queue.priority in shared]
