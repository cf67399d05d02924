"""The judge itself: each rule sees what it must see, on made-up evidence. Needs no system."""

from __future__ import annotations

import pytest

from tests.faults import checks
from tests.faults.checks import Evidence
from tests.faults.ledger import Answer, Kill, Outcome, Sighting
from tests.faults.made_up import UNAVAILABLE, accepted_at, execution, refused, submitted


def test_a_run_as_it_should_be_breaks_no_rule() -> None:
    one = submitted(accepted_at(1.0), statuses=("queued", "running", "retrying", "running", "succeeded"))

    assert checks.judge(Evidence([one], [execution()], recoveries=[0.5], names=1)) == []


@pytest.mark.parametrize("statuses", [("running", "queued"), ("succeeded", "failed"), ("queued", "scheduled")])
def test_a_status_that_moves_backwards_is_seen(statuses: tuple[str, ...]) -> None:
    evidence = Evidence([submitted(accepted_at(1.0), statuses=statuses)], [])

    assert list(checks.no_status_moves_backwards(evidence))


def test_a_task_without_a_final_status_is_lost() -> None:
    evidence = Evidence([submitted(accepted_at(1.0), statuses=("queued",))], [])

    assert len(checks.lost(evidence)) == 1


def test_a_404_for_a_202_is_seen() -> None:
    one = submitted(accepted_at(1.0))
    one.sightings.insert(0, Sighting(0.0, 404))

    assert list(checks.no_accepted_task_is_unknown(Evidence([one], [])))


def test_a_failure_nobody_ordered_is_seen() -> None:
    evidence = Evidence([submitted(accepted_at(1.0), statuses=("failed",))], [])

    assert list(checks.only_what_was_meant_to_fails(evidence))


def test_a_failure_for_another_reason_is_seen() -> None:
    one = submitted(
        accepted_at(1.0), statuses=("failed",), final_statuses=frozenset({"failed"}), error_code="timed_out"
    )
    one.task = {"error": {"code": "worker_lost"}}

    assert list(checks.only_what_was_meant_to_fails(Evidence([one], [])))


def test_a_refused_task_that_runs_is_seen() -> None:
    assert list(checks.nothing_refused_runs(Evidence([submitted(refused())], [execution()])))


def test_an_unknown_task_may_run_once_but_not_twice() -> None:
    one = submitted(Answer(0.0, 1.0, None, Outcome.UNKNOWN))

    assert not list(checks.nothing_refused_runs(Evidence([one], [execution()])))
    assert list(checks.nothing_runs_twice_without_a_kill(Evidence([one], [execution(), execution()])))


def test_a_key_with_two_tasks_is_seen() -> None:
    one = submitted(accepted_at(1.0, "t"), accepted_at(2.0, "u"))

    assert list(checks.a_key_names_one_task(Evidence([one], [])))


def test_a_kill_excuses_one_execution_that_it_hit() -> None:
    kill = Kill(1.0, "host", frozenset({7}))
    cut, again, third = execution(0.5, None), execution(2.0, 3.0), execution(4.0, 5.0)
    one = submitted(accepted_at(1.0))

    assert not list(checks.nothing_runs_twice_without_a_kill(Evidence([one], [cut, again], [kill])))
    assert list(checks.nothing_runs_twice_without_a_kill(Evidence([one], [cut, again, third], [kill])))


@pytest.mark.parametrize(
    "kill",
    [Kill(0.4, "host", None), Kill(1.8, "host", None), Kill(0.55, "other", None), Kill(0.55, "host", frozenset({8}))],
)
def test_a_kill_elsewhere_excuses_nothing(kill: Kill) -> None:
    evidence = Evidence([submitted(accepted_at(1.0))], [execution(), execution(2.0, 3.0)], [kill])

    assert list(checks.nothing_runs_twice_without_a_kill(evidence))


@pytest.mark.parametrize(
    "answer",
    [
        refused(took_s=6.0),
        refused(retry_after=""),
        refused(document={**UNAVAILABLE, "detail": "Connection refused by 10.0.0.5"}),
        refused(document={**UNAVAILABLE, "host": "10.0.0.5"}),
        Answer(0.0, 1.0, 500, Outcome.UNEXPECTED),
        Answer(0.0, 1.0, None, Outcome.UNKNOWN),
    ],
)
def test_an_answer_that_is_late_or_says_too_much_or_too_little_is_seen(answer: Answer) -> None:
    assert list(checks.answers_are_in_time_and_say_why(Evidence([submitted(answer)], [])))


def test_a_late_recovery_is_seen() -> None:
    evidence = Evidence([submitted(accepted_at(1.0)), submitted(accepted_at(20.0))], [], recoveries=[5.0])

    assert list(checks.accepts_soon_after_recovery(evidence))
    assert checks.longest_gap_s(evidence) == 19.0


def test_too_few_accepted_is_seen() -> None:
    assert list(checks.enough_was_accepted(Evidence([submitted(accepted_at(1.0))], [], names=2)))
