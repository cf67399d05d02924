"""What a worker's child waits for, and what it does not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from taskservice.worker import patience
from taskservice.worker.patience import FAULT_TRIES, insist, is_own_fault

AWAY = {
    "nobody answers": redis.ConnectionError("refused"),
    "an answer is late": redis.TimeoutError("timed out"),
    "the broker is away": ConnectionRefusedError(),
    "out of memory": redis.exceptions.OutOfMemoryError("command not allowed when used memory > 'maxmemory'"),
    "out of memory within a script": redis.exceptions.OutOfMemoryError("script: 0f, on @user_script:4."),
    "cannot save": redis.ResponseError("MISCONF Redis is configured to save, script: 0f, on @user_script:4."),
    "a script runs": redis.ResponseError("BUSY Redis is busy running a script, @user_script"),
    "too few replicas": redis.ResponseError("NOREPLICAS Not enough good replicas to write, @user_script:4."),
    "a replica": redis.exceptions.ReadOnlyError("You can't write against a read only replica"),
    "loading": redis.exceptions.BusyLoadingError("loading the dataset"),
    "no password": redis.exceptions.AuthenticationError("NOAUTH"),
}
OWN_FAULT = {
    "the script failed": redis.ResponseError("user_script:12: attempt to compare nil with number script: 0f"),
    "no such arguments": redis.DataError("Invalid input of type: 'dict'"),
}

Outcomes = Iterator[Exception | str]


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "RETRY_S", 0)


def next_of(outcomes: Outcomes) -> str:
    outcome = next(outcomes)
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


@pytest.mark.parametrize("error", AWAY.values(), ids=AWAY)
def test_what_is_away_is_waited_for_as_long_as_it_takes(error: Exception) -> None:
    outcomes: Outcomes = iter([*[error] * (10 * FAULT_TRIES), "granted"])

    assert insist(lambda: next_of(outcomes), "claim", "a task") == "granted"
    assert not is_own_fault(error)


@pytest.mark.parametrize("error", OWN_FAULT.values(), ids=OWN_FAULT)
def test_what_would_fail_for_ever_is_not_waited_for(error: Exception) -> None:
    outcomes: Outcomes = iter([*[error] * FAULT_TRIES, "never asked"])

    with pytest.raises(redis.RedisError):
        insist(lambda: next_of(outcomes), "claim", "a task")

    assert list(outcomes) == ["never asked"]


def test_a_script_that_somebody_ended_by_hand_is_run_again() -> None:
    ended = redis.ResponseError("Error running script @user_script:4: Script killed by user with SCRIPT KILL")
    outcomes: Outcomes = iter([*[ended] * (FAULT_TRIES - 1), redis.ConnectionError("refused"), "granted"])

    assert insist(lambda: next_of(outcomes), "claim", "a task") == "granted"


def test_what_is_no_matter_of_stores_is_raised_at_once() -> None:
    with pytest.raises(ZeroDivisionError):
        insist(lambda: 1 // 0, "claim", "a task")
