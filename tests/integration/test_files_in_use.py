"""Which task still needs a file, on a real Redis: found wherever it waits, and not one that only looks like it."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
import requests

from taskservice.errors import Unavailable
from taskservice.local.ports import choose_port
from taskservice.local.system import LocalSystem
from taskservice.model import ErrorInfo, Priority, Submission
from taskservice.moments import Moments
from taskservice.records import Records
from taskservice.records.files_in_use import FilesInUse
from tests.support.service import FINAL, Service
from tests.support.store import Store

NAME = 'Übersicht "1".csv'
MOMENTS = Moments()
FAILURE = ErrorInfo("internal", "again", retryable=True)


@dataclass
class TaskFiles(Store):
    """Tasks, and who of them needs a file."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.files_in_use = FilesInUse(self.client)

    def accept_task(self, parameters: dict[str, Any], *, delay_s: float = 0.0, **members: Any) -> Submission:
        created_at, sequence = MOMENTS.take()
        submission = Submission(
            task_id=str(uuid.uuid4()),
            task_type="file_processing",
            priority=Priority.NORMAL,
            parameters=parameters,
            created_at=created_at,
            due_at=created_at + timedelta(seconds=delay_s),
            max_attempts=2,
            sequence=sequence,
            **members,
        )
        self.records.accept(submission)
        return submission


@pytest.fixture
def store(stores: LocalSystem) -> TaskFiles:
    return TaskFiles.emptied(stores.result_backend)


def test_it_is_found_wherever_it_waits_until_it_is_final(store: TaskFiles) -> None:
    task = store.accept_task({"attachments": [NAME]}, delay_s=60)
    scheduled = store.files_in_use.user_of(NAME)
    task = store.accept_task({"options": {"file": NAME}})
    store.records.cancel(str(scheduled))
    queued = store.files_in_use.user_of(NAME)
    run = store.start(task)
    running = store.files_in_use.user_of(NAME)
    store.attempts.succeed(task, delivery=run.delivery, attempt=1, result={})

    assert scheduled is not None
    assert [queued, running] == [task.task_id] * 2
    assert store.files_in_use.user_of(NAME) is None


def test_what_only_looks_like_it_does_not_need_it(store: TaskFiles) -> None:
    store.accept_task({"filename": f"{NAME}.gz"})
    store.accept_task({"filename": "other.csv"}, tags=(NAME,), metadata={"file": NAME})
    store.accept_task({NAME: 1})

    assert store.files_in_use.user_of(NAME) is None
    assert store.files_in_use.user_of("other.csv") is not None


def test_it_is_found_among_many_in_little_time(store: TaskFiles) -> None:
    first = store.accept_task({"filename": NAME})
    for _ in range(20):
        submissions = [_other(store, number) for number in range(500)]
        store.records.accept_many(submissions)

    began = time.monotonic()
    found = store.files_in_use.user_of(NAME)

    assert found == first.task_id
    assert time.monotonic() - began < 2


def test_nobody_knows_while_the_store_is_away() -> None:
    away = Records.connect(f"redis://127.0.0.1:{choose_port()}/0", retention_s=60).client

    with pytest.raises(Unavailable):
        FilesInUse(away).user_of(NAME)


def test_a_file_that_a_task_waits_for_is_deleted_after_it(service: Service) -> None:
    url = f"{service.system.url}/api/files"
    uploaded = requests.post(url, files={"file": ("wanted.txt", b"words")}, timeout=10)
    task_id = service.submit({"filename": "wanted.txt"}, task_type="file_processing", delay=3600)

    refused = service.call("DELETE", "/api/files/wanted.txt", status=409)
    service.call("DELETE", f"/api/tasks/{task_id}")
    deleted = requests.delete(f"{url}/wanted.txt", timeout=10)

    assert uploaded.status_code == 201
    assert service.status(task_id) in FINAL
    assert (refused["error"], refused["task_id"]) == ("file_in_use", task_id)
    assert deleted.status_code == 204


def _other(store: TaskFiles, number: int) -> Submission:
    created_at, sequence = MOMENTS.take()
    return Submission(
        task_id=str(uuid.uuid4()),
        task_type="file_processing",
        priority=Priority.NORMAL,
        parameters={"filename": f"{number}.csv"},
        created_at=created_at,
        due_at=created_at,
        max_attempts=2,
        sequence=sequence,
    )
