"""Which tasks wait for a message, since when, and when it is judged to be lost; on a real Redis."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from taskservice.local.system import LocalSystem
from taskservice.model import ErrorInfo, Priority, RateLimit, Submission, now, to_ms
from taskservice.queues import work_queues
from taskservice.records import Attempts, Claim, Pauses, Records, Run
from taskservice.records.measures import Kind, Measures
from taskservice.records.waiting import Waiting
from taskservice.worker.republisher import Republisher

BUSY = ErrorInfo("smtp_unavailable", "busy", retryable=True)
AFTER_S = 60.0
OWN = "email_sending"  # the type that may have queues of its own


@dataclass
class Store:
    """One emptied Redis, what web and workers do with it, and a republisher whose messages are kept in a list."""

    records: Records
    attempts: Attempts
    waiting: Waiting
    published: list[tuple[str, int]] = field(default_factory=list)

    def accept(self, **changes: Any) -> Submission:
        moment = now()
        plain = Submission(str(uuid.uuid4()), OWN, Priority.LOW, {"to": "a@example.com"}, moment, moment, 3)
        submission = replace(plain, **changes)
        self.records.accept(submission)
        return submission

    def start(self, submission: Submission, attempt: int = 1, **options: Any) -> str:
        """A granted claim's delivery."""
        delivery = uuid.uuid4().hex
        answer = self.attempts.claim(submission, attempt=attempt, worker="low@test", delivery=delivery, **options)
        assert answer.claim is Claim.GRANTED
        return delivery

    def retry(self, submission: Submission, delivery: str, *, delay_s: float) -> None:
        self.attempts.retry(submission, delivery=delivery, attempt=1, error=BUSY, delay_s=delay_s)

    def since(self, submission: Submission, queue: str = "low_priority") -> int | None:
        """The moment from which its message is in this queue; None when it waits for none there."""
        score = self.records.client.zscore(f"waiting:{queue}", submission.task_id)
        return None if score is None else int(score)

    def age(self, submission: Submission, seconds: float, queue: str = "low_priority") -> None:
        """As if it had waited for so much longer."""
        self.records.client.zincrby(f"waiting:{queue}", -round(seconds * 1000), submission.task_id)

    def look(self, *, depth: int, dedicated: tuple[str, ...] = ()) -> list[tuple[str, int]]:
        """What is published, with so many messages in each queue that exists."""
        queues = [one.name for one in work_queues((OWN,))]
        republisher = Republisher(self.waiting, queues=queues, dedicated=dedicated, after_s=AFTER_S)
        before = len(self.published)
        depths = {one.name: depth for one in work_queues(dedicated)}
        republisher.republish(republisher.suspects(), depths, self._publish)
        return self.published[before:]

    def _publish(self, submission: Submission, *, attempt: int = 1) -> None:
        self.published.append((submission.task_id, attempt))


@pytest.fixture
def store(stores: LocalSystem) -> Store:
    records = Records.connect(stores.result_backend, retention_s=60)
    records.client.flushdb()
    return Store(records, Attempts(records.client, retention_s=60), Waiting(records.client, retention_s=60))


def test_a_queued_task_waits_until_it_starts(store: Store) -> None:
    submission = store.accept()
    before_s = store.since(submission)
    store.start(submission)

    assert before_s == pytest.approx(to_ms(now()), abs=2000)
    assert store.since(submission) is None


