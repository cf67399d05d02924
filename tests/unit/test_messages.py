"""The border that every message passes: a wrong member is named, and nothing but ValueError comes out."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from taskservice.model import Priority, Submission, from_ms, now

WRONG: list[tuple[str, object]] = [
    ("task_id", "not one"), ("task_id", None), ("task_type", "a:b"), ("priority", "urgent"), ("parameters", []),
    ("created_at_ms", "now"), ("due_at_ms", 10**20), ("due_at_ms", True), ("max_attempts", 0), ("sequence", None),
    ("expires_in_s", "60"), ("expires_in_s", float("nan")), ("tags", [{}]), ("tags", "word"), ("metadata", "text"),
    ("callback", {"url": 5}), ("own_queue", "two words"), ("retried_from", "not one"),
]  # fmt: skip


def message(**members: Any) -> dict[str, Any]:
    moment = now()
    submission = Submission(str(uuid.uuid4()), "sleep", Priority.LOW, {"data": "ü"}, moment, moment, 3, tags=("a",))
    return submission.to_message() | members


def test_what_our_publisher_sends_passes() -> None:
    assert Submission.from_message(message()).to_message().keys() == message().keys()


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_member_of_the_wrong_form_is_named(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=name):
        Submission.from_message(message(**{name: value}))


@pytest.mark.parametrize("body", [None, 5, "text", [], {}])
def test_what_is_no_submission_is_refused(body: Any) -> None:
    with pytest.raises(ValueError, match=r"expected an object|missing"):
        Submission.from_message(body)


def test_an_instant_that_no_clock_has_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="instant"):
        from_ms(10**20)
