"""Hosts that answer webhooks slowly: each may keep one worker busy at a time, so that the others' do not wait.

Must not know what is sent, nor how long a sender is willing to wait.
"""

from __future__ import annotations

import logging

import redis

logger = logging.getLogger(__name__)

SLOW_S = 5.0  # an attempt that took as long was slow, whatever came of it
SLOW_IN_A_ROW = 3  # so many make a slow host; one that is fast makes it a normal one again
REMEMBERED_S = 600  # after the last slow one
TURN_S = 60  # between two attempts of a slow host, unless the earlier one was answered


class SlowReceivers:
    """Shared by all workers. Without the store every host counts as fast: a webhook must not wait for this."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def may_ask(self, host: str) -> bool:
        """Always for a fast host. For a slow one it takes the turn, if nobody has it."""
        try:
            count = int(str(self._client.get(_count_key(host)) or 0))
            return count < SLOW_IN_A_ROW or bool(self._client.set(_turn_key(host), "taken", nx=True, ex=TURN_S))
        except redis.RedisError as error:
            logger.warning("webhook.pace_unknown cause=%s", type(error).__name__)
            return True

    def note(self, host: str, *, took_s: float, has_answered: bool) -> None:
        """A slow answer gives the turn to the next; silence keeps it until it ends by itself."""
        pipeline = self._client.pipeline(transaction=True)
        if took_s < SLOW_S:
            pipeline.delete(_count_key(host), _turn_key(host))
        else:
            pipeline.incr(_count_key(host))
            pipeline.expire(_count_key(host), REMEMBERED_S)
            if has_answered:
                pipeline.delete(_turn_key(host))
        try:
            pipeline.execute()
        except redis.RedisError as error:
            logger.warning("webhook.pace_unknown cause=%s", type(error).__name__)


def _count_key(host: str) -> str:
    return f"webhook_slow:{host}"


def _turn_key(host: str) -> str:
    return f"webhook_turn:{host}"
