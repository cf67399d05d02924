"""The worker's keeper: holds the leases of what runs here, ends what must stop, and moves what time has moved.

A thread of the main process. Must not touch the worker's broker connection.
"""

from __future__ import annotations

import atexit
import logging
import os
import signal
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

import redis
from celery import bootsteps
from celery.worker import state

from taskservice.errors import Unavailable
from taskservice.model import ErrorInfo
from taskservice.records import LEASE_S, Attempts, Lease, Pauses
from taskservice.records.roster import Roster
from taskservice.records.script import connect
from taskservice.worker.backend import RecordBackend
from taskservice.worker.presence import Presence
from taskservice.worker.request import ServiceRequest
from taskservice.worker.threads import EndlessThread

logger = logging.getLogger(__name__)

STORE_TIMEOUT_S = 2.0
CANCEL_GRACE_S = 5.0  # for a handler to notice at its next progress report
ENDED_GRACE_S = 5.0  # between the record's end and the child's return
HARD_LIMIT_MARGIN_S = 15.0  # after the time limit, which the child keeps itself


@dataclass(slots=True)
class _Watched:
    """A run in one of our children, as the keeper has seen it. Moments are monotonic."""

    request: ServiceRequest
    held_since: float | None = None
    ended_since: float | None = None


class Keeper(EndlessThread):
    """Ticks every second."""

    every_s = 1.0

    def __init__(
        self, attempts: Attempts, pauses: Pauses, presence: Presence, active: Callable[[], Collection[Any]]
    ) -> None:
        super().__init__("keeper")
        self._attempts = attempts
        self._pauses = pauses
        self._presence = presence
        self._active = active
        self._watched: dict[str, _Watched] = {}
        self._contact_since: float | None = None
        self.paused: frozenset[str] = frozenset()

    def turn(self) -> None:
        try:
            self.tick()
        except (redis.RedisError, Unavailable):
            had_contact, self._contact_since = self._contact_since is not None, None
            if had_contact:  # the log has one line an outage, not one a second
                raise

    def tick(self) -> None:
        """Raises redis.RedisError, Unavailable."""
        self.look_at_pauses()
        self._attempts.forget()  # before anything that a full Redis refuses, so that it does not stay full
        self._renew()
        self._contact_since = self._contact_since or time.monotonic()
        self._sweep()
        self._presence.show(one.request.id for one in self._watched.values())

    def look_at_pauses(self) -> None:
        """Raises Unavailable."""
        self.paused = self._pauses.paused()

    @property
    def _is_steady(self) -> bool:
        """Redis has answered for longer than a lease: while it was away nobody could renew, so nothing is judged."""
        return self._contact_since is not None and time.monotonic() - self._contact_since > LEASE_S

    def _renew(self) -> None:
        running = self._running()
        self._watched = {one.delivery: self._watched.get(one.delivery) or _Watched(one) for one in running}
        watched = list(self._watched.values())
        leases = self._attempts.renew([one.request.as_run for one in watched])
        for one, lease in zip(watched, leases, strict=True):
            self._judge(one, lease)

    def _running(self) -> list[ServiceRequest]:
        """What the pool's children have accepted. The main thread changes the set meanwhile."""
        while True:
            try:
                return [one for one in self._active() if isinstance(one, ServiceRequest) and one.worker_pid]
            except RuntimeError:  # changed while it was read
                continue

    def _judge(self, watched: _Watched, lease: Lease) -> None:
        moment = time.monotonic()
        if not lease.is_held:
            # A run that was never granted still waits for its claim, or puts its message back.
            if watched.held_since is not None:
                self._judge_lapsed(watched, lease, moment)
            return
        watched.held_since, watched.ended_since = watched.held_since or moment, None
        if lease.cancelled_since_s is not None and lease.cancelled_since_s > CANCEL_GRACE_S:
            self._attempts.stop(watched.request.id, delivery=watched.request.delivery, message_returns=True)
            self._kill(watched.request, "cancelled")
        elif lease.is_settling or not self._is_steady:
            return
        elif moment - watched.held_since > self._hard_limit_s(watched.request):
            self._fail_timed_out(watched.request)
            self._kill(watched.request, "timed_out")

    def _judge_lapsed(self, watched: _Watched, lease: Lease, moment: float) -> None:
        """It was ours. Redis may have lost that, as by a power loss, and is told again: nobody else is to run it."""
        request = watched.request
        if lease.is_forgotten:
            worker = str(request.hostname)
            self._attempts.recall(request.submission, delivery=request.delivery, attempt=request.attempt, worker=worker)
            logger.warning("task.recalled task_id=%s type=%s attempt=%d", request.id, request.name, request.attempt)
            return
        watched.ended_since = watched.ended_since or moment
        if moment - watched.ended_since > ENDED_GRACE_S:
            self._kill(request, "ended")

    def _hard_limit_s(self, request: ServiceRequest) -> float:
        return request.task.kind.time_limit_s + HARD_LIMIT_MARGIN_S

    def _fail_timed_out(self, request: ServiceRequest) -> None:
        error = ErrorInfo("timed_out", f"the task ran longer than {request.task.kind.time_limit_s} s", retryable=False)
        self._attempts.fail(
            request.submission, delivery=request.delivery, attempt=request.attempt, error=error, message_returns=True
        )

    def _kill(self, request: ServiceRequest, cause: str) -> None:
        """The child dies; its message comes back and is dropped, because its record has moved on."""
        if request not in self._active():
            return
        logger.warning("task.killed task_id=%s type=%s cause=%s", request.id, request.name, cause)
        with suppress(ProcessLookupError):
            os.kill(cast(int, request.worker_pid), signal.SIGKILL)

    def _sweep(self) -> None:
        swept = self._attempts.sweep(may_judge_leases=self._is_steady)
        if swept.lost:
            logger.warning("keeper.leases_lapsed tasks=%d", swept.lost)


class KeeperStep(bootsteps.StartStopStep):
    """Celery starts it with the worker; it lives until the process ends, so that leases outlast a slow shutdown."""

    requires = ("celery.worker.components:Pool",)

    def start(self, worker: Any) -> None:
        backend = cast(RecordBackend, worker.app.backend)
        client = connect(backend.url, timeout_s=STORE_TIMEOUT_S)
        attempts = Attempts(client, retention_s=int(worker.app.conf.result_expires))
        presence = Presence(
            Roster(client),
            name=str(worker.hostname),
            queues=worker.app.amqp.queues.consume_from,
            concurrency=int(worker.concurrency),
        )
        atexit.register(presence.leave)
        worker.keeper = Keeper(attempts, Pauses(client), presence, lambda: tuple(state.active_requests))
        with suppress(Unavailable):  # then the claims hold a paused queue's tasks
            worker.keeper.look_at_pauses()
        worker.keeper.start()
