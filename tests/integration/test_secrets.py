"""Keys and webhook secrets in a whole system: whose secret signs what, and that no log ever tells one."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from celery import Celery
from standardwebhooks import Webhook, WebhookVerificationError

from taskservice.local.system import REPOSITORY, LocalSystem
from tests.conftest import WaitUntil
from tests.support.receiver import Answer, Received, Receiver, receiving


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody with a key of their own."""

    system: LocalSystem
    key: str
    key_id: str
    secret: str

    def call(self, method: str, path: str, *, status: int = 200, json: Any = None) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self.key}"}
        answer = requests.request(method, f"{self.system.url}{path}", headers=headers, json=json, timeout=10)
        assert answer.status_code == status, answer.text
        body: dict[str, Any] = answer.json()
        return body

    def submit(self, receiver: Receiver) -> str:
        callback = {"url": receiver.url(), "events": ["succeeded"]}
        body = {"task_type": "data_processing", "parameters": {"data": "a b"}, "callback": callback}
        return str(self.call("POST", "/api/tasks", status=202, json=body)["task_id"])

    def retry(self, task_id: str) -> None:
        self.call("POST", f"/api/tasks/{task_id}/retry", status=202)

    def retry_in_bulk(self, task_id: str) -> None:
        body = {"action": "retry", "task_ids": [task_id]}
        assert self.call("POST", "/api/tasks/bulk", json=body)["succeeded"] == [task_id]


class Told:
    """Everything the workers' events said."""

    def __init__(self, broker_url: str) -> None:
        self.events: list[str] = []
        self._app = Celery(broker=broker_url, set_as_current=False)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def end(self) -> None:
        self._ended.set()
        self._thread.join()

    def _listen(self) -> None:
        with self._app.connection() as connection:
            receiver = self._app.events.Receiver(connection, handlers={"*": self._note})
            while not self._ended.is_set():
                with suppress(socket.timeout):
                    receiver.capture(limit=None, timeout=1, wakeup=False)

    def _note(self, event: dict[str, Any]) -> None:
        self.events.append(json.dumps(event, default=str))
        if self._ended.is_set():
            raise TimeoutError


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSystem]:
    env = {"WEBHOOKS_ALLOW_HTTP": "1", "LOG_LEVEL": "DEBUG", "GUNICORN_CMD_ARGS": "--access-logfile -"}
    with LocalSystem(tmp_path_factory.mktemp("secrets"), private_ports=True, env=env) as system:
        yield system


@pytest.fixture(scope="module")
def told(system: LocalSystem) -> Iterator[Told]:
    told = Told(system.broker_url)
    yield told
    told.end()


@pytest.fixture(scope="module")
def first(system: LocalSystem, told: Told) -> Caller:
    return make_caller(system, "first")


@pytest.fixture(scope="module")
def second(system: LocalSystem, told: Told) -> Caller:
    return make_caller(system, "second")


def make_caller(system: LocalSystem, name: str, *options: str) -> Caller:
    scopes = [word for scope in ("submit", "read", "manage") for word in ("--scope", scope)]
    made = json.loads(command(system, "keys", "create", name, *scopes, *options, "--json"))
    return Caller(system, made["key"], made["key_id"], made["webhook_secret"])


def command(system: LocalSystem, *arguments: str) -> str:
    """What `python -m taskservice` prints."""
    words = [sys.executable, "-m", "taskservice", *arguments]
    return subprocess.run(
        words, env=system.environment, cwd=REPOSITORY, check=True, capture_output=True, text=True, timeout=30
    ).stdout


def is_signed_with(secret: str, received: Received) -> bool:
    try:
        Webhook(secret).verify(received.body, received.headers)
    except WebhookVerificationError:
        return False
    return True


@pytest.mark.parametrize("repeat", [Caller.retry, Caller.retry_in_bulk], ids=["one", "bulk"])
def test_a_retry_is_signed_with_the_key_of_who_asks_for_it(
    first: Caller, second: Caller, wait_until: WaitUntil, repeat: Any
) -> None:
    with receiving() as receiver:
        task_id = first.submit(receiver)
        wait_until(lambda: len(receiver.received) == 1, 20, "the first task's webhook arrived")
        repeat(second, task_id)
        wait_until(lambda: len(receiver.received) == 2, 20, "the second task's webhook arrived")

    by_first, by_second = receiver.received
    assert (is_signed_with(first.secret, by_first), is_signed_with(second.secret, by_first)) == (True, False)
    assert (is_signed_with(first.secret, by_second), is_signed_with(second.secret, by_second)) == (False, True)


