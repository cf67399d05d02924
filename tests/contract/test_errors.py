"""API.md, "Errors": every failure is a problem document that says what is wrong and nothing that it should not.

Each docstring quotes the clause that the test shows; "…" stands between parts of one.
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
import requests

from tests.contract.client import Client, pointers, problem
from tests.contract.conftest import Locked
from tests.contract.task_types import SECRET

JSON = {"Content-Type": "application/json"}
NOT_JSON = {
    "nothing": b"",
    "half an object": b'{"task_type": ',
    "a second value": b"{} {}",
    "NaN": b'{"task_type": "sleep", "delay": NaN}',
    "Infinity": b'{"task_type": "sleep", "delay": -Infinity}',
    "a BOM": b'\xef\xbb\xbf{"task_type": "sleep"}',
    "broken UTF-8": b'{"task_type": "sl\xffp"}',
    "nesting": b'{"parameters": ' + b"[" * 100 + b"]" * 100 + b"}",
    "very deep nesting": b"[" * 500_000,
}
FAILURES: dict[str, tuple[Callable[[Client], requests.Response], int]] = {
    "400": (lambda client: client.post("/api/tasks", data=b"{", headers=JSON), 400),
    "404": (lambda client: client.get("/api/no-such-address"), 404),
    "405": (lambda client: client.call("PUT", "/api/tasks"), 405),
    "409": (lambda client: client.cancel(client.run()["task_id"]), 409),
    "413": (lambda client: client.post("/api/tasks", data=b"x" * 2**21, headers=JSON), 413),
    "415": (lambda client: client.post("/api/tasks", data=b"{}"), 415),
    "422": (lambda client: client.post("/api/tasks", json=[]), 422),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failure_is_a_problem_document(client: Client, failure: str) -> None:
    """`application/problem+json` (RFC 9457): `{type, title, status, detail, instance, request_id, error,
    errors: [{pointer, detail}]}`; `error` is a stable … snake_case code.
    """
    fail, status = FAILURES[failure]

    document = problem(fail(client), status)

    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", document["error"])
    assert document["instance"].startswith("/api/")
    assert document["title"]
    assert document["detail"]
    assert document["request_id"]
    assert all(error.keys() == {"pointer", "detail"} for error in document["errors"])


def test_a_failure_tells_nothing_of_the_inside(client: Client, brokerless: Client, storeless: Client) -> None:
    """Never a traceback, an exception's repr, a host name or a credential."""
    told = [fail(client).text for fail, _ in FAILURES.values()]
    told += [one.submit(task_type="data_processing", parameters={"data": "x"}).text for one in (brokerless, storeless)]
    told += [one.get("/readyz").text for one in (brokerless, storeless)]
    broken = client.run({}, task_type="broken")

    assert (broken["status"], broken["error"]["code"]) == ("failed", "internal")
    for text in [*told, str(broken)]:
        for inside in ("Traceback", 'File "', "Error(", socket.gethostname(), "127.0.0.1", "hidden", SECRET):
            assert inside not in text.replace(str(broken["worker"]), "")  # a worker is named after its host


@pytest.mark.parametrize("what", NOT_JSON)
def test_what_is_not_json_is_400(client: Client, what: str) -> None:
    """400 not JSON (NaN, Infinity, a BOM, broken UTF-8 and nesting beyond 100 included)"""
    problem(client.post("/api/tasks", data=NOT_JSON[what], headers=JSON), 400, "invalid_json")


def test_a_missing_or_wrong_key_is_401_and_a_missing_scope_403(locked: Locked) -> None:
    """401 / 403 key missing or wrong / scope missing"""
    problem(Client(locked.url).get("/api/tasks"), 401, "key_missing")
    problem(Client(locked.url, key="nonsense").get("/api/tasks"), 401, "key_invalid")
    problem(locked.client("submit").get("/api/tasks"), 403, "scope_missing")


@pytest.mark.parametrize("path", ["/api/no-such-address", "/api", "/api/tasks/", "/api/batches/x", "/nothing.php"])
def test_what_is_not_there_is_404(client: Client, path: str) -> None:
    """404"""
    problem(client.get(path), 404)


