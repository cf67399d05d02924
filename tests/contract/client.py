"""A client that knows of the service only what API.md says: requests out, answers and final tasks back.

Must not know the processes behind the address.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import requests

from tests.support.waiting import wait_until

FINAL = ("succeeded", "failed", "cancelled", "expired")
PATIENCE_S = 60.0  # for what takes a moment; the machine may be busy
PROBLEM_MEMBERS = {"type", "title", "status", "detail", "instance", "request_id", "error", "errors"}


class Event(NamedTuple):
    """One server-sent event."""

    id: str
    name: str
    data: dict[str, Any]


class Client:
    """Tasks are of type `sleep` unless said otherwise: they succeed at once, or fail and last as they are told."""

    def __init__(self, url: str, *, key: str | None = None) -> None:
        self.url = url
        self._session = requests.Session()
        if key is not None:
            self._session.headers["Authorization"] = f"Bearer {key}"

    def call(self, method: str, path: str, **options: Any) -> requests.Response:
        return self._session.request(method, f"{self.url}{path}", timeout=PATIENCE_S, **options)

    def get(self, path: str, **options: Any) -> requests.Response:
        return self.call("GET", path, **options)

    def post(self, path: str, **options: Any) -> requests.Response:
        return self.call("POST", path, **options)

    def document(self, path: str, **options: Any) -> dict[str, Any]:
        """The JSON of a 200."""
        answer = self.get(path, **options)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def submit(self, parameters: Any = None, *, key: str | None = None, **members: Any) -> requests.Response:
        body = {"task_type": "sleep", **members}
        if parameters is not None:
            body["parameters"] = parameters
        return self.post("/api/tasks", json=body, headers={} if key is None else {"Idempotency-Key": key})

    def submitted(self, parameters: Any = None, **members: Any) -> str:
        """The id of a task that was accepted."""
        answer = self.submit(parameters, **members)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["task_id"])

    def task(self, task_id: str) -> dict[str, Any]:
        return self.document(f"/api/tasks/{task_id}")

    def status(self, task_id: str) -> str:
        return str(self.task(task_id)["status"])

    def finished(self, task_id: str) -> dict[str, Any]:
        wait_until(lambda: self._is_final_soon(task_id), PATIENCE_S, f"task {task_id} is final")
        return self.task(task_id)

    def run(self, parameters: Any = None, **members: Any) -> dict[str, Any]:
        return self.finished(self.submitted(parameters, **members))

    def running(self, **members: Any) -> str:
        """The id of a task that runs for a while and listens to whoever wants to stop it."""
        task_id = self.submitted({"seconds": 15, "reports": 150}, **members)
        wait_until(lambda: self.status(task_id) == "running", PATIENCE_S, "it runs")
        return task_id

    def cancel(self, task_id: str) -> requests.Response:
        return self.call("DELETE", f"/api/tasks/{task_id}")

    def upload(self, filename: str, content: bytes) -> requests.Response:
        return self.post("/api/files", files={"file": (filename, content)})

    @contextmanager
    def paused(self, queue: str = "low_priority") -> Iterator[None]:
        """What is submitted to this queue meanwhile stays queued."""
        assert self.call("PUT", f"/api/queues/{queue}/pause").status_code == 200
        try:
            yield
        finally:
            assert self.call("PUT", f"/api/queues/{queue}/resume").status_code == 200

    @contextmanager
    def events(self, path: str, *, after: str | None = None) -> Iterator[Iterator[Event]]:
        headers = {} if after is None else {"Last-Event-ID": after}
        with requests.get(f"{self.url}{path}", headers=headers, stream=True, timeout=PATIENCE_S) as response:
            assert response.status_code == 200, response.text
            assert response.headers["Content-Type"].startswith("text/event-stream")
            yield _events_in(response)

    def _is_final_soon(self, task_id: str) -> bool:
        return self.document(f"/api/tasks/{task_id}?wait=10")["status"] in FINAL


def problem(answer: requests.Response, status: int, error: str | None = None) -> dict[str, Any]:
    """The answer is a problem document of this status, and of this code if one is given."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert document.keys() >= PROBLEM_MEMBERS
    assert document["status"] == status
    assert error is None or document["error"] == error
    return document


def pointers(answer: requests.Response) -> list[str]:
    """The members that a 422 names."""
    return [error["pointer"] for error in problem(answer, 422)["errors"]]


def _events_in(response: requests.Response) -> Iterator[Event]:
    text = ""
    for chunk in response.iter_content(chunk_size=None):  # as they arrive
        *blocks, text = (text + chunk.decode()).split("\n\n")
        for block in blocks:
            fields = dict(line.split(": ", 1) for line in block.splitlines())
            if "event" in fields:
                yield Event(fields["id"], fields["event"], json.loads(fields["data"]))