def test_a_replay_is_the_same_delivery_so_the_tasks_key_signs_it(
    first: Caller, second: Caller, wait_until: WaitUntil
) -> None:
    with receiving(Answer(410), Answer(204)) as receiver:
        task_id = first.submit(receiver)
        path = f"/api/tasks/{task_id}/deliveries"
        wait_until(lambda: statuses(second, path) == ["failed"], 20, "the receiver was gone")
        second.call("POST", f"{path}/1/replay", status=202)
        wait_until(lambda: statuses(second, path) == ["failed", "succeeded"], 20, "the replay was accepted")

    _, replay = receiver.received
    assert (is_signed_with(first.secret, replay), is_signed_with(second.secret, replay)) == (True, False)


def statuses(caller: Caller, path: str) -> list[str]:
    return [one["status"] for one in caller.call("GET", path)["data"]]


def test_while_the_overlap_lasts_a_receiver_may_know_either_secret(system: LocalSystem, wait_until: WaitUntil) -> None:
    caller = make_caller(system, "rotating")
    rotated = command(system, "keys", "rotate-webhook-secret", caller.key_id, "--overlap", "1h").strip()
    with receiving() as receiver:
        caller.submit(receiver)
        wait_until(lambda: len(receiver.received) == 1, 20, "a webhook arrived during the overlap")
        last = command(system, "keys", "rotate-webhook-secret", caller.key_id, "--overlap", "0").strip()
        caller.submit(receiver)
        wait_until(lambda: len(receiver.received) == 2, 20, "a webhook arrived after the overlap")

    during, after = receiver.received
    assert [is_signed_with(secret, during) for secret in (caller.secret, rotated)] == [True, True]
    assert [is_signed_with(secret, after) for secret in (caller.secret, rotated, last)] == [False, False, True]


def test_no_log_no_event_and_no_answer_tells_a_key_or_a_secret(
    system: LocalSystem, told: Told, first: Caller, wait_until: WaitUntil
) -> None:
    """After everything above, and after what goes wrong with keys."""
    revoked = make_caller(system, "revoked")
    own = [command(system, "webhooks", word).strip() for word in ("secret", "rotate")]
    listed = command(system, "keys", "list") + command(system, "keys", "list", "--json")
    command(system, "keys", "revoke", revoked.key_id)
    wait_until(
        lambda: requests.get(f"{system.url}/api/tasks", headers=bearer(revoked.key)).status_code == 401, 5, "401"
    )
    answers = [
        requests.get(f"{system.url}/api/tasks", headers=headers, timeout=10).text
        for headers in (bearer(revoked.key), bearer(first.key[:-1] + "x"), {"X-API-Key": first.key + "\t" + first.key})
    ]
    with receiving(Answer(500)) as receiver:
        path = f"/api/tasks/{first.submit(receiver)}/deliveries"
        wait_until(lambda: len(receiver.received) == 2, 20, "a delivery failed twice")
        answers.append(json.dumps(first.call("GET", path)))
    first.call("DELETE", f"/api/tasks/{first.call('GET', path)['data'][0]['webhook_id']}")
    wait_until(lambda: "task-retried" in "".join(told.events), 10, "the events were heard")

    said = "".join([listed, *answers, *told.events, *(path.read_text(errors="replace") for path in logs(system))])
    assert "GET /api/tasks" in said  # the access log is among them
    assert "webhook_rejected" in said
    for caller in (first, revoked):
        assert caller.key.rpartition("_")[2][:-1] not in said
        assert caller.secret.removeprefix("whsec_") not in said
    assert not any(secret.removeprefix("whsec_") in said for secret in own)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def logs(system: LocalSystem) -> list[Path]:
    """What every program wrote, RabbitMQ's own files included."""
    found = [path for path in system.data_dir.rglob("*") if path.is_file() and "log" in path.parent.name + path.suffix]
    names = {path.name for path in found}
    assert {"web.log", "worker-normal.log", "flower.log", "redis.log"} <= names, names
    return found
