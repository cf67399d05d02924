"""The containers of docker-compose.yml under fault; implements target.Target with the docker command.

tests/compose-faults.sh starts them and says through the environment where they are.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.faults.ledger import Execution, Kill
from tests.faults.target import EVERYTHING, WORKERS

UP_WITHIN_S = 120.0
_REDIS_LIMIT = "1gb"  # as docker-compose.yml sets it
_BROKER_LIMIT = ("absolute", "640MB")  # likewise
_EMPTY_BROKER = "rm -rf /var/lib/rabbitmq/mnesia"
_RESIDENT = "cat /proc/[0-9]*/status 2>/dev/null | awk '/^VmRSS:/ {sum += $2} END {print sum * 1024}'"


class ComposeTarget:
    """One running compose project."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self.url = environ["FAULTS_URL"]
        self._project = environ["COMPOSE_PROJECT_NAME"]
        shared = Path(environ["FAULTS_DIRECTORY"])  # mounted into web and workers
        self.ledger = shared / "executions.ndjson"
        self.fail_point = shared / "fail_point"
        self.worker_fail_point = shared / "worker_fail_point"
        self.kills: list[Kill] = []
        self._killed = dict.fromkeys(("web", *WORKERS), 0)

    def kill(self, *programs: str) -> None:
        """Docker starts no container again that `docker kill` ended, so we do."""
        for program in programs:
            docker("kill", self._container(program))
            self._note_kill(program)
        for program in programs:
            docker("start", self._container(program))

    def kill_main(self, worker: str) -> None:
        """The child of the container's init; the container ends with it, and its restart policy starts it again."""
        main = self._execute(worker, "sh", "-c", "cat /proc/1/task/1/children").split()[0]
        self._execute(worker, "python", "-c", f"import os; os.kill({main}, 9)")
        self._note_kill(worker)

    def kill_running(self, execution: Execution) -> None:
        docker("exec", execution.host, "python", "-c", f"import os; os.kill({execution.pid}, 9)")
        self.note_death(execution)

    def note_death(self, execution: Execution) -> None:
        self.kills.append(Kill(time.time(), execution.host, frozenset({execution.pid})))

    def stop(self, *programs: str) -> None:
        asked_at = time.time()
        with ThreadPoolExecutor(len(programs)) as pool:  # `docker stop` waits for one before it asks the next
            list(pool.map(lambda program: docker("stop", self._container(program)), programs))
        for program in programs:
            self._note_kill(program, asked_at)

    def start(self, *programs: str) -> None:
        docker("start", *(self._container(program) for program in programs))

    def freeze(self, *programs: str) -> None:
        docker("pause", *(self._container(program) for program in programs))

    def thaw(self, *programs: str) -> None:
        docker("unpause", *(self._container(program) for program in programs))

    def rabbitmqctl(self, *arguments: str) -> str:
        return self._execute("rabbitmq", "rabbitmqctl", "-q", *arguments)

    def memory_alarm(self, *, on: bool) -> None:
        self.rabbitmqctl("set_vm_memory_high_watermark", *(("0",) if on else _BROKER_LIMIT))

    def disk_alarm(self, *, on: bool) -> None:
        self.rabbitmqctl("set_disk_free_limit", "1000000GB" if on else "50MB")

    def lose_broker_data(self) -> None:
        container = self._container("rabbitmq")
        image = docker("inspect", "-f", "{{.Config.Image}}", container)
        self.stop("rabbitmq")
        docker("run", "--rm", "--volumes-from", container, "--entrypoint", "sh", image, "-c", _EMPTY_BROKER)
        self.start("rabbitmq")

    def break_redis_disk(self, *, broken: bool) -> None:
        """What it has saved cannot be given its name: a directory has it. Unlike the local one it saves by default."""
        change = "rm -f /data/dump.rdb && mkdir /data/dump.rdb" if broken else "rmdir /data/dump.rdb"
        self._execute("redis", "sh", "-c", change)
        self._execute("redis", "redis-cli", "bgsave")

    def limit_redis(self, *, full: bool) -> None:
        self._execute("redis", "redis-cli", "config", "set", "maxmemory", "1" if full else _REDIS_LIMIT)

    def wait_until_up(self, store: str) -> None:
        deadline = time.monotonic() + UP_WITHIN_S
        while not self._answers(store):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{store} did not answer within {UP_WITHIN_S:g} s")
            time.sleep(0.3)

    def deaths(self, program: str) -> int:
        count = docker("inspect", "-f", "{{.RestartCount}}", self._container(program))
        return int(count) + self._killed.get(program, 0)

    def log(self, program: str) -> str:
        return docker("logs", self._container(program))

    def worker_memory_bytes(self) -> int:
        return sum(int(self._execute(worker, "sh", "-c", _RESIDENT)) for worker in WORKERS)

    def heal(self) -> None:
        self.fail_point.unlink(missing_ok=True)
        self.worker_fail_point.unlink(missing_ok=True)
        self.start(*EVERYTHING)

    def _answers(self, store: str) -> bool:
        probes = {"rabbitmq": ["bash", "-c", "</dev/tcp/127.0.0.1/5672"], "redis": ["redis-cli", "ping"]}
        try:
            answer = self._execute(store, *probes[store])
        except subprocess.CalledProcessError:
            return False
        return store == "rabbitmq" or "PONG" in answer

    def _execute(self, program: str, *command: str) -> str:
        return docker("exec", self._container(program), *command)

    def _container(self, program: str) -> str:
        labels = {"project": self._project, "service": program}
        filters = [
            word for name, value in labels.items() for word in ("-f", f"label=com.docker.compose.{name}={value}")
        ]
        return docker("ps", "-aq", *filters).split()[0]

    def _note_kill(self, program: str, asked_at: float | None = None) -> None:
        if program in self._killed:
            self._killed[program] += 1
        if program in WORKERS:  # a container's host name is its short id
            self.kills.append(Kill(time.time(), self._container(program)[:12], None, asked_at))


def docker(*arguments: str) -> str:
    """What the command prints, on either stream. Raises CalledProcessError."""
    command = ["docker", *arguments]
    ended = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120
    )
    return ended.stdout.strip()
