"""A costly answer, given to all who ask within a second.

Must not know what is asked.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

Answer = TypeVar("Answer")


class Shared(Generic[Answer]):
    """Asks once at a time; who comes meanwhile waits for that answer. An exception is nobody else's."""

    def __init__(self, ask: Callable[[], Answer], *, for_s: float = 1.0) -> None:
        self._ask = ask
        self._for_s = for_s
        self._lock = threading.Lock()
        self._known: tuple[float, Answer] | None = None  # when it was there, and the answer

    def get(self) -> Answer:
        with self._lock:
            if self._known is None or time.monotonic() - self._known[0] >= self._for_s:
                answer = self._ask()
                self._known = time.monotonic(), answer
            return self._known[1]
