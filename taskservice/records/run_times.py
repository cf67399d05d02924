"""How long tasks of each type run of late, as the transitions measure it.

Must not know what the numbers are used for.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import redis

from taskservice.errors import Unavailable
from taskservice.records.script import guarded

FRESH_S = 5.0


class RunTimes:
    """Asks the store at most every 5 s, however often it is asked itself."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._known: Mapping[str, float] = {}
        self._ask_at = 0.0

    def mean_s(self, task_type: str) -> float | None:
        """Of the type's latest runs that succeeded; None if it is not known, or not now."""
        if time.monotonic() >= self._ask_at:
            self._ask_at = time.monotonic() + FRESH_S
            self._ask()
        return self._known.get(task_type)

    def _ask(self) -> None:
        try:
            found = guarded(lambda: self._client.hgetall("run_times"))
        except Unavailable:  # what was known is still a good guess
            return
        self._known = {str(name): float(run_ms) / 1000 for name, run_ms in found.items()}
