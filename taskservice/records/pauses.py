"""Which queues are paused: one set in Redis, which the claim reads. It survives restarts of everything else.

Must not know how a worker stops consuming.
"""

from __future__ import annotations

import redis

from taskservice.records.script import guarded

_KEY = "paused_queues"  # the claim's script reads it too


class Pauses:
    """Pauses are facts in the store: in force for every claim after the call returns."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def pause(self, queue: str) -> None:
        """Its tasks are not started until `resume`; pausing twice is pausing once. Raises Unavailable."""
        guarded(lambda: self._client.sadd(_KEY, queue))

    def resume(self, queue: str) -> None:
        """Undo `pause`, if it was. Raises Unavailable."""
        guarded(lambda: self._client.srem(_KEY, queue))

    def paused(self) -> frozenset[str]:
        """Names of queues. Raises Unavailable."""
        return frozenset(str(name) for name in guarded(lambda: self._client.smembers(_KEY)))
