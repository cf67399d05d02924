"""What lists, counts and queues say of a scenario's tasks when all is quiet.

Asks only; what must agree is verb_checks.py's.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from tests.faults.client import Client
from tests.faults.ledger import Batch, Survey

EMPTY_WITHIN_S = 30.0  # for what was cancelled to be dropped, and RabbitMQ to have counted anew
ENDED_WITHIN_S = 30.0
PAGE = 200


def counted_by_status(client: Client) -> dict[str, int]:
    return dict(client.read("/api/stats").get("by_status", {}))


@dataclass(frozen=True)
class Surveyor:
    """`counted`: what the statistics counted when the scenario began."""

    client: Client
    counted: Mapping[str, int]
    since: float

    def survey(self, batches: Sequence[Batch]) -> Survey:
        self._wait_for_ends()
        queues = self._queues()
        counts = [(batch, self._counts(batch)) for batch in batches if batch.batch_id]
        return Survey(self._listed(self.since), self._totals(), counts, queues)

    def _totals(self) -> tuple[Mapping[str, int], Mapping[str, int]]:
        """By status, of all tasks there ever were: as the statistics count them, and as the list has them.

        A task of an earlier scenario may have waited until now: while the statistics move, the two are asked again.
        """
        while True:
            before = counted_by_status(self.client)
            listed = Counter(self._listed().values())
            if counted_by_status(self.client) == before:
                return {status: count for status, count in before.items() if count}, listed

    def _wait_for_ends(self) -> None:
        """Of what no client knows of: a retry whose answer was lost, and that its type's rate holds back."""
        deadline = time.monotonic() + ENDED_WITHIN_S
        while _under_way(counted_by_status(self.client)) > _under_way(self.counted) and time.monotonic() < deadline:
            time.sleep(0.5)

    def _listed(self, since: float = 0.0) -> dict[str, str]:
        found: dict[str, str] = {}
        query = {"created_after": datetime.fromtimestamp(since, UTC).isoformat(), "limit": str(PAGE)}
        while True:
            page = self.client.read(f"/api/tasks?{urlencode(query)}")
            found |= {task["task_id"]: task["status"] for task in page["data"]}
            if not page["has_more"]:
                return found
            query["cursor"] = page["next_cursor"]

    def _counts(self, batch: Batch) -> dict[str, int]:
        return dict(self.client.read(f"/api/batches/{batch.batch_id}").get("counts", {}))

    def _queues(self) -> list[Mapping[str, Any]]:
        """As soon as nothing waits or is in hand, at the latest after half a minute."""
        deadline = time.monotonic() + EMPTY_WITHIN_S
        while True:
            queues = list(self.client.read("/api/queues").get("data", ()))
            is_empty = queues and not any(one["depth"] or one["unacknowledged"] for one in queues)
            if is_empty or time.monotonic() > deadline:
                return queues
            time.sleep(0.5)


def _under_way(counted: Mapping[str, int]) -> int:
    return sum(counted.get(status, 0) for status in ("queued", "running", "retrying"))
