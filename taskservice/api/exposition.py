"""What Prometheus reads: the service's numbers as metric families in its text format.

Must not know where the numbers come from.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from taskservice import __version__
from taskservice.model import QueueState
from taskservice.queues import WorkQueue
from taskservice.records.measures import BUCKETS_MS, Histogram, Kind, Measured
from taskservice.records.roster import SeenWorker

CONTENT_TYPE = CONTENT_TYPE_LATEST
_KIND = ("task_type", "priority")
_QUEUE = ("queue", "priority")
_BOUNDS = (*(str(bound / 1000) for bound in BUCKETS_MS), "+Inf")


@dataclass(frozen=True, slots=True)
class StoreView:
    """What the store knows of the whole service."""

    at: datetime
    measured: Measured
    paused: frozenset[str]
    oldest_at: Mapping[str, datetime | None]  # of what is queued, by queue
    workers: tuple[SeenWorker, ...]


@dataclass(frozen=True, slots=True)
class BrokerView:
    """What the broker knows."""

    queues: Mapping[str, QueueState]
    dead_letters: int | None


def text(store: StoreView | None, broker: BrokerView | None) -> bytes:
    """Whatever is None could not be asked: its families are left out, and its `up` is 0."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(store, broker))
    return generate_latest(registry)


@dataclass(frozen=True, slots=True, eq=False)
class _Families:
    """The collector that the library asks; it keeps collectors as keys."""

    store: StoreView | None
    broker: BrokerView | None

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("taskservice_store_up", "Whether Redis answered.", value=self.store is not None)
        yield GaugeMetricFamily("taskservice_broker_up", "Whether the broker answered.", value=self.broker is not None)
        build = GaugeMetricFamily("taskservice_build_info", "The service's version.", labels=["version"])
        build.add_metric([__version__], 1)
        yield build
        if self.store is not None:
            yield from _tasks(self.store.measured)
            yield from _waiting(self.store)
            yield from _workers(self.store.workers)
        if self.broker is not None:
            yield from _queues(self.broker)


def _tasks(measured: Measured) -> Iterator[Metric]:
    present = GaugeMetricFamily(
        "taskservice_tasks_current", "Tasks that are in this status now.", labels=["status", *_KIND]
    )
    entered = CounterMetricFamily(
        "taskservice_tasks", "How often a task came into this status.", labels=["status", *_KIND]
    )
    for (status, kind), count in measured.current.items():
        present.add_metric([status, *kind], count)
        entered.add_metric([status, *kind], measured.entered.get((status, kind), 0))
    accepted = CounterMetricFamily("taskservice_tasks_accepted", "Tasks that were accepted.", labels=_KIND)
    republished = CounterMetricFamily(
        "taskservice_tasks_republished",
        "Messages that were lost and published again.",
        labels=_KIND,
    )
    for kind in _kinds(measured):
        accepted.add_metric(list(kind), measured.accepted.get(kind, 0))
        republished.add_metric(list(kind), measured.republished.get(kind, 0))
    yield from (present, entered, accepted, republished)
    yield _histogram("taskservice_task_wait_seconds", "From due to the first start.", measured.wait)
    yield _histogram("taskservice_task_run_seconds", "Of one attempt, however it ended.", measured.run)


def _kinds(measured: Measured) -> list[Kind]:
    return list(dict.fromkeys(kind for _, kind in measured.current))


def _histogram(name: str, documentation: str, found: Mapping[Kind, Histogram]) -> Metric:
    family = HistogramMetricFamily(name, documentation, labels=_KIND)
    for kind, one in found.items():
        buckets = list(zip(_BOUNDS, itertools.accumulate(one.counts), strict=True))
        family.add_metric(list(kind), buckets=buckets, sum_value=one.sum_s)
    return family


def _waiting(store: StoreView) -> Iterator[Metric]:
    paused = GaugeMetricFamily("taskservice_queue_paused", "1: its tasks are held back.", labels=_QUEUE)
    oldest = GaugeMetricFamily(
        "taskservice_queue_oldest_age_seconds", "Since its oldest queued task was accepted; 0: none.", labels=_QUEUE
    )
    for name, oldest_at in store.oldest_at.items():
        labels = _queue_labels(name)
        paused.add_metric(labels, name in store.paused)
        age_s = max(0.0, (store.at - oldest_at).total_seconds()) if oldest_at else 0.0
        oldest.add_metric(labels, age_s)
    yield from (paused, oldest)


def _queue_labels(name: str) -> list[str]:
    return [name, WorkQueue.named(name).priority]


def _workers(workers: tuple[SeenWorker, ...]) -> Iterator[Metric]:
    online = [one.worker for one in workers if one.is_online]
    yield GaugeMetricFamily("taskservice_workers_online", "Workers that have shown themselves.", value=len(online))
    yield GaugeMetricFamily(
        "taskservice_workers_lost", "Workers silent for 10 s to a minute.", value=len(workers) - len(online)
    )
    slots = GaugeMetricFamily("taskservice_worker_slots", "Tasks it can run at once.", labels=["worker"])
    busy = GaugeMetricFamily("taskservice_worker_busy_slots", "Tasks it runs now.", labels=["worker"])
    for worker in online:
        slots.add_metric([worker.name], worker.concurrency)
        busy.add_metric([worker.name], len(worker.running))
    yield from (slots, busy)


def _queues(broker: BrokerView) -> Iterator[Metric]:
    depth = GaugeMetricFamily("taskservice_queue_depth", "Messages that no worker has yet.", labels=_QUEUE)
    consumers = GaugeMetricFamily("taskservice_queue_consumers", "Workers that consume it.", labels=_QUEUE)
    for name, state in broker.queues.items():
        depth.add_metric(_queue_labels(name), state.depth)
        consumers.add_metric(_queue_labels(name), state.consumers)
    yield from (depth, consumers)
    if broker.dead_letters is not None:
        yield GaugeMetricFamily("taskservice_dead_letters", "Dead letters that are kept.", value=broker.dead_letters)
