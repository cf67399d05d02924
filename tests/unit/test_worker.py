"""Backoff, whole seconds, and what a client may learn of a failure."""

from __future__ import annotations

import time
from typing import Any

import pytest

from celery_config import WORK_QUEUE_ARGUMENTS, WORK_QUEUES, broker_delay_s
from tasks import MAX_RETRIES, celery, get_retry_delay
from taskservice.errors import PermanentError, TransientError
from taskservice.worker.backend import error_info
from taskservice.worker.limits import TimeLimitReached, time_limit
from taskservice.worker.task import checked


def test_the_wait_doubles_up_to_a_minute() -> None:
    assert [get_retry_delay(retries) for retries in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]


@pytest.mark.parametrize(("delay_s", "seconds"), [(0, 0), (0.001, 1), (1, 1), (2.5, 3)])
def test_the_broker_waits_whole_seconds_and_never_starts_early(delay_s: float, seconds: int) -> None:
    assert broker_delay_s(delay_s) == seconds


def test_each_priority_is_a_topic_exchange_and_a_quorum_queue_of_one_name() -> None:
    topology = [(queue.name, queue.exchange.name, queue.exchange.type, queue.routing_key) for queue in WORK_QUEUES]

    assert topology == [
        ("high_priority", "high_priority", "topic", "high"),
        ("normal_priority", "normal_priority", "topic", "normal"),
        ("low_priority", "low_priority", "topic", "low"),
    ]
    assert all(queue.queue_arguments == WORK_QUEUE_ARGUMENTS for queue in WORK_QUEUES)
    assert WORK_QUEUE_ARGUMENTS["x-queue-type"] == "quorum"


@pytest.mark.parametrize("name", ["data_processing", "email_sending", "file_processing"])
def test_each_type_is_a_task_of_that_name_whose_limit_celery_does_not_count(name: str) -> None:
    task: Any = celery.tasks[name]

    assert task.kind.max_retries == MAX_RETRIES
    assert task.kind.time_limit_s > 0
    assert (task.soft_time_limit, task.time_limit) == (None, None)


@pytest.mark.parametrize(
    ("error", "code", "retryable"),
    [
        (TransientError("smtp_unavailable", "busy"), "smtp_unavailable", True),
        (PermanentError("file_not_found", "gone"), "file_not_found", False),
        (RuntimeError("secret detail"), "internal", True),
    ],
)
def test_a_failure_has_a_stable_code(error: Exception, code: str, retryable: bool) -> None:
    info = error_info(error)

    assert (info.code, info.retryable) == (code, retryable)
    assert "secret" not in info.message


def test_a_handler_is_interrupted_at_its_time_limit() -> None:
    with pytest.raises(TimeLimitReached), time_limit(0.05):
        time.sleep(10)


def test_a_time_limit_ends_with_its_block() -> None:
    with time_limit(0.05):
        pass
    time.sleep(0.1)


@pytest.mark.parametrize(
    ("result", "code"),
    [({"a": {1}}, "internal"), ({"a": float("nan")}, "internal"), ({"a": "x" * 5_000_000}, "result_too_large")],
    ids=["not JSON", "NaN", "too large"],
)
def test_a_result_that_cannot_be_kept_is_a_permanent_error(result: dict[str, Any], code: str) -> None:
    with pytest.raises(PermanentError) as caught:
        checked(result)

    assert caught.value.code == code
