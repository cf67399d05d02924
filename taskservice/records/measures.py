"""What the transitions have counted and timed, and how many tasks there are: of the whole service, from any process.

Must not know who looks, nor in which form.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import redis

from taskservice.model import Priority, Status
from taskservice.records.script import guarded

# Upper bounds of a histogram's buckets; transitions/changes.lua has the same, and a test compares them.
BUCKETS_MS = (
    5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 120_000, 300_000, 600_000, 1_800_000,
    3_600_000,
)  # fmt: skip
ACCEPTED = "accepted"  # counted beside the statuses: every creation
_SLOT_S = 10
_SLOTS_PER_MINUTE = 60 // _SLOT_S


class Kind(NamedTuple):
    """What counts are kept for."""

    task_type: str
    priority: Priority


@dataclass(frozen=True, slots=True)
class Histogram:
    """Durations, counted by bucket: one for each of BUCKETS_MS, and one for what is longer."""

    counts: tuple[int, ...] = (0,) * (len(BUCKETS_MS) + 1)
    sum_s: float = 0.0

    def __add__(self, other: Histogram) -> Histogram:
        both = zip(self.counts, other.counts, strict=True)
        return Histogram(tuple(one + another for one, another in both), self.sum_s + other.sum_s)

    @property
    def count(self) -> int:
        return sum(self.counts)

    @property
    def mean_s(self) -> float | None:
        """None before the first."""
        return self.sum_s / self.count if self.count else None

    def quantile_s(self, share: float) -> float | None:
        """Estimated within its bucket, as Prometheus does; at most the last bound, None before the first."""
        rank, below = share * self.count, 0
        for low, high, count in zip((0, *BUCKETS_MS), BUCKETS_MS, self.counts, strict=False):
            if count and below + count >= rank:
                return (low + (high - low) * (rank - below) / count) / 1000
            below += count
        return BUCKETS_MS[-1] / 1000 if self.count else None


@dataclass(frozen=True, slots=True)
class Measured:
    """Everything at one moment; kinds without any task are left out of the histograms."""

    current: Mapping[tuple[Status, Kind], int]
    entered: Mapping[tuple[Status, Kind], int]  # how often a task came into this status, since the store is empty
    accepted: Mapping[Kind, int]
    republished: Mapping[Kind, int] = field(default_factory=dict)  # messages that the broker had lost
    wait: Mapping[Kind, Histogram] = field(default_factory=dict)  # from due to the first start
    run: Mapping[Kind, Histogram] = field(default_factory=dict)  # of one attempt


class Pace(NamedTuple):
    """What happened lately, by status or ACCEPTED and by type; full slots of ten seconds, without the present one."""

    last_minute: Mapping[tuple[str, str], int]
    last_hour: Mapping[tuple[str, str], int]


class Measures:
    """Reads what the transitions keep; every method raises Unavailable."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def read(self) -> Measured:
        """The counters, the histograms, and the sizes of the index's cells: two round trips."""
        cells = list(itertools.product(Status, self._kinds()))
        pipeline = self._client.pipeline(transaction=True)
        pipeline.hgetall("counters")
        pipeline.hgetall("durations")
        pipeline.hgetall("republished")
        for status, kind in cells:
            pipeline.zcard(f"cell:{status}:{kind.task_type}:{kind.priority}")
        counters, durations, republished, *sizes = guarded(pipeline.execute)
        return Measured(
            current=dict(zip(cells, sizes, strict=True)),
            entered={(Status(what), kind): count for what, kind, count in _counts(counters) if what != ACCEPTED},
            accepted={kind: count for what, kind, count in _counts(counters) if what == ACCEPTED},
            republished={_kind(place): int(count) for place, count in republished.items()},
            wait=_histograms(durations, "wait"),
            run=_histograms(durations, "run"),
        )

    def pace(self) -> Pace:
        """The last minute and hour by Redis' own clock: two round trips."""
        seconds, _ = guarded(self._client.time)
        present = int(seconds) // _SLOT_S
        minutes = range((present - 60 * _SLOTS_PER_MINUTE) // _SLOTS_PER_MINUTE, present // _SLOTS_PER_MINUTE + 1)
        pipeline = self._client.pipeline(transaction=False)
        for minute in minutes:
            pipeline.hgetall(f"pace:{minute}")
        slots = list(_slots(zip(minutes, guarded(pipeline.execute), strict=True)))
        return Pace(_since(slots, present - _SLOTS_PER_MINUTE, present), _since(slots, present - 360, present))

    def _kinds(self) -> list[Kind]:
        """Of every type that ever had a task."""
        names = sorted(str(name) for name in guarded(lambda: self._client.smembers("task_types")))
        return [Kind(name, priority) for name in names for priority in Priority]


def _kind(place: str) -> Kind:
    task_type, priority = place.split(":")
    return Kind(task_type, Priority(priority))


def _counts(counters: Mapping[str, str]) -> Iterator[tuple[str, Kind, int]]:
    for place, count in counters.items():
        what, task_type, priority = place.split(":")
        yield what, Kind(task_type, Priority(priority)), int(count)


def _histograms(durations: Mapping[str, str], wanted: str) -> dict[Kind, Histogram]:
    found: dict[Kind, dict[str, int]] = {}
    for place, number in durations.items():
        what, task_type, priority, bucket = place.split(":")
        if what == wanted:
            found.setdefault(Kind(task_type, Priority(priority)), {})[bucket] = int(number)
    return {kind: _histogram(buckets) for kind, buckets in found.items()}


def _histogram(buckets: Mapping[str, int]) -> Histogram:
    counts = tuple(buckets.get(str(bound), 0) for bound in (*BUCKETS_MS, "inf"))
    return Histogram(counts, buckets.get("sum", 0) / 1000)


Slot = tuple[int, tuple[str, str], int]


def _slots(minutes: Iterable[tuple[int, Mapping[str, str]]]) -> Iterator[Slot]:
    for minute, counts in minutes:
        for place, count in counts.items():
            slot, what, task_type = place.split(":")
            yield minute * _SLOTS_PER_MINUTE + int(slot), (what, task_type), int(count)


def _since(slots: Iterable[Slot], first: int, end: int) -> dict[tuple[str, str], int]:
    total: Counter[tuple[str, str]] = Counter()
    for slot, place, count in slots:
        if first <= slot < end:
            total[place] += count
    return dict(total)
