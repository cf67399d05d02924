"""A burst of slow e-mails: how long other tasks wait behind it on shared queues, and how long beside it on their own.

Both layouts have as many processes for normal priority; the ratio counts.
Run: `python -m benchmarks.layouts`. Needs RabbitMQ and Redis installed.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from taskservice.local.ports import choose_port
from taskservice.local.system import LocalSystem

OTHERS = 20
PROCESSES = 4  # for normal priority, in both layouts
FINAL = ("succeeded", "failed", "cancelled", "expired")


class SlowMailServer:
    """Takes every mail, after a while."""

    def __init__(self, takes_s: float) -> None:
        self._takes_s = takes_s

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        await asyncio.sleep(self._takes_s)
        return "250 OK"


@contextmanager
def slow_mail_server(takes_s: float) -> Iterator[int]:
    controller = Controller(SlowMailServer(takes_s), hostname="127.0.0.1", port=choose_port())
    controller.start()
    try:
        yield controller.port
    finally:
        controller.stop()


def submit(url: str, task_type: str, parameters: dict[str, Any], count: int) -> list[str]:
    tasks = [{"task_type": task_type, "parameters": parameters}] * count
    answer = requests.post(f"{url}/api/tasks/batch", json={"tasks": tasks}, timeout=30)
    answer.raise_for_status()
    return [str(one["task_id"]) for one in answer.json()["results"]]


def ended(url: str, task_id: str) -> dict[str, Any]:
    while True:
        task: dict[str, Any] = requests.get(f"{url}/api/tasks/{task_id}", params={"wait": 20}, timeout=40).json()
        if task["status"] in FINAL:
            return task


def measure(mail_port: int, *, mails: int, is_dedicated: bool) -> tuple[float, float]:
    """Median wait of the other tasks, and how long the mails took in all."""
    env = {"SMTP_HOST": "127.0.0.1", "SMTP_PORT": str(mail_port)}
    env |= {"DEDICATED_TASK_TYPES": "email_sending"} if is_dedicated else {}
    processes = PROCESSES // 2 if is_dedicated else PROCESSES
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalSystem(Path(folder), env=env, concurrency=processes) as system,
    ):
        began = time.monotonic()
        sent = submit(system.url, "email_sending", {"to": "ada@example.com", "subject": "x", "body": "x"}, mails)
        others = submit(system.url, "data_processing", {"data": [1, 2, 3]}, OTHERS)
        waits = [float(ended(system.url, task_id)["wait_s"]) for task_id in others]
        for task_id in sent:
            ended(system.url, task_id)
        return statistics.median(waits), time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mails", type=int, default=200)
    parser.add_argument("--mail-takes-s", type=float, default=0.5)
    arguments = parser.parse_args()
    with slow_mail_server(arguments.mail_takes_s) as port:
        shared_s, shared_mails_s = measure(port, mails=arguments.mails, is_dedicated=False)
        own_s, own_mails_s = measure(port, mails=arguments.mails, is_dedicated=True)
    print(f"shared:    others waited {shared_s:6.2f} s, {arguments.mails} mails took {shared_mails_s:6.1f} s")
    print(f"dedicated: others waited {own_s:6.2f} s, {arguments.mails} mails took {own_mails_s:6.1f} s")
    print(f"the others waited {shared_s / max(own_s, 0.001):.0f} times as long on the shared queue")


if __name__ == "__main__":
    main()
