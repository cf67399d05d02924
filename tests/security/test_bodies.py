"""Bodies that are too deep, too large, too slow, ambiguous or of the wrong type, at every address that takes JSON."""

from __future__ import annotations

import gzip
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests.conftest import WaitUntil
from tests.support.service import FINAL, Service

pytestmark = pytest.mark.usefixtures("unharmed")

JSON = {"Content-Type": "application/json"}
NOT_JSON = {
    "nested 101 levels": b"[" * 101 + b"]" * 101,
    "nested 200,000 levels": b'{"a":' * 100_000 + b"[" * 100_000,
    "a name twice": b'{"task_type": "data_processing", "task_type": "email_sending"}',
    "a name twice, escaped": b'{"filter": {"tag": "a", "\\u0074ag": "b"}}',
    "NaN": b'{"delay": NaN}',
    "-Infinity": b'{"delay": -Infinity}',
    "a byte order mark": b"\xef\xbb\xbf{}",
    "broken UTF-8": b'{"task_type": "\xc3\x28"}',
    "a surrogate in UTF-8": b'{"task_type": "\xed\xa0\x80"}',
    "two values": b"{} {}",
    "cut off": b'{"task_type": "data_proc',
    "a comment": b'{"a": 1} // b',
    "nothing": b" ",
}
NOT_VALID = {
    "an integer of 5,000 digits": b'{"x": ' + b"9" * 5000 + b"}",
    "a number beyond all measure": b'{"x": 1e999}',
    "a lone surrogate": b'{"x": "\\ud800"}',
    "a lone surrogate as a name": b'{"\\udfff": 1}',
    "NUL": b'{"x": "a\\u0000b"}',
    "null": b"null",
    "an array": b"[]",
    "a string": b'"x"',
    "a number": b"7",
    "a member that nobody defined": b'{"__proto__": {"admin": true}}',
}


@pytest.fixture(scope="module", params=["/api/tasks", "/api/tasks/batch", "/api/tasks/bulk", "/api/tasks/{id}/retry"])
def address(request: pytest.FixtureRequest, target: Service, wait_until: WaitUntil) -> str:
    """Each address that takes JSON."""
    path = str(request.param)
    if "{id}" in path:
        task_id = target.submit({"data": "x"}, task_type="data_processing")
        wait_until(lambda: target.status(task_id) in FINAL, 20, "a task to repeat")
        path = path.format(id=task_id)
    return f"{target.system.url}{path}"


def test_what_is_not_json_is_400(address: str) -> None:
    for name, body in NOT_JSON.items():
        assert (name, *refusal(address, body)) == (name, 400, "invalid_json")


def test_what_does_not_validate_is_422(address: str) -> None:
    for name, body in NOT_VALID.items():
        assert (name, *refusal(address, body)) == (name, 422, "invalid_request")


def test_what_is_not_application_json_is_415(address: str) -> None:
    packed = gzip.compress(b" " * 2**24)

    assert refusal(address, b"{}", {"Content-Type": "text/plain"})[0] == 415
    assert refusal(address, b"a=b", {"Content-Type": "application/x-www-form-urlencoded"})[0] == 415
    assert refusal(address, packed, JSON | {"Content-Encoding": "gzip"})[0] == 415


@pytest.mark.parametrize("is_chunked", [False, True], ids=["with a length", "chunked"])
def test_a_body_over_its_limit_is_413_and_the_answer_can_be_read(address: str, is_chunked: bool) -> None:
    limit_bytes = 2**20 * (10 if address.endswith("/batch") else 1)

    def pieces() -> Iterator[bytes]:
        for _ in range(limit_bytes // 2**16 + 1):
            yield b" " * 2**16

    body = pieces() if is_chunked else b" " * (limit_bytes + 1)

    assert refusal(address, body) == (413, "body_too_large")


WRONG: list[Any] = [None, True, -1, 0.5, "", "x" * 10_000, [], [None], [[[]]], {}, {"a": {"b": [None]}}]
STRICT: dict[str, list[Any]] = {
    "task_type": WRONG,
    "priority": WRONG,
    "parameters": [value for value in WRONG if not isinstance(value, dict)] + [{"a": {"b": [None]}}, {}],
    "delay": [True, -1, "1", [], {}, 1e300],
    "run_at": [True, 0, -1, 1.5, "", "0", "1700000000", "tomorrow", "2026-13-01T00:00:00Z", [], {}],
    "expires_in": [True, 0, -1, "1", [], {}, 1e300],
    "max_retries": [True, -1, 21, 0.5, "1", [], {}, 2**63],
    "tags": [True, 1, "x", [1], [None], [""], ["x" * 65], ["x"] * 11, {}],
    "metadata": [True, 1, "x", [], {"x": "y" * 5000}],
    "callback": [True, 1, "x", [], {}, {"url": 1, "events": []}, {"url": "file:///etc/passwd", "events": ["failed"]}],
}


@pytest.mark.parametrize("member", STRICT)
def test_a_member_of_the_wrong_type_is_422_and_named(target: Service, member: str) -> None:
    valid = {"task_type": "data_processing", "parameters": {"data": "x"}}

    for value in STRICT[member]:
        answer = requests.post(f"{target.system.url}/api/tasks", json=valid | {member: value}, timeout=10)
        assert (value, answer.status_code) == (value, 422)
        assert any(error["pointer"].startswith(f"/{member}") for error in answer.json()["errors"]), answer.text


def test_a_parameter_of_the_wrong_type_is_422_or_a_task_that_ends(target: Service, wait_until: WaitUntil) -> None:
    accepted: list[str] = []

    for kind in target.call("GET", "/api/task-types")["data"]:
        for name in kind["parameters_schema"]["properties"]:
            for value in WRONG:
                body = {"task_type": kind["name"], "parameters": kind["example"] | {name: value}, "max_retries": 0}
                answer = requests.post(f"{target.system.url}/api/tasks", json=body, timeout=10)
                assert answer.status_code in (202, 422), (kind["name"], name, value, answer.text)
                accepted += [answer.json()["task_id"]] if answer.status_code == 202 else []

    wait_until(lambda: target.are_final(accepted), 60, "what was accepted ends")
    errors = [task["error"] for task in map(target.task, accepted) if task["error"]]
    assert [error for error in errors if error["code"] == "internal"] == []


def test_slow_bodies_keep_nobody_waiting(target: Service) -> None:
    head = b"POST /api/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += b"Content-Length: 100000\r\n\r\n{"
    slow = [socket.create_connection(("127.0.0.1", target.system.web_port)) for _ in range(200)]
    try:
        longest_s = 0.0
        for round_ in range(10):
            for connection in slow:
                connection.sendall(b" " if round_ else head)
            began = time.monotonic()
            target.submit({"data": "x"}, task_type="data_processing")
            longest_s = max(longest_s, time.monotonic() - began)
    finally:
        for connection in slow:
            connection.close()

    assert longest_s < 2


def refusal(address: str, body: Any, headers: dict[str, str] = JSON) -> tuple[int, str]:
    """The status and the stable code of a problem document that tells nothing about the inside."""
    answer = requests.post(address, data=body, headers=headers, timeout=30)
    assert answer.headers["Content-Type"] == "application/problem+json", answer.text
    assert "Traceback" not in answer.text
    document = json.loads(answer.text)
    assert document["status"] == answer.status_code
    return answer.status_code, document["error"]
