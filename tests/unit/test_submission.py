"""A submission is validated whole before anything is stored, and a promise is kept or taken back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from taskservice.errors import InvalidSubmission, Unavailable
from taskservice.handlers import load_task_types
from taskservice.model import Priority, Record, Status, Submission, now
from taskservice.request_bodies import MAX_METADATA_BYTES
from taskservice.submission import TaskTypeGone, parse_submission, repeat, submit, submit_all

TYPES = load_task_types()
VALID = {"task_type": "data_processing", "parameters": {"data": "test data"}}


class World:
    """A broker and a store that are up or down."""

    def __init__(self, *, broker_up: bool = True, store_up: bool = True, claimed: bool = False) -> None:
        self.broker_up, self.store_up, self.claimed = broker_up, store_up, claimed
        self.accepted: list[str] = []
        self.store_calls = 0

    def publish_all(self, submissions: Sequence[Submission], *, until: float | None = None) -> list[Unavailable | None]:
        return [None if self.broker_up else Unavailable("broker") for _ in submissions]

    def accept_many(self, submissions: Sequence[Submission]) -> None:
        self.store_calls += 1
        if not self.store_up:
            raise Unavailable("store")
        self.accepted += [submission.task_id for submission in submissions]

    def refuse_many(self, task_ids: Sequence[str]) -> list[bool]:
        self.store_calls += 1
        if not self.store_up:
            raise Unavailable("store")
        return [not self.claimed for _ in task_ids]


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
    said = {"priority": "low", "delay": 1, "expires_in": 2.5, "tags": ["a"], "metadata": {"b": [1]}}
    submission = parse_submission(VALID | said, TYPES)

    copy = Submission.from_message(submission.to_message())

    assert copy == submission


def test_a_tag_given_twice_is_kept_once_where_it_came_first() -> None:
    assert parse_submission(VALID | {"tags": ["b", "a", "b"]}, TYPES).tags == ("b", "a")


def test_metadata_of_exactly_4_kib_is_taken() -> None:
    metadata = {"a": "x" * (MAX_METADATA_BYTES - len('{"a":""}'))}

    assert parse_submission(VALID | {"metadata": metadata}, TYPES).metadata == metadata


def test_nothing_is_said_about_expiry_tags_and_metadata_unless_the_client_does() -> None:
    submission = parse_submission(VALID | {"expires_in": None}, TYPES)

    assert (submission.expires_in_s, submission.tags, submission.metadata) == (None, (), {})


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
        ({"expires_in": 0}, "/expires_in"),
        ({"expires_in": -1}, "/expires_in"),
        ({"expires_in": 30 * 86_400 + 1}, "/expires_in"),
        ({"expires_in": "60"}, "/expires_in"),
        ({"tags": "a"}, "/tags"),
        ({"tags": ["a"] * 11}, "/tags"),
        ({"tags": ["a", ""]}, "/tags/1"),
        ({"tags": ["a" * 65]}, "/tags/0"),
        ({"tags": [1]}, "/tags/0"),
        ({"metadata": []}, "/metadata"),
        ({"metadata": None}, "/metadata"),
        ({"metadata": {"a": "ü" * 2048}}, "/metadata"),
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


def test_of_many_each_is_promised_on_its_own() -> None:
    world, submissions = World(), [parse_submission(VALID, TYPES) for _ in range(3)]

    assert submit_all(submissions, world, world) == [None] * 3
    assert world.accepted == [submission.task_id for submission in submissions]


@pytest.mark.parametrize("broker_up", [True, False])
def test_a_store_that_is_down_is_asked_once_for_many(broker_up: bool) -> None:
    world, submissions = World(broker_up=broker_up, store_up=False), [parse_submission(VALID, TYPES) for _ in range(3)]

    failures = submit_all(submissions, world, world)

    assert [failure and failure.outcome for failure in failures] == ["unknown"] * 3
    assert world.store_calls == 1


def test_a_repetition_is_the_same_task_again_due_now() -> None:
    said = {"priority": "low", "delay": 60, "expires_in": 5, "max_retries": 1, "tags": ["a"], "metadata": {"b": 1}}
    first = parse_submission(VALID | said, TYPES)

    again = repeat(ended(first), TYPES, key_id=None)

    assert (again.retried_from, again.delay_s, again.initial_status) == (first.task_id, 0, Status.QUEUED)
    assert again.task_id != first.task_id
    same = replace(again, task_id=first.task_id, created_at=first.created_at, due_at=first.due_at, retried_from=None)
    same = replace(same, sequence=first.sequence)
    assert same == first


def test_a_repetition_is_signed_for_by_who_repeats_it() -> None:
    first = replace(parse_submission(VALID, TYPES), key_id="first")

    again = repeat(ended(first), TYPES, key_id="second")

    assert again.key_id == "second"


def test_a_repetition_validates_its_parameters_anew() -> None:
    first = parse_submission(VALID, TYPES)
    no_more_valid = replace(first, parameters={"data": 5})

    assert repeat(ended(no_more_valid), TYPES, parameters={"data": "x"}, key_id=None).parameters == {"data": "x"}
    with pytest.raises(InvalidSubmission) as caught:
        repeat(ended(no_more_valid), TYPES, key_id=None)
    assert [error.pointer for error in caught.value.errors] == ["/parameters/data"]


def test_a_task_whose_type_is_gone_is_not_repeated() -> None:
    with pytest.raises(TaskTypeGone):
        repeat(ended(parse_submission(VALID, TYPES)), {}, key_id=None)


def ended(submission: Submission) -> Record:
    return Record(submission, Status.FAILED, submission.due_at)


@pytest.mark.parametrize("broker_up", [True, False])
def test_a_store_that_is_down_leaves_the_outcome_unknown(broker_up: bool) -> None:
    world = World(broker_up=broker_up, store_up=False)

    with pytest.raises(Unavailable) as caught:
        submit(parse_submission(VALID, TYPES), world, world)

    assert caught.value.outcome == "unknown"
