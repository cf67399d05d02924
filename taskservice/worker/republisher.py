"""The republisher: a task that waits for a message which the broker has lost is published again, from its record.

A thread of each worker's main process, over a broker connection of its own. Must not know why a message was lost.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any, cast

from celery import Celery, bootsteps
from kombu import Connection

from taskservice.publisher.queue_states import found_queues
from taskservice.queues import queue_for, unlisted_queues, work_queues
from taskservice.records.script import connect
from taskservice.records.waiting import Overdue, Standing, Waiting
from taskservice.worker.backend import RecordBackend
from taskservice.worker.threads import BrokerThread, Publish

logger = logging.getLogger(__name__)

LOOK_S = 5.0
STORE_TIMEOUT_S = 2.0


class Republisher:
    """Publishing once too often is harmless: the claim drops what is not the record's next attempt.

    `queues`: the names of all that tasks may wait in. `dedicated`: the types that have queues of their own now.
    """

    def __init__(
        self, waiting: Waiting, *, queues: Collection[str], dedicated: Collection[str], after_s: float
    ) -> None:
        self._waiting = waiting
        self._queues = queues
        self._dedicated = dedicated
        self._after_s = after_s

    def suspects(self) -> list[Standing]:
        """The queues in which a task waits for longer than `after_s`. Raises redis.RedisError."""
        found = self._waiting.standings(self._queues, listed=[one.name for one in work_queues(self._dedicated)])
        return [one for one in found if one.oldest_ms <= one.overdue_before_ms(after_s=self._after_s, is_empty=True)]

    def republish(self, suspects: Sequence[Standing], depths: Mapping[str, int], publish: Publish) -> None:
        """What these queues have lost. `depths`: how many messages of each no worker has; a queue may be missing.

        Raises redis.RedisError, and what `publish` raises.
        """
        for one in suspects:
            is_empty = not depths.get(one.queue)
            before_ms = one.overdue_before_ms(after_s=self._after_s, is_empty=is_empty)
            while taken := self._waiting.take_overdue(one.queue, before_ms=before_ms):
                for overdue in taken:
                    self._publish(overdue, publish)

    def _publish(self, overdue: Overdue, publish: Publish) -> None:
        submission = self._waiting.submission(overdue.task_id)
        if submission is None:
            return
        queue = queue_for(submission.task_type, submission.priority, self._dedicated)
        publish(submission, attempt=overdue.attempt)
        self._waiting.note_republished(overdue.task_id, queue=queue)
        logger.warning(
            "task.republished task_id=%s type=%s queue=%s attempt=%d",
            overdue.task_id, submission.task_type, queue, overdue.attempt,
        )  # fmt: skip


class RepublisherThread(BrokerThread):
    """Looks every LOOK_S, and judges once Redis and this connection have been there for longer than `after_s`.

    After an outage what was delayed comes late.
    """

    def __init__(self, app: Celery, republisher: Republisher, *, after_s: float) -> None:
        super().__init__("republisher", app)
        self._republisher = republisher
        self._after_s = after_s

    def use(self, connection: Connection) -> None:
        publish = self.open_publish(connection)
        judges_at = time.monotonic() + self._after_s
        while True:
            suspects = self._republisher.suspects()
            if suspects and time.monotonic() > judges_at:
                states = found_queues(connection, [one.queue for one in suspects])
                self._republisher.republish(suspects, {name: one.depth for name, one in states.items()}, publish)
            with suppress(TimeoutError):  # so that a connection that breaks shows at once
                connection.drain_events(timeout=LOOK_S)


class RepublisherStep(bootsteps.StartStopStep):
    """Celery starts it with the worker, unless it is never to publish."""

    requires = ("celery.worker.components:Pool",)

    def start(self, worker: Any) -> None:
        app, backend = worker.app, cast(RecordBackend, worker.app.backend)
        after_s = float(app.conf.republish_after_s)
        if not after_s:
            return
        dedicated = app.conf.dedicated_task_types
        waiting = Waiting(connect(backend.url, timeout_s=STORE_TIMEOUT_S), retention_s=int(app.conf.result_expires))
        republisher = Republisher(waiting, queues=_queues(app), dedicated=dedicated, after_s=after_s)
        RepublisherThread(app, republisher, after_s=after_s).start()


def _queues(app: Celery) -> list[str]:
    """Those that tasks are published to, and those that the other types had before."""
    dedicated = app.conf.dedicated_task_types
    known = [name for name in app.tasks if not name.startswith("celery.")]
    return [one.name for one in (*work_queues(dedicated), *unlisted_queues(known, dedicated))]