ENDS: dict[str, Callable[[Store, Submission], object]] = {
    "cancelled": lambda store, one: store.records.cancel(one.task_id),
    "buried": lambda store, one: store.attempts.bury(one.task_id, error=BUSY),
    "stopped": lambda store, one: store.attempts.stop(one.task_id, delivery=""),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_task_that_ends_before_it_starts_waits_no_more(store: Store, end: str) -> None:
    submission = store.accept()

    ENDS[end](store, submission)

    assert store.since(submission) is None


def test_a_scheduled_task_waits_once_it_is_due(store: Store, wait_until: Callable[..., None]) -> None:
    moment = now()
    submission = store.accept(created_at=moment, due_at=moment + timedelta(seconds=0.2))
    before = store.since(submission)
    wait_until(lambda: store.attempts.sweep(may_judge_leases=False).became_due, 5, "it is due")

    assert before is None
    assert store.since(submission) == pytest.approx(to_ms(submission.due_at), abs=2000)


def test_a_retrying_task_waits_from_when_it_is_due(store: Store) -> None:
    submission = store.accept()

    store.retry(submission, store.start(submission), delay_s=600)

    assert store.since(submission) == pytest.approx(to_ms(now()) + 600_000, abs=2000)


def test_a_task_that_the_rate_limit_puts_off_waits_from_its_slot(store: Store) -> None:
    rate = RateLimit.parse("1/h")
    store.start(store.accept(), rate=rate)
    submission = store.accept()

    answer = store.attempts.claim(submission, attempt=1, worker="low@test", delivery="d", rate=rate)

    assert answer.claim is Claim.WAIT
    assert store.since(submission) == pytest.approx(to_ms(now()) + 3_600_000, abs=2000)


def test_a_retrying_task_that_is_to_run_now_keeps_its_place_in_the_queue(store: Store) -> None:
    waits, comes = store.accept(), store.accept()
    store.retry(waits, store.start(waits), delay_s=0)
    store.retry(comes, store.start(comes), delay_s=600)
    store.age(waits, 300)
    before = store.since(waits)
    for submission in (waits, comes):
        assert store.records.hasten(submission.task_id, attempt=2)

    assert store.since(waits) == before
    assert store.since(comes) == pytest.approx(to_ms(now()), abs=2000)


def test_what_waits_long_for_an_empty_queue_is_published_once(store: Store) -> None:
    lost, fresh = store.accept(), store.accept()
    store.age(lost, AFTER_S)

    first, second = store.look(depth=0), store.look(depth=0)

    assert first == [(lost.task_id, 1)]
    assert second == []
    assert store.since(fresh) is not None


def test_the_copy_that_comes_second_is_dropped(store: Store) -> None:
    submission = store.accept()
    store.age(submission, AFTER_S)
    ((_, attempt),) = store.look(depth=0)
    delivery = store.start(submission)
    store.attempts.succeed(submission, delivery=delivery, attempt=1, result={})

    late = store.attempts.claim(submission, attempt=attempt, worker="low@test", delivery="late")

    assert late.claim is Claim.STALE


def test_the_attempt_that_is_awaited_is_published(store: Store) -> None:
    failed, handed_back = store.accept(), store.accept()
    store.retry(failed, store.start(failed), delay_s=0)
    delivery = store.start(handed_back)
    store.attempts.give_up(Run(handed_back.task_id, delivery), is_lost=True)
    for submission in (failed, handed_back):
        store.age(submission, AFTER_S)

    assert sorted(store.look(depth=0)) == sorted([(failed.task_id, 2), (handed_back.task_id, 1)])


def test_what_waits_long_in_a_deep_queue_is_left_there(store: Store) -> None:
    for _ in range(3):
        store.age(store.accept(), 10 * AFTER_S)

    assert store.look(depth=3) == []


def test_what_a_deep_queue_has_passed_is_published(store: Store) -> None:
    lost, passed_by, next_one = store.accept(), store.accept(), store.accept()
    store.age(lost, 3 * AFTER_S)
    store.age(passed_by, 1.5 * AFTER_S)
    store.age(next_one, 1.4 * AFTER_S)
    store.start(passed_by)

    assert store.look(depth=1) == [(lost.task_id, 1)]


def test_a_message_that_came_back_to_the_front_has_passed_nothing(store: Store) -> None:
    waits, lost_its_worker = store.accept(), store.accept()
    store.age(waits, 2 * AFTER_S)
    store.attempts.give_up(Run(lost_its_worker.task_id, store.start(lost_its_worker)), is_lost=True)
    store.records.client.delete("overtaken")
    store.start(lost_its_worker)

    assert store.look(depth=1) == []


def test_one_published_again_too_early_does_not_bring_the_others_with_it(store: Store) -> None:
    first, second = store.accept(), store.accept()
    store.age(first, 2 * AFTER_S)
    store.look(depth=0)
    store.age(second, 1.5 * AFTER_S)
    store.start(first)

    assert store.look(depth=1) == []


def test_a_paused_queue_is_left_alone(store: Store) -> None:
    submission = store.accept()
    store.age(submission, 2 * AFTER_S)
    pauses = Pauses(store.records.client)
    pauses.pause("low_priority")
    paused = store.look(depth=0)
    pauses.resume("low_priority")

    assert paused == []
    assert store.look(depth=0) == [(submission.task_id, 1)]


def test_the_pause_of_a_queue_that_is_listed_no_more_holds_nothing_back(store: Store) -> None:
    submission = store.accept(own_queue=f"low_priority.{OWN}")
    Pauses(store.records.client).pause(f"low_priority.{OWN}")
    store.age(submission, AFTER_S + 1, f"low_priority.{OWN}")

    assert store.look(depth=0, dedicated=(OWN,)) == []
    assert store.look(depth=0) == [(submission.task_id, 1)]


def test_a_task_waits_in_the_queue_of_its_type(store: Store) -> None:
    queue = f"low_priority.{OWN}"
    submission = store.accept(own_queue=queue)
    store.age(submission, 2 * AFTER_S, queue)

    assert store.since(submission) is None
    assert store.look(depth=0, dedicated=(OWN,)) == [(submission.task_id, 1)]
    assert store.since(submission, queue) is not None


def test_a_task_of_a_queue_that_is_gone_waits_in_the_one_it_is_published_to(store: Store) -> None:
    queue = f"low_priority.{OWN}"
    submission = store.accept(own_queue=queue)
    store.age(submission, 2 * AFTER_S, queue)

    published = store.look(depth=5)

    assert published == [(submission.task_id, 1)]
    assert store.since(submission, queue) is None
    assert store.since(submission) is not None


def test_a_retry_waits_in_the_queue_that_its_type_has_now(store: Store) -> None:
    queue = f"low_priority.{OWN}"
    submission = store.accept(own_queue=queue)

    store.retry(submission, store.start(submission, queue="low_priority"), delay_s=0)

    assert store.since(submission, queue) is None
    assert store.since(submission) is not None


def test_what_was_published_again_is_counted(store: Store) -> None:
    store.age(store.accept(), 2 * AFTER_S)
    store.look(depth=0)

    assert Measures(store.records.client).read().republished == {Kind(OWN, Priority.LOW): 1}


def test_more_than_one_round_is_published_at_one_look(store: Store) -> None:
    lost = [store.accept() for _ in range(450)]
    for submission in lost:
        store.age(submission, 2 * AFTER_S)

    assert {task_id for task_id, _ in store.look(depth=0)} == {one.task_id for one in lost}
