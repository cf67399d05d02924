"""Is the service what it was before: ready, with the processes it had, and no fatter.

Must not know what was done to it.
"""

from __future__ import annotations

from collections.abc import Iterator

import psutil
import requests

from tests.conftest import WaitUntil
from tests.support.service import FINAL, Service

PROGRAMS = ("web", "worker-high", "worker-normal", "worker-low")
MAX_GROWTH_BYTES = 256 * 2**20  # of one process: its libraries, loaded at first use, and what its allocator keeps
BACK_WITHIN_S = 30


class Health:
    """What the processes were when it was made, and what they are now."""

    def __init__(self, target: Service, wait_until: WaitUntil) -> None:
        self._target = target
        self._wait_until = wait_until
        self._before = self._memory_bytes()

    def check(self) -> None:
        """Ready, the same processes, their memory, and a task that still runs."""
        self._wait_until(self._is_ready, BACK_WITHIN_S, "ready again")
        supervisor = self._target.system.supervisor
        assert {name: supervisor.deaths(name) for name in PROGRAMS} == dict.fromkeys(PROGRAMS, 0)
        assert set(self._memory_bytes()) == set(self._before), "a process of a worker or of the web was replaced"
        self._wait_until(lambda: not self._grown(), BACK_WITHIN_S, f"memory back: {self._grown()}")
        task_id = self._target.submit({"data": "still here"}, task_type="data_processing")
        self._wait_until(lambda: self._target.status(task_id) in FINAL, BACK_WITHIN_S, "a task runs")
        assert self._target.status(task_id) == "succeeded"

    def _is_ready(self) -> bool:
        return requests.get(f"{self._target.system.url}/readyz", timeout=10).status_code == 200

    def _grown(self) -> dict[int, int]:
        """By process, the MiB it has gained where those are too many."""
        gained = {pid: now - self._before.get(pid, 0) for pid, now in self._memory_bytes().items()}
        return {pid: more // 2**20 for pid, more in gained.items() if more > MAX_GROWTH_BYTES}

    def _memory_bytes(self) -> dict[int, int]:
        return {process.pid: process.memory_info().rss for process in self._processes()}

    def _processes(self) -> Iterator[psutil.Process]:
        for name in PROGRAMS:
            main = psutil.Process(self._target.system.supervisor.pid(name))
            yield main
            yield from main.children(recursive=True)
