"""How much each API key has used of its rate, and when last, noted in Redis for all web processes together.

Must not know HTTP, nor whose key it is.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import redis
from limits import RateLimitItemPerSecond
from limits.storage import RedisStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from taskservice.model import RateLimit
from taskservice.records.keys import note_use

logger = logging.getLogger(__name__)

NOTE_AGAIN_S = 60.0  # when a key was last used is told to about a minute, so that it costs next to nothing
ASK_AGAIN_S = 1.0  # after a failure, so that not every request waits for Redis in vain


@dataclass(frozen=True, slots=True)
class Usage:
    """A key's rate after one more request."""

    is_allowed: bool
    remaining: int
    more_in_s: int  # whole seconds until there is more; at least 1


class Meter:
    """Counts requests over a sliding window, by Redis's clock. Safe to share between threads.

    Of the library's strategies this one needs no clock of ours (the moving window does) and lets no double burst
    through where two windows meet (the fixed one does).
    """

    def __init__(self, client: redis.Redis, *, clock: Callable[[], float] = time.monotonic) -> None:
        # The same pool, so the same time-outs; the address is only used to choose the kind of storage.
        storage = RedisStorage("redis://", connection_pool=client.connection_pool, key_prefix="api_rate")
        self._client = client
        self._limiter = SlidingWindowCounterRateLimiter(storage)
        self._clock = clock
        self._ask_at = 0.0
        self._note_at: dict[str, float] = {}  # by key

    def hit(self, key_id: str, rate: RateLimit) -> Usage | None:
        """One more request of this key; a refused one does not count. None: Redis is away, so nothing is limited."""
        if self._clock() < self._ask_at:
            return None
        item = RateLimitItemPerSecond(rate.count, round(rate.period_s))
        try:
            is_allowed = self._limiter.hit(item, key_id)
            stats = self._limiter.get_window_stats(item, key_id)
            self._note_use(key_id)
        except redis.RedisError as error:
            self._ask_at = self._clock() + ASK_AGAIN_S
            logger.warning("rate.not_limited reason=%s", type(error).__name__)
            return None
        more_in_s = max(1, math.ceil(stats.reset_time - time.time()))
        return Usage(is_allowed, stats.remaining if is_allowed else 0, more_in_s)

    def _note_use(self, key_id: str) -> None:
        if self._clock() < self._note_at.get(key_id, 0.0):
            return
        note_use(self._client, key_id)
        self._note_at[key_id] = self._clock() + NOTE_AGAIN_S
