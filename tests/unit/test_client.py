"""The Python client against a real HTTP server that plays scripted answers, refusals and broken connections.

Must not know the service: what it may answer is API.md's word.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import pytest

from taskservice.client import (
    ApiError,
    Conflict,
    Invalid,
    InvalidArgument,
    NotFound,
    RateLimited,
    ServiceUnavailable,
    TaskClient,
    Unauthorized,
    UnexpectedAnswer,
    Unreachable,
    WaitTimedOut,
)
from taskservice.local.ports import choose_port
from taskservice.model import Cancellation, Status

TASK_ID = "8d654179-aaef-443a-8e70-9db0cb6f10da"
TASK_PATH = f"/api/tasks/{TASK_ID}"


@dataclass(frozen=True)
class Answer:
    """What the server says once. `drops`: nothing, or with a body half of it, and then the connection is gone."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    drops: bool = False
    holds_s: float = 0.0

    @property
    def content(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()

    @property
    def content_type(self) -> str:
        return "application/json" if self.status < 400 else "application/problem+json"


@dataclass(frozen=True)
class Request:
    """What the server was asked."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class ScriptedServer:
    """Plays its answers in order, the last one for ever, and remembers what it was asked."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self._answers: list[Answer] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def asked(self) -> list[str]:
        return [f"{request.method} {request.path}" for request in self.requests]

    def play(self, *answers: Answer) -> None:
        self._answers = [*answers]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        script = self

        class Handler(BaseHTTPRequestHandler):
            def handle_any(self) -> None:
                address = urlsplit(self.path)
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                query = parse_qs(address.query)
                script.requests.append(Request(self.command, address.path, query, dict(self.headers), body))
                answers = script._answers
                self.say(answers.pop(0) if len(answers) > 1 else answers[0])

            do_GET = do_POST = do_PUT = do_DELETE = handle_any  # noqa: N815  the library's names

            def say(self, answer: Answer) -> None:
                time.sleep(answer.holds_s)
                if answer.drops and answer.body is None:
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                self.send_response(answer.status)
                headers = {"Content-Type": answer.content_type, **answer.headers}
                for name, value in {**headers, "Content-Length": str(len(answer.content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer.content[: len(answer.content) // 2] if answer.drops else answer.content)

            def log_message(self, *_: object) -> None:
                """Not into the test's output."""

        return Handler


def task_document(status: str = "succeeded", **members: Any) -> dict[str, Any]:
    return {
        "task_id": TASK_ID,
        "task_type": "data_processing",
        "status": status,
        "state": Status(status).state,
        "priority": "high",
        "queue": "high_priority",
        "created_at": "2026-11-24T06:55:24.052Z",
        "due_at": "2026-11-24T06:55:24.052Z",
        "attempt": 1,
        "max_attempts": 4,
        **members,
    }


def accepted(**members: Any) -> Answer:
    return Answer(202, task_document("queued", **members))


def problem(status: int, error: str, retry_after: str | None = None, **members: Any) -> Answer:
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    document = {"status": status, "error": error, "detail": f"about {error}", "request_id": "r1", **members}
    return Answer(status, document, headers)


DROPPED = Answer(drops=True)
UNAVAILABLE = problem(503, "broker_unavailable", "1", outcome="refused")


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


@pytest.fixture
def client(server: ScriptedServer) -> Iterator[TaskClient]:
    with TaskClient(server.url, "secret-key", timeout_s=5) as client:
        yield client


# Submit


def test_a_submission_carries_only_what_was_given(server: ScriptedServer, client: TaskClient) -> None:
    server.play(accepted())

    task = client.submit("data_processing", {"data": "x"}, priority="high", delay=0.5, tags=["nightly"])

    assert (task.task_id, task.status, task.is_replayed) == (TASK_ID, Status.QUEUED, False)
    assert server.requests[0].json == {
        "task_type": "data_processing",
        "parameters": {"data": "x"},
        "priority": "high",
        "delay": 0.5,
        "tags": ["nightly"],
    }


def test_zero_is_a_value_and_not_left_out(server: ScriptedServer, client: TaskClient) -> None:
    server.play(accepted())

    client.submit("data_processing", max_retries=0, delay=0)

    assert server.requests[0].json == {"task_type": "data_processing", "parameters": {}, "max_retries": 0, "delay": 0}


def test_an_instant_is_sent_as_utc(server: ScriptedServer, client: TaskClient) -> None:
    server.play(accepted())

    client.submit("data_processing", run_at=datetime.fromisoformat("2026-12-01T08:00:00+02:00"))

    assert server.requests[0].json["run_at"] == "2026-12-01T06:00:00.000Z"


@pytest.mark.parametrize("trouble", [DROPPED, UNAVAILABLE, problem(503, "store_unavailable", "1", outcome="unknown")])
def test_a_submission_is_repeated_with_the_same_idempotency_key(
    server: ScriptedServer, client: TaskClient, trouble: Answer
) -> None:
    server.play(trouble, accepted())

    task = client.submit("data_processing", {"data": "x"})

    keys = [request.headers["Idempotency-Key"] for request in server.requests]
    assert task.task_id == TASK_ID
    assert len(keys) == 2
    assert keys[0] == keys[1]


def test_every_submission_has_a_key_of_its_own(server: ScriptedServer, client: TaskClient) -> None:
    server.play(accepted())

    client.submit("data_processing")
    client.submit("data_processing")

    assert len({request.headers["Idempotency-Key"] for request in server.requests}) == 2


def test_a_key_that_was_given_is_used_and_a_replay_is_told(server: ScriptedServer, client: TaskClient) -> None:
    server.play(Answer(202, task_document("queued"), {"Idempotency-Replayed": "true"}))

    task = client.submit("data_processing", idempotency_key="order-17")

    assert task.is_replayed
    assert server.requests[0].headers["Idempotency-Key"] == "order-17"


def test_a_key_in_flight_is_asked_again(server: ScriptedServer, client: TaskClient) -> None:
    server.play(problem(409, "idempotency_in_flight"), accepted())

    assert client.submit("data_processing").task_id == TASK_ID


def test_what_json_cannot_say_is_never_sent(server: ScriptedServer, client: TaskClient) -> None:
    with pytest.raises(InvalidArgument, match="not a JSON value"):
        client.submit("data_processing", {"data": float("nan")})

    assert server.requests == []


# Repeating


@pytest.mark.parametrize("refusal", [problem(429, "rate_limited", "1"), UNAVAILABLE])
def test_retry_after_is_followed(server: ScriptedServer, client: TaskClient, refusal: Answer) -> None:
    server.play(refusal, Answer(body=task_document()))
    began = time.monotonic()

    client.get(TASK_ID)

    assert len(server.requests) == 2
    assert time.monotonic() - began >= 1


def test_retry_after_may_be_a_date(server: ScriptedServer, client: TaskClient) -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
    server.play(problem(503, "broker_unavailable", soon), Answer(body=task_document()))

    assert client.get(TASK_ID).has_succeeded


@pytest.mark.parametrize("text", ["soon", "", "-1", "1e9", "9" * 5000])
def test_a_senseless_retry_after_does_no_harm(server: ScriptedServer, text: str) -> None:
    server.play(problem(503, "broker_unavailable", text))

    with TaskClient(server.url, timeout_s=0.5) as client, pytest.raises(ServiceUnavailable):
        client.get(TASK_ID)


def test_a_call_ends_within_its_time(server: ScriptedServer) -> None:
    server.play(problem(503, "broker_unavailable", "0"))
    began = time.monotonic()

    with TaskClient(server.url, timeout_s=1) as client, pytest.raises(ServiceUnavailable):
        client.get(TASK_ID)

    assert len(server.requests) > 1
    assert time.monotonic() - began < 3


def test_a_turn_beyond_the_bound_is_not_waited_for(server: ScriptedServer, client: TaskClient) -> None:
    server.play(problem(429, "rate_limited", "3600"))
    began = time.monotonic()

    with pytest.raises(RateLimited) as caught:
        client.get(TASK_ID)

    assert caught.value.retry_after_s == 3600
    assert time.monotonic() - began < 3


def test_who_asks_is_told_of_each_repeat(server: ScriptedServer) -> None:
    told: list[str] = []
    server.play(DROPPED, Answer(body=task_document()))

    with TaskClient(server.url, on_repeat=lambda failure, _: told.append(str(failure))) as client:
        client.get(TASK_ID)

    assert told == [f"{server.url} cannot be reached: the connection broke off before the answer was complete"]


def test_an_answer_that_breaks_off_is_asked_for_again(server: ScriptedServer, client: TaskClient) -> None:
    server.play(Answer(body=task_document(), drops=True), Answer(body=task_document()))

    assert client.get(TASK_ID).has_succeeded


OUTCOME = {"matched": 2, "succeeded": ["a"], "failed": {"b": "already_final"}, "untried": []}


@pytest.mark.parametrize(
    ("act", "answer"),
    [
        (lambda client: client.run(TASK_ID), Answer(202, task_document("queued"))),
        (lambda client: client.bulk("retry", task_ids=[TASK_ID]), Answer(body=OUTCOME)),
    ],
)
def test_what_could_happen_twice_is_repeated_with_its_key(
    server: ScriptedServer, client: TaskClient, act: Callable[[TaskClient], object], answer: Answer
) -> None:
    server.play(DROPPED, answer)

    act(client)

    first, second = (request.headers["Idempotency-Key"] for request in server.requests)
    assert first == second


def test_what_was_refused_for_sure_is_repeated_whatever_it_is(server: ScriptedServer, client: TaskClient) -> None:
    server.play(UNAVAILABLE, Answer(202, task_document("queued")))

    assert client.run(TASK_ID).status is Status.QUEUED


def test_a_service_that_is_not_there_yet_is_waited_for() -> None:
    port = choose_port()

    with TaskClient(f"http://127.0.0.1:{port}", timeout_s=0.6) as client, pytest.raises(Unreachable) as caught:
        client.run(TASK_ID)

    assert (caught.value.reason, caught.value.was_sent) == ("Connection refused", False)


# Answers


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, Invalid), (401, Unauthorized), (403, Unauthorized), (404, NotFound), (409, Conflict), (422, Invalid)],
)
def test_a_refusal_has_its_class_and_is_not_repeated(
    server: ScriptedServer, client: TaskClient, status: int, kind: type[ApiError]
) -> None:
    server.play(problem(status, "some_code", errors=[{"pointer": "/priority", "detail": "no"}]))

    with pytest.raises(kind) as caught:
        client.get(TASK_ID)

    error = caught.value
    assert (error.status, error.error, error.detail, error.request_id) == (status, "some_code", "about some_code", "r1")
    assert [(one.pointer, one.detail) for one in error.errors] == [("/priority", "no")]
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, b"<html>", {"Content-Type": "text/html"}),
        Answer(200, []),
        Answer(200, {"task_id": TASK_ID}),
        Answer(200, {**task_document(), "status": "dreaming"}),
        Answer(404, b"<html>", {"Content-Type": "text/html"}),
        Answer(301, b"", {"Location": "http://127.0.0.1:1/"}),
    ],
)
def test_another_server_at_the_url_is_noticed(server: ScriptedServer, client: TaskClient, answer: Answer) -> None:
    server.play(answer)

    with pytest.raises(UnexpectedAnswer, match=server.url):
        client.get(TASK_ID)


