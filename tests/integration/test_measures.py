"""What is counted and timed, on a real Redis; what one answer says of the whole service, with real processes."""

from __future__ import annotations

import signal
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from taskservice.errors import Unavailable
from taskservice.local.ports import choose_port
from taskservice.local.system import LocalSystem
from taskservice.model import ErrorInfo, Priority, Status, Submission, now
from taskservice.records import Attempts, Records
from taskservice.records.measures import Kind, Measures
from taskservice.records.roster import Roster, Worker
from taskservice.records.script import connect
from tests.conftest import WaitUntil
from tests.support.service import Service

LATE_S = 4.0
EMAIL = Kind("email_sending", Priority.LOW)
BUSY = ErrorInfo("smtp_unavailable", "busy", retryable=True)

Labels = tuple[tuple[str, str], ...]
Samples = dict[tuple[str, Labels], float]


class Counted:
    """One emptied Redis: what web and worker write, and what is measured of it."""

    def __init__(self, url: str) -> None:
        self.records = Records.connect(url, retention_s=3600)
        self.records.client.flushdb()
        self.attempts = Attempts(self.records.client, retention_s=3600)
        self.measures = Measures(self.records.client)
        self.roster = Roster(self.records.client)

    def accept(self, *, due_in_s: float = 0.0) -> Submission:
        submission = submitted(due_in_s)
        self.records.accept(submission)
        return submission

    def claim(self, submission: Submission, attempt: int = 1) -> str:
        delivery = uuid.uuid4().hex
        self.attempts.claim(submission, attempt=attempt, worker="low@test", delivery=delivery)
        return delivery


def submitted(due_in_s: float = 0.0) -> Submission:
    moment = now()
    return Submission(
        task_id=str(uuid.uuid4()),
        task_type=EMAIL.task_type,
        priority=EMAIL.priority,
        parameters={},
        created_at=moment,
        due_at=moment + timedelta(seconds=due_in_s),
        max_attempts=4,
    )


@pytest.fixture
def counted(stores: LocalSystem) -> Counted:
    return Counted(stores.result_backend)


def test_a_task_is_counted_in_every_status_it_comes_into(counted: Counted) -> None:
    submission = counted.accept()
    first = counted.claim(submission)
    counted.attempts.retry(submission, delivery=first, attempt=1, error=BUSY, delay_s=0)
    second = counted.claim(submission, 2)
    counted.attempts.succeed(submission, delivery=second, attempt=2, result={})
    measured = counted.measures.read()
    entered = {status: count for (status, kind), count in measured.entered.items() if kind == EMAIL}
    current = {status: count for (status, kind), count in measured.current.items() if kind == EMAIL and count}

    assert entered == {Status.QUEUED: 1, Status.RUNNING: 2, Status.RETRYING: 1, Status.SUCCEEDED: 1}
    assert current == {Status.SUCCEEDED: 1}
    assert measured.accepted == {EMAIL: 1}


def test_a_transition_that_is_asked_for_twice_is_counted_once(counted: Counted) -> None:
    submission = counted.accept()
    delivery = counted.claim(submission)
    for _ in range(2):
        counted.records.accept(submission)
        counted.attempts.succeed(submission, delivery=delivery, attempt=1, result={})
    measured = counted.measures.read()

    assert (measured.accepted[EMAIL], measured.entered[Status.SUCCEEDED, EMAIL], measured.run[EMAIL].count) == (1, 1, 1)


def test_waiting_is_timed_once_a_task_and_running_once_an_attempt(counted: Counted) -> None:
    submission = counted.accept(due_in_s=-LATE_S)
    first = counted.claim(submission)
    time.sleep(0.12)
    counted.attempts.retry(submission, delivery=first, attempt=1, error=BUSY, delay_s=0)
    second = counted.claim(submission, 2)
    counted.attempts.fail(submission, delivery=second, attempt=2, error=BUSY)
    measured = counted.measures.read()

    assert (measured.wait[EMAIL].count, measured.run[EMAIL].count) == (1, 2)
    assert LATE_S - 0.01 <= measured.wait[EMAIL].sum_s < LATE_S + 5  # instants are rounded to milliseconds
    assert measured.wait[EMAIL].counts[9] == 1  # up to 5 s
    assert 0.12 <= measured.run[EMAIL].sum_s < 5


