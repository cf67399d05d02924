"""One publisher per web process: many requests share a connection and a confirm.

Must not know AMQP, HTTP, Redis records or what a task does.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import TimeoutError as FutureTimeoutError

from celery import Celery

from celery_config import BROKER_ERRORS
from taskservice.errors import Unavailable
from taskservice.model import QueueState, Submission
from taskservice.publisher.channel import PATIENCE_S, ConfirmingChannel, Waiting
from taskservice.publisher.queue_states import QueueStates

logger = logging.getLogger(__name__)

FIRST_TRY_S = 1.2  # of several nodes, the one that is silent; the others have what is left of PATIENCE_S
BATCH = 200
IDLE_S = 5.0


class Publisher:
    """Publishes submissions with confirms. Starts its thread at first use, so nothing is open before a fork.

    `known_types`: registered ones, whose queues may hold messages although they have none of their own now.
    """

    def __init__(self, celery_app: Celery, *, known_types: Collection[str] = ()) -> None:
        self._app = celery_app
        self._states = QueueStates(celery_app, known_types)
        self._inbox: queue.SimpleQueue[Waiting] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._pid: int | None = None
        self._channel: ConfirmingChannel | None = None

    def publish(self, submission: Submission, *, attempt: int = 1) -> None:
        """Returns once the broker has confirmed the message on disk. Raises Unavailable within 4 s."""
        (failure,) = self._publish([Waiting(submission, attempt)])
        if failure is not None:
            raise failure

    def publish_all(self, submissions: Sequence[Submission], *, until: float | None = None) -> list[Unavailable | None]:
        """First attempts: for each, in that order, None once it is confirmed, else why not.

        Returns within 4 s, or soon after the moment `until` (of time.monotonic) when that comes first.
        """
        give_up_at = time.monotonic() + PATIENCE_S
        if until is not None:
            give_up_at = min(give_up_at, until)
        failures: list[Unavailable | None] = []
        for start in range(0, len(submissions), BATCH):  # what others publish meanwhile comes in between
            together = submissions[start : start + BATCH]
            is_hopeless = bool(failures) and all(failures[-BATCH:])
            if is_hopeless or time.monotonic() >= give_up_at:
                failures += [Unavailable("broker") for _ in together]
            else:
                failures += self._publish([Waiting(one, give_up_at=give_up_at) for one in together])
        return failures

    def queue_states(self) -> dict[str, QueueState]:
        """Each work queue by name, as the broker sees it now. Raises Unavailable."""
        return self._states.ask()

    def start(self) -> None:
        """Start the publishing thread of this process unless it runs."""
        with self._lock:
            if self._pid == os.getpid():
                return
            self._pid = os.getpid()
            threading.Thread(target=self._run, name="publisher", daemon=True).start()

    def _publish(self, waiting: list[Waiting]) -> list[Unavailable | None]:
        self.start()
        for one in waiting:
            self._inbox.put(one)
        return [_failure(one) for one in waiting]

    def _run(self) -> None:
        """Connect before the first request waits for it, then publish for as long as the process lives."""
        self._tried(lambda channel: None)
        while True:
            batch = self._next_batch()
            if batch:
                self._publish_batch(batch)
            elif self._channel is not None:
                self._tried(ConfirmingChannel.keep_alive)

    def _next_batch(self) -> list[Waiting]:
        """What waits now, at least one unless nothing came for a while."""
        batch: list[Waiting] = []
        try:
            batch.append(self._inbox.get(timeout=IDLE_S))
            while len(batch) < BATCH:
                batch.append(self._inbox.get_nowait())
        except queue.Empty:
            pass
        return batch

    def _publish_batch(self, batch: list[Waiting]) -> None:
        """Two tries: a connection that broke while idle shows only when it is used."""
        failure = self._tried(lambda channel: channel.publish(_unsettled(batch), until=_first_try_ends(channel)))
        if failure is not None and _unsettled(batch):
            failure = self._tried(lambda channel: channel.publish(_unsettled(batch)))
        for one in batch:
            if not one.settled.done():
                logger.warning("publish.failed task_id=%s cause=%s", one.submission.task_id, type(failure).__name__)
                one.settle(Unavailable("broker"))

    def _tried(self, work: Callable[[ConfirmingChannel], None]) -> Exception | None:
        """The thread's border: whatever fails costs the connection, never the thread. What failed."""
        try:
            work(self._open_channel())
        except Exception as error:
            is_usual = isinstance(error, BROKER_ERRORS)
            logger.warning("publisher.reconnects cause=%s", type(error).__name__, exc_info=None if is_usual else error)
            self._drop_channel()
            return error
        return None

    def _open_channel(self) -> ConfirmingChannel:
        if self._channel is None:
            self._channel = ConfirmingChannel(self._app)
        return self._channel

    def _drop_channel(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.give_up()


def _unsettled(batch: list[Waiting]) -> list[Waiting]:
    return [one for one in batch if not one.is_overdue]


def _first_try_ends(channel: ConfirmingChannel) -> float | None:
    return time.monotonic() + FIRST_TRY_S if channel.has_alternatives else None


def _failure(one: Waiting) -> Unavailable | None:
    """What became of it, at the latest when its request gives up."""
    try:
        one.settled.result(timeout=max(0.0, one.give_up_at - time.monotonic()))
    except FutureTimeoutError:
        one.settled.cancel()
        return Unavailable("broker")
    except Unavailable as failure:
        return failure
    return None
