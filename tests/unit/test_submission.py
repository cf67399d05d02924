"""A submission is validated whole before anything is stored, and a promise is kept or taken back."""

from __future__ import annotations

from datetime import timedelta

import pytest

from taskservice.errors import InvalidSubmission, Unavailable
from taskservice.handlers import load_task_types
from taskservice.model import Priority, Status, Submission, now
from taskservice.submission import parse_submission, submit

TYPES = load_task_types()
VALID = {"task_type": "data_processing", "parameters": {"data": "test data"}}


class World:
    """A broker and a store that are up or down."""

    def __init__(self, *, broker_up: bool = True, store_up: bool = True, claimed: bool = False) -> None:
        self.broker_up, self.store_up, self.claimed = broker_up, store_up, claimed
        self.accepted: list[str] = []

    def publish(self, submission: Submission) -> None:
        if not self.broker_up:
            raise Unavailable("broker")

    def accept(self, submission: Submission) -> None:
        if not self.store_up:
            raise Unavailable("store")
        self.accepted.append(submission.task_id)

    def refuse(self, task_id: str) -> bool:
        if not self.store_up:
            raise Unavailable("store")
        return not self.claimed


def pointers(payload: object) -> list[str]:
    with pytest.raises(InvalidSubmission) as caught:
        parse_submission(payload, TYPES)
    return [error.pointer for error in caught.value.errors]


def test_a_valid_submission_has_the_types_own_retries() -> None:
    submission = parse_submission(VALID, TYPES)

    assert submission.priority is Priority.NORMAL
    assert submission.max_attempts == 1 + TYPES["data_processing"].max_retries
    assert submission.initial_status is Status.QUEUED


def test_a_delayed_submission_is_scheduled() -> None:
    submission = parse_submission(VALID | {"delay": 2.5}, TYPES)

    assert submission.delay_s == 2.5
    assert submission.initial_status is Status.SCHEDULED


def test_an_instant_in_the_past_means_now() -> None:
    run_at = (now() - timedelta(days=1)).isoformat()

    assert parse_submission(VALID | {"run_at": run_at}, TYPES).delay_s == 0


def test_a_message_carries_the_whole_submission() -> None:
    submission = parse_submission(VALID | {"priority": "low", "delay": 1}, TYPES)

    copy = Submission.from_message(submission.to_message())

    assert copy.to_message() == submission.to_message()


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"priority": "urgent"}, "/priority"),
        ({"priority": 1}, "/priority"),
        ({"delay": -1}, "/delay"),
        ({"delay": True}, "/delay"),
        ({"delay": 31 * 86_400}, "/delay"),
        ({"delay": 1, "run_at": "2030-01-01T00:00:00Z"}, "/run_at"),
        ({"run_at": "tomorrow"}, "/run_at"),
        ({"run_at": "2030-01-01T00:00:00"}, "/run_at"),
        ({"run_at": (now() + timedelta(days=40)).isoformat()}, "/run_at"),
        ({"max_retries": 21}, "/max_retries"),
        ({"parameters": []}, "/parameters"),
        ({"parameters": {"data": 5}}, "/parameters/data"),
        ({"parameters": {"data": "x", "a/b": 1}}, "/parameters/a~1b"),
        ({"task_type": "unknown"}, "/task_type"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, object], pointer: str) -> None:
    assert pointer in pointers(VALID | change)


def test_a_promise_is_recorded() -> None:
    world, submission = World(), parse_submission(VALID, TYPES)

    submit(submission, world, world)

    assert world.accepted == [submission.task_id]


def test_a_broker_that_is_down_refuses() -> None:
    world = World(broker_up=False)

    with pytest.raises(Unavailable) as caught:
        submit(parse_submission(VALID, TYPES), world, world)

    assert (caught.value.missing, caught.value.outcome) == ("broker", "refused")


def test_a_copy_that_runs_although_its_confirm_was_late_is_accepted() -> None:
    world = World(broker_up=False, claimed=True)

    submit(parse_submission(VALID, TYPES), world, world)


@pytest.mark.parametrize("broker_up", [True, False])
def test_a_store_that_is_down_leaves_the_outcome_unknown(broker_up: bool) -> None:
    world = World(broker_up=broker_up, store_up=False)

    with pytest.raises(Unavailable) as caught:
        submit(parse_submission(VALID, TYPES), world, world)

    assert caught.value.outcome == "unknown"
