"""A costly answer that is given to all who ask within a second."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from taskservice.api.verdicts import Shared
from tests.conftest import WaitUntil


class Counted:
    """Numbers its answers; may be held up."""

    def __init__(self) -> None:
        self.asked = 0
        self.may_answer = threading.Event()
        self.may_answer.set()

    def ask(self) -> int:
        self.asked += 1
        assert self.may_answer.wait(5)
        return self.asked


def test_who_asks_soon_after_gets_the_same_answer() -> None:
    source = Counted()
    shared = Shared(source.ask, for_s=60)

    assert [shared.get() for _ in range(3)] == [1, 1, 1]


def test_an_old_answer_is_asked_for_again() -> None:
    source = Counted()
    shared = Shared(source.ask, for_s=0)

    assert [shared.get() for _ in range(3)] == [1, 2, 3]


def test_who_comes_while_it_is_asked_waits_for_that_answer(wait_until: WaitUntil) -> None:
    source = Counted()
    source.may_answer.clear()
    shared = Shared(source.ask, for_s=60)

    with ThreadPoolExecutor(8) as callers:
        answers = [callers.submit(shared.get) for _ in range(8)]
        wait_until(lambda: source.asked, 5, "someone asks")
        source.may_answer.set()

    assert {answer.result() for answer in answers} == {1}
    assert source.asked == 1


def test_a_failure_is_not_kept() -> None:
    tries = iter([0, 1])
    shared = Shared(lambda: 1 // next(tries), for_s=60)

    with pytest.raises(ZeroDivisionError):
        shared.get()

    assert shared.get() == 1
