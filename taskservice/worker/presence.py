"""Shows this worker to whoever asks which workers there are, and takes it off the list when it ends in good order.

Must not keep the keeper waiting: one round trip, and no second try.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Protocol

from taskservice.errors import Unavailable
from taskservice.model import now
from taskservice.records.roster import Worker


class WorkerList(Protocol):
    """Which workers there are; both methods raise Unavailable."""

    def show(self, worker: Worker) -> None: ...

    def leave(self, name: str) -> None: ...


class Presence:
    """Of the process that made it; a child that was forked from it does not speak for it."""

    def __init__(self, workers: WorkerList, *, name: str, queues: Iterable[str], concurrency: int) -> None:
        self._workers = workers
        self._lock = threading.Lock()  # the keeper's thread shows, the main thread leaves
        self._has_left = False
        self._worker = Worker(
            name=name,
            host=socket.gethostname(),
            pid=os.getpid(),
            queues=tuple(queues),
            concurrency=concurrency,
            started_at=now(),
        )

    def show(self, running: Iterable[str]) -> None:
        """It is here and runs these tasks. Raises Unavailable."""
        with self._lock:
            if not self._has_left:
                self._workers.show(replace(self._worker, running=tuple(sorted(running))))

    def leave(self) -> None:
        """Not missed any more; without the store it is, for a minute."""
        if os.getpid() != self._worker.pid:
            return
        with self._lock, suppress(Unavailable):
            self._has_left = True
            self._workers.leave(self._worker.name)
