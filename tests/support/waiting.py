"""Waiting for an event instead of the clock, with a bound."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

POLL_S = 0.05


def wait_until(predicate: Callable[[], object], timeout_s: float, message: str) -> None:
    """Poll until the predicate holds; fail the test with the message when time is up."""
    deadline = time.monotonic() + timeout_s
    while not predicate():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {timeout_s:g} s: {message}")
        time.sleep(POLL_S)
