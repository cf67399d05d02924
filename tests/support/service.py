"""A client of a running system that also knows the processes and the broker behind the API."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import kombu
import requests

from taskservice.local.system import LocalSystem

FINAL = ("succeeded", "failed", "cancelled", "expired")
LEDGER = "executions.jsonl"


class Service:
    """`sleep` tasks in, their records and their executions out."""

    def __init__(self, system: LocalSystem) -> None:
        self.system = system
        self._session = requests.Session()

    def call(self, method: str, path: str, *, status: int = 200, **options: Any) -> dict[str, Any]:
        """The answer's body; the status must be the one that is expected."""
        answer = self._session.request(method, f"{self.system.url}{path}", timeout=10, **options)
        assert answer.status_code == status, answer.text
        body: dict[str, Any] = answer.json()
        return body

    def submit(self, parameters: dict[str, Any], *, task_type: str = "sleep", **members: Any) -> str:
        body = {"task_type": task_type, "parameters": parameters, **members}
        return str(self.call("POST", "/api/tasks", status=202, json=body)["task_id"])

    def task(self, task_id: str) -> dict[str, Any]:
        return self.call("GET", f"/api/tasks/{task_id}")

    def status(self, task_id: str) -> str:
        return str(self.task(task_id)["status"])

    def is_final(self, task_id: str) -> bool:
        return self.status(task_id) in FINAL

    def are_final(self, task_ids: Iterable[str]) -> bool:
        return all(self.is_final(task_id) for task_id in task_ids)

    def executions(self, task_id: str) -> int:
        """How often its handler began, by the handler's own count."""
        ledger = Path(self.system.environment["EXECUTION_LEDGER"])
        lines = ledger.read_text(encoding="utf-8").splitlines() if ledger.exists() else []
        return sum(entry.get("task_id") == task_id for entry in map(json.loads, lines))

    def letters(self, queue: str) -> list[dict[str, Any]]:
        """The headers of every message of a queue; they stay there."""
        found = []
        channel: Any
        with kombu.Connection(self.system.broker_url) as connection, connection.channel() as channel:
            while (message := channel.basic_get(queue)) is not None:
                found.append(dict(message.headers))
        return found