def test_what_starts_before_it_was_due_has_not_waited(counted: Counted) -> None:
    counted.claim(counted.accept(due_in_s=60))

    assert counted.measures.read().wait[EMAIL].sum_s == 0


def test_the_pace_is_of_full_slots(counted: Counted, wait_until: WaitUntil) -> None:
    counted.accept()
    wait_until(lambda: counted.measures.pace().last_minute, 12, "the slot of ten seconds is over")
    pace = counted.measures.pace()

    assert pace.last_minute == {("accepted", "email_sending"): 1, ("queued", "email_sending"): 1}
    assert pace.last_hour == pace.last_minute


def test_the_pace_is_forgotten_after_an_hour(counted: Counted) -> None:
    counted.accept()
    client = counted.records.client
    (key,) = client.scan_iter("pace:*")

    assert 3600 < int(client.ttl(key)) <= 3720


def test_an_empty_store_has_nothing_to_tell(counted: Counted) -> None:
    measured = counted.measures.read()

    assert (measured.current, measured.wait, counted.measures.pace()) == ({}, {}, ({}, {}))
    assert counted.roster.seen() == []


def test_measuring_an_absent_store_raises_unavailable() -> None:
    client = connect(f"redis://127.0.0.1:{choose_port()}/0")

    for ask in (Measures(client).read, Measures(client).pace, Roster(client).seen):
        with pytest.raises(Unavailable):
            ask()


def test_a_worker_is_lost_after_ten_seconds_and_gone_after_a_minute(counted: Counted) -> None:
    worker = Worker("low@test", "test", 7, ("low_priority",), 2, now().replace(microsecond=0), ("id",))
    counted.roster.show(worker)
    (online,) = counted.roster.seen()
    counted.records.client.pexpire("worker:low@test", 48_000)  # as if twelve seconds had passed
    (lost,) = counted.roster.seen()
    counted.records.client.delete("worker:low@test")  # as Redis does in the end
    gone = counted.roster.seen()

    assert (online.worker, online.is_online, lost.is_online, gone) == (worker, True, False, [])
    assert timedelta(seconds=11) < now() - lost.last_seen_at < timedelta(seconds=20)


def test_a_worker_that_ended_is_not_missed(counted: Counted) -> None:
    counted.roster.show(Worker("low@test", "test", 7, (), 2, now()))
    counted.roster.leave("low@test")

    assert counted.roster.seen() == []


def scrape(service: Service) -> Samples:
    """Every sample of /metrics, by name and labels."""
    answer = requests.get(f"{service.system.url}/metrics", timeout=6)
    assert answer.status_code == 200, answer.text
    families = text_string_to_metric_families(answer.text)
    return {(one.name, tuple(sorted(one.labels.items()))): one.value for found in families for one in found.samples}


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[f"taskservice_{name}", tuple(sorted(labels.items()))]


def test_any_web_process_tells_of_every_task(service: Service, wait_until: WaitUntil) -> None:
    labels = {"task_type": "sleep", "priority": "high"}
    first = service.submit({}, priority="high")  # the type exists in the metrics from its first task on
    wait_until(lambda: service.is_final(first), 15, "it ran")
    before = scrape(service)
    task_ids = [service.submit({"seconds": 0.3}, priority="high") for _ in range(3)]
    wait_until(lambda: service.are_final(task_ids), 15, "they ran")
    scrapes = [scrape(service) for _ in range(6)]  # each over a new connection, so of both processes
    counted = {value(one, "tasks_total", status="succeeded", **labels) for one in scrapes}
    timed = {value(one, "task_run_seconds_count", **labels) for one in scrapes}

    assert len(counted) == len(timed) == 1
    assert counted.pop() >= value(before, "tasks_total", status="succeeded", **labels) + 3
    assert value(scrapes[0], "tasks_accepted_total", **labels) == value(before, "tasks_accepted_total", **labels) + 3
    assert value(scrapes[0], "task_run_seconds_sum", **labels) >= 0.9


