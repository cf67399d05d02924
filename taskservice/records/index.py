"""Which tasks there are, newest first: pages and counts over the index that the transitions keep.

Each task is in the cell of its status, type and priority, so any filter over these is a merge of some cells and never
an intersection; the same for each of its tags. Knows neither HTTP nor Celery.
"""

from __future__ import annotations

import base64
import binascii
import heapq
import itertools
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import redis

from taskservice.model import Priority, Status, TaskFilter, from_ms, to_ms
from taskservice.records.script import guarded

_TIES_PER_MS = 4096  # transitions/changes.lua has the same
_SPARE = 10  # usually more than share one score exactly: one of each web process


@dataclass(frozen=True, slots=True)
class IndexPage:
    """Ids, newest first, and the cursor of the next page if there is one."""

    task_ids: tuple[str, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True, order=True)
class _Place:
    """Where a task stands in the order of creation."""

    score: float
    task_id: str

    @classmethod
    def from_cursor(cls, cursor: str) -> _Place:
        try:
            score, task_id = base64.b64decode(cursor.encode(), altchars=b"-_", validate=True).decode().split(":", 1)
            return cls(float(int(score)), task_id)
        except (binascii.Error, ValueError, OverflowError) as error:
            raise ValueError("not a cursor that a page has given") from error

    def to_cursor(self) -> str:
        return base64.urlsafe_b64encode(f"{self.score:.0f}:{self.task_id}".encode()).decode()


class TaskIndex:
    """Reads the index; every method raises Unavailable.

    Tasks of hidden types are found only by a filter that names their type.
    """

    def __init__(self, client: redis.Redis, *, hidden_types: Collection[str] = ()) -> None:
        self._client = client
        self._hidden_types = frozenset(hidden_types)

    def page(self, wanted: TaskFilter, *, limit: int, cursor: str | None = None) -> IndexPage:
        """Up to `limit` tasks after the cursor. Tasks that arrive meanwhile do not move it.

        Raises ValueError for a cursor that no page has given.
        """
        after = _Place.from_cursor(cursor) if cursor else None
        found = self._newest(self._cells(wanted), _score_bounds(wanted), after, limit + 1)
        places = list(itertools.islice(heapq.merge(*found, reverse=True), limit + 1))
        has_more = len(places) > limit
        places = places[:limit]
        return IndexPage(tuple(one.task_id for one in places), places[-1].to_cursor() if has_more else None)

    def count(self, wanted: TaskFilter) -> int:
        """How many tasks the filter matches."""
        low, high = (_text(bound) for bound in _score_bounds(wanted))
        pipeline = self._client.pipeline(transaction=True)
        for cell in self._cells(wanted):
            pipeline.zcount(cell, low, high)
        return sum(guarded(pipeline.execute))

    def oldest_created_at(self, wanted: TaskFilter) -> datetime | None:
        """When the oldest task that matches was created, or None if none does."""
        low, high = (_text(bound) for bound in _score_bounds(wanted))
        pipeline = self._client.pipeline(transaction=True)
        for cell in self._cells(wanted):
            pipeline.zrangebyscore(cell, low, high, start=0, num=1, withscores=True)
        found: list[list[tuple[str, float]]] = guarded(pipeline.execute)
        scores = [score for one in found for _, score in one]
        return from_ms(int(min(scores) // _TIES_PER_MS)) if scores else None

    def batch_counts(self, batch_id: str) -> dict[Status, int]:
        """How many of a batch's tasks have each status; empty when none of them is kept."""
        found = guarded(lambda: self._client.hgetall(f"batch:{batch_id}"))
        return {Status(str(status)): int(count) for status, count in found.items()}

    def _newest(
        self, cells: Sequence[str], bounds: tuple[float, float], after: _Place | None, count: int
    ) -> list[list[_Place]]:
        """At least the first `count` of each cell after that place, in order."""
        low, high = bounds
        top = after.score if after and after.score < high else high
        spare = _SPARE if after else 0
        while True:
            pipeline = self._client.pipeline(transaction=True)  # one moment for all cells
            for cell in cells:
                pipeline.zrevrangebyscore(cell, _text(top), _text(low), start=0, num=count + spare, withscores=True)
            found = [_places(one) for one in guarded(pipeline.execute)]
            rest = [[place for place in one if after is None or place < after] for one in found]
            if all(len(one) - len(left) <= spare for one, left in zip(found, rest, strict=True)):
                return rest
            spare *= 10

    def _cells(self, wanted: TaskFilter) -> list[str]:
        types: Iterable[str] = [wanted.task_type] if wanted.task_type else self._types() - self._hidden_types
        priorities = [wanted.priority] if wanted.priority else list(Priority)
        places = itertools.product(sorted(wanted.statuses or Status), sorted(types), priorities)
        if wanted.tag is None:
            return [f"cell:{status}:{kind}:{priority}" for status, kind, priority in places]
        return [f"tagged:{status}:{kind}:{priority}:{wanted.tag}" for status, kind, priority in places]

    def _types(self) -> set[str]:
        """Every type that ever had a task, also those that are registered no more."""
        return {str(name) for name in guarded(lambda: self._client.smembers("task_types"))}


def _score_bounds(wanted: TaskFilter) -> tuple[float, float]:
    low = (to_ms(wanted.created_after) + 1) * _TIES_PER_MS if wanted.created_after else float("-inf")
    high = to_ms(wanted.created_before) * _TIES_PER_MS - 1 if wanted.created_before else float("inf")
    return low, high


def _text(score: float) -> str:
    return f"{score:.0f}" if abs(score) != float("inf") else ("+inf" if score > 0 else "-inf")


def _places(members: Iterable[tuple[str, float]]) -> list[_Place]:
    return [_Place(score, task_id) for task_id, score in members]
