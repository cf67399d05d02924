"""Nine real tasks, one of each type at each priority, sent over HTTP; and the table of what became of them.

Knows only the API.
"""

from __future__ import annotations

import io
import json
import time
from typing import Any

import requests
from PIL import Image, ImageDraw

_TIMEOUT_S = 60.0

_TEXT = b"The quick brown fox jumps over the lazy dog.\nAnd the dog, being lazy, lets it.\n"
_CSV = b"region,product,amount\nnorth,tea,120\nsouth,tea,80\nnorth,coffee,200\nsouth,coffee,310\neast,tea,45\n"

SUBMISSIONS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("data_processing", "high", {"data": "test data with a few words of text"}),
    (
        "data_processing",
        "normal",
        {
            "file": "demo-sales.csv",
            "query": "SELECT region, sum(amount) AS total FROM data GROUP BY region ORDER BY region",
        },
    ),
    ("data_processing", "low", {"data": [3, 1, 4, 1, 5, 9, 2, 6]}),
    ("email_sending", "high", {"to": "ada@example.com", "subject": "High", "body": "Sent at high priority."}),
    (
        "email_sending",
        "normal",
        {"to": ["ada@example.com", "alan@example.com"], "subject": "Normal", "body": "Text", "html": "<p>HTML</p>"},
    ),
    (
        "email_sending",
        "low",
        {"to": "ada@example.com", "subject": "Low", "body": "See attachment.", "attachments": ["demo-notes.txt"]},
    ),
    ("file_processing", "high", {"filename": "demo-notes.txt"}),
    (
        "file_processing",
        "normal",
        {"filename": "demo-picture.png", "operation": "thumbnail", "output": "demo-thumbnail.png"},
    ),
    ("file_processing", "low", {"filename": "demo-sales.csv", "operation": "checksum"}),
)


def run_demo(url: str) -> bool:
    """Upload, submit, wait, print the table. Whether all nine succeeded; without an API key nothing is tried."""
    with requests.Session() as session:
        if session.get(f"{url}/api/task-types", timeout=10).status_code == 401:
            print("There are API keys in the store, so the nine tasks are left out: see DOC/keys.md.", flush=True)
            return True
        _upload_inputs(session, url)
        task_ids = [_submit(session, url, submission) for submission in SUBMISSIONS]
        tasks = [_wait(session, url, task_id) for task_id in task_ids]
    _print_table(tasks)
    return all(task["status"] == "succeeded" for task in tasks)


def _upload_inputs(session: requests.Session, url: str) -> None:
    for filename, content in (
        ("demo-notes.txt", _TEXT),
        ("demo-sales.csv", _CSV),
        ("demo-picture.png", _picture()),
    ):
        answer = session.post(f"{url}/api/files", files={"file": (filename, content)}, timeout=10)
        answer.raise_for_status()


def _picture() -> bytes:
    image = Image.new("RGB", (640, 480), "navy")
    ImageDraw.Draw(image).ellipse((120, 40, 520, 440), fill="gold")
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _submit(session: requests.Session, url: str, submission: tuple[str, str, dict[str, Any]]) -> str:
    task_type, priority, parameters = submission
    body = {"task_type": task_type, "priority": priority, "parameters": parameters}
    answer = session.post(f"{url}/api/tasks", json=body, timeout=10)
    if answer.status_code != 202:
        raise RuntimeError(f"{task_type} at {priority} priority was answered {answer.status_code}: {answer.text}")
    return str(answer.json()["task_id"])


def _wait(session: requests.Session, url: str, task_id: str) -> dict[str, Any]:
    """The task once it is final, or as it is when time is up."""
    deadline = time.monotonic() + _TIMEOUT_S
    while True:
        task: dict[str, Any] = session.get(f"{url}/api/tasks/{task_id}", timeout=10).json()
        if task["status"] in ("succeeded", "failed") or time.monotonic() > deadline:
            return task
        time.sleep(0.1)


def _print_table(tasks: list[dict[str, Any]]) -> None:
    print(f"\n{'type':<16} {'priority':<8} {'status':<9} {'attempts':>8} {'run_s':>6}  result")
    for task in tasks:
        run_s = task.get("run_s")
        print(
            f"{task['task_type']:<16} {task['priority']:<8} {task['status']:<9} {task['attempt']:>8} "
            f"{'-' if run_s is None else format(run_s, '.2f'):>6}  {_summary(task)}"
        )
    print(flush=True)


def _summary(task: dict[str, Any], *, width: int = 80) -> str:
    outcome = task["result"] if task["status"] == "succeeded" else task.get("error")
    text = json.dumps(outcome, ensure_ascii=False)
    return text if len(text) <= width else text[: width - 1] + "…"
