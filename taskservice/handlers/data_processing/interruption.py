"""Work on a DuckDB connection that can be stopped: by a time limit, a cancelled task, or a worker's own time limit.

Must not know what is being computed, nor who wants it to stop.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, TypeVar

from taskservice.errors import PermanentError

if TYPE_CHECKING:
    import duckdb

POLL_INTERVAL_S = 0.1
INTERRUPT_INTERVAL_S = 0.05

T = TypeVar("T")


def run_interruptibly(
    connection: duckdb.DuckDBPyConnection,
    work: Callable[[], T],
    *,
    on_wait: Callable[[], None],
    time_limit_s: float = math.inf,
) -> T:
    """What `work` returns or raises, unless something ends it before: then that is raised, and the work has stopped.

    `on_wait` is called every 0.1 s meanwhile and may raise. The work runs in a thread, because a signal that arrives
    while DuckDB computes (a worker's soft time limit) becomes a RuntimeError that hides what the signal meant.

    Raises PermanentError: timed_out.
    """
    with ThreadPoolExecutor(max_workers=1) as thread:
        running = thread.submit(work)
        try:
            _wait(running, on_wait, time_limit_s)
        finally:
            while not wait([running], INTERRUPT_INTERVAL_S).done:
                connection.interrupt()  # again and again: between two statements it has no effect
        return running.result()


def _wait(running: Future[T], on_wait: Callable[[], None], time_limit_s: float) -> None:
    deadline = time.monotonic() + time_limit_s
    while not wait([running], POLL_INTERVAL_S).done:
        if time.monotonic() >= deadline:
            raise PermanentError("timed_out", f"reading or querying the data took longer than {time_limit_s:g} s")
        on_wait()