def test_the_metrics_show_queues_and_workers(service: Service) -> None:
    service.call("PUT", "/api/queues/low_priority/pause")
    try:
        service.submit({}, priority="low")
        time.sleep(1.1)  # so that it has an age
        samples = scrape(service)
    finally:
        service.call("PUT", "/api/queues/low_priority/resume")
    low = {"queue": "low_priority", "priority": "low"}
    high = {"queue": "high_priority", "priority": "high"}

    assert (value(samples, "store_up"), value(samples, "broker_up")) == (1, 1)
    assert value(samples, "dead_letters") >= 0  # other tests of this system leave some
    assert (value(samples, "queue_paused", **low), value(samples, "queue_paused", **high)) == (1, 0)
    assert value(samples, "queue_consumers", **high) == 1
    assert value(samples, "queue_oldest_age_seconds", **low) >= 1
    assert value(samples, "workers_online") == 3


def test_workers_show_what_they_run(service: Service, wait_until: WaitUntil) -> None:
    task_id = service.submit({"seconds": 4}, priority="normal")

    def running() -> list[dict[str, Any]]:
        workers: list[dict[str, Any]] = service.call("GET", "/api/workers")["data"]
        return [one for one in workers if task_id in one["running"]]

    wait_until(running, 10, "a worker says that it runs the task")
    (worker,) = running()
    names = [one["name"].partition("@")[0] for one in service.call("GET", "/api/workers")["data"]]

    assert names == ["high", "low", "normal"]
    assert worker["name"] == service.task(task_id)["worker"]
    assert (worker["status"], worker["queues"], worker["concurrency"]) == ("online", ["normal_priority"], 2)


def statuses(service: Service, name: str) -> list[str]:
    workers = service.call("GET", "/api/workers")["data"]
    return [str(one["status"]) for one in workers if one["name"].startswith(f"{name}@")]


def test_a_silent_worker_is_lost_until_it_shows_itself_again(service: Service, wait_until: WaitUntil) -> None:
    with stopped(service, "worker-low"):
        wait_until(lambda: statuses(service, "low") == ["lost"], 15, "it is silent")
    wait_until(lambda: statuses(service, "low") == ["online"], 15, "it shows itself again")


def test_a_worker_that_is_stopped_is_gone_at_once(service: Service, wait_until: WaitUntil) -> None:
    program = service.system.supervisor.stop("worker-low")
    after = statuses(service, "low")
    service.system.supervisor.start(program)
    wait_until(lambda: statuses(service, "low") == ["online"], 30, "its successor shows itself")

    assert after == []


def test_the_statistics_agree_with_the_tasks(service: Service, wait_until: WaitUntil) -> None:
    task_id = service.submit({"fail_attempts": 1, "permanent": True}, priority="normal")
    wait_until(lambda: service.is_final(task_id), 10, "it failed")
    stats = service.call("GET", "/api/stats")

    assert stats["tasks"] == sum(stats["by_status"].values()) == sum(one["tasks"] for one in stats["by_type"].values())
    assert stats["by_priority"]["normal"]["by_status"]["failed"] >= 1
    assert stats["run_s"]["count"] >= 1
    assert stats["wait_s"]["mean"] is not None
    assert stats["run_s"]["p95"] is not None


@pytest.mark.parametrize(("program", "missing"), [("redis", "store"), ("rabbitmq", "broker")])
def test_a_scrape_is_answered_while_a_store_hangs(service: Service, program: str, missing: str) -> None:
    with stopped(service, program):
        began = time.monotonic()
        samples = scrape(service)
        took_s = time.monotonic() - began
    other = {"store": "broker", "broker": "store"}[missing]

    assert took_s < 5
    assert (value(samples, f"{missing}_up"), value(samples, f"{other}_up")) == (0, 1)


@contextmanager
def stopped(service: Service, program: str) -> Iterator[None]:
    """It hangs: its connections stay, and nothing answers."""
    service.system.supervisor.signal_group(program, signal.SIGSTOP)
    try:
        yield
    finally:
        service.system.supervisor.signal_group(program, signal.SIGCONT)
