"""The command line as people start it, against the whole service.

Knows the service by its address only.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taskservice.client import NotFound, TaskClient
from taskservice.local.system import REPOSITORY, LocalSystem

Run = Callable[..., "subprocess.CompletedProcess[str]"]
UNKNOWN_ID = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def run(system: LocalSystem) -> Run:
    """`run("get", task_id)`: the command with the system's address in TASKS_URL."""

    def invoke(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "taskservice", *arguments]
        env = os.environ | {"TASKS_URL": system.url}
        return subprocess.run(command, env=env, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)

    return invoke


def last_document(text: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(text.splitlines()[-1])
    return document


def test_submit_and_wait_ends_with_the_result(run: Run) -> None:
    ended = run("submit", "data_processing", "-p", "data=test data", "--priority", "high", "--wait", "--json")

    assert ended.returncode == 0, ended.stderr
    task = last_document(ended.stdout)
    assert (task["status"], task["priority"], task["result"]["words"]) == ("succeeded", "high", 2)


def test_what_submit_prints_is_what_get_takes(run: Run) -> None:
    task_id = run("submit", "data_processing", "--parameters", '{"data": [1, 2, 3]}').stdout.strip()

    watched, read = run("watch", task_id, "--for", "30"), run("get", task_id, "--json")

    assert (watched.returncode, read.returncode) == (0, 0), watched.stderr + read.stderr
    assert last_document(read.stdout)["result"]["sum"] == 6


def test_a_file_is_uploaded_and_asked(run: Run, tmp_path: Path) -> None:
    (tmp_path / "sales.csv").write_text("region,amount\nnorth,120\nsouth,80\nnorth,200\n")
    query = "query=SELECT sum(amount) AS total FROM data"

    arguments = ["--file", str(tmp_path / "sales.csv"), "-p", query, "--wait", "--json"]
    ended = run("submit", "data_processing", *arguments)

    assert ended.returncode == 0, ended.stderr
    assert last_document(ended.stdout)["result"]["rows"] == [[400]]


def test_a_task_that_fails_is_told_by_the_exit_code(run: Run) -> None:
    ended = run("submit", "file_processing", "-p", "filename=never-uploaded.txt", "--wait")

    assert ended.returncode == 1
    assert "file_not_found" in ended.stdout


def test_what_the_service_refuses_is_explained_member_by_member(run: Run) -> None:
    refused = run("submit", "data_processing", "-p", "colour=red")

    assert refused.returncode == 3
    assert "/parameters/colour" in refused.stderr


def test_an_invented_id_is_refused(run: Run) -> None:
    refused = run("get", UNKNOWN_ID)

    assert refused.returncode == 3
    assert "404 task_not_found" in refused.stderr


def test_the_client_waits_and_fetches_the_file_that_a_task_made(system: LocalSystem, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("line\n" * 1000)

    with TaskClient(system.url) as client:
        client.upload(tmp_path / "notes.txt")
        parameters = {"filename": "notes.txt", "operation": "compress", "output": "notes.txt.gz"}
        task = client.wait(client.submit("file_processing", parameters).task_id, 30)
        made = client.download("notes.txt.gz", tmp_path)

    assert task.has_succeeded
    assert made.read_bytes().startswith(b"\x1f\x8b")


def test_the_client_tells_a_missing_file_from_a_missing_service(system: LocalSystem, tmp_path: Path) -> None:
    with TaskClient(system.url) as client, pytest.raises(NotFound) as caught:
        client.download("never-uploaded.txt", tmp_path)

    assert caught.value.error == "file_not_found"
