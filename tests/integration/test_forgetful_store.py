"""Redis alone forgets what it was told last, as by a power loss between two fsyncs; with real processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis

from tests.conftest import WaitUntil
from tests.support.service import Service


@contextmanager
def forgetting(service: Service) -> Iterator[None]:
    """Everything that Redis is told in the block, but what the broker and the workers are told stays."""
    with redis.Redis.from_url(service.system.result_backend) as client:
        kept = {key: (max(0, client.pttl(key)), client.dump(key)) for key in client.scan_iter()}
        yield
        pipeline = client.pipeline(transaction=True)
        pipeline.flushdb()
        for key, (ttl_ms, value) in kept.items():
            pipeline.restore(key, ttl_ms, value)
        pipeline.execute()


def lease_of(service: Service, task_id: str) -> float:
    """The moment, in ms, at which it lapses."""
    with redis.Redis.from_url(service.system.result_backend) as client:
        return float(client.zscore("leases", task_id) or 0)


def test_a_task_whose_retry_is_forgotten_is_retried(service: Service, wait_until: WaitUntil) -> None:
    task_id = service.submit({"seconds": 1, "fail_attempts": 1})
    wait_until(lambda: service.status(task_id) == "running", 10, "its first attempt runs")
    with forgetting(service):
        wait_until(lambda: service.status(task_id) == "retrying", 10, "it has failed once")
    forgotten = service.status(task_id)
    wait_until(lambda: service.is_final(task_id), 30, "its second attempt ran")

    task = service.task(task_id)
    assert forgotten == "running"
    assert (task["status"], task["result"]["attempt"]) == ("succeeded", 2)
    assert service.executions(task_id) == 2


def test_a_long_run_whose_start_is_forgotten_is_neither_killed_nor_repeated(
    service: Service, wait_until: WaitUntil
) -> None:
    service.call("PUT", "/api/queues/low_priority/pause")
    task_id = service.submit({"seconds": 11}, priority="low")
    with forgetting(service):
        service.call("PUT", "/api/queues/low_priority/resume")
        wait_until(lambda: service.status(task_id) == "running", 25, "it runs")
        granted_until_ms = lease_of(service, task_id)
        wait_until(lambda: lease_of(service, task_id) > granted_until_ms, 10, "its worker has renewed its lease")
    service.call("PUT", "/api/queues/low_priority/resume")  # which was forgotten, too
    forgotten = service.status(task_id)
    wait_until(lambda: service.status(task_id) == "running", 5, "it is known again to run")
    wait_until(lambda: service.is_final(task_id), 30, "it ended")

    assert forgotten == "queued"
    assert service.status(task_id) == "succeeded"
    assert service.executions(task_id) == 1


@pytest.mark.parametrize("fail_attempts", [0, 1])
def test_an_attempt_whose_start_is_forgotten_is_not_lost(
    service: Service, wait_until: WaitUntil, fail_attempts: int
) -> None:
    service.call("PUT", "/api/queues/low_priority/pause")
    task_id = service.submit({"seconds": 1, "fail_attempts": fail_attempts}, priority="low")
    with forgetting(service):
        service.call("PUT", "/api/queues/low_priority/resume")
        wait_until(lambda: service.status(task_id) == "running", 25, "its first attempt runs")
    forgotten = service.status(task_id)
    service.call("PUT", "/api/queues/low_priority/resume")
    wait_until(lambda: service.is_final(task_id), 30, "its last attempt ran")

    task = service.task(task_id)
    assert forgotten == "queued"
    assert (task["status"], task["result"]["attempt"]) == ("succeeded", 1 + fail_attempts)
    assert service.executions(task_id) == 1 + fail_attempts
