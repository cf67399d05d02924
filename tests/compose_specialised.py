"""Held against `docker-compose --profile specialised up --scale email-worker=3`: who runs what, on which queue.

Run by tests/compose.sh with TASKS_URL; knows only the API.
"""

from __future__ import annotations

import os
from typing import Any

import requests

from tests.support.waiting import wait_until

URL = os.environ["TASKS_URL"]
PRIORITIES = ("high", "normal", "low")
WORKERS = {"data_processing": "data", "email_sending": "email", "file_processing": "file"}
PARAMETERS: dict[str, dict[str, Any]] = {
    "data_processing": {"data": [1, 2, 3]},
    "email_sending": {"to": "ada@example.com", "subject": "x", "body": "x"},
    "file_processing": {"filename": "specialised.txt"},
}


def queues() -> dict[str, dict[str, Any]]:
    answer = requests.get(f"{URL}/api/queues", timeout=10)
    answer.raise_for_status()
    return {queue["name"]: queue for queue in answer.json()["data"]}


def check_queues() -> None:
    expected = [f"{priority}_priority" for priority in PRIORITIES]
    expected += [f"{priority}_priority.{task_type}" for task_type in WORKERS for priority in PRIORITIES]
    wait_until(lambda: queues()["low_priority.email_sending"]["consumers"] == 3, 60, "three e-mail workers consume")
    wait_until(lambda: queues()["low_priority"]["unacknowledged"] is not None, 30, "the management API counts")
    assert list(queues()) == expected, list(queues())


def check_workers() -> None:
    requests.post(f"{URL}/api/files", files={"file": ("specialised.txt", b"text")}, timeout=10).raise_for_status()
    for task_type, worker in WORKERS.items():
        for priority in PRIORITIES:
            body = {"task_type": task_type, "priority": priority, "parameters": PARAMETERS[task_type]}
            accepted = requests.post(f"{URL}/api/tasks", json=body, timeout=10).json()
            task = requests.get(f"{URL}{accepted['links']['self']}", params={"wait": 30}, timeout=40).json()
            found = (accepted["queue"], task["status"], str(task["worker"]).split("@")[0])
            assert found == (f"{priority}_priority.{task_type}", "succeeded", worker), task


if __name__ == "__main__":
    check_queues()
    check_workers()
    print("specialised workers: every type ran on its own")
