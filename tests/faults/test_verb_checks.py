"""The judge of the verbs: each rule sees what it must see, and nothing else, on made-up evidence."""

from __future__ import annotations

from typing import Any

import pytest

from tests.faults import verb_checks
from tests.faults.checks import Evidence, nothing_refused_runs
from tests.faults.ledger import Answer, Batch, Call, Outcome, Submitted, Survey, Verb
from tests.faults.made_up import accepted_at, call, due, execution, instant, refused, submitted


def evidence(one: Submitted, *calls: Call, runs: tuple[Any, ...] = (), **members: Any) -> Evidence:
    return Evidence([one], runs, calls=calls, **members)


def rated(count: int, *, due_at: float, started_at: float) -> list[Submitted]:
    """Put off until `due_at`."""
    tasks = [submitted(accepted_at(1.0, f"t{number}"), body={"task_type": "rated_sleep"}) for number in range(count)]
    for one in tasks:
        one.task = {
            "created_at": instant(1.0),
            "due_at": instant(due_at),
            "attempts": [{"started_at": instant(started_at)}],
        }
    return tasks


@pytest.mark.parametrize("verb", list(Verb))
def test_a_verb_that_is_late_or_says_nothing_is_seen(verb: Verb) -> None:
    late, broken = Answer(0.0, 6.0, 200, Outcome.ACCEPTED, verb=verb), Answer(0.0, 1.0, 500, Outcome.UNEXPECTED)

    found = list(verb_checks.every_verb_is_answered_in_time_and_says_why(Evidence([], [], calls=[Call(late)])))
    found += verb_checks.every_verb_is_answered_in_time_and_says_why(Evidence([], [], calls=[Call(broken)]))

    assert len(found) == 2


def test_a_verb_may_be_refused_with_a_reason_or_meet_a_conflict() -> None:
    conflict = Answer(0.0, 1.0, 409, Outcome.REFUSED, verb=Verb.CANCEL)
    judged = Evidence([], [], calls=[Call(refused()), Call(conflict)])

    assert not list(verb_checks.every_verb_is_answered_in_time_and_says_why(judged))


def test_what_was_cancelled_ends_so_and_does_not_start() -> None:
    one, other = submitted(accepted_at(0.5), statuses=("cancelled",)), submitted(accepted_at(0.5))

    assert not list(verb_checks.a_cancel_keeps_its_word(evidence(one, call(Verb.CANCEL, one))))
    assert list(verb_checks.a_cancel_keeps_its_word(evidence(one, call(Verb.CANCEL, one), runs=(execution(1.1),))))
    assert list(verb_checks.a_cancel_keeps_its_word(evidence(other, call(Verb.CANCEL, other))))


def test_what_was_asked_to_stop_may_end_but_not_start_again() -> None:
    one = submitted(accepted_at(0.5))
    asked = call(Verb.CANCEL, one, status_code=202)

    assert not list(verb_checks.a_cancel_keeps_its_word(evidence(one, asked, runs=(execution(0.9),))))
    assert list(verb_checks.a_cancel_keeps_its_word(evidence(one, asked, runs=(execution(0.9), execution(9.0)))))


def test_a_bulk_cancel_is_held_to_what_it_says_succeeded() -> None:
    one = submitted(accepted_at(0.5))
    done = call(Verb.BULK_CANCEL, one, document={"succeeded": ["t"]})
    not_done = call(Verb.BULK_CANCEL, one, document={"succeeded": []})

    assert list(verb_checks.a_cancel_keeps_its_word(evidence(one, done)))
    assert not list(verb_checks.a_cancel_keeps_its_word(evidence(one, not_done)))


def test_what_was_to_run_now_and_waited_until_it_was_due_is_seen() -> None:
    one = due(submitted(accepted_at(0.5)), 60.0)
    asked = call(Verb.RUN, one, status_code=202)

    assert not list(verb_checks.run_now_is_now(evidence(one, asked, runs=(execution(2.0),))))
    assert list(verb_checks.run_now_is_now(evidence(one, asked, runs=(execution(60.1),))))


def test_an_expired_task_that_ran_is_seen() -> None:
    one = due(submitted(accepted_at(0.5), statuses=("expired",), body={"expires_in": 1}), 1.0)

    assert not list(verb_checks.what_expires_never_ran_and_the_rest_was_in_time(evidence(one)))
    assert list(verb_checks.what_expires_never_ran_and_the_rest_was_in_time(evidence(one, runs=(execution(),))))


