"""Broker and store fall silent at once, as when a network is gone: every answer comes within 5 s all the same."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask.testing import FlaskClient

from app import create_app
from taskservice.api.deadlines import ANSWER_S
from taskservice.keys import Scope, make_key
from taskservice.local.system import LocalSystem
from taskservice.records.keys import Keys
from taskservice.records.script import connect
from taskservice.settings import load_settings
from tests.support.api import assert_problem
from tests.support.relay import Relay, relays

TASK = {"task_type": "data_processing", "parameters": {"data": "x"}}
BUSY_S = 0.4  # of a machine that has more to do
REQUESTS: dict[str, tuple[str, Any, dict[str, str]]] = {
    "a task": ("/api/tasks", TASK, {}),
    "a task with an Idempotency-Key": ("/api/tasks", TASK, {"Idempotency-Key": "k"}),
    "a batch": ("/api/tasks/batch", {"tasks": [TASK] * 300}, {}),
    "a bulk": ("/api/tasks/bulk", {"action": "retry", "filter": {"status": "failed"}}, {}),
}


@dataclass
class Web:
    """One web process that has served a request before both fall silent."""

    client: FlaskClient
    broker: Relay
    store: Relay
    headers: dict[str, str]

    def warm_up(self) -> None:
        answer = self.client.post("/api/tasks", json=TASK, headers=self.headers)
        assert answer.status_code == 202, answer.text

    def silence(self) -> None:
        self.broker.silence()
        self.store.silence()


@pytest.fixture(params=["a guest", "an API key"])
def web(stores: LocalSystem, request: pytest.FixtureRequest) -> Iterator[Web]:
    assert stores.rabbitmq is not None
    store = urlsplit(stores.result_backend)
    database = connect(f"redis://{store.netloc}/9")  # in which the records and the keys of other tests are not
    database.flushdb()
    headers = {}
    if request.param == "an API key":
        key, text = make_key("test", frozenset(Scope))
        Keys(database).add(key)
        headers = {"Authorization": f"Bearer {text}"}
    with relays(1, stores.rabbitmq.port) as (broker,), relays(1, int(store.port or 6379)) as (redis,):
        settings = load_settings({
            "CELERY_BROKER_URL": f"amqp://guest:guest@127.0.0.1:{broker.port}//",
            "CELERY_RESULT_BACKEND": f"redis://127.0.0.1:{redis.port}/9",
        })  # fmt: skip
        yield Web(create_app(settings).test_client(), broker, redis, headers)
    database.flushdb()
    database.close()


@pytest.mark.parametrize("asked", REQUESTS.values(), ids=REQUESTS)
def test_every_answer_comes_in_time(web: Web, asked: tuple[str, Any, dict[str, str]]) -> None:
    path, body, headers = asked
    web.warm_up()
    web.silence()
    began = time.monotonic()

    answer = web.client.post(path, json=body, headers=web.headers | headers)

    took_s = time.monotonic() - began
    problem = assert_problem(answer, 503, answer.get_json()["error"])
    assert problem["outcome"] in ("refused", "unknown")
    assert took_s < ANSWER_S + BUSY_S
