"""API.md, "Who may": keys and their scopes, and a service without keys.

Each docstring quotes the clause that the test shows; "…" stands between parts of one.
"""

from __future__ import annotations

import uuid

import pytest
import requests

from tests.contract.client import Client, problem
from tests.contract.conftest import Locked

TASK = {"task_type": "data_processing", "parameters": {"data": "x"}}
SCOPES = ("submit", "read", "manage")
NEEDED: dict[str, tuple[tuple[str, str], ...]] = {
    "submit": (("POST", "/api/tasks"), ("POST", "/api/tasks/batch"), ("POST", "/api/files")),
    "read": (("GET", "/api/tasks"), ("GET", "/api/queues"), ("GET", "/api/files"), ("GET", "/api/stats")),
    "manage": (
        ("DELETE", f"/api/tasks/{uuid.uuid4()}"),
        ("POST", "/api/tasks/bulk"),
        ("PUT", "/api/queues/no_such_queue/pause"),
        ("DELETE", "/api/files/no-such-file"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("header", ["Authorization", "X-API-Key"])
def test_a_key_is_shown_in_either_header(locked: Locked, header: str) -> None:
    """`Authorization: Bearer KEY` (or `X-API-Key`)"""
    key = locked.make_key("read")
    value = f"Bearer {key}" if header == "Authorization" else key

    answer = requests.get(f"{locked.url}/api/tasks", headers={header: value}, timeout=30)

    assert answer.status_code == 200
    problem(requests.get(f"{locked.url}/api/tasks", headers={header: f"{value}0"}, timeout=30), 401, "key_invalid")


@pytest.mark.parametrize("scope", SCOPES)
def test_each_scope_opens_what_is_its_own(locked: Locked, scope: str) -> None:
    """scopes `submit`, `read`, `manage`"""
    having = locked.client(scope)
    lacking = locked.client(*(other for other in SCOPES if other != scope))

    for method, path in NEEDED[scope]:
        assert having.call(method, path).status_code not in (401, 403)
        assert problem(lacking.call(method, path), 403, "scope_missing")["scope"] == scope


def test_a_key_with_its_scopes_does_the_work(locked: Locked) -> None:
    """scopes `submit`, `read`"""
    answer = locked.client("submit").post("/api/tasks", json={**TASK, "delay": 3600})

    assert answer.status_code == 202
    assert locked.client("read").get(answer.headers["Location"]).status_code == 200
    assert locked.client("manage").call("DELETE", answer.headers["Location"]).status_code == 200


def test_without_keys_the_service_is_open_and_has_no_rate_limit(client: Client) -> None:
    """No key configured: open … no rate limit then."""
    answers = [client.get("/api/task-types") for _ in range(200)]

    assert {answer.status_code for answer in answers} == {200}
    assert not any(name.startswith("RateLimit") for name in answers[-1].headers)
