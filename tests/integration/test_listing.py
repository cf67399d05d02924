"""Lists, batches and run times on a real Redis: every task on exactly one page, counts that are true, nothing left."""

from __future__ import annotations

import itertools
import random
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from taskservice.errors import Unavailable
from taskservice.local.ports import choose_port
from taskservice.local.system import LocalSystem
from taskservice.model import Cancellation, ErrorInfo, Priority, Status, Submission, TaskFilter, now
from taskservice.moments import Moments
from taskservice.records import Records, TaskIndex
from taskservice.records.run_times import RunTimes
from tests.conftest import WaitUntil
from tests.support.service import Service
from tests.support.store import Store

COUNT = 2000
MOMENTS = Moments()
TYPES = ("data_processing", "email_sending", "webhook_delivery")
BATCH = str(uuid.uuid4())
FAILURE = ErrorInfo("file_not_found", "gone", retryable=False)


@dataclass
class Listing(Store):
    """Tasks and their index."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.index = TaskIndex(self.client, hidden_types={"webhook_delivery"})

    def run(self, submission: Submission, *, seconds: float = 0.0) -> None:
        run = self.start(submission)
        time.sleep(seconds)
        self.succeed(submission, run)


@pytest.fixture
def store(stores: LocalSystem) -> Listing:
    return Listing.emptied(stores.result_backend)


def submitted(**changes: Any) -> Submission:
    moment, sequence = MOMENTS.take()
    plain: dict[str, Any] = {
        "task_id": str(uuid.uuid4()),
        "task_type": "data_processing",
        "priority": Priority.LOW,
        "parameters": {"data": "x"},
        "created_at": moment,
        "due_at": moment,
        "max_attempts": 1,
        "sequence": sequence,
    }
    return Submission(**plain | changes)


def walk(store: Listing, wanted: TaskFilter, *, limit: int) -> Iterator[str]:
    """Ids of all pages, in order."""
    cursor: str | None = None
    while True:
        page = store.index.page(wanted, limit=limit, cursor=cursor)
        yield from page.task_ids
        cursor = page.next_cursor
        if cursor is None:
            return


# Pages


def mixed(store: Listing) -> list[Submission]:
    """Many tasks of all kinds, in the order in which they were accepted."""
    chance = random.Random(4)
    submissions = [
        submitted(
            task_type=chance.choice(TYPES),
            priority=chance.choice(list(Priority)),
            tags=("common",) if chance.random() < 0.5 else (),
        )
        for _ in range(COUNT)
    ]
    store.records.accept_many(submissions)
    store.records.cancel_many([one.task_id for one in submissions[::3]])
    return submissions


def test_every_task_is_on_exactly_one_page_newest_first(store: Listing) -> None:
    submissions = mixed(store)
    cancelled = {one.task_id for one in submissions[::3]}

    for kind, priority, status, tag in itertools.product(
        (None, *TYPES), (None, Priority.HIGH), (None, Status.CANCELLED), (None, "common")
    ):
        wanted = TaskFilter(statuses=frozenset({status} if status else ()), task_type=kind, priority=priority, tag=tag)
        expected = [
            one.task_id
            for one in reversed(submissions)
            if (one.task_type == kind if kind else one.task_type != "webhook_delivery")
            and priority in (None, one.priority)
            and (status is None or one.task_id in cancelled)
            and (tag is None or tag in one.tags)
        ]
        assert list(walk(store, wanted, limit=200)) == expected, wanted
        assert store.index.count(wanted) == len(expected)


def test_pages_stay_where_they_are_while_tasks_come_and_change(store: Listing) -> None:
    submissions = mixed(store)
    visible = [one.task_id for one in reversed(submissions) if one.task_type != "webhook_delivery"]

    found: list[str] = []
    for position, task_id in enumerate(walk(store, TaskFilter(), limit=50)):
        found.append(task_id)
        if position % 40 == 0:
            store.records.accept(submitted())
            store.records.cancel(visible[-1 - position])

    assert found == visible


def test_what_the_service_does_for_itself_is_found_only_by_its_name(store: Listing) -> None:
    store.records.accept(submitted(task_type="webhook_delivery"))

    assert store.index.count(TaskFilter()) == 0
    assert store.index.count(TaskFilter(task_type="webhook_delivery")) == 1


@pytest.mark.parametrize("cursor", ["nonsense", "!", "MQ==", f"{'9' * 500}", "OTk5OjE", "MWU5OTk6YQ=="])
def test_a_cursor_that_no_page_gave_is_refused(store: Listing, cursor: str) -> None:
    with pytest.raises(ValueError, match="cursor"):
        store.index.page(TaskFilter(), limit=1, cursor=cursor)


def test_sizes_are_told_in_order_and_nothing_is_nothing(store: Listing) -> None:
    small, large = submitted(), submitted(parameters={"data": "x" * 10_000})
    store.records.accept_many([small, large])

    sizes_bytes = store.records.sizes_bytes([large.task_id, "missing", small.task_id])

    assert sizes_bytes[0] > 10_000 > sizes_bytes[2] > sizes_bytes[1] == 0


# Many in few round trips


def test_many_are_cancelled_each_with_its_own_answer(store: Listing) -> None:
    waits, runs, ended = (submitted() for _ in range(3))
    store.records.accept_many([waits, runs])
    store.start(runs)
    store.run(ended)

    answers = store.records.cancel_many([ended.task_id, "missing", runs.task_id, waits.task_id])

    assert answers == [
        Cancellation.FINAL,
        Cancellation.MISSING,
        Cancellation.REQUESTED,
        Cancellation.CANCELLED,
    ]


def test_many_are_refused_unless_a_worker_has_them(store: Listing) -> None:
    late, claimed = submitted(), submitted()
    store.start(claimed)

    assert store.records.refuse_many([claimed.task_id, late.task_id]) == [False, True]
    assert store.records.get(late.task_id) is None


def test_a_store_that_has_lost_the_script_gets_it_again(store: Listing) -> None:
    store.client.script_flush()
    submissions = [submitted() for _ in range(3)]

    store.records.accept_many(submissions)

    assert len(store.records.get_many([one.task_id for one in submissions])) == 3


def test_nothing_is_done_for_nobody(store: Listing) -> None:
    store.records.accept_many([])

    assert store.records.cancel_many([]) == []
    assert store.records.sizes_bytes([]) == []


def test_without_a_store_many_are_unavailable() -> None:
    records = Records.connect(f"redis://127.0.0.1:{choose_port()}/0", retention_s=60)

    with pytest.raises(Unavailable):
        records.accept_many([submitted()])


# Batches


def batch_of(store: Listing, *changes: dict[str, Any]) -> Sequence[Submission]:
    submissions = [submitted(batch_id=BATCH, **one) for one in changes]
    store.records.accept_many(submissions)
    return submissions


def test_a_batch_counts_its_tasks_wherever_they_are(store: Listing) -> None:
    later = now() + timedelta(seconds=60)
    waits, runs, ended, fails, _ = batch_of(store, {}, {}, {}, {}, {"due_at": later})
    store.records.accept(submitted())
    store.start(runs)
    store.run(ended)
    run = store.start(fails)
    store.attempts.fail(fails, delivery=run.delivery, attempt=1, error=FAILURE)
    store.records.accept_many([waits, runs, ended])  # told twice is counted once

    assert store.index.batch_counts(BATCH) == {
        Status.QUEUED: 1,
        Status.RUNNING: 1,
        Status.SUCCEEDED: 1,
        Status.FAILED: 1,
        Status.SCHEDULED: 1,
    }


def test_a_worker_that_is_faster_than_the_web_counts_the_task_too(store: Listing) -> None:
    submission = submitted(batch_id=BATCH)
    store.run(Submission.from_message(submission.to_message()))
    store.records.accept(submission)

    assert store.index.batch_counts(BATCH) == {Status.SUCCEEDED: 1}


def test_a_batch_is_forgotten_with_its_last_task(store: Listing) -> None:
    short = Listing(store.client, retention_s=0)
    first, second = batch_of(short, {}, {})
    short.run(first)
    short.attempts.forget()
    after_first = short.index.batch_counts(BATCH)
    short.records.cancel(second.task_id)
    short.attempts.forget()

    assert after_first == {Status.QUEUED: 1}
    assert short.index.batch_counts(BATCH) == {}
    assert store.client.exists(f"batch:{BATCH}") == 0


def test_a_batch_runs_to_its_end_and_is_found(service: Service, wait_until: WaitUntil) -> None:
    tasks = [{"task_type": "sleep", "parameters": {}, "tags": ["of-a-batch"]}] * 20

    batch = service.call("POST", "/api/tasks/batch", status=202, json={"tasks": tasks})
    path = batch["links"]["self"]
    wait_until(lambda: service.call("GET", path)["is_final"], 60, "all tasks of the batch have ended")
    found = service.call("GET", "/api/tasks?tag=of-a-batch&status=succeeded&limit=20")

    assert service.call("GET", path)["counts"]["succeeded"] == 20
    assert {task["task_id"] for task in found["data"]} == {result["task_id"] for result in batch["results"]}
    assert not found["has_more"]


def test_a_reader_that_waits_gets_the_final_task(service: Service) -> None:
    task_id = service.submit({"seconds": 0.5})

    assert service.call("GET", f"/api/tasks/{task_id}?wait=9")["status"] == "succeeded"


# Run times


def test_the_mean_follows_the_latest_runs_that_succeeded(store: Listing) -> None:
    unknown = RunTimes(store.client).mean_s("data_processing")
    for seconds in (0.3, 0.0):
        store.run(submitted(), seconds=seconds)
    fails = submitted()
    run = store.start(fails)
    store.attempts.fail(fails, delivery=run.delivery, attempt=1, error=FAILURE)

    mean_s = RunTimes(store.client).mean_s("data_processing")

    assert unknown is None
    assert mean_s is not None
    assert 0.15 < mean_s < 0.3  # 0.8 of the first and 0.2 of the second
    assert RunTimes(store.client).mean_s("email_sending") is None


def test_without_a_store_no_mean_is_known() -> None:
    client = Records.connect(f"redis://127.0.0.1:{choose_port()}/0", retention_s=60).client

    assert RunTimes(client).mean_s("data_processing") is None
