"""The time limit of a handler, kept inside the process that runs it, so that waiting for a store does not count.

Must not know what is limited.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class TimeLimitReached(Exception):
    """The handler has used up its time."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raises TimeLimitReached in the block after so many seconds. In the main thread only, once at a time."""

    def ring(_signal: int, _frame: Any) -> None:
        raise TimeLimitReached

    previous = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
