"""The service in numbers: for Prometheus, and as JSON. One answer speaks for the whole service.

Must not know how the numbers are kept.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field
from datetime import datetime
from functools import reduce
from typing import Protocol, TypeVar

from flask import Response, jsonify
from flask_openapi3.blueprint import APIBlueprint
from pydantic import BaseModel, Field

from taskservice.api import exposition, views
from taskservice.api.description import problems
from taskservice.api.exposition import BrokerView, StoreView
from taskservice.api.queues import queued_in
from taskservice.api.rooms import open_room
from taskservice.api.services import QueuePauses, TaskIndex, TaskPublisher
from taskservice.api.workers import WorkerRoster
from taskservice.errors import Unavailable
from taskservice.model import Priority, Status, now
from taskservice.queues import work_queues
from taskservice.records.measures import ACCEPTED, Histogram, Kind, Measured, Pace

logger = logging.getLogger(__name__)

PATIENCE_S = 4.0  # a scrape is answered within 5 s, whoever hangs
AT_ONCE = 8  # asks; more wait for their turn, and for no longer than PATIENCE_S

Answer = TypeVar("Answer")


class TaskMeasures(Protocol):
    """What was counted and timed."""

    def read(self) -> Measured:
        """Raises Unavailable."""

    def pace(self) -> Pace:
        """Raises Unavailable."""


class DeadLetterCount(Protocol):
    """The broker's dead letters."""

    def count(self) -> int | None:
        """None: this broker keeps none. Raises Unavailable."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Everything that is asked for numbers."""

    publisher: TaskPublisher
    index: TaskIndex
    pauses: QueuePauses
    measures: TaskMeasures
    roster: WorkerRoster
    dead_letters: DeadLetterCount
    internal_types: frozenset[str] = field(default_factory=frozenset)  # in the metrics, not in the statistics
    task_types: Collection[str] = ()  # what clients may submit
    dedicated: tuple[str, ...] = ()  # those of all types that have queues of their own


class Durations(BaseModel):
    """Estimated from a histogram; null before the first one."""

    count: int
    mean: float | None
    p95: float | None


class Share(BaseModel):
    """The tasks of one type or of one priority."""

    tasks: int
    by_status: dict[Status, int]
    wait_s: Durations = Field(description="From due to the first start, since the store is empty.")
    run_s: Durations = Field(description="Of each attempt, since the store is empty.")


class Stats(Share):
    """All tasks that are kept, and what happened to them lately."""

    at: views.Instant
    by_type: dict[str, Share]
    by_priority: dict[Priority, Share]
    last_minute: dict[str, int] = Field(description="How many tasks were accepted, and how many came into each status.")
    last_hour: dict[str, int] = Field(description="The same.")


def create_blueprint(sources: Sources, *, patience_s: float = PATIENCE_S) -> APIBlueprint:
    """`/metrics` and `/api/stats`."""
    blueprint = open_room("measures", tag="look after it")
    asks = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="metrics")  # starts no thread before the first scrape

    @blueprint.get("/metrics", summary="The service in numbers, for Prometheus", responses={200: _TEXT, **problems()})
    def metrics() -> Response:
        deadline = time.monotonic() + patience_s
        store = asks.submit(_view_store, sources)
        queues = asks.submit(sources.publisher.queue_states)
        letters = asks.submit(sources.dead_letters.count)
        states = _awaited(queues, deadline, "broker")
        letter_count = _awaited(letters, deadline, "broker")
        broker = None if states is None else BrokerView(states, letter_count)
        body = exposition.text(_awaited(store, deadline, "store"), broker)
        return Response(body, content_type=exposition.CONTENT_TYPE)

    @blueprint.get("/api/stats", summary="The service in numbers", responses={200: Stats, **problems(_503=_NO_STORE)})
    def stats() -> Response:
        view = _stats(sources.measures.read(), sources.measures.pace(), sources.internal_types)
        return jsonify(view.model_dump(mode="json"))

    return blueprint


def _awaited(ask: Future[Answer], deadline: float, missing: str) -> Answer | None:
    """Its answer; None if it is away, or has not answered by then."""
    try:
        return ask.result(timeout=max(0.0, deadline - time.monotonic()))
    except (Unavailable, FutureTimeoutError) as error:
        ask.cancel()
        logger.warning("metrics.incomplete missing=%s cause=%s", missing, type(error).__name__)
        return None


def _view_store(sources: Sources) -> StoreView:
    """Raises Unavailable."""
    return StoreView(
        measured=sources.measures.read(),
        paused=sources.pauses.paused(),
        oldest_at={queue.name: _oldest_at(queue.name, sources) for queue in work_queues(sources.dedicated)},
        workers=tuple(sources.roster.seen()),
        at=now(),
    )


def _oldest_at(name: str, sources: Sources) -> datetime | None:
    wanted = queued_in(name, sources.task_types, sources.dedicated)
    return min(filter(None, map(sources.index.oldest_created_at, wanted)), default=None)


def _stats(measured: Measured, pace: Pace, internal_types: frozenset[str]) -> Stats:
    kinds = {kind for _, kind in measured.current if kind.task_type not in internal_types}
    by_type = {name: {kind for kind in kinds if kind.task_type == name} for name in sorted({one[0] for one in kinds})}
    by_priority = {priority: {kind for kind in kinds if kind.priority is priority} for priority in Priority}
    return Stats(
        **dict(_share(measured, kinds)),
        at=now(),
        by_type={name: _share(measured, some) for name, some in by_type.items()},
        by_priority={priority: _share(measured, some) for priority, some in by_priority.items()},
        last_minute=_lately(pace.last_minute, internal_types),
        last_hour=_lately(pace.last_hour, internal_types),
    )


def _share(measured: Measured, kinds: Collection[Kind]) -> Share:
    by_status = dict.fromkeys(Status, 0)
    for (status, kind), count in measured.current.items():
        by_status[status] += count if kind in kinds else 0
    return Share(
        tasks=sum(by_status.values()),
        by_status=by_status,
        wait_s=_durations(one for kind, one in measured.wait.items() if kind in kinds),
        run_s=_durations(one for kind, one in measured.run.items() if kind in kinds),
    )


def _durations(histograms: Iterable[Histogram]) -> Durations:
    whole = reduce(Histogram.__add__, histograms, Histogram())
    return Durations(count=whole.count, mean=_rounded(whole.mean_s), p95=_rounded(whole.quantile_s(0.95)))


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _lately(counts: Mapping[tuple[str, str], int], internal_types: frozenset[str]) -> dict[str, int]:
    found = dict.fromkeys((ACCEPTED, *Status), 0)
    for (what, task_type), count in counts.items():
        if task_type not in internal_types:
            found[what] += count
    return {str(what): count for what, count in found.items()}


_TEXT = {
    "description": "Prometheus' text format; `taskservice_store_up` and `taskservice_broker_up` say what is missing.",
    "content": {"text/plain": {"schema": {"type": "string"}}},
}
_NO_STORE = "The store cannot be reached."
