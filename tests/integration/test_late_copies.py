"""A message that comes when its task has ended, or is gone, or is due later, runs nothing. On a real Redis."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from taskservice.model import Callback, Status, Submission, to_ms
from taskservice.records import MAX_DELIVERIES, Claim
from tests.support.store import BUSY, Store, in_seconds, submitted


def test_a_task_that_was_run_now_is_kept_until_its_delayed_message_has_come(store: Store) -> None:
    submission = store.accept(**in_seconds(100))
    store.records.hasten(submission.task_id, attempt=1)
    store.succeed(submission, store.start(submission))

    expires_at_ms = store.client.zscore("expiring", submission.task_id)

    assert expires_at_ms == to_ms(submission.due_at) + 60_000
    assert store.claim(submission).claim is Claim.STALE


def test_a_task_that_was_cancelled_in_its_queue_does_not_run_after_its_retention(store: Store) -> None:
    submission = store.accept()
    store.records.cancel(submission.task_id)
    forget_everything_final(store)

    assert store.records.get(submission.task_id) is None
    assert store.claim(submission).claim is Claim.STALE
    assert store.records.get(submission.task_id) is None


def cancel_and_lose(store: Store, submission: Submission) -> None:
    run = store.start(submission)
    store.records.cancel(submission.task_id)
    store.attempts.give_up(run, is_lost=True)


def cancel_and_kill(store: Store, submission: Submission) -> None:
    run = store.start(submission)
    store.records.cancel(submission.task_id)
    store.attempts.stop(submission.task_id, delivery=run.delivery, message_returns=True)


def cancel_and_fail(store: Store, submission: Submission) -> None:
    """The next attempt's message is published before the record is told."""
    run = store.start(submission)
    store.records.cancel(submission.task_id)
    store.retry(submission, run)


def run_now_and_succeed(store: Store, submission: Submission) -> None:
    store.records.hasten(submission.task_id, attempt=1)
    store.succeed(submission, store.start(submission))


def run_now_and_cancel(store: Store, submission: Submission) -> None:
    """Both of its messages wait; one is met before the record is forgotten."""
    store.records.hasten(submission.task_id, attempt=1)
    store.records.cancel(submission.task_id)
    assert store.claim(submission).claim is Claim.REVOKED


def lose_until_failed(store: Store, submission: Submission) -> None:
    for _ in range(MAX_DELIVERIES):
        store.attempts.give_up(store.start(submission), is_lost=True)


def outlast_the_limit(store: Store, submission: Submission) -> None:
    run = store.start(submission)
    store.attempts.fail(submission, delivery=run.delivery, attempt=1, error=BUSY, message_returns=True)


def expire(store: Store, submission: Submission) -> None:
    store.client.zadd("deadlines", {submission.task_id: 0})
    assert store.attempts.sweep(may_judge_leases=True).expired == 1


ENDS = (
    cancel_and_lose, cancel_and_kill, cancel_and_fail, run_now_and_succeed, run_now_and_cancel, lose_until_failed,
    outlast_the_limit, expire,
)  # fmt: skip


@pytest.fixture(params=ENDS)
def ended(store: Store, request: pytest.FixtureRequest) -> Submission:
    """A task that is over while a message of it is still with the broker."""
    is_delayed = request.param in (run_now_and_succeed, run_now_and_cancel)
    submission = store.accept(expires_in_s=600, **(in_seconds(100) if is_delayed else {}))
    request.param(store, submission)
    return submission


def test_a_message_that_outlasts_its_record_runs_nothing(store: Store, ended: Submission) -> None:
    forget_everything_final(store)

    assert store.records.get(ended.task_id) is None
    assert store.claim(ended).claim is Claim.STALE
    assert store.records.get(ended.task_id) is None


def test_nothing_is_left_when_its_last_message_has_been_met(store: Store, ended: Submission) -> None:
    store.claim(ended)
    forget_everything_final(store)

    assert store.client.exists(f"task:{ended.task_id}") == 0


def test_nothing_is_left_of_a_task_that_expired_in_its_claim(store: Store) -> None:
    submission = store.accept(expires_in_s=0.001)
    time.sleep(0.01)

    answer = store.claim(submission)
    forget_everything_final(store)

    assert answer.claim is Claim.REVOKED
    assert store.client.exists(f"task:{submission.task_id}") == 0


def test_nothing_is_left_of_a_cancelled_task_whose_message_has_been_met(store: Store) -> None:
    submission = store.accept()
    store.records.cancel(submission.task_id)

    answer = store.claim(submission)
    forget_everything_final(store)

    assert answer.claim is Claim.REVOKED
    assert store.client.exists(f"task:{submission.task_id}") == 0


def test_the_message_of_a_refused_try_does_not_start_what_was_promised_for_later(store: Store) -> None:
    first = submitted(**in_seconds(5))
    later = timedelta(seconds=60)
    second = replace(first, created_at=first.created_at + later, due_at=first.due_at + later)
    store.records.refuse(first.task_id)
    store.records.lift(first.task_id)
    store.records.accept(second)

    assert store.claim(first).claim is Claim.STALE
    assert store.status(second) is Status.SCHEDULED
    assert store.claim(second).claim is Claim.GRANTED


def test_two_changes_never_share_a_webhook_though_redis_forgot_the_first(store: Store) -> None:
    callback = Callback("https://example.com/hook", ("started", "cancelled"))
    submission = store.accept(callback=callback)
    with store.forgetting():
        store.start(submission)
        started = store.attempts.take_outbox(hold_s=0)
    store.records.cancel(submission.task_id)
    cancelled = store.attempts.take_outbox(hold_s=0)

    assert [one.event for one in started + cancelled] == ["started", "cancelled"]
    assert started[0].version == cancelled[0].version
    assert started[0].delivery_id != cancelled[0].delivery_id


def forget_everything_final(store: Store) -> None:
    """As when the retention of every final task is over."""
    client = store.client
    ended: list[Any] = client.zrange("expiring", 0, -1)
    client.zadd("expiring", dict.fromkeys(ended, 0))
    store.attempts.forget()