def test_a_proxys_own_503_counts_as_unavailable(server: ScriptedServer) -> None:
    server.play(Answer(503, b"<html>", {"Content-Type": "text/html"}))

    with TaskClient(server.url, timeout_s=0.5) as client, pytest.raises(ServiceUnavailable):
        client.get(TASK_ID)


def test_members_of_a_later_version_are_kept_in_the_document(server: ScriptedServer, client: TaskClient) -> None:
    server.play(Answer(body=task_document(colour="red")))

    assert client.get(TASK_ID).document["colour"] == "red"


def test_a_task_is_typed_throughout(server: ScriptedServer, client: TaskClient) -> None:
    error = {"code": "smtp_refused", "message": "no", "retryable": False}
    attempt = {
        "number": 1,
        "worker": "w",
        "started_at": "2026-11-24T06:55:24.060Z",
        "finished_at": None,
        "error": error,
    }
    progress = {"current": 3, "total": 10, "message": "rows"}
    server.play(Answer(body=task_document("failed", error=error, attempts=[attempt], progress=progress)))

    task = client.get(TASK_ID)

    assert task.error is not None
    assert (task.error.code, task.attempts[0].error, task.created_at.tzinfo) == ("smtp_refused", task.error, UTC)
    assert task.progress is not None
    assert (task.progress.current, task.progress.total) == (3, 10)


