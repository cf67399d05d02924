"""The system under fault: what can be done to its processes, wherever they run.

Knows nothing of tasks. LocalTarget is a private system on this machine; compose_target.py is the containers'.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import psutil
import redis

from taskservice.local.stores import PrivateStore
from taskservice.local.supervisor import Program
from taskservice.local.system import LocalSystem
from tests.faults.ledger import Execution, Kill
from tests.support.task_types import LEDGER_VARIABLE

WORKERS = ("worker-high", "worker-normal", "worker-low")
STORES = ("rabbitmq", "redis")
EVERYTHING = ("web", *WORKERS, *STORES)

FAIL_POINT_APP = "tests.support.fail_point:app"  # not imported here: that would make this process a web process
FLAG_VARIABLE = "FAIL_POINT_FLAG"
WORKER_FLAG_VARIABLE = "WORKER_FAIL_POINT_FLAG"
SETTINGS = {
    "TASK_TYPE_MODULES": "tests.support.task_types,tests.support.worker_fail_point",
    "MAX_RETRY_DELAY": "4",  # "fails six times" would wait a minute otherwise
    "SOFT_SHUTDOWN_TIMEOUT": "6",  # a stop with tasks running takes that long
    "RATE_LIMITS": "rated_sleep=5/s",
    "REPUBLISH_AFTER": "10",
}


class Target(Protocol):
    """Programs go by their names in docker-compose.yml: see EVERYTHING."""

    @property
    def url(self) -> str: ...

    @property
    def ledger(self) -> Path:
        """Where executions are noted."""

    @property
    def fail_point(self) -> Path:
        """The flag file: while it is there, the next web process to publish dies before its answer."""

    @property
    def worker_fail_point(self) -> Path:
        """The workers' flag file: it holds the moment at which one dies, see tests/support/worker_fail_point.py."""

    @property
    def kills(self) -> Sequence[Kill]:
        """Every worker process that was ended by force, by us."""

    def kill(self, *programs: str) -> None:
        """SIGKILL to all their processes; each is started again by whoever looks after it."""

    def kill_main(self, worker: str) -> None:
        """SIGKILL to a worker's main process only; it is started again."""

    def kill_running(self, execution: Execution) -> None:
        """SIGKILL to the worker's child that runs it."""

    def note_death(self, execution: Execution) -> None:
        """The process that ran it was ended by a fail point just now."""

    def stop(self, *programs: str) -> None:
        """In order: they may finish within their grace, and stay stopped."""

    def start(self, *programs: str) -> None:
        """What was stopped. Returns when started, not when ready."""

    def freeze(self, *programs: str) -> None:
        """They exist and answer nothing, until `thaw`."""

    def thaw(self, *programs: str) -> None: ...

    def rabbitmqctl(self, *arguments: str) -> str: ...

    def memory_alarm(self, *, on: bool) -> None:
        """RabbitMQ blocks every connection that publishes."""

    def disk_alarm(self, *, on: bool) -> None:
        """The same, for another reason."""

    def lose_broker_data(self) -> None:
        """RabbitMQ stops, and starts as a new one that has never seen a message."""

    def break_redis_disk(self, *, broken: bool) -> None:
        """Redis cannot save its data, and refuses every write for that reason."""

    def limit_redis(self, *, full: bool) -> None:
        """Redis refuses every write that needs memory (noeviction)."""

    def wait_until_up(self, store: str) -> None:
        """Until RabbitMQ or Redis answers. Raises TimeoutError."""

    def deaths(self, program: str) -> int:
        """How often it ended by itself or by a kill."""

    def log(self, program: str) -> str:
        """What it has printed so far."""

    def worker_memory_bytes(self) -> int:
        """Resident memory of all worker processes."""

    def heal(self) -> None:
        """Start whatever a scenario that failed left stopped."""


