"""Tasks of one millisecond have an order: that of their acceptance."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from taskservice.handlers import load_task_types
from taskservice.moments import Moments
from taskservice.submission import parse_submission

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("offsets_us", "places"),
    [
        ((0, 0, 0), [(0, 0), (0, 1), (0, 2)]),
        ((0, 400, 1000, 1100), [(0, 0), (0, 1), (1, 0), (1, 1)]),
        ((5000, 5000, 0, 0), [(5, 0), (5, 1), (0, 0), (0, 1)]),  # the clock went back
    ],
)
def test_each_has_its_own_place(offsets_us: tuple[int, ...], places: list[tuple[int, int]]) -> None:
    ticks = iter([NOON + timedelta(microseconds=offset_us) for offset_us in offsets_us])
    moments = Moments(lambda: next(ticks))

    taken = [moments.take() for _ in offsets_us]

    assert [((one.at - NOON) // timedelta(milliseconds=1), one.sequence) for one in taken] == places


def test_threads_never_share_a_place() -> None:
    moments = Moments()

    with ThreadPoolExecutor(8) as threads:
        taken = list(threads.map(lambda _: moments.take(), range(2000)))

    assert len(set(taken)) == 2000


def test_submissions_are_in_the_order_of_their_acceptance() -> None:
    types = load_task_types()
    payload = {"task_type": "data_processing", "parameters": {"data": "x"}}

    submissions = [parse_submission(payload, types) for _ in range(500)]

    places = [(one.created_at, one.sequence) for one in submissions]
    assert places == sorted(set(places))
