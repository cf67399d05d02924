"""The numbers without a store: estimates, what Prometheus and clients read, and monitoring/ held to what there is."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from flask_openapi3.models.info import Info
from flask_openapi3.openapi import OpenAPI
from prometheus_client.parser import text_string_to_metric_families

from taskservice import __version__
from taskservice.api import errors, measures, workers
from taskservice.api.measures import Sources
from taskservice.errors import Unavailable
from taskservice.model import Priority, Status, now
from taskservice.records import measures as counted
from taskservice.records.measures import BUCKETS_MS, Histogram, Kind, Measured, Pace
from taskservice.records.roster import SeenWorker, Worker
from taskservice.worker.presence import Presence
from tests.support.api import assert_problem
from tests.support.fakes import MemoryBroker, MemoryIndex, MemoryPauses, MemoryRecords

ROOT = Path(__file__).resolve().parents[2]
MONITORING = sorted((ROOT / "monitoring").rglob("*.*"))
SLEEP = Kind("sleep", Priority.HIGH)
HIDDEN = Kind("own_work", Priority.LOW)
PATIENCE_S = 0.3

Labels = tuple[tuple[str, str], ...]


class MemoryMeasures:
    """Numbers as a test arranges them."""

    def __init__(self, records: MemoryRecords) -> None:
        self._records = records
        runs = Histogram((0,) * 6 + (3, 1) + (0,) * 11, 1.6)  # three of up to 500 ms and one of up to 1 s
        self.measured = Measured(
            current={(Status.QUEUED, SLEEP): 2, (Status.FAILED, SLEEP): 1, (Status.QUEUED, HIDDEN): 5},
            entered={(Status.QUEUED, SLEEP): 4},
            accepted={SLEEP: 4, HIDDEN: 5},
            republished={SLEEP: 3},
            wait={HIDDEN: Histogram((1,) + (0,) * 18, 0.002)},
            run={SLEEP: runs},
        )
        self.lately = {("accepted", "sleep"): 4, ("accepted", "own_work"): 5, ("failed", "sleep"): 1}

    def read(self) -> Measured:
        self._records.ping()
        return self.measured

    def pace(self) -> Pace:
        self._records.ping()
        return Pace({}, self.lately)


class MemoryRoster:
    def __init__(self, records: MemoryRecords) -> None:
        self._records = records
        self.workers: dict[str, SeenWorker] = {}

    def seen(self) -> list[SeenWorker]:
        self._records.ping()
        return list(self.workers.values())

    def show(self, worker: Worker) -> None:
        self.workers[worker.name] = SeenWorker(worker, now(), is_online=True)

    def leave(self, name: str) -> None:
        self.workers.pop(name)


class MemoryLetters:
    def __init__(self) -> None:
        self.kept: int | None = 3
        self.hangs_until: threading.Event | None = None

    def count(self) -> int | None:
        if self.hangs_until:
            self.hangs_until.wait(5)
            raise Unavailable("broker")
        return self.kept


class Watched:
    """The two rooms over a service in memory."""

    def __init__(self) -> None:
        self.broker = MemoryBroker()
        self.records = MemoryRecords()
        self.pauses = MemoryPauses(self.records)
        self.measures = MemoryMeasures(self.records)
        self.roster = MemoryRoster(self.records)
        self.letters = MemoryLetters()
        sources = Sources(
            publisher=self.broker,
            index=MemoryIndex(self.records),
            pauses=self.pauses,
            measures=self.measures,
            roster=self.roster,
            dead_letters=self.letters,
            internal_types=frozenset({HIDDEN.task_type}),
        )
        app = OpenAPI(__name__, info=Info(title="", version=""), doc_ui=False)
        errors.answer_problems(app)
        app.register_api(measures.create_blueprint(sources, patience_s=PATIENCE_S))
        app.register_api(workers.create_blueprint(self.roster))
        self.client: FlaskClient = app.test_client()

    def scrape(self) -> dict[tuple[str, Labels], float]:
        response = self.client.get("/metrics")
        assert (response.status_code, response.mimetype) == (200, "text/plain")
        families = text_string_to_metric_families(response.text)
        return {(one.name, tuple(sorted(one.labels.items()))): one.value for each in families for one in each.samples}

    def value(self, name: str, **labels: str) -> float:
        return self.scrape()[f"taskservice_{name}", tuple(sorted(labels.items()))]


@pytest.fixture
def watched() -> Iterator[Watched]:
    watched = Watched()
    with watched.client:
        yield watched


def test_the_buckets_are_those_that_the_script_counts_in() -> None:
    script = (Path(counted.__file__).with_name("transitions") / "changes.lua").read_text(encoding="utf-8")
    (listed,) = re.findall(r"BUCKETS_MS = \{([^}]*)\}", script)

    assert tuple(int(bound) for bound in listed.split(",")) == BUCKETS_MS == tuple(sorted(BUCKETS_MS))


@pytest.mark.parametrize(
    ("counts", "share", "expected_s"),
    [
        ({2: 10}, 0.5, 0.0175),  # in the middle of 10 to 25 ms
        ({0: 50, 7: 50}, 0.95, 0.95),  # nine tenths of the way from 500 ms to 1 s
        ({0: 100}, 0.95, 0.00475),
        ({18: 1}, 0.95, 3600.0),  # longer than the last bound
    ],
)
def test_a_quantile_is_estimated_within_its_bucket(counts: dict[int, int], share: float, expected_s: float) -> None:
    histogram = Histogram(tuple(counts.get(index, 0) for index in range(len(BUCKETS_MS) + 1)))

    assert histogram.quantile_s(share) == pytest.approx(expected_s)


def test_nothing_has_neither_mean_nor_quantile() -> None:
    assert (Histogram().mean_s, Histogram().quantile_s(0.95)) == (None, None)


def test_a_scrape_tells_of_tasks_by_status_type_and_priority(watched: Watched) -> None:
    labels = {"task_type": "sleep", "priority": "high"}

    assert watched.value("tasks_current", status="queued", **labels) == 2
    assert watched.value("tasks_total", status="queued", **labels) == 4
    assert watched.value("tasks_total", status="failed", **labels) == 0
    assert watched.value("tasks_accepted_total", **labels) == 4
    assert watched.value("tasks_republished_total", **labels) == 3
    assert watched.value("build_info", version=__version__) == 1


def test_a_histogram_accumulates_and_ends_with_infinity(watched: Watched) -> None:
    labels = {"task_type": "sleep", "priority": "high"}

    found = [watched.value("task_run_seconds_bucket", le=le, **labels) for le in ("0.25", "0.5", "1.0", "+Inf")]

    assert found == [0, 3, 4, 4]
    assert watched.value("task_run_seconds_count", **labels) == 4
    assert watched.value("task_run_seconds_sum", **labels) == 1.6


def test_a_scrape_tells_of_queues_and_workers(watched: Watched) -> None:
    watched.pauses.pause("low_priority")
    watched.roster.show(_worker(running=("a", "b")))
    watched.roster.workers["gone@host"] = SeenWorker(_worker(), now(), is_online=False)
    low = {"queue": "low_priority", "priority": "low"}

    assert (watched.value("queue_paused", **low), watched.value("queue_consumers", **low)) == (1, 1)
    assert (watched.value("workers_online"), watched.value("workers_lost")) == (1, 1)
    assert watched.value("worker_busy_slots", worker="low@host") == 2
    assert watched.value("dead_letters") == 3


def test_a_broker_that_keeps_no_dead_letters_has_no_number_of_them(watched: Watched) -> None:
    watched.letters.kept = None

    assert ("taskservice_dead_letters", ()) not in watched.scrape()
    assert watched.value("broker_up") == 1


def test_a_missing_store_or_broker_is_a_number_and_no_error(watched: Watched) -> None:
    watched.records.is_down = True
    assert (watched.value("store_up"), watched.value("broker_up")) == (0, 1)

    watched.broker.is_down = True
    names = {name for name, _ in watched.scrape()}

    assert names == {"taskservice_store_up", "taskservice_broker_up", "taskservice_build_info"}


def test_a_scrape_does_not_wait_for_what_hangs(watched: Watched) -> None:
    watched.letters.hangs_until = threading.Event()
    began = time.monotonic()
    samples = watched.scrape()
    took_s = time.monotonic() - began
    watched.letters.hangs_until.set()

    assert took_s < PATIENCE_S + 2
    assert samples["taskservice_store_up", ()] == 1
    assert ("taskservice_dead_letters", ()) not in samples


def test_the_statistics_leave_the_services_own_tasks_out(watched: Watched) -> None:
    stats = watched.client.get("/api/stats").get_json()

    assert (stats["tasks"], stats["by_status"]["queued"], stats["by_type"].keys()) == (3, 2, {"sleep"})
    assert (stats["last_hour"]["accepted"], stats["last_hour"]["failed"]) == (4, 1)
    assert stats["wait_s"] == {"count": 0, "mean": None, "p95": None}


def test_the_statistics_estimate_durations(watched: Watched) -> None:
    stats = watched.client.get("/api/stats").get_json()

    assert stats["run_s"] == stats["by_type"]["sleep"]["run_s"] == stats["by_priority"]["high"]["run_s"]
    assert (stats["run_s"]["count"], stats["run_s"]["mean"]) == (4, 0.4)
    assert 0.5 < stats["run_s"]["p95"] <= 1


def test_statistics_and_workers_need_the_store(watched: Watched) -> None:
    watched.records.is_down = True

    assert_problem(watched.client.get("/api/stats"), 503, "store_unavailable")
    assert_problem(watched.client.get("/api/workers"), 503, "store_unavailable")


def test_a_worker_reads_as_it_shows_itself(watched: Watched) -> None:
    watched.roster.show(_worker(running=("a",)))

    (worker,) = watched.client.get("/api/workers").get_json()["data"]

    assert worker.pop("last_seen_at").endswith("Z")
    assert worker == {
        "name": "low@host",
        "host": "host",
        "pid": 7,
        "status": "online",
        "queues": ["low_priority"],
        "concurrency": 2,
        "running": ["a"],
        "started_at": "2026-01-31T12:00:00.000Z",
    }


def test_who_has_left_shows_itself_no_more() -> None:
    roster = MemoryRoster(MemoryRecords())
    presence = Presence(roster, name="low@host", queues=["low_priority"], concurrency=2)
    presence.show(["b", "a"])
    (shown,) = roster.seen()
    presence.leave()
    presence.show(["c"])  # the keeper ticks once more

    assert (shown.worker.running, shown.worker.queues) == (("a", "b"), ("low_priority",))
    assert roster.seen() == []


@pytest.mark.parametrize("path", MONITORING, ids=lambda path: path.name)
def test_every_metric_that_monitoring_names_exists(path: Path, watched: Watched) -> None:
    watched.roster.show(_worker())
    labels_of: dict[str, set[str]] = {}
    for name, labels in watched.scrape():
        labels_of.setdefault(name, set()).update(label for label, _ in labels)

    for name, matchers in re.findall(r"\b(taskservice_[a-z_]+)\b(?:\{([^}]*)\})?", path.read_text(encoding="utf-8")):
        assert name in labels_of
        assert set(re.findall(r"(\w+)\s*[=!]", matchers)) <= labels_of[name], f"{name}{{{matchers}}}"


def test_every_alert_says_what_is_wrong_and_how_urgent_it_is() -> None:
    rules = (ROOT / "monitoring" / "alerts.yml").read_text(encoding="utf-8").split("- alert: ")[1:]

    assert rules
    for rule in rules:
        assert re.search(r"severity: (page|ticket)\b", rule), rule
        assert re.search(r"summary: \S", rule), rule


def test_the_dashboard_asks_only_the_source_that_its_reader_chooses() -> None:
    dashboard = json.loads((ROOT / "monitoring" / "grafana" / "taskservice.json").read_text(encoding="utf-8"))
    panels: list[dict[str, Any]] = dashboard["panels"]

    assert {panel["datasource"]["uid"] for panel in panels} == {"${source}"}
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all(target["expr"] for panel in panels for target in panel["targets"])


def _worker(*, running: tuple[str, ...] = ()) -> Worker:
    started_at = now().replace(year=2026, month=1, day=31, hour=12, minute=0, second=0, microsecond=0)
    return Worker("low@host", "host", 7, ("low_priority",), 2, started_at, running)
