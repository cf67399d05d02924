"""The rate of a task type: never more starts in a period than its count, and all get their turn. On a real Redis."""

from __future__ import annotations

import time
from bisect import bisect_left

import pytest

from taskservice.model import RateLimit, Status, Submission, now
from taskservice.records import Claim
from tests.support.store import Store


def test_over_the_rate_limit_means_later_in_order_and_only_once(store: Store) -> None:
    limit = RateLimit(count=2, period_s=10)
    submissions = [store.accept() for _ in range(5)]

    answers = [store.claim(one, rate=limit) for one in submissions]
    asked_again = store.claim(submissions[2], rate=limit)

    assert [answer.claim for answer in answers] == [Claim.GRANTED] * 2 + [Claim.WAIT] * 3
    assert [round(answer.wait_s) for answer in answers[2:]] == [10, 15, 20]
    assert (asked_again.claim, round(asked_again.wait_s)) == (Claim.WAIT, 10)
    assert store.status(submissions[2]) is Status.QUEUED
    assert store.read(submissions[2]).due_at > now()


@pytest.mark.parametrize("how", ["cancelled", "expired"])
def test_a_start_that_is_not_needed_any_more_is_given_to_another(store: Store, how: str) -> None:
    limit = RateLimit(count=1, period_s=10)
    ends_early = {"expires_in_s": 0.05} if how == "expired" else {}
    submissions = [store.accept(**ends_early if number == 1 else {}) for number in range(5)]
    first_four = [store.claim(one, rate=limit) for one in submissions[:4]]
    if how == "cancelled":
        store.records.cancel(submissions[1].task_id)
    else:
        time.sleep(0.06)
        store.attempts.sweep(may_judge_leases=True)
    next_ones = [store.claim(one, rate=limit) for one in (submissions[4], store.accept())]

    assert store.status(submissions[1]) == how
    assert [round(answer.wait_s) for answer in first_four] == [0, 10, 20, 30]
    assert [round(answer.wait_s) for answer in next_ones] == [10, 40]  # no start is given away twice


def test_a_free_start_is_gone_when_its_time_has_passed(store: Store) -> None:
    limit = RateLimit(count=1, period_s=0.1)
    store.claim(store.accept(), rate=limit)
    given_up = store.accept()
    wait_s = store.claim(given_up, rate=limit).wait_s
    store.records.cancel(given_up.task_id)
    time.sleep(wait_s + 0.01)

    assert store.client.exists("free_slots:data_processing") == 0


def test_a_reserved_start_is_granted_when_its_time_has_come(store: Store) -> None:
    limit = RateLimit(count=1, period_s=0.1)
    first, second = store.accept(), store.accept()
    store.claim(first, rate=limit)
    put_off = store.claim(second, rate=limit)
    time.sleep(put_off.wait_s)

    assert store.claim(second, rate=limit).claim is Claim.GRANTED


def test_no_period_has_more_starts_than_the_count(store: Store) -> None:
    limit = RateLimit(count=5, period_s=0.5)

    starts = start_all(store, limit, [(0.0, store.accept()) for _ in range(40)])

    assert most_in_a_period(starts, limit) == limit.count


def test_slots_that_passed_in_a_pause_are_no_burst_after_it(store: Store) -> None:
    limit = RateLimit(count=5, period_s=0.5)
    told = [(store.claim(one, rate=limit), one) for one in [store.accept() for _ in range(30)]]
    time.sleep(3)

    starts = start_all(store, limit, [(0.0, one) for answer, one in told if answer.claim is Claim.WAIT])

    assert len(starts) == 25
    assert most_in_a_period(starts, limit) == limit.count


def test_whoever_is_new_does_not_pass_those_in_line(store: Store) -> None:
    limit = RateLimit(count=1, period_s=0.2)
    in_line = [store.accept() for _ in range(4)]
    waits_s = [store.claim(one, rate=limit).wait_s for one in in_line]
    time.sleep(waits_s[1])

    newcomer = store.claim(store.accept(), rate=limit)

    assert newcomer.claim is Claim.WAIT
    assert newcomer.wait_s > waits_s[3] - waits_s[1]


def start_all(store: Store, limit: RateLimit, waiting: list[tuple[float, Submission]]) -> list[float]:
    """Claim each at the moment it was told, as a worker does for its message, until all have started; when they did."""
    starts = []
    while waiting:
        at, one = waiting.pop(0)
        if at > time.monotonic():
            waiting.append((at, one))
            time.sleep(0.001)
        elif (answer := store.claim(one, rate=limit)).claim is Claim.GRANTED:
            starts.append(store.read(one).attempts[0].started_at.timestamp())
        else:
            waiting.append((time.monotonic() + answer.wait_s, one))
    return sorted(starts)


def most_in_a_period(starts: list[float], limit: RateLimit) -> int:
    return max(bisect_left(starts, first + limit.period_s) - place for place, first in enumerate(starts))