def test_a_start_after_the_deadline_is_seen() -> None:
    one = due(submitted(accepted_at(0.5), body={"expires_in": 1}), 1.0)
    found = []

    for started_at in (1.9, 2.5):
        one.task = {"attempts": [{"started_at": instant(started_at)}]}
        found.append(len(list(verb_checks.what_expires_never_ran_and_the_rest_was_in_time(evidence(one)))))

    assert found == [0, 1]


@pytest.mark.parametrize(("started_at", "is_seen"), [(9.0, False), (15.0, True), (21.0, False)])
def test_a_start_in_a_pause_is_seen(started_at: float, is_seen: bool) -> None:
    one = submitted(accepted_at(0.5), body={"priority": "low"})
    pause, resume = (call(verb, at=at, queue="low_priority") for verb, at in ((Verb.PAUSE, 10), (Verb.RESUME, 20)))

    found = list(verb_checks.a_pause_holds(evidence(one, resume, pause, runs=(execution(started_at),))))

    assert bool(found) is is_seen


def test_more_starts_in_a_second_than_the_rate_gives_are_seen() -> None:
    a_second = rated(5, due_at=5.0, started_at=5.5)
    the_next, too_early = (rated(1, due_at=5.0, started_at=at) for at in (6.5, 6.4))

    assert not list(verb_checks.a_rate_holds(Evidence([*a_second, *the_next], [])))
    assert list(verb_checks.a_rate_holds(Evidence([*a_second, *too_early], [])))


def test_a_start_before_its_slot_is_seen() -> None:
    assert list(verb_checks.a_rate_holds(Evidence(rated(1, due_at=5.0, started_at=4.5), [])))


@pytest.mark.parametrize(("code", "is_seen"), [("worker_lost", False), ("timed_out", True)])
def test_an_attempt_that_fails_for_its_rate_is_seen(code: str, is_seen: bool) -> None:
    (one,) = rated(1, due_at=5.0, started_at=5.0)
    one.task = {"attempts": [{"error": {"code": code}}]}

    assert bool(list(verb_checks.a_rate_fails_no_attempt(evidence(one)))) is is_seen


@pytest.mark.parametrize("listed", [{}, {"t": "queued"}, {"t": "succeeded", "other": "running"}])
def test_a_list_that_says_something_else_or_tells_of_a_left_task_is_seen(listed: dict[str, str]) -> None:
    one = submitted(accepted_at(0.5))

    assert list(verb_checks.lists_agree_with_tasks(evidence(one, survey=Survey(listed, ({}, {}), [], []))))


def test_counts_that_do_not_add_up_are_seen() -> None:
    one = submitted(accepted_at(0.5))
    batch = Batch([one])
    listed = {"t": "succeeded"}
    one_each = {"succeeded": 1}
    wrong_total = Survey(listed, ({"succeeded": 2}, one_each), [], [])
    wrong_batch = Survey(listed, (one_each, one_each), [(batch, {"queued": 1})], [])
    right = Survey(listed, (one_each, one_each), [(batch, {"succeeded": 1})], [])

    found = [
        len(list(verb_checks.counts_agree_with_lists(evidence(one, survey=survey))))
        for survey in (wrong_total, wrong_batch, right)
    ]

    assert found == [1, 1, 0]


@pytest.mark.parametrize("flaw", [{"depth": 1}, {"unacknowledged": 1}, {"paused": True}])
def test_a_queue_that_is_not_empty_at_the_end_is_seen(flaw: dict[str, Any]) -> None:
    empty = {"depth": 0, "unacknowledged": 0, "paused": False}
    found = [
        list(verb_checks.queues_are_empty_at_the_end(Evidence([], [], survey=Survey({}, ({}, {}), [], [queue]))))
        for queue in (empty, empty | flaw)
    ]

    assert [len(one) for one in found] == [0, 1]


def test_a_bulk_retry_shares_its_mark_with_the_first_and_not_its_executions() -> None:
    first, again, never = submitted(accepted_at(0.5)), submitted(accepted_at(1.0, "u")), submitted(refused())
    runs = [execution(), execution(2.0, 3.0, "u")]
    judged = Evidence([first, again, never], runs)

    assert [judged.executions_of(one) for one in (first, again)] == [[runs[0]], [runs[1]]]
    assert not list(nothing_refused_runs(judged))
    assert list(nothing_refused_runs(Evidence([first, again, never], [*runs, execution(4.0, 5.0, "v")])))
