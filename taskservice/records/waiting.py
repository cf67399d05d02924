"""Which tasks wait for a message that the broker has lost, and what was done about it.

Must not know a broker: whoever publishes says what its queues hold.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import redis

from taskservice.model import Submission
from taskservice.records.script import Transitions, record_key

_OVERTAKEN = "overtaken"


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a queue has come with the tasks that wait in it. Moments are milliseconds of Redis' clock."""

    queue: str
    now_ms: int
    oldest_ms: int  # since when the message that waits longest is in the queue
    overtaken_ms: int  # the same of the newest message that a worker claimed; 0: none yet

    def overdue_before_ms(self, *, after_s: float, is_empty: bool) -> int:
        """What came into the queue by then is not in it any more. Nothing is judged that waits for less than `after_s`.

        An empty queue has nothing; another one is first in, first out.
        """
        newest_ms = self.now_ms if is_empty else min(self.now_ms, self.overtaken_ms)
        return newest_ms - round(after_s * 1000)


@dataclass(frozen=True, slots=True)
class Overdue:
    """A task whose message is gone, and the attempt that it waits for."""

    task_id: str
    attempt: int


class Waiting:
    """Every method raises redis.RedisError."""

    def __init__(self, client: redis.Redis, *, retention_s: int) -> None:
        self._client = client
        self._transitions = Transitions(client, retention_s=retention_s)

    def standings(self, queues: Collection[str], *, listed: Collection[str]) -> list[Standing]:
        """Of those in which tasks wait, unless they are paused; in one round trip.

        `listed`: those that tasks are published to now. The pause of another one holds nothing, and nobody can end it.
        """
        pipeline = self._client.pipeline(transaction=False)
        pipeline.time()
        pipeline.smembers("paused_queues")
        pipeline.zrange(_OVERTAKEN, 0, -1, withscores=True)
        for queue in queues:
            pipeline.zrange(f"waiting:{queue}", 0, 0, withscores=True)
        (seconds, micros), paused, overtaken, *oldest = pipeline.execute()
        now_ms, overtaken_ms = seconds * 1000 + micros // 1000, dict(overtaken)
        return [
            Standing(queue, now_ms, int(found[0][1]), int(overtaken_ms.get(queue, 0)))
            for queue, found in zip(queues, oldest, strict=True)
            if found and not (queue in paused and queue in listed)
        ]

    def take_overdue(self, queue: str, *, before_ms: int) -> list[Overdue]:
        """Some that have been waiting in this queue since before then; each is in it anew, as of now.

        So nobody else takes them meanwhile; what is not published after all is overdue again later.
        """
        taken: Sequence[tuple[str, int]] = self._transitions.run("take_overdue", queue=queue, before_ms=before_ms)
        return [Overdue(task_id, attempt) for task_id, attempt in taken]

    def submission(self, task_id: str) -> Submission | None:
        """What its record carries; None when there is none any more."""
        text = self._client.hget(record_key(task_id), "submission")
        return None if text is None else Submission.from_message(json.loads(str(text)))

    def note_republished(self, task_id: str, *, queue: str) -> None:
        """Its message has been published again, into this queue."""
        self._transitions.run("republished", task_id, queue=queue)
