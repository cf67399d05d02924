"""What the queues' states tell that only RabbitMQ's management API knows, with the real one and without any."""

from __future__ import annotations

import time

import requests

from taskservice.local.ports import choose_port
from taskservice.management import Management
from tests.conftest import WaitUntil
from tests.support.receiver import Answer, receiving
from tests.support.service import Service

COUNTED = Answer(200, body=b'[{"name": "low_priority", "messages_unacknowledged": 3}, {"name": "new"}]')


def test_what_workers_have_in_hand_is_counted(service: Service, wait_until: WaitUntil) -> None:
    task_ids = [service.submit({"seconds": 12}, priority="low") for _ in range(2)]

    def in_hand() -> dict[str, int | None]:
        return {queue["name"]: queue["unacknowledged"] for queue in service.call("GET", "/api/queues")["data"]}

    wait_until(lambda: in_hand()["low_priority"] == 2, 15, "the broker has counted")  # it does so every five seconds
    paused = service.call("PUT", "/api/queues/low_priority/pause")
    service.call("PUT", "/api/queues/low_priority/resume")
    counted = in_hand()
    service.call("POST", "/api/tasks/bulk", json={"action": "cancel", "task_ids": task_ids})
    wait_until(lambda: service.are_final(task_ids), 20, "they were stopped")

    assert paused["unacknowledged"] == 2
    assert counted["high_priority"] == 0


def test_a_management_api_that_is_away_costs_little_and_its_numbers_are_unknown() -> None:
    management = Management(f"http://guest:guest@127.0.0.1:{choose_port()}")
    began = time.monotonic()

    assert [management.unacknowledged() for _ in range(20)] == [{}] * 20
    assert time.monotonic() - began < 1


def test_a_management_api_that_does_not_answer_is_waited_for_once() -> None:
    with receiving(Answer(after_s=5)) as silent:
        management = Management(silent.url(path=""))
        began = time.monotonic()
        found = [management.unacknowledged() for _ in range(20)]
        took_s = time.monotonic() - began

    assert found == [{}] * 20
    assert took_s < 1


def test_an_answer_is_remembered_and_then_asked_for_again(wait_until: WaitUntil) -> None:
    with receiving(COUNTED, Answer(503)) as api:
        management = Management(api.url(path="").replace("://", "://us%2Fer:p%40ss@"), virtual_host="/a")
        found = [management.unacknowledged() for _ in range(5)]
        asked = len(api.received)
        wait_until(lambda: management.unacknowledged() == {}, 5, "it was asked again, in vain")

    assert found == [{"low_priority": 3}] * 5
    assert asked == 1
    assert api.received[0].path.startswith("/api/queues/%2Fa?")
    login = requests.Request("GET", api.url(), auth=("us/er", "p@ss")).prepare().headers["Authorization"]
    assert api.received[0].headers["authorization"] == login


def test_without_a_management_api_nothing_is_asked() -> None:
    assert Management(None).unacknowledged() == {}
