"""Submissions a second through gunicorn with threads and with gevent, in turn on the same stores: the ratio counts.

Run: `python -m benchmarks.web_concurrency`. Needs RabbitMQ and Redis installed.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

from taskservice.local.ports import choose_port
from taskservice.local.system import REPOSITORY, LocalSystem

CLIENTS = 32
SECONDS = 6.0
ROUNDS = 3
BODY = json.dumps({"task_type": "data_processing", "priority": "low", "parameters": {"data": "test data"}})
OPTIONS = {
    "gthread": ["-k", "gthread", "--threads", "16"],
    "gevent": ["-k", "gevent", "--worker-connections", "1000"],
}


def main() -> None:
    rates: dict[str, list[float]] = {name: [] for name in OPTIONS}
    with tempfile.TemporaryDirectory() as data_dir:
        stores = LocalSystem(Path(data_dir), private_ports=True)
        try:
            stores.start_stores()
            for _ in range(ROUNDS):
                for name, options in OPTIONS.items():
                    rates[name].append(measure(options, stores.environment))
        finally:
            stores.stop()
    for name, found in rates.items():
        print(f"{name:<8} {median(found):7.0f} accepted/s  (rounds: {', '.join(f'{rate:.0f}' for rate in found)})")
    print(f"gevent / gthread: {median(b / a for a, b in zip(rates['gthread'], rates['gevent'], strict=True)):.2f}")


def measure(options: list[str], environment: dict[str, str]) -> float:
    """Accepted submissions a second by CLIENTS clients that each wait for their answer."""
    port = choose_port()
    command = [sys.executable, "-m", "gunicorn", "app:app", "-w", "2", "-b", f"127.0.0.1:{port}", *options]
    web = subprocess.Popen(command, env=environment, cwd=REPOSITORY, stderr=subprocess.DEVNULL)
    try:
        wait_until_up(port)
        until = time.monotonic() + SECONDS
        with ThreadPoolExecutor(CLIENTS) as clients:
            return sum(clients.map(submit_until(port), [until] * CLIENTS)) / SECONDS
    finally:
        web.terminate()
        web.wait(40)


def submit_until(port: int) -> Callable[[float], int]:
    def submit(until: float) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        accepted = 0
        while time.monotonic() < until:
            connection.request("POST", "/api/tasks", BODY, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            accepted += answer.status == 202
        connection.close()
        return accepted

    return submit


def wait_until_up(port: int) -> None:
    for _ in range(200):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
            connection.request("GET", "/healthz")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the web did not start")


if __name__ == "__main__":
    main()
