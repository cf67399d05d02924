"""Publishing with confirms, on a real broker: what was confirmed is there, what cannot be is said so in time."""

from __future__ import annotations

import time
import uuid
from concurrent.futures import ThreadPoolExecutor
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


def test_each_priority_has_its_queue_and_no_consumer_yet(publisher: Publisher) -> None:
    publisher.publish(submission())

    assert publisher.consumers() == {queue.name: 0 for queue in WORK_QUEUES}


def test_a_broker_that_is_down_is_said_within_five_seconds() -> None:
    environment = {"CELERY_BROKER_URL": f"amqp://guest:guest@127.0.0.1:{choose_port()}//"}
    publisher = Publisher(make_celery(load_settings(environment), role="web"))
    began = time.monotonic()

    with pytest.raises(Unavailable):
        publisher.publish(submission())

    assert time.monotonic() - began < 5
