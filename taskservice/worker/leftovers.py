"""Finds messages in queues that nobody publishes to any more: a type was taken off DEDICATED_TASK_TYPES.

A thread of each shared worker's main process, over a broker connection of its own. Must not know who consumes them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from celery import Celery, bootsteps
from kombu import Connection

from taskservice.publisher.queue_states import found_queues
from taskservice.queues import WorkQueue, unlisted_queues
from taskservice.worker.threads import BrokerThread

LOOK_S = 20.0


class Leftovers(BrokerThread):
    """Looks at once and again and again; a retry that was delayed may arrive there long after."""

    every_s = LOOK_S

    def __init__(self, app: Celery, queues: Collection[WorkQueue]) -> None:
        super().__init__("leftovers", app)
        self._queues = {queue.name: queue for queue in queues}
        self.waiting: frozenset[WorkQueue] = frozenset()  # those that hold messages no worker has

    def use(self, connection: Connection) -> None:
        states = found_queues(connection, self._queues)
        self.waiting = frozenset(self._queues[name] for name, state in states.items() if state.depth)


class LeftoversStep(bootsteps.StartStopStep):
    """Celery starts it with the worker. A worker of a type's own queues looks at none."""

    requires = ("celery.worker.components:Pool",)

    def start(self, worker: Any) -> None:
        app = worker.app
        queues = _unlisted_beside(app, app.amqp.queues.consume_from)
        worker.leftovers = Leftovers(app, queues)
        if queues:
            worker.leftovers.start()


def _unlisted_beside(app: Celery, consumed: Iterable[str]) -> list[WorkQueue]:
    """Of the priorities whose shared queue is consumed here."""
    shared = {WorkQueue.named(name).priority for name in consumed if WorkQueue.named(name).task_type is None}
    known = [name for name in app.tasks if not name.startswith("celery.")]
    return [queue for queue in unlisted_queues(known, app.conf.dedicated_task_types) if queue.priority in shared]
