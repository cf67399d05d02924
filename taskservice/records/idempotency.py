"""Idempotency keys in Redis: of all requests with one key, one runs at a time and one is answered for all.

Must not know HTTP, nor what the answers say.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib import resources
from typing import Any

import redis

from taskservice.records.script import guarded

KEPT_S = 86_400
IN_FLIGHT_MS = 20_000  # longer than any request takes; a web process that dies in one blocks its key no longer


class Outcome(StrEnum):
    """What a request with an idempotency key is to do."""

    RESERVED = "reserved"  # run it, as the task the reservation names
    REPLAYED = "replayed"  # give the first one's answer
    IN_FLIGHT = "in_flight"  # another request with this key has not ended
    MISMATCH = "mismatch"  # the key belongs to another request


@dataclass(frozen=True, slots=True)
class Reservation:
    """The answer to `reserve`.

    `task_id` is the first request's when that was refused, ended unknown or died: a repetition is the same task.
    """

    outcome: Outcome
    task_id: str
    answer: Mapping[str, Any] | None = None  # only when replayed


class Reservations:
    """Reservations of all keys, each for 24 h."""

    def __init__(self, client: redis.Redis, *, in_flight_ms: int = IN_FLIGHT_MS) -> None:
        self._client = client
        self._in_flight_ms = in_flight_ms
        self._reserve = client.register_script(_RESERVE)

    def reserve(self, key: str, *, fingerprint: str, task_id: str) -> Reservation:
        """Atomic: of requests at the same moment, one gets RESERVED. Raises Unavailable."""
        arguments: list[str | int] = [fingerprint, task_id, self._in_flight_ms, KEPT_S]
        found = guarded(lambda: self._reserve(keys=[_key(key)], args=arguments))
        outcome, first_task_id, answer = (str(one) for one in found)
        return Reservation(Outcome(outcome), first_task_id, json.loads(answer) if answer else None)

    def settle(self, key: str, answer: Mapping[str, Any]) -> None:
        """Every later request with this key gets this answer. Raises Unavailable."""
        self._set(key, "state", "accepted", "answer", json.dumps(answer))

    def release(self, key: str) -> None:
        """The request has ended without a task: a repetition may run at once. Raises Unavailable."""
        self._set(key, "state", "released")

    def forget(self, key: str) -> None:
        """Nothing was done and nothing begun: a repetition is a request like the first. Raises Unavailable."""
        guarded(lambda: self._client.delete(_key(key)))

    def _set(self, key: str, *fields: str) -> None:
        pipeline = self._client.pipeline(transaction=True)
        pipeline.hset(_key(key), items=list(fields))
        pipeline.expire(_key(key), KEPT_S)
        guarded(pipeline.execute)


_RESERVE = resources.files("taskservice.records").joinpath("reserve.lua").read_text(encoding="utf-8")


def _key(key: str) -> str:
    """A client's word is not put into a key as it is: it may be long, and may look like another."""
    return f"idempotency:{hashlib.sha256(key.encode()).hexdigest()}"
