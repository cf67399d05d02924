"""The web application over the broker and the store in memory, and what its tests say again and again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app import create_app
from taskservice.settings import load_settings
from tests.support.fakes import (
    MemoryBroker,
    MemoryFilesInUse,
    MemoryIndex,
    MemoryPauses,
    MemoryRecords,
    MemoryReservations,
    MemoryRunTimes,
    MemoryWaiter,
)
from tests.support.keys import MemoryKeys

MAX_UPLOAD_BYTES = 2 * 2**20
UNKNOWN_ID = "11111111-2222-4333-8444-555555555555"

_PROBLEM_MEMBERS = {"type", "title", "status", "detail", "instance", "request_id", "error", "errors"}


class Api:
    """A client and everything behind it."""

    def __init__(self, files: Path) -> None:
        self.broker = MemoryBroker()
        self.records = MemoryRecords()
        self.index = MemoryIndex(self.records)
        self.run_times = MemoryRunTimes()
        self.pauses = MemoryPauses(self.records)
        self.reservations = MemoryReservations(self.records)
        app = create_app(
            load_settings({"FILES_URL": str(files), "MAX_UPLOAD_BYTES": str(MAX_UPLOAD_BYTES)}),
            publisher=self.broker,
            records=self.records,
            index=self.index,
            waiter=MemoryWaiter(self.records),
            run_times=self.run_times,
            pauses=self.pauses,
            reservations=self.reservations,
            files_in_use=MemoryFilesInUse(self.records),
            keys=MemoryKeys(),
        )
        self.client: FlaskClient = app.test_client()

    def submit(self, *, key: str | None = None, **members: Any) -> TestResponse:
        return submit(self.client, key=key, **members)

    def submitted(self, **members: Any) -> str:
        """The id of a task that was accepted."""
        response = self.submit(**members)
        assert response.status_code == 202, response.text
        return str(response.get_json()["task_id"])


@contextmanager
def open_api(files: Path) -> Iterator[Api]:
    api = Api(files)
    with api.client:
        yield api


def submit(client: FlaskClient, *, key: str | None = None, **members: Any) -> TestResponse:
    payload = {"task_type": "data_processing", "parameters": {"data": "test data"}, **members}
    return client.post("/api/tasks", json=payload, headers={} if key is None else {"Idempotency-Key": key})


def assert_problem(response: TestResponse, status: int, error: str) -> dict[str, Any]:
    """The answer is this problem document, which is returned."""
    assert response.status_code == status, response.text
    assert response.content_type == "application/problem+json"
    document: dict[str, Any] = json.loads(response.text)
    assert document.keys() >= _PROBLEM_MEMBERS
    assert document["status"] == status
    assert document["error"] == error
    assert document["request_id"] == response.headers["X-Request-ID"]
    return document


def pointers(document: dict[str, Any]) -> list[str]:
    return [error["pointer"] for error in document["errors"]]
