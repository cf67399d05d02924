"""Every transition of a record, on a real Redis: atomic, in order, never backwards, and nothing left behind."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import redis

from taskservice.errors import Unavailable
from taskservice.local.ports import choose_port
from taskservice.local.system import LocalSystem
from taskservice.model import (
    Callback,
    Cancellation,
    ErrorInfo,
    Priority,
    Progress,
    RateLimit,
    Status,
    Submission,
    TaskFilter,
    now,
)
from taskservice.records import LEASE_S, MAX_DELIVERIES, Attempts, Claim, Pauses, Records, Run
from tests.conftest import WaitUntil
from tests.support.store import BUSY, Store, in_seconds, submitted

LOST = ErrorInfo("worker_lost", "lost", retryable=True)


# Accepting


def test_an_unknown_id_has_no_record(store: Store) -> None:
    assert store.records.get("unknown") is None


def test_an_accepted_task_reads_as_it_was_submitted(store: Store) -> None:
    earlier = str(uuid.uuid4())
    submission = store.accept(expires_in_s=5.5, tags=("a:b", "ü"), metadata={"order": 7}, retried_from=earlier)

    record = store.read(submission)

    assert record.submission.to_message() == submission.to_message()
    assert (record.status, record.attempt, record.version) == (Status.QUEUED, 0, 1)


def test_a_worker_that_is_faster_than_the_web_creates_the_record(store: Store) -> None:
    submission = submitted()
    store.start(submission)
    store.records.accept(submission)

    assert store.status(submission) is Status.RUNNING


def test_a_refused_task_is_unreadable_and_never_runs(store: Store) -> None:
    submission = submitted()

    was_refused = store.records.refuse(submission.task_id)

    assert was_refused
    assert store.claim(submission).claim is Claim.STALE
    assert store.records.get(submission.task_id) is None


def test_a_lifted_refusal_lets_the_same_id_run(store: Store) -> None:
    submission = submitted()
    store.records.refuse(submission.task_id)
    store.records.lift(submission.task_id)
    store.records.accept(submission)

    assert store.claim(submission).claim is Claim.GRANTED


def test_a_claimed_task_cannot_be_refused(store: Store) -> None:
    submission = submitted()
    store.start(submission)

    assert not store.records.refuse(submission.task_id)


# Attempts


def test_a_retry_starts_the_next_attempt_and_ends_the_last(store: Store) -> None:
    submission = submitted()
    store.retry(submission, store.start(submission), delay_s=4)
    waiting = store.read(submission)
    old_copy = store.claim(submission).claim
    next_claim = store.claim(submission, 2).claim

    assert (waiting.status, waiting.error, waiting.attempts[0].error) == (Status.RETRYING, BUSY, BUSY)
    assert waiting.due_at > waiting.attempts[0].started_at
    assert (old_copy, next_claim) == (Claim.STALE, Claim.GRANTED)


END: dict[str, Callable[[Store, Submission, Run], None]] = {
    "succeeded": Store.succeed,
    "failed": Store.fail,
    "cancelled": lambda store, _, run: store.attempts.stop(run.task_id, delivery=run.delivery),
}


@pytest.mark.parametrize("final", END)
def test_a_final_status_stays(store: Store, final: str) -> None:
    submission = submitted()
    run = store.start(submission)
    END[final](store, submission, run)
    for end in END.values():
        end(store, submission, run)
    store.retry(submission, run)
    store.attempts.bury(submission.task_id, error=LOST)

    assert store.status(submission) == final
    assert store.records.cancel(submission.task_id) is Cancellation.FINAL
    assert store.claim(submission, 2).claim is (Claim.REVOKED if final == "cancelled" else Claim.STALE)


def test_a_claim_that_is_asked_twice_is_one_attempt(store: Store) -> None:
    submission = submitted()
    answers = [store.claim(submission, delivery="same").claim for _ in range(2)]

    assert answers == [Claim.GRANTED] * 2
    assert len(store.read(submission).attempts) == 1


def test_a_second_delivery_waits_while_the_first_runs(store: Store) -> None:
    submission = submitted()
    store.start(submission)

    answer = store.claim(submission)

    assert answer.claim is Claim.WAIT
    assert 0 < answer.wait_s <= LEASE_S


def test_the_next_attempt_waits_until_the_last_one_has_ended(store: Store) -> None:
    submission = submitted()
    store.start(submission)

    assert store.claim(submission, 2).claim is Claim.WAIT


def test_only_the_delivery_that_claimed_an_attempt_may_end_it(store: Store) -> None:
    submission = submitted()
    store.start(submission)
    store.succeed(submission, Run(submission.task_id, "another"))

    assert store.status(submission) is Status.RUNNING


def test_a_result_whose_record_is_gone_brings_the_record_back(store: Store) -> None:
    submission = submitted()
    run = store.start(submission)
    store.client.flushdb()
    store.succeed(submission, run)

    assert store.read(submission).result == {"words": 2}


def test_progress_is_of_the_running_attempt_only(store: Store) -> None:
    submission = submitted()
    run = store.start(submission)
    store.attempts.report_progress(run, Progress(1, 2, "rows"))
    store.attempts.report_progress(Run(submission.task_id, "another"), Progress(9, 9, "other"))

    assert store.read(submission).progress == Progress(1, 2, "rows")


def test_a_mark_outlives_its_attempt(store: Store) -> None:
    submission = submitted()
    run = store.start(submission)
    store.attempts.set_mark(submission.task_id, "sent", ["ada@example.com"])
    store.retry(submission, run)

    assert store.attempts.mark(submission.task_id, "sent") == ["ada@example.com"]
    assert store.attempts.mark(submission.task_id, "other") is None


@pytest.mark.parametrize("knows_it_again", ["recall", "claim"])
def test_a_mark_that_is_set_while_redis_has_lost_the_record_is_kept(store: Store, knows_it_again: str) -> None:
    submission = submitted()
    run = store.start(submission)
    store.client.flushdb()
    store.attempts.set_mark(submission.task_id, "sent", ["ada@example.com"])
    if knows_it_again == "recall":
        store.retry(submission, run)
    else:  # its worker died, and the message came again
        store.start(submission)

    assert store.attempts.mark(submission.task_id, "sent") == ["ada@example.com"]
    assert store.read(submission).attempt == 1
    assert store.client.ttl(f"task:{submission.task_id}") == -1


# A clock that was put back

HOUR_MS = 3_600_000


def test_a_dead_workers_task_waits_for_no_longer_than_a_lease(store: Store) -> None:
    submission = submitted()
    store.start(submission)
    store.client.zincrby("leases", HOUR_MS, submission.task_id)

    answer = store.claim(submission)

    assert (answer.claim, answer.wait_s <= LEASE_S) == (Claim.WAIT, True)
    assert float(store.client.zscore("leases", submission.task_id) or 0) < 1000 * time.time() + HOUR_MS / 2


def test_a_rate_limit_waits_for_no_longer_than_its_period(store: Store) -> None:
    rate = RateLimit(1, 1.0)
    store.claim(submitted(), rate=rate)
    store.client.lset("starts:data_processing", 0, str(round(1000 * time.time()) + HOUR_MS))

    answer = store.claim(submitted(), rate=rate)

    assert (answer.claim, answer.wait_s <= rate.period_s) == (Claim.WAIT, True)


# What Redis alone forgets


@pytest.mark.parametrize("attempt", [1, 2])
def test_a_run_whose_start_is_forgotten_is_told_so_when_it_renews_and_can_be_recalled(
    store: Store, attempt: int
) -> None:
    submission = store.accept()
    if attempt == 2:
        store.retry(submission, store.start(submission))
    with store.forgetting():
        run = replace(store.start(submission, attempt), attempt=attempt)
    (lease,) = store.attempts.renew([run])
    store.attempts.recall(submission, delivery=run.delivery, attempt=attempt)
    (recalled,) = store.attempts.renew([run])

    assert (lease.is_held, lease.is_forgotten) == (False, True)
    assert (recalled.is_held, recalled.is_forgotten) == (True, False)
    assert (store.status(submission), store.read(submission).attempt) == (Status.RUNNING, attempt)
    assert store.claim(submission, attempt).claim is Claim.WAIT


@pytest.mark.parametrize("final", END)
def test_a_run_that_has_ended_is_not_forgotten(store: Store, final: str) -> None:
    submission = submitted()
    run = replace(store.start(submission), attempt=1)
    END[final](store, submission, run)

    (lease,) = store.attempts.renew([run])

    assert (lease.is_held, lease.is_forgotten) == (False, False)


def test_a_run_whose_attempt_is_to_be_retried_is_not_forgotten(store: Store) -> None:
    submission = submitted()
    run = replace(store.start(submission), attempt=1)
    store.retry(submission, run)

    assert not store.attempts.renew([run])[0].is_forgotten


NOT_STARTED: dict[str, Callable[[], dict[str, Any]]] = {"queued": dict, "scheduled": lambda: in_seconds(60)}


def test_a_forgotten_retry_does_not_keep_the_next_attempt_from_running(store: Store) -> None:
    submission = submitted()
    run = store.start(submission)
    with store.forgetting():
        store.retry(submission, run)
    too_early = store.claim(submission, 2).claim  # for all that is known the first still runs
    lapse_leases(store)
    store.attempts.sweep(may_judge_leases=True)
    second = store.start(submission, 2)
    first_again = store.claim(submission, 1).claim
    store.succeed(submission, second, 2)

    assert (too_early, first_again) == (Claim.WAIT, Claim.STALE)
    assert (store.status(submission), store.read(submission).attempt) == (Status.SUCCEEDED, 2)
    assert store.claim(submission, 1).claim is Claim.STALE


@pytest.mark.parametrize("status", NOT_STARTED)
def test_a_forgotten_attempt_does_not_keep_the_next_one_from_running(store: Store, status: str) -> None:
    submission = store.accept(expires_in_s=1, **NOT_STARTED[status]())
    with store.forgetting():
        store.retry(submission, store.start(submission))
    time.sleep(1.1)  # it was to start in time, and did

    assert store.status(submission) == status
    assert store.claim(submission, 2).claim is Claim.GRANTED
    assert store.claim(submission, 1).claim is Claim.STALE


@pytest.mark.parametrize("status", [*NOT_STARTED, "retrying"])
def test_the_result_of_an_attempt_whose_start_is_forgotten_is_kept(store: Store, status: str) -> None:
    submission = store.accept(**NOT_STARTED.get(status, dict)())
    if status == "retrying":  # its first worker was lost
        store.attempts.give_up(store.start(submission), is_lost=True)
    with store.forgetting():
        run = store.start(submission)
    forgotten = store.status(submission)
    store.succeed(submission, run)

    assert forgotten == status
    assert (store.status(submission), store.read(submission).result) == (Status.SUCCEEDED, {"words": 2})
    assert store.claim(submission).claim is Claim.STALE


def test_a_retry_of_an_attempt_whose_start_is_forgotten_is_kept(store: Store) -> None:
    submission = store.accept()
    with store.forgetting():
        run = store.start(submission)
    store.retry(submission, run)

    assert (store.status(submission), store.read(submission).error) == (Status.RETRYING, BUSY)
    assert store.claim(submission, 1).claim is Claim.STALE
    assert store.claim(submission, 2).claim is Claim.GRANTED


def test_a_report_of_an_attempt_that_was_repeated_since_changes_nothing(store: Store) -> None:
    submission = submitted()
    lost = store.start(submission)
    store.attempts.give_up(lost, is_lost=True)
    store.retry(submission, store.start(submission))
    store.succeed(submission, lost)

    assert store.status(submission) is Status.RETRYING


# Lost workers


def test_a_lost_attempt_runs_again_and_three_losses_fail_the_task(store: Store) -> None:
    submission = submitted()
    for _ in range(MAX_DELIVERIES):
        store.attempts.give_up(store.start(submission), is_lost=True)

    record = store.read(submission)

    assert record.error is not None
    assert (record.status, record.error.code, record.error.retryable) == (Status.FAILED, "worker_lost", True)
    assert [attempt.number for attempt in record.attempts] == [1] * MAX_DELIVERIES


def test_one_message_of_a_task_that_lost_its_workers_is_a_dead_letter(store: Store) -> None:
    submission = submitted()
    for _ in range(MAX_DELIVERIES):
        store.attempts.give_up(store.start(submission), is_lost=True)

    asked_twice = [store.claim(submission, delivery="letter").claim for _ in range(2)]
    another_copy = store.claim(submission).claim

    assert asked_twice == [Claim.DEAD_LETTER] * 2
    assert another_copy is Claim.STALE


def test_what_a_worker_hands_back_is_no_lost_delivery(store: Store) -> None:
    submission = submitted()
    for _ in range(MAX_DELIVERIES + 2):
        store.attempts.give_up(store.start(submission), is_lost=False)

    assert store.status(submission) is Status.RETRYING


def test_losses_are_counted_anew_for_each_attempt(store: Store) -> None:
    submission = submitted()
    for attempt in (1, 2):
        for _ in range(MAX_DELIVERIES - 1):
            store.attempts.give_up(store.start(submission, attempt), is_lost=True)
        store.retry(submission, store.start(submission, attempt))

    assert store.status(submission) is Status.RETRYING
    assert store.claim(submission, 3).claim is Claim.GRANTED


def test_a_lease_that_lapsed_is_a_lost_delivery(store: Store, wait_until: WaitUntil) -> None:
    submission = submitted()
    run = store.start(submission)
    lapse_leases(store)
    unjudged = store.attempts.sweep(may_judge_leases=False)
    swept = store.attempts.sweep(may_judge_leases=True)

    assert (unjudged.lost, swept.lost) == (0, 1)
    assert store.status(submission) is Status.RETRYING
    assert store.claim(submission).claim is Claim.GRANTED
    assert not store.attempts.renew([run])[0].is_held


def test_a_worker_that_comes_back_before_another_takes_over_keeps_its_attempt(store: Store) -> None:
    submission = submitted()
    run = store.start(submission)
    lapse_leases(store)
    store.attempts.sweep(may_judge_leases=True)
    lease = store.attempts.renew([run])[0]
    store.succeed(submission, run)

    assert lease.is_held
    assert store.status(submission) is Status.SUCCEEDED
    assert store.read(submission).attempts[0].error is None


def test_a_renewed_lease_does_not_lapse(store: Store) -> None:
    submission = submitted()
    run = store.start(submission)
    lapse_leases(store)
    store.attempts.renew([run])

    assert store.attempts.sweep(may_judge_leases=True).lost == 0


def test_a_full_redis_refuses_a_transition_whole(store: Store) -> None:
    submission = submitted()
    store.start(submission)
    lapse_leases(store)
    store.client.config_set("maxmemory", 1)
    try:
        with pytest.raises(redis.RedisError):
            store.attempts.sweep(may_judge_leases=True)
    finally:
        store.client.config_set("maxmemory", 0)

    assert store.status(submission) is Status.RUNNING
    assert store.attempts.sweep(may_judge_leases=True).lost == 1


def test_a_full_redis_has_room_again_when_retentions_end(store: Store) -> None:
    client = store.client
    submissions = [submitted(parameters={"data": "x" * 10_000}) for _ in range(300)]
    store.records.accept_many(submissions)
    store.records.cancel_many([one.task_id for one in submissions])
    client.zunionstore("expiring", {"expiring": 0})  # due since 1970
    client.config_set("maxmemory", int(client.info("memory")["used_memory"]) - 1_000_000)
    try:
        with pytest.raises(Unavailable):
            store.accept()
        forgotten = store.attempts.forget()
        accepted = store.accept()
    finally:
        client.config_set("maxmemory", 0)

    assert forgotten == 300
    assert store.status(accepted) is Status.QUEUED
    assert store.index.count(TaskFilter()) == 1


def test_a_run_whose_handler_has_ended_says_so_with_its_lease(store: Store) -> None:
    submission = submitted()
    run = store.start(submission)
    before = store.attempts.renew([run])[0].is_settling
    store.attempts.note_settling(run)

    assert (before, store.attempts.renew([run])[0].is_settling) == (False, True)


def test_a_later_attempt_whose_record_is_lost_runs_all_the_same(store: Store) -> None:
    submission = submitted()
    store.retry(submission, store.start(submission))
    store.client.flushdb()
    run = store.start(submission, 2)
    store.attempts.succeed(submission, delivery=run.delivery, attempt=2, result={"words": 2})

    assert (store.status(submission), store.read(submission).attempt) == (Status.SUCCEEDED, 2)


def test_a_lapse_that_was_none_is_not_counted(store: Store) -> None:
    submission = submitted()
    run = store.start(submission)
    for _ in range(MAX_DELIVERIES + 1):
        lapse_leases(store)
        store.attempts.sweep(may_judge_leases=True)
        store.attempts.renew([run])

    assert store.status(submission) is Status.RUNNING


# Cancelling


def test_a_task_that_has_not_started_is_cancelled_for_good(store: Store) -> None:
    submission = store.accept()

    answer = store.records.cancel(submission.task_id)

    assert answer is Cancellation.CANCELLED
    assert store.claim(submission).claim is Claim.REVOKED
    assert store.status(submission) is Status.CANCELLED


def test_a_running_task_is_asked_to_stop_and_learns_it_by_its_progress_and_its_lease(store: Store) -> None:
    submission = submitted()
    run = store.start(submission)

    answer = store.records.cancel(submission.task_id)
    may_go_on = store.attempts.report_progress(run, Progress(1, 2))
    lease = store.attempts.renew([run])[0]

    assert (answer, may_go_on) == (Cancellation.REQUESTED, False)
    assert lease.cancelled_since_s is not None
    assert store.read(submission).is_cancel_requested


@pytest.mark.parametrize("how", ["retry", "give_up"])
def test_a_cancelled_task_has_no_further_attempt(store: Store, how: str) -> None:
    submission = submitted()
    run = store.start(submission)
    store.records.cancel(submission.task_id)
    if how == "retry":
        store.retry(submission, run)
    else:
        store.attempts.give_up(run, is_lost=False)

    assert store.status(submission) is Status.CANCELLED


def test_no_task_is_missing(store: Store) -> None:
    assert store.records.cancel("unknown") is Cancellation.MISSING


# Expiry, delays, pauses, rate limits


def test_a_task_that_is_claimed_after_its_deadline_expires(store: Store) -> None:
    submission = store.accept(expires_in_s=0.001)
    time.sleep(0.01)

    assert store.claim(submission).claim is Claim.REVOKED
    assert store.status(submission) is Status.EXPIRED


def test_a_sweep_expires_what_nobody_claims_and_spares_what_has_started(store: Store) -> None:
    waiting, started = store.accept(expires_in_s=0.05), store.accept(expires_in_s=0.05)
    store.retry(started, store.start(started))
    time.sleep(0.06)

    swept = store.attempts.sweep(may_judge_leases=True)

    assert swept.expired == 1
    assert (store.status(waiting), store.status(started)) == (Status.EXPIRED, Status.RETRYING)


def test_a_scheduled_task_is_queued_when_it_is_due(store: Store) -> None:
    soon, later = store.accept(**in_seconds(0.05)), store.accept(**in_seconds(60))
    before = store.status(soon)
    time.sleep(0.06)
    store.attempts.sweep(may_judge_leases=True)

    assert before is Status.SCHEDULED
    assert (store.status(soon), store.status(later)) == (Status.QUEUED, Status.SCHEDULED)


def test_thousands_that_are_due_at_once_are_queued_at_once(store: Store) -> None:
    submissions = [submitted(**in_seconds(0.05)) for _ in range(1100)]
    store.records.accept_many(submissions)
    time.sleep(0.06)

    swept = store.attempts.sweep(may_judge_leases=True)

    assert swept.became_due == 1100
    assert store.index.count(TaskFilter(statuses=frozenset({Status.SCHEDULED}))) == 0


def test_the_attempt_of_a_lost_worker_is_hastened_by_its_own_number(store: Store) -> None:
    submission = submitted()
    store.attempts.give_up(store.start(submission), is_lost=True)
    awaited = store.read(submission).next_attempt
    as_another = store.records.hasten(submission.task_id, attempt=2)
    as_itself = store.records.hasten(submission.task_id, attempt=awaited)

    assert (awaited, as_another, as_itself) == (1, False, True)
    assert store.claim(submission, awaited).claim is Claim.GRANTED
    assert store.read(submission).next_attempt == 2


def test_a_hastened_task_is_due_now_and_the_delayed_copy_is_dropped(store: Store) -> None:
    submission = store.accept(**in_seconds(60))

    is_hastened = store.records.hasten(submission.task_id, attempt=1)
    run = store.start(submission)
    store.succeed(submission, run)

    assert is_hastened
    assert store.claim(submission).claim is Claim.STALE
    assert not store.records.hasten(submission.task_id, attempt=1)


def test_a_paused_queue_starts_nothing_until_it_is_resumed(store: Store) -> None:
    submission, pauses = store.accept(), Pauses(store.client)
    pauses.pause("low_priority")
    while_paused = store.claim(submission).claim
    status = store.status(submission)
    pauses.resume("low_priority")

    assert (while_paused, status) == (Claim.PAUSED, Status.QUEUED)
    assert store.claim(submission).claim is Claim.GRANTED


# Changes and their events


def test_a_moved_start_is_a_new_version_and_no_event(store: Store) -> None:
    limit = RateLimit(count=1, period_s=10)
    store.claim(store.accept(), rate=limit)
    queued, retried = store.accept(), submitted()
    store.retry(retried, store.start(retried))
    before = [store.read(one) for one in (queued, retried)]
    store.claim(queued, rate=limit)
    store.claim(queued, rate=limit)
    store.records.hasten(retried.task_id, attempt=2)
    after = [store.read(one) for one in (queued, retried)]

    assert store.events(queued) == ["queued"]
    assert store.events(retried) == ["queued", "started", "retrying"]
    assert all(new.version > old.version and new.due_at != old.due_at for new, old in zip(after, before, strict=True))


def test_a_scheduled_task_that_is_put_off_or_hastened_becomes_queued_once(store: Store) -> None:
    limit = RateLimit(count=1, period_s=10)
    store.claim(store.accept(), rate=limit)
    put_off, hastened = store.accept(**in_seconds(60)), store.accept(**in_seconds(60))
    for _ in range(2):
        store.claim(put_off, rate=limit)
    store.records.hasten(hastened.task_id, attempt=1)

    assert store.events(put_off) == store.events(hastened) == ["scheduled", "queued"]


def test_a_late_report_after_a_lapsed_lease_is_no_second_event(store: Store) -> None:
    submission = submitted()
    run = store.start(submission)
    lapse_leases(store)
    store.attempts.sweep(may_judge_leases=True)
    store.retry(submission, run)

    assert store.events(submission) == ["queued", "started", "retrying"]


# Dead letters


@pytest.mark.parametrize("is_known", [True, False])
def test_a_buried_task_is_failed(store: Store, is_known: bool) -> None:
    submission = store.accept() if is_known else submitted()

    store.attempts.bury(submission.task_id, error=LOST, submission=submission)

    assert (store.status(submission), store.read(submission).error) == (Status.FAILED, LOST)


def test_a_letter_of_an_earlier_attempt_ends_nothing(store: Store) -> None:
    retrying, running = submitted(), submitted()
    for one in (retrying, running):
        store.retry(one, store.start(one))
    second = store.start(running, 2)
    for one in (retrying, running):
        store.attempts.bury(one.task_id, error=LOST, submission=one, attempt=1)
    store.attempts.give_up(second, is_lost=True)

    assert (store.status(retrying), store.status(running)) == (Status.RETRYING, Status.RETRYING)
    assert store.claim(retrying, 2).claim is Claim.GRANTED


def test_the_last_message_of_a_running_task_is_missed_only_if_the_run_is_lost(store: Store) -> None:
    finished, lost = submitted(), submitted()
    runs = [store.start(one) for one in (finished, lost)]
    for one in (finished, lost):
        store.attempts.bury(one.task_id, error=LOST)
    store.succeed(finished, runs[0])
    store.attempts.give_up(runs[1], is_lost=True)

    assert (store.status(finished), store.status(lost)) == (Status.SUCCEEDED, Status.FAILED)


# The index and what is left


def test_a_filter_finds_newest_first_and_pages_do_not_move_when_tasks_arrive(store: Store) -> None:
    submissions = [store.accept(tags=("t",) if number % 2 else (), sequence=number) for number in range(7)]
    wanted = TaskFilter(statuses=frozenset({Status.QUEUED}), priority=Priority.LOW)
    first = store.index.page(wanted, limit=3)
    store.accept(sequence=7)
    second = store.index.page(wanted, limit=3, cursor=first.next_cursor)
    last = store.index.page(wanted, limit=3, cursor=second.next_cursor)

    pages = [*first.task_ids, *second.task_ids, *last.task_ids]
    assert pages == [one.task_id for one in reversed(submissions)]
    assert last.next_cursor is None
    assert store.index.count(TaskFilter(tag="t")) == 3
    assert store.index.count(TaskFilter(tag="t", task_type="other")) == 0


def test_tasks_of_one_millisecond_keep_the_order_of_their_acceptance(store: Store) -> None:
    moment = now()
    submissions = [submitted(created_at=moment, due_at=moment, sequence=number) for number in range(50)]
    as_messages = [Submission.from_message(one.to_message()) for one in submissions]
    for one in reversed(as_messages):  # the workers were faster than the web, the last one's fastest
        store.start(one)
    store.records.accept_many(submissions)

    page = store.index.page(TaskFilter(), limit=200)

    assert list(page.task_ids) == [one.task_id for one in reversed(submissions)]


def test_tasks_of_one_place_are_each_on_one_page(store: Store) -> None:
    moment = now()
    submissions = [submitted(created_at=moment, due_at=moment) for _ in range(50)]
    store.records.accept_many(submissions)
    found: list[str] = []
    cursor: str | None = None
    while len(found) < len(submissions):
        page = store.index.page(TaskFilter(), limit=4, cursor=cursor)
        found += page.task_ids
        cursor = page.next_cursor
        if cursor is None:
            break

    assert sorted(found) == sorted(one.task_id for one in submissions)


def test_creation_bounds_are_exclusive(store: Store) -> None:
    moment = now().replace(microsecond=0)
    ids = [store.accept(**at(moment + timedelta(seconds=second))).task_id for second in range(3)]

    found = store.index.page(
        TaskFilter(created_after=moment, created_before=moment + timedelta(seconds=2)), limit=10
    ).task_ids

    assert list(found) == [ids[1]]
    assert store.index.oldest_created_at(TaskFilter()) == moment


def at(moment: Any) -> dict[str, Any]:
    return {"created_at": moment, "due_at": moment}


def test_a_cursor_that_no_page_gave_is_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="cursor"):
        store.index.page(TaskFilter(), limit=1, cursor="nonsense")


def test_retention_leaves_nothing_behind(stores: LocalSystem, store: Store) -> None:
    short = Store(store.client, retention_s=0)
    for end in END.values():
        submission = short.accept(tags=("a", "b"), expires_in_s=60)
        end(short, submission, short.start(submission))
    cancelled = short.accept(**in_seconds(0.01))
    short.records.cancel(cancelled.task_id)
    short.claim(cancelled)  # its message has come
    time.sleep(0.05)
    forgotten = short.attempts.forget()
    events_left = store.client.xlen("events")
    left = {key for key in store.client.scan_iter() if not key.startswith("pace:")}

    assert forgotten == 4
    assert events_left == 0
    assert left == {"task_types", "counters", "durations", "run_times", "events", "overtaken"}


def test_a_damaged_record_does_not_stop_the_sweep_of_others(store: Store) -> None:
    damaged, *others = (submitted() for _ in range(5))
    for one in (damaged, *others):
        store.start(one)
    lapse_leases(store)
    store.client.zadd("leases", {damaged.task_id: 0})  # the first to be looked at
    store.client.hset(f"task:{damaged.task_id}", "tags", "no list")
    with pytest.raises(redis.ResponseError):
        store.attempts.sweep(may_judge_leases=True)

    store.attempts.sweep(may_judge_leases=True)

    assert [store.status(one) for one in others] == [Status.RETRYING] * 4


def test_a_running_task_without_a_lease_is_judged_once_its_message_comes_again(store: Store) -> None:
    submission = submitted()
    store.start(submission)
    store.client.delete("leases")

    answer = store.claim(submission)
    lapse_leases(store)
    store.attempts.sweep(may_judge_leases=True)

    assert answer.claim is Claim.WAIT
    assert store.claim(submission).claim is Claim.GRANTED


def test_a_final_record_stays_while_a_copy_of_its_message_can_arrive(store: Store) -> None:
    short = Records(store.client, retention_s=0)
    submission = store.accept(**in_seconds(60))
    short.cancel(submission.task_id)

    forgotten = Attempts(short.client, retention_s=0).forget()

    assert forgotten == 0
    assert store.claim(submission).claim is Claim.REVOKED


def test_a_store_that_is_down_is_unavailable() -> None:
    records = Records.connect(f"redis://127.0.0.1:{choose_port()}/0", retention_s=60)

    with pytest.raises(Unavailable) as caught:
        records.get("any")

    assert caught.value.missing == "store"


def lapse_leases(store: Store) -> None:
    """As if LEASE_S had passed without a renewal."""
    client = store.client
    for task_id in client.zrange("leases", 0, -1):
        client.zadd("leases", {str(task_id): 1})


# The outbox of changes that clients want to hear of


def test_a_wanted_change_is_posted_once_and_again_until_it_is_cleared(store: Store) -> None:
    submission = store.accept(callback=Callback("https://example.com/hook", ("started", "succeeded")))
    store.succeed(submission, store.start(submission))

    first = store.attempts.take_outbox(hold_s=0.05)
    while_held = store.attempts.take_outbox(hold_s=0.05)
    time.sleep(0.06)
    again = store.attempts.take_outbox(hold_s=60)
    for posted in again:
        store.attempts.clear_outbox(posted)

    assert [posted.event for posted in first] == ["started", "succeeded"]
    assert (while_held, again) == ([], first)
    assert uuid.UUID(first[0].delivery_id) != uuid.UUID(first[1].delivery_id)
    assert store.client.zcard("outbox") == 0


def test_without_a_callback_nothing_is_posted(store: Store) -> None:
    submission = store.accept()
    store.succeed(submission, store.start(submission))

    assert store.attempts.take_outbox(hold_s=1) == []
