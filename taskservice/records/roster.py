"""Which workers there are: each shows itself again and again, and is forgotten a minute after it stopped doing so.

Redis' expiry is the only clock, so that machines with skewed clocks agree. Knows neither HTTP nor Celery.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import redis

from taskservice.model import from_ms, to_ms
from taskservice.records.script import guarded

LOST_S = 10.0  # silent for longer than this: it hangs, was killed, or cannot reach the store
KEPT_S = 60.0
_NAMES = "workers"


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker's main process, as it shows itself."""

    name: str  # Celery's node name, such as high@host
    host: str
    pid: int
    queues: tuple[str, ...]  # what it was started for, paused or not
    concurrency: int
    started_at: datetime
    running: tuple[str, ...] = ()  # ids of tasks


@dataclass(frozen=True, slots=True)
class SeenWorker:
    """A worker, and when it showed itself last."""

    worker: Worker
    last_seen_at: datetime
    is_online: bool


class Roster:
    """Every method raises Unavailable."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def show(self, worker: Worker) -> None:
        """It is there now."""
        text = json.dumps(asdict(worker) | {"started_at": to_ms(worker.started_at)})
        pipeline = self._client.pipeline(transaction=True)
        pipeline.sadd(_NAMES, worker.name)
        pipeline.set(_key(worker.name), text, px=round(KEPT_S * 1000))
        guarded(pipeline.execute)

    def leave(self, name: str) -> None:
        """It has ended in good order, so it is not missed."""
        self._remove([name])

    def seen(self) -> list[SeenWorker]:
        """By name: who has shown itself within a minute."""
        seconds, microseconds = guarded(self._client.time)
        moment = from_ms(int(seconds) * 1000 + int(microseconds) // 1000)
        names = sorted(str(name) for name in guarded(lambda: self._client.smembers(_NAMES)))
        pipeline = self._client.pipeline(transaction=True)
        for name in names:
            pipeline.get(_key(name))
            pipeline.pttl(_key(name))
        answers = guarded(pipeline.execute)
        shown = dict(zip(names, zip(answers[::2], answers[1::2], strict=True), strict=True))
        self._remove([name for name, (text, _) in shown.items() if text is None])
        return [_seen(json.loads(text), left_ms / 1000, moment) for text, left_ms in shown.values() if text]

    def _remove(self, names: Iterable[str]) -> None:
        """One that shows itself at the same moment is back with its next sign."""
        pipeline = self._client.pipeline(transaction=True)
        for name in names:
            pipeline.srem(_NAMES, name)
            pipeline.delete(_key(name))
        guarded(pipeline.execute)


def _key(name: str) -> str:
    return f"worker:{name}"


def _seen(fields: dict[str, Any], left_s: float, moment: datetime) -> SeenWorker:
    silent_s = max(0.0, KEPT_S - left_s)
    worker = Worker(
        name=fields["name"],
        host=fields["host"],
        pid=fields["pid"],
        queues=tuple(fields["queues"]),
        concurrency=fields["concurrency"],
        started_at=from_ms(fields["started_at"]),
        running=tuple(fields["running"]),
    )
    return SeenWorker(worker, moment - timedelta(seconds=silent_s), silent_s <= LOST_S)
