"""Submissions a second with no listener and with hundreds, in turn on the same web and stores: the ratio counts.

Run: `python -m benchmarks.live_listeners`. Needs RabbitMQ and Redis installed.
"""

from __future__ import annotations

import http.client
import json
import multiprocessing
import os
import selectors
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path
from statistics import median

from benchmarks.web_concurrency import CLIENTS, submit_until, wait_until_up
from taskservice.local.ports import choose_port
from taskservice.local.system import REPOSITORY, LocalSystem

LISTENERS = 500
SECONDS = 3.0
ROUNDS = 8
WAITING_TASK = json.dumps({"task_type": "data_processing", "parameters": {"data": "x"}, "delay": 3600})


def main() -> None:
    found: dict[str, list[Measured]] = {"none": [], "of a task": [], "of all": []}
    with tempfile.TemporaryDirectory() as data_dir:
        stores = LocalSystem(Path(data_dir), private_ports=True)
        try:
            stores.start_stores()
            with web(stores.environment) as (port, pid):
                paths = {
                    "none": [],
                    "of a task": [events_path(port)] * LISTENERS,
                    "of all": ["/api/events"] * LISTENERS,
                }
                for _ in range(ROUNDS):
                    for name, wanted in paths.items():
                        with listening(port, wanted):
                            found[name].append(measure(port, pid))
        finally:
            stores.stop()
    for name, rounds in found.items():
        print(f"{len(paths[name]):3} listeners {name:<10} {summary(rounds, found['none'])}")


@dataclass(frozen=True, slots=True)
class Measured:
    """One round. A busy machine changes the rate, hardly the work."""

    accepted_per_s: float
    web_cpu_ms: float  # per accepted submission


def summary(rounds: list[Measured], alone: list[Measured]) -> str:
    pairs = list(zip(rounds, alone, strict=True))
    rate = median(one.accepted_per_s for one in rounds)
    rate_ratio = median(one.accepted_per_s / other.accepted_per_s for one, other in pairs)
    cpu_ms = median(one.web_cpu_ms for one in rounds)
    cpu_ratio = median(other.web_cpu_ms / one.web_cpu_ms for one, other in pairs)
    return f"{rate:5.0f} accepted/s, ratio {rate_ratio:.2f}; {cpu_ms:.2f} ms of CPU each, ratio {cpu_ratio:.2f}"


@contextmanager
def web(environment: dict[str, str]) -> Iterator[tuple[int, int]]:
    """The web as it is deployed; its port and pid."""
    port = choose_port()
    command = [sys.executable, "-m", "gunicorn", "app:app", "-b", f"127.0.0.1:{port}"]
    process = subprocess.Popen(command, env=environment, cwd=REPOSITORY, stderr=subprocess.DEVNULL)
    try:
        wait_until_up(port)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait(40)


def events_path(port: int) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("POST", "/api/tasks", WAITING_TASK, {"Content-Type": "application/json"})
    return str(json.loads(connection.getresponse().read())["links"]["self"]) + "/events"


@contextmanager
def listening(port: int, paths: list[str]) -> Iterator[None]:
    """Clients that read whatever comes, in a process of their own."""
    context = multiprocessing.get_context("spawn")
    is_ready, is_over = context.Event(), context.Event()
    reader = context.Process(target=read_all, args=(port, paths, is_ready, is_over), daemon=True)
    reader.start()
    try:
        if not is_ready.wait(60):
            raise SystemExit("the listeners did not get their streams")
        yield
        if not reader.is_alive():
            raise SystemExit("a stream ended")
    finally:
        is_over.set()
        reader.join()


def read_all(port: int, paths: list[str], is_ready: Event, is_over: Event) -> None:
    buffer = bytearray(1 << 20)
    with selectors.DefaultSelector() as selector:
        for client in [opened(port, path) for path in paths]:
            selector.register(client, selectors.EVENT_READ, client.recv_into)
        is_ready.set()
        while not is_over.is_set():
            for key, _ in selector.select(0.1):
                if not key.data(buffer):
                    raise SystemExit("a stream ended")


def opened(port: int, path: str) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), timeout=10)
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    beginning = client.recv(4096)
    if not beginning.startswith(b"HTTP/1.1 200"):
        raise SystemExit(f"{path} was not opened: {beginning[:200]!r}")
    client.setblocking(False)
    return client


def measure(port: int, web_pid: int) -> Measured:
    cpu_before_s = cpu_s(web_pid)
    until = time.monotonic() + SECONDS
    with ThreadPoolExecutor(CLIENTS) as clients:
        accepted = sum(clients.map(submit_until(port), [until] * CLIENTS))
    return Measured(accepted / SECONDS, 1000 * (cpu_s(web_pid) - cpu_before_s) / accepted)


def cpu_s(web_pid: int) -> float:
    """What its processes have used."""
    ticks = 0
    for pid in Path(f"/proc/{web_pid}/task/{web_pid}/children").read_text().split():
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])  # utime and stime, proc(5)
    return ticks / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