@pytest.mark.parametrize(
    ("method", "path"),
    [("PUT", "/api/tasks"), ("DELETE", "/api/files"), ("POST", "/healthz"), ("PUT", "/api/events")],
)
def test_another_method_is_405(client: Client, method: str, path: str) -> None:
    """405"""
    answer = client.call(method, path)

    problem(answer, 405, "method_not_allowed")
    assert method not in answer.headers["Allow"]


def test_what_contradicts_the_task_s_state_is_409(client: Client) -> None:
    """409"""
    problem(client.cancel(client.run()["task_id"]), 409)


@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_large_body_is_413_and_the_answer_can_be_read(client: Client, is_chunked: bool) -> None:
    """413 body over 1 MiB (readable by the client: drained within a bound)"""
    body = b"x" * (8 * 2**20)
    for _ in range(5):
        data = iter([body[: 2**16]] * 128) if is_chunked else body
        answer = requests.post(f"{client.url}/api/tasks", data=data, headers=JSON, timeout=60)

        problem(answer, 413, "body_too_large")
    limit = b'{"task_type": "sleep", "parameters": {}}'.ljust(2**20)
    assert client.post("/api/tasks", data=limit, headers=JSON).status_code == 202
    problem(client.post("/api/tasks", data=limit + b" ", headers=JSON), 413)


def test_a_body_that_never_comes_is_not_waited_for(client: Client) -> None:
    """drained within a bound"""
    address = urlsplit(client.url)
    head = "POST /api/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with socket.create_connection((address.hostname, address.port), timeout=60) as connection:
        connection.sendall(f"{head}Content-Length: 100000000\r\n\r\n".encode())
        answer = connection.recv(65_536)  # the time-out is the bound

    assert answer.startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "application/xml", None])
def test_another_media_type_is_415(client: Client, content_type: str | None) -> None:
    """415 not application/json"""
    headers = {} if content_type is None else {"Content-Type": content_type}

    problem(client.post("/api/tasks", data=b'{"task_type": "sleep"}', headers=headers), 415, "unsupported_media_type")
    with_parameter = {"Content-Type": "application/json; charset=utf-8"}
    assert client.post("/api/tasks", data=b'{"task_type": "sleep"}', headers=with_parameter).status_code == 202


@pytest.mark.parametrize("body", [[], "text", 1, None, True])
def test_json_that_is_no_object_is_422(client: Client, body: object) -> None:
    """422 does not validate (also a body that is JSON but not an object"""
    answer = client.post("/api/tasks", data=json.dumps(body), headers=JSON)

    assert pointers(answer) == [""]


def test_a_pointer_names_the_member(client: Client) -> None:
    """`pointer` names the member, e.g. `/parameters/to`"""
    mail = {"subject": "s", "body": "b"}

    assert pointers(client.submit({**mail, "to": "nobody"}, task_type="email_sending")) == ["/parameters/to"]
    assert pointers(client.submit(mail, task_type="email_sending")) == ["/parameters/to"]
    several = {**mail, "to": ["ada@example.com", "nobody"]}
    assert pointers(client.submit(several, task_type="email_sending")) == ["/parameters/to/1"]
    assert set(pointers(client.submit({}, delay=-1, priority="x", color="red"))) == {"/delay", "/priority", "/color"}
    assert pointers(client.submit({"a/b~c": 1})) == ["/parameters/a~1b~0c"]


def test_over_the_rate_is_429_and_says_when_to_come_back(locked: Locked) -> None:
    """429 over the rate limit, with `Retry-After`"""
    client = locked.client("read", rate="3/h")

    answers = [client.get("/api/task-types") for _ in range(4)]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    problem(answers[-1], 429, "rate_limited")
    assert int(answers[-1].headers["Retry-After"]) >= 1


def test_a_broker_or_redis_that_is_away_is_503(brokerless: Client, storeless: Client) -> None:
    """503 broker or Redis unreachable, with `Retry-After`."""
    answers = {
        "broker_unavailable": [brokerless.submit(), brokerless.get("/api/queues")],
        "store_unavailable": [storeless.submit(), storeless.get("/api/tasks"), storeless.get("/api/queues")],
    }

    for error, several in answers.items():
        for answer in several:
            problem(answer, 503, error)
            assert int(answer.headers["Retry-After"]) >= 1