# The key and the address


def test_the_key_is_sent_as_bearer(server: ScriptedServer, client: TaskClient) -> None:
    server.play(Answer(body=task_document()))

    client.get(TASK_ID)

    assert server.requests[0].headers["Authorization"] == "Bearer secret-key"


def test_no_key_sends_none_whatever_netrc_says(
    server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password mine\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    server.play(Answer(body=task_document()))

    with TaskClient(server.url) as client:
        client.get(TASK_ID)

    assert "Authorization" not in server.requests[0].headers


def test_a_key_with_a_line_break_is_refused_without_repeating_it() -> None:
    with pytest.raises(InvalidArgument) as caught:
        TaskClient("http://127.0.0.1:5000", "hush\nhush")

    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("url", ["", "localhost:5000", "ftp://host", "http://", "http://host:port", "http://h?a=b"])
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(InvalidArgument, match="expected http"):
        TaskClient(url)


@pytest.mark.parametrize("url", ["http://me:hush@host", "ftp://me:hush@host", "http://me:hush@host:port"])
def test_a_login_in_the_url_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(InvalidArgument, match="login") as caught:
        TaskClient(url)

    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_a_name_that_would_address_something_else_is_not_sent(client: TaskClient, name: str) -> None:
    with pytest.raises(InvalidArgument):
        client.get(name)


def test_a_name_is_one_path_segment(server: ScriptedServer, client: TaskClient) -> None:
    server.play(problem(404, "task_not_found"))

    with pytest.raises(NotFound):
        client.get("a/b?c#d")

    assert server.asked == ["GET /api/tasks/a%2Fb%3Fc%23d"]


# Wait and watch


def test_wait_lets_the_service_hold_the_answer(server: ScriptedServer, client: TaskClient) -> None:
    server.play(Answer(body=task_document("running"), holds_s=1.1), Answer(body=task_document()))

    task = client.wait(TASK_ID, 20)

    assert task.has_succeeded
    assert 18 <= int(server.requests[0].query["wait"][0]) <= 20


def test_a_service_without_waiting_reads_is_polled_as_it_asks(server: ScriptedServer, client: TaskClient) -> None:
    refusal = problem(422, "invalid_request", errors=[{"pointer": "/wait", "detail": "no such query parameter"}])
    running = Answer(body=task_document("running"), headers={"Retry-After": "1"})
    server.play(refusal, running, running, Answer(body=task_document()))
    began = time.monotonic()

    task = client.wait(TASK_ID)

    assert task.has_succeeded
    assert ["wait" in request.query for request in server.requests] == [True, False, False, False]
    assert time.monotonic() - began >= 2


def test_an_answer_that_was_not_held_back_is_not_asked_for_in_a_loop(
    server: ScriptedServer, client: TaskClient
) -> None:
    server.play(Answer(body=task_document("running")))

    with pytest.raises(WaitTimedOut):
        client.wait(TASK_ID, 2.5)

    assert len(server.requests) <= 4


def test_wait_ends_in_time_with_the_last_reading(server: ScriptedServer, client: TaskClient) -> None:
    server.play(Answer(body=task_document("running"), headers={"Retry-After": "60"}))
    began = time.monotonic()

    with pytest.raises(WaitTimedOut) as caught:
        client.wait(TASK_ID, 0.5)

    assert caught.value.task.status is Status.RUNNING
    assert time.monotonic() - began < 3


def test_watch_yields_each_change_once(server: ScriptedServer, client: TaskClient) -> None:
    halfway = task_document("running", progress={"current": 1, "total": 2, "message": ""})
    documents = [task_document("queued"), task_document("queued"), halfway, halfway, task_document()]
    server.play(*(Answer(body=document, headers={"Retry-After": "0"}) for document in documents))

    seen = [task.status for task in client.watch(TASK_ID)]

    assert seen == ["queued", "running", "succeeded"]


# List, act, files


def test_list_follows_the_cursor_to_the_end(server: ScriptedServer, client: TaskClient) -> None:
    first = {"data": [task_document()] * 2, "has_more": True, "next_cursor": "c1"}
    last = {"data": [task_document("failed")], "has_more": False, "next_cursor": None}
    server.play(Answer(body=first), Answer(body=last))

    tasks = [*client.list(status=Status.FAILED, tag="a b", created_after=datetime(2026, 1, 1, tzinfo=UTC))]

    assert len(tasks) == 3
    assert server.requests[0].query == {
        "status": ["failed"],
        "tag": ["a b"],
        "created_after": ["2026-01-01T00:00:00.000Z"],
        "limit": ["200"],
    }
    assert server.requests[1].query["cursor"] == ["c1"]


def test_list_asks_for_no_more_than_its_limit(server: ScriptedServer, client: TaskClient) -> None:
    page = {"data": [task_document()] * 2, "has_more": True, "next_cursor": "c1"}
    server.play(Answer(body=page))

    assert len([*client.list(limit=4)]) == 4
    assert [request.query["limit"] for request in server.requests] == [["4"], ["2"]]


@pytest.mark.parametrize(("status", "outcome"), [(200, Cancellation.CANCELLED), (202, Cancellation.REQUESTED)])
def test_cancel_tells_whether_it_ran(
    server: ScriptedServer, client: TaskClient, status: int, outcome: Cancellation
) -> None:
    server.play(Answer(status, task_document("cancelled")))

    assert client.cancel(TASK_ID) is outcome


def test_a_cancellation_whose_answer_was_lost_counts(server: ScriptedServer, client: TaskClient) -> None:
    server.play(DROPPED, problem(409, "task_final"), Answer(body=task_document("cancelled")))

    assert client.cancel(TASK_ID) is Cancellation.CANCELLED


def test_what_has_ended_cannot_be_cancelled(server: ScriptedServer, client: TaskClient) -> None:
    server.play(problem(409, "task_final"), Answer(body=task_document("succeeded")))

    with pytest.raises(Conflict):
        client.cancel(TASK_ID)


def test_retry_gives_the_new_task(server: ScriptedServer, client: TaskClient) -> None:
    server.play(accepted(retried_from="old"))

    task = client.retry("old", {"data": "y"})

    assert task.task_id == TASK_ID
    assert (server.asked, server.requests[0].json) == (["POST /api/tasks/old/retry"], {"parameters": {"data": "y"}})
    assert server.requests[0].headers["Idempotency-Key"]


def test_bulk_takes_ids_or_a_selection(server: ScriptedServer, client: TaskClient) -> None:
    server.play(Answer(body=OUTCOME))

    outcome = client.bulk("cancel", where={"status": Status.QUEUED, "tag": "nightly"}, dry_run=True)

    assert (outcome.matched, outcome.succeeded, outcome.failed) == (2, ("a",), {"b": "already_final"})
    wanted = {"filter": {"status": "queued", "tag": "nightly"}, "action": "cancel", "dry_run": True}
    assert server.requests[0].json == wanted


@pytest.mark.parametrize("selection", [{}, {"task_ids": ["a"], "where": {"tag": "b"}}])
def test_bulk_without_exactly_one_selection_is_not_sent(client: TaskClient, selection: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        client.bulk("cancel", **selection)


def test_a_queue_is_read_paused_and_resumed(server: ScriptedServer, client: TaskClient) -> None:
    queue = {"name": "low_priority", "depth": 3, "unacknowledged": None, "consumers": 1, "oldest_age_s": 2.5}
    server.play(
        Answer(body={"data": [{**queue, "paused": False}]}),
        Answer(body={**queue, "paused": True}),
        Answer(body={**queue, "paused": False}),
    )

    (found,) = client.queues()

    assert (found.name, found.depth, found.unacknowledged, found.is_paused) == ("low_priority", 3, None, False)
    assert client.pause("low_priority").is_paused
    assert not client.resume("low_priority").is_paused
    assert server.asked[1:] == ["PUT /api/queues/low_priority/pause", "PUT /api/queues/low_priority/resume"]


def test_an_upload_is_repeated_from_its_beginning(server: ScriptedServer, client: TaskClient, tmp_path: Path) -> None:
    path = tmp_path / "sales.csv"
    path.write_text("a,b\n1,2\n")
    stored = {"filename": "sales.csv", "size_bytes": 8, "sha256": "0c", "mime_type": "text/csv"}
    server.play(DROPPED, Answer(201, stored))

    assert client.upload(path).size_bytes == 8
    assert all(b"a,b\n1,2\n" in request.body and b'name="file"' in request.body for request in server.requests)


def test_a_download_is_whole_or_not_there(server: ScriptedServer, client: TaskClient, tmp_path: Path) -> None:
    server.play(Answer(body=b"0123456789", drops=True), Answer(body=b"0123456789"))

    target = client.download("ten.txt", tmp_path)

    assert (target, target.read_bytes()) == (tmp_path / "ten.txt", b"0123456789")
    assert [*tmp_path.iterdir()] == [target]


def test_a_download_that_fails_leaves_what_was_there(server: ScriptedServer, tmp_path: Path) -> None:
    (tmp_path / "ten.txt").write_text("old")
    server.play(Answer(body=b"0123456789", drops=True))

    with TaskClient(server.url, timeout_s=0.5) as client, pytest.raises(Unreachable):
        client.download("ten.txt", tmp_path / "ten.txt")

    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_a_download_stays_in_its_directory(client: TaskClient, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument):
        client.download("../escaped", tmp_path)
