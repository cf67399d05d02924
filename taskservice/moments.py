"""When a process accepted each of its tasks, so finely that no two of them share a place.

Must not know what a task is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

from taskservice.model import from_ms, now, to_ms


class Moment(NamedTuple):
    """A millisecond, as messages and records keep instants, and a place in it."""

    at: datetime  # UTC
    sequence: int  # 0, 1, 2 … of those that were taken in this millisecond


class Moments:
    """Gives moments in order as long as the clock does not go back; safe to share between threads."""

    def __init__(self, clock: Callable[[], datetime] = now) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._latest_ms = 0
        self._taken = 0

    def take(self) -> Moment:
        with self._lock:
            ms = to_ms(self._clock())
            self._taken = self._taken + 1 if ms == self._latest_ms else 0
            self._latest_ms = ms
            return Moment(from_ms(ms), self._taken)