class LocalTarget:
    """A LocalSystem; implements Target."""

    def __init__(self, data_dir: Path) -> None:
        self.ledger = data_dir / "executions.ndjson"
        self.fail_point = data_dir / "fail_point"
        self.worker_fail_point = data_dir / "worker_fail_point"
        self.kills: list[Kill] = []
        self._stopped: dict[str, Program] = {}
        env = SETTINGS | {
            LEDGER_VARIABLE: str(self.ledger),
            FLAG_VARIABLE: str(self.fail_point),
            WORKER_FLAG_VARIABLE: str(self.worker_fail_point),
        }
        self.system = LocalSystem(data_dir, env=env, wsgi_app=FAIL_POINT_APP, say=lambda _: None)

    @property
    def url(self) -> str:
        return self.system.url

    def kill(self, *programs: str) -> None:
        for program in programs:
            pids = self._family(program) if program in WORKERS else frozenset()
            self.system.supervisor.signal_group(program, signal.SIGKILL)
            self._note_kill(pids)

    def kill_main(self, worker: str) -> None:
        pids = self._family(worker)  # its children do not outlive it
        self.system.supervisor.kill(worker)
        self._note_kill(pids)

    def kill_running(self, execution: Execution) -> None:
        os.kill(execution.pid, signal.SIGKILL)
        self._note_kill(frozenset({execution.pid}))

    def note_death(self, execution: Execution) -> None:
        self._note_kill(frozenset({execution.pid}))

    def stop(self, *programs: str) -> None:
        asked_at = time.time()
        pids = frozenset[int]().union(*(self._family(program) for program in programs if program in WORKERS))
        with ThreadPoolExecutor(len(programs)) as pool:
            stopped = list(pool.map(self.system.supervisor.stop, programs))
        self._stopped |= {program.name: program for program in stopped}
        self._note_kill(pids, asked_at)  # what did not end within the grace was cut

    def start(self, *programs: str) -> None:
        for program in programs:  # not in threads: the kernel takes the starting thread for the parent
            self.system.supervisor.start(self._stopped.pop(program))

    def freeze(self, *programs: str) -> None:
        for program in programs:
            self.system.supervisor.signal_group(program, signal.SIGSTOP)

    def thaw(self, *programs: str) -> None:
        for program in programs:
            self.system.supervisor.signal_group(program, signal.SIGCONT)

    def rabbitmqctl(self, *arguments: str) -> str:
        assert self.system.rabbitmq is not None
        return self.system.rabbitmq.control(*arguments)

    def memory_alarm(self, *, on: bool) -> None:
        self.rabbitmqctl("set_vm_memory_high_watermark", "0" if on else "0.4")

    def disk_alarm(self, *, on: bool) -> None:
        self.rabbitmqctl("set_disk_free_limit", "1000000GB" if on else "50MB")

    def lose_broker_data(self) -> None:
        assert self.system.rabbitmq is not None
        self.stop("rabbitmq")
        shutil.rmtree(self.system.rabbitmq.data_dir / "mnesia")
        self.start("rabbitmq")

    def break_redis_disk(self, *, broken: bool) -> None:
        dump = self.system.data_dir / "redis" / "dump.rdb"
        with redis.Redis.from_url(self.system.result_backend) as client:
            if broken:
                dump.mkdir()  # what it has saved cannot be given its name
                client.config_set("save", "3600 1")
                client.bgsave()
            else:
                client.config_set("save", "")
                dump.rmdir()

    def limit_redis(self, *, full: bool) -> None:
        with redis.Redis.from_url(self.system.result_backend) as client:
            client.config_set("maxmemory", "1" if full else "0")

    def wait_until_up(self, store: str) -> None:
        if store == "rabbitmq":
            assert self.system.rabbitmq is not None
            self.system.rabbitmq.wait_until_ready()
        else:
            port = int(self.system.result_backend.rsplit(":", 1)[1].split("/")[0])
            PrivateStore(self.ledger.parent, port, embedded=False).wait_until_ready()

    def deaths(self, program: str) -> int:
        return self.system.supervisor.deaths(program)

    def log(self, program: str) -> str:
        return self.system.supervisor.log(program).read_text(encoding="utf-8", errors="replace")

    def worker_memory_bytes(self) -> int:
        pids = frozenset[int]().union(*(self._family(worker) for worker in WORKERS))
        return sum(psutil.Process(pid).memory_info().rss for pid in pids)

    def heal(self) -> None:
        self.fail_point.unlink(missing_ok=True)
        self.worker_fail_point.unlink(missing_ok=True)
        self.start(*sorted(self._stopped, key=EVERYTHING.index, reverse=True))

    def _family(self, program: str) -> frozenset[int]:
        """The main process and all that it started."""
        if not self.system.supervisor.is_alive(program):
            return frozenset()
        main = psutil.Process(self.system.supervisor.pid(program))
        return frozenset({main.pid, *(child.pid for child in main.children(recursive=True))})

    def _note_kill(self, pids: frozenset[int], asked_at: float | None = None) -> None:
        if pids:
            self.kills.append(Kill(time.time(), socket.gethostname(), pids, asked_at))
