"""Behind a balancer that ends TLS, as in the lab: published with a key, every answer usable through the balancer."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin

import pytest
import requests
from click.testing import CliRunner

from taskservice.cli.keys import keys as keys_command
from taskservice.local.ports import choose_port
from taskservice.local.supervisor import Program
from taskservice.local.system import REPOSITORY, LocalSystem
from tests.conftest import WaitUntil
from tests.support.proxy import balancer

SUBMISSION = {"task_type": "data_processing", "priority": "high", "parameters": {"data": "test data"}}


@dataclass
class Visitor:
    """Somebody who knows the balancer's address only, and has a key."""

    url: str
    certificate: str
    key: str
    session: requests.Session = field(default_factory=requests.Session)

    def call(
        self, method: str, path: str, *, key: bool = True, headers: Mapping[str, str] | None = None, **options: Any
    ) -> requests.Response:
        sent = dict(headers or {}) | ({"Authorization": f"Bearer {self.key}"} if key else {})
        address = urljoin(self.url, path)
        assert address.startswith(self.url), "this address does not lead through the balancer"
        return self.session.request(
            method, address, headers=sent, verify=self.certificate, timeout=40, allow_redirects=False, **options
        )

    def get(self, path: str, **options: Any) -> requests.Response:
        return self.call("GET", path, **options)


@pytest.fixture(scope="module")
def visitor(tmp_path_factory: pytest.TempPathFactory, wait_until: WaitUntil) -> Iterator[Visitor]:
    """In the order of chapter 1: start on loopback, make a key, then publish, with one proxy in front."""
    folder = tmp_path_factory.mktemp("balancer")
    with LocalSystem(folder / "system", private_ports=True) as system:
        key = _make_key(system)
        port = choose_port()
        system.supervisor.start(_published_web(system, port))
        with balancer(port, folder) as front:
            visitor = Visitor(front.url, front.certificate, key)
            wait_until(lambda: _is_ready(visitor), 30, "the published web is ready")
            yield visitor


def _make_key(system: LocalSystem) -> str:
    scopes = [word for scope in ("submit", "read", "manage") for word in ("--scope", scope)]
    made = CliRunner().invoke(
        keys_command, ["create", "me", *scopes], env={"CELERY_RESULT_BACKEND": system.result_backend}
    )
    assert made.exit_code == 0, made.output
    return next(word for word in made.output.split() if word.startswith("tsk_"))


def _published_web(system: LocalSystem, port: int) -> Program:
    """Published on every address, as far as it knows; in truth it listens on loopback."""
    env = system.environment | {"BIND_ADDRESS": "0.0.0.0", "LISTEN_ADDRESS": "127.0.0.1", "TRUSTED_PROXIES": "1"}
    command = [sys.executable, "-m", "gunicorn", "app:app", "-b", f"127.0.0.1:{port}"]
    return Program("published-web", command, env, REPOSITORY, stop_rank=0, grace_s=35)


def _is_ready(visitor: Visitor) -> bool:
    try:
        return visitor.get("/readyz", key=False).ok
    except requests.ConnectionError:
        return False


def test_a_task_is_submitted_and_read_through_the_balancer(visitor: Visitor) -> None:
    accepted = visitor.call("POST", "/api/tasks", json=SUBMISSION)

    read = visitor.get(accepted.headers["Location"], params={"wait": "20"})

    assert accepted.status_code == 202, accepted.text
    assert read.status_code == 200
    assert (read.json()["status"], read.json()["result"]["words"]) == ("succeeded", 2)


def test_every_link_of_an_answer_leads_through_the_balancer(visitor: Visitor) -> None:
    links = visitor.call("POST", "/api/tasks", json=SUBMISSION).json()["links"]

    task = visitor.get(links["self"], params={"wait": "20"})
    events = visitor.get(links["events"])
    cancelled = visitor.call("DELETE", links["cancel"])

    assert task.json()["status"] == "succeeded"
    assert "event: succeeded" in events.text
    assert cancelled.status_code == 409  # it has ended


def test_without_a_key_the_balancer_opens_nothing(visitor: Visitor) -> None:
    answers = {path: visitor.get(path, key=False).status_code for path in ("/api/tasks", "/api/queues", "/metrics")}
    submitted = visitor.call("POST", "/api/tasks", key=False, json=SUBMISSION)

    assert answers == {"/api/tasks": 401, "/api/queues": 401, "/metrics": 401}
    assert (submitted.status_code, submitted.json()["error"]) == (401, "key_missing")
    assert visitor.get("/metrics").status_code == 200


def test_the_interactive_page_calls_the_balancer(visitor: Visitor) -> None:
    page = visitor.get("/docs", key=False)
    document = visitor.get("/openapi.json", key=False).json()

    servers = [urljoin(visitor.url, server["url"]) for server in document.get("servers", [{"url": "/"}])]

    assert page.status_code == 200
    assert "http://" not in page.text
    assert servers == [f"{visitor.url}/"]


@pytest.mark.parametrize("path", ["/docs", "/"])
def test_a_page_loads_whole_without_a_key(visitor: Visitor, path: str) -> None:
    page = visitor.get(path, key=False).text
    loaded = re.findall(r'(?:src|href)="([^"#]+\.(?:js|css|svg))"', page)

    answers = {file: visitor.get(urljoin(path, file), key=False).status_code for file in loaded}

    assert len(loaded) > 1
    assert set(answers.values()) == {200}, answers


def test_a_browsers_page_behind_the_balancer_may_call(visitor: Visitor) -> None:
    accepted = visitor.call("POST", "/api/tasks", json=SUBMISSION, headers={"Origin": visitor.url})

    assert visitor.get("/", key=False).status_code == 200
    assert accepted.status_code == 202, accepted.text


def test_a_visitor_cannot_pretend_to_be_a_proxy(visitor: Visitor) -> None:
    forged = {"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "http", "X-Forwarded-Host": "evil.example"}

    metrics = visitor.get("/metrics", key=False, headers=forged)
    accepted = visitor.call("POST", "/api/tasks", json=SUBMISSION, headers=forged)

    assert metrics.status_code == 401
    assert "evil.example" not in accepted.text + accepted.headers["Location"]
