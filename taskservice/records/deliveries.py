"""The webhooks of each task, in the order in which they were published.

Kept and forgotten with the task. Must not know how a webhook is sent.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import redis

from taskservice.context import WEBHOOK_ANSWERS
from taskservice.records.script import guarded, record_key

# A delivery that comes after its task was forgotten must leave nothing behind; one that comes twice is one.
_ADD = """
if redis.call('EXISTS', KEYS[2]) == 0 or redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 then return 0 end
local entry = cjson.decode(ARGV[2])
entry.n = redis.call('HLEN', KEYS[1]) + 1
return redis.call('HSET', KEYS[1], ARGV[1], cjson.encode(entry))
"""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One webhook: a task of its own carries its attempts. A replay is another task with the same webhook_id."""

    delivery_id: str  # of the task of type webhook_delivery
    event: str
    webhook_id: str
    is_replay: bool = False
    n: int = 0  # from 1, per task; given when it is added


class DeliveryLog:
    """Safe to share between threads. Every method raises Unavailable."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._add = client.register_script(_ADD)

    def add(self, task_id: str, delivery: Delivery) -> None:
        """Adding twice is adding once; nothing is added to a task that is not kept any more."""
        entry = asdict(delivery)
        keys, arguments = [_key(task_id), record_key(task_id)], [entry.pop("delivery_id"), json.dumps(entry)]
        guarded(lambda: self._add(keys=keys, args=arguments))

    def of_task(self, task_id: str) -> list[Delivery]:
        """In order; empty for a task without any."""
        found: dict[Any, Any] = guarded(lambda: self._client.hgetall(_key(task_id)))
        deliveries = [Delivery(str(delivery_id), **json.loads(entry)) for delivery_id, entry in found.items()]
        return sorted(deliveries, key=lambda delivery: delivery.n)

    def answers(self, deliveries: Sequence[Delivery]) -> list[dict[int, int]]:
        """For each: the status codes other than 2xx that its receiver answered, by attempt."""
        pipeline = self._client.pipeline(transaction=False)
        for delivery in deliveries:
            pipeline.hget(record_key(delivery.delivery_id), f"mark:{WEBHOOK_ANSWERS}")
        found: list[str | None] = guarded(pipeline.execute)
        return [{int(attempt): code for attempt, code in json.loads(noted or "{}").items()} for noted in found]


def _key(task_id: str) -> str:
    return f"deliveries:{task_id}"  # forgotten with its task
