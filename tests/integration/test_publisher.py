"""Publishing with confirms, on a real broker: what was confirmed is there, what cannot be is said so in time."""

from __future__ import annotations

import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import kombu
import pytest

from celery_config import WORK_QUEUES, make_celery
from taskservice.errors import Unavailable
from taskservice.local.ports import choose_port
from taskservice.local.system import LocalSystem
from taskservice.model import Priority, Submission, now
from taskservice.publisher import Publisher
from taskservice.settings import load_settings
from tests.conftest import WaitUntil


def submission(priority: Priority = Priority.LOW) -> Submission:
    moment = now()
    return Submission(str(uuid.uuid4()), "data_processing", priority, {"data": "x"}, moment, moment, 1)


@pytest.fixture
def publisher(stores: LocalSystem) -> Publisher:
    return Publisher(make_celery(load_settings(stores.environment), role="web"))


def depth(stores: LocalSystem, queue: str) -> int:
    channel: Any
    with kombu.Connection(stores.broker_url) as connection, connection.channel() as channel:
        return int(channel.queue_declare(queue, passive=True).message_count)


def test_many_requests_at_once_are_all_confirmed(
    publisher: Publisher, stores: LocalSystem, wait_until: WaitUntil
) -> None:
    publisher.publish(submission())  # declares the topology
    before = depth(stores, "low_priority")

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(publisher.publish, [submission() for _ in range(200)]))

    wait_until(lambda: depth(stores, "low_priority") == before + 200, 10, "all 200 are in the queue")


def test_each_queue_says_how_many_wait_and_that_nobody_consumes(
    publisher: Publisher, stores: LocalSystem, wait_until: WaitUntil
) -> None:
    publisher.publish(submission())
    before = publisher.queue_states()["low_priority"].depth

    publisher.publish(submission())
    wait_until(lambda: publisher.queue_states()["low_priority"].depth == before + 1, 10, "the message is counted")
    states = publisher.queue_states()

    assert list(states) == [queue.name for queue in WORK_QUEUES]
    assert all(state.name == name and state.consumers == 0 for name, state in states.items())


def test_many_submissions_are_confirmed_together(
    publisher: Publisher, stores: LocalSystem, wait_until: WaitUntil
) -> None:
    publisher.publish(submission())
    before = depth(stores, "low_priority")

    failures = publisher.publish_all([submission() for _ in range(500)])

    assert failures == [None] * 500
    wait_until(lambda: depth(stores, "low_priority") == before + 500, 10, "all 500 are in the queue")


def test_a_single_submission_does_not_wait_for_all_of_a_batch(publisher: Publisher) -> None:
    publisher.publish(submission())

    with ThreadPoolExecutor(1) as threads:
        batch = threads.submit(publisher.publish_all, [submission() for _ in range(5000)])
        publisher.publish(submission())
        is_batch_done = batch.done()

    assert not is_batch_done


def test_a_message_carries_its_attempts_number(publisher: Publisher, stores: LocalSystem) -> None:
    drain(stores, "high_priority")
    first, third = submission(Priority.HIGH), submission(Priority.HIGH)

    publisher.publish(first)
    publisher.publish(third, attempt=3)

    retries = {headers["id"]: headers["retries"] for headers in drain(stores, "high_priority", expected=2)}
    assert retries == {first.task_id: 0, third.task_id: 2}


def test_what_has_become_due_meanwhile_is_not_delayed_again(publisher: Publisher, stores: LocalSystem) -> None:
    drain(stores, "high_priority")
    long_ago = now() - timedelta(hours=1)
    due = replace(submission(Priority.HIGH), created_at=long_ago, due_at=long_ago + timedelta(seconds=60))

    publisher.publish(due)

    assert [headers["id"] for headers in drain(stores, "high_priority", expected=1)] == [due.task_id]


def drain(stores: LocalSystem, queue: str, *, expected: int = 0) -> list[dict[str, Any]]:
    """The headers of what is in the queue, which is empty then; waits a moment for as many as are expected."""
    headers: list[dict[str, Any]] = []
    deadline = time.monotonic() + 10
    channel: Any
    with kombu.Connection(stores.broker_url) as connection, connection.channel() as channel:
        while True:
            message = channel.basic_get(queue, no_ack=True)
            if message is not None:
                headers.append(message.headers)
            elif len(headers) >= expected or time.monotonic() > deadline:
                return headers


def test_many_that_cannot_be_published_share_one_wait() -> None:
    environment = {"CELERY_BROKER_URL": f"amqp://guest:guest@127.0.0.1:{choose_port()}//"}
    publisher = Publisher(make_celery(load_settings(environment), role="web"))
    began = time.monotonic()

    failures = publisher.publish_all([submission() for _ in range(300)])

    assert all(isinstance(failure, Unavailable) for failure in failures)
    assert time.monotonic() - began < 5


def test_many_are_waited_for_no_longer_than_their_request_has() -> None:
    environment = {"CELERY_BROKER_URL": f"amqp://guest:guest@127.0.0.1:{choose_port()}//"}
    publisher = Publisher(make_celery(load_settings(environment), role="web"))
    began = time.monotonic()

    failures = publisher.publish_all([submission() for _ in range(300)], until=began + 0.3)

    assert all(isinstance(failure, Unavailable) for failure in failures)
    assert time.monotonic() - began < 2


def test_a_broker_that_is_down_is_said_within_five_seconds() -> None:
    environment = {"CELERY_BROKER_URL": f"amqp://guest:guest@127.0.0.1:{choose_port()}//"}
    publisher = Publisher(make_celery(load_settings(environment), role="web"))
    began = time.monotonic()

    with pytest.raises(Unavailable):
        publisher.publish(submission())

    assert time.monotonic() - began < 5
