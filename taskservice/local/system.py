"""The whole service on this machine: stores, web, a worker per priority and dedicated type, Flower and a mail sink.

`make run`, `make demo` and the tests use it; it talks to the service over its processes and HTTP only.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Literal, Self
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from taskservice.local.brokers import PrivateRabbitMQ
from taskservice.local.ports import choose_port, starting_alone
from taskservice.local.stores import PrivateStore
from taskservice.local.supervisor import Program, Supervisor
from taskservice.queues import WorkQueue, work_queues

Broker = Literal["rabbitmq", "embedded"]

REPOSITORY = Path(__file__).resolve().parents[2]
_READY_TIMEOUT_S = 90.0
_HOPELESS_DEATHS = 3  # of one program before the system was ever ready: a setting or the code is wrong
# The service's own settings: a private system does not inherit them from whoever runs the tests.
_SETTINGS_PREFIXES = ("CELERY_", "RABBITMQ_", "REDIS_", "SMTP_", "FLASK_", "FLOWER_", "GUNICORN_")
_SETTINGS = (
    "ALLOWED_HOSTS", "API_RATE_LIMIT", "BIND_ADDRESS", "DEDICATED_TASK_TYPES", "FILES_URL", "INITIAL_RETRY_DELAY",
    "LISTEN_ADDRESS", "LOG_LEVEL", "MAX_RETRY_DELAY", "MAX_UPLOAD_BYTES", "RATE_LIMITS", "REPUBLISH_AFTER",
    "RESULT_RETENTION", "SOFT_SHUTDOWN_TIMEOUT", "TASK_TYPE_MODULES", "TRUSTED_PROXIES", "WEBHOOKS_ALLOW_HTTP",
)  # fmt: skip


class StartFailed(Exception):
    """The system did not become ready; the message says what was missing and quotes the logs."""


class LocalSystem:
    """A context manager: ready inside the block, nothing of it left running after.

    `private_ports`: own ports everywhere and no setting inherited from the environment; else the standard ports
    where they are free. `env` is added to the environment of every process and wins; CELERY_BROKER_URL,
    CELERY_RESULT_BACKEND or SMTP_HOST found there name services that exist, and none is started for them.
    `wsgi_app` is what gunicorn serves; a test may bring its own.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        private_ports: bool = True,
        broker: Broker = "rabbitmq",
        env: Mapping[str, str] | None = None,
        concurrency: int = 2,
        wsgi_app: str = "app:app",
        say: Callable[[str], None] = print,
    ) -> None:
        self.data_dir = data_dir.resolve()
        self.broker = broker
        self.supervisor = Supervisor(self.data_dir / "logs", say)
        self.environment = _inherited(private=private_ports) | dict(env or {})
        self.rabbitmq: PrivateRabbitMQ | None = None
        self.replaced_ports: dict[str, tuple[int, int]] = {}  # name: (usual, the one taken instead)
        self._private_ports = private_ports
        self._concurrency = concurrency
        self._wsgi_app = wsgi_app
        self._say = say
        self.web_port = self.flower_port = self.mail_port = 0

    def __enter__(self) -> Self:
        with ExitStack() as unless_started:
            unless_started.callback(self.stop)
            self.start()
            unless_started.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.web_port}"

    @property
    def flower_url(self) -> str:
        return f"http://127.0.0.1:{self.flower_port}"

    @property
    def management_url(self) -> str | None:
        """RabbitMQ's management UI; None when the broker is not ours or has none."""
        return self.rabbitmq.management_url if self.rabbitmq else None

    @property
    def broker_url(self) -> str:
        return self.environment["CELERY_BROKER_URL"]

    @property
    def result_backend(self) -> str:
        return self.environment["CELERY_RESULT_BACKEND"]

    def start(self) -> None:
        """Everything; returns when /readyz says ready. Raises StartFailed."""
        with nullcontext() if self._private_ports else starting_alone():
            self.start_stores()
            self.start_mail()
            self.start_service()

    def stop(self) -> None:
        """Web, workers, Flower and mail, stores, in this order, each with its grace."""
        self.supervisor.stop_all()

    def start_stores(self) -> None:
        """The broker and Redis, unless the environment names them; sets both URLs in `environment`."""
        self.environment.setdefault("FILES_URL", str(self.data_dir / "files"))
        store: PrivateStore | None = None
        needs_broker = not self.environment.get("CELERY_BROKER_URL")
        if not self.environment.get("CELERY_RESULT_BACKEND") or (needs_broker and self.broker == "embedded"):
            store = self._start_store()
        if needs_broker and self.broker == "rabbitmq":
            self._start_rabbitmq()
        self._wait_for_stores(store)

    def start_mail(self) -> None:
        """The mail sink, unless the environment names a mail server."""
        if self.environment.get("SMTP_HOST") or self.environment.get("SMTP_PORT"):
            return
        self.mail_port = self._port("mail", 1025)
        self.environment |= {"SMTP_HOST": "127.0.0.1", "SMTP_PORT": str(self.mail_port)}
        self._start("mail", ["-m", "taskservice.local.mail", str(self.mail_port)], stop_rank=2)

    def start_service(self) -> None:
        """Web, workers and Flower; returns when /readyz says ready. Raises StartFailed."""
        self.web_port = self._port("web", 5000)
        self.flower_port = self._port("Flower", 5555)
        address = self.environment.get("BIND_ADDRESS") or "127.0.0.1"
        command = ["-m", "gunicorn", self._wsgi_app, "-b", f"{address}:{self.web_port}"]
        self._start("web", command, stop_rank=0, grace_s=35)
        for queue in work_queues():
            self._start_worker(queue.priority.value, [queue])
        for task_type in self._dedicated:
            self._start_worker(task_type, [one for one in work_queues([task_type]) if one.task_type])
        self._start_flower()
        self._wait_until_ready()

    def _start_store(self) -> PrivateStore:
        store = PrivateStore(self.data_dir / "redis", self._port("Redis", 6379), embedded=self.broker == "embedded")
        store.prepare()
        self.supervisor.start(store.program())
        self.environment.setdefault("CELERY_RESULT_BACKEND", store.url(0))
        if self.broker == "embedded":
            self.environment.setdefault("CELERY_BROKER_URL", store.url(1))
        return store

    def _start_rabbitmq(self) -> None:
        rabbitmq = PrivateRabbitMQ(
            data_dir=self.data_dir / "rabbitmq",
            port=self._port("RabbitMQ", 5672),
            management_port=self._port("RabbitMQ UI", 15672),
            prometheus_port=choose_port(),
            dist_port=choose_port(),
            epmd_port=choose_port(),
        )
        rabbitmq.prepare()
        for program in rabbitmq.programs():
            self.supervisor.start(program)
        self.rabbitmq = rabbitmq
        self.environment["CELERY_BROKER_URL"] = rabbitmq.broker_url
        self.environment.setdefault("RABBITMQ_MANAGEMENT_URL", rabbitmq.management_url)

    def _wait_for_stores(self, store: PrivateStore | None) -> None:
        try:
            if store is not None:
                store.wait_until_ready()
            if self.rabbitmq is not None:
                self.rabbitmq.wait_until_ready()
        except TimeoutError as error:
            raise StartFailed(f"{error}\n{self._log_tails('redis', 'rabbitmq')}") from error

    @property
    def _dedicated(self) -> list[str]:
        listed = self.environment.get("DEDICATED_TASK_TYPES", "").split(",")
        return [task_type.strip() for task_type in listed if task_type.strip()]

    def _start_worker(self, name: str, queues: Sequence[WorkQueue]) -> None:
        names = ",".join(queue.name for queue in queues)
        options = ["-Q", names, "-n", f"{name}@%h", "-c", str(self._concurrency)]
        soft_s = float(self.environment.get("SOFT_SHUTDOWN_TIMEOUT") or 20)
        command = ["-m", "celery", "-A", "tasks", "worker", *options]
        self._start(f"worker-{name}", command, stop_rank=1, grace_s=soft_s + 10)

    def _start_flower(self) -> None:
        options = ["--address=127.0.0.1", f"--port={self.flower_port}"]
        if self.rabbitmq is not None:
            options.append(f"--broker_api={self.rabbitmq.api_url}")
        self._start("flower", ["-m", "celery", "-A", "tasks", "flower", *options], stop_rank=2)

    def _start(self, name: str, arguments: list[str], *, stop_rank: int, grace_s: float = 10.0) -> None:
        # Celery's plain SIGTERM waits for running tasks without limit; SIGQUIT is its soft, bounded shutdown.
        env = self.environment | {"REMAP_SIGTERM": "SIGQUIT", "PYTHONUNBUFFERED": "1"}
        command = [sys.executable, *arguments]
        self.supervisor.start(Program(name, command, env, REPOSITORY, stop_rank=stop_rank, grace_s=grace_s))

    def _port(self, name: str, usual: int) -> int:
        if self._private_ports:
            return choose_port()
        port = choose_port(usual)
        if port != usual:
            self.replaced_ports[name] = (usual, port)
            self._say(f"port {usual} is taken: {name} is on {port}")
        return port

    def _wait_until_ready(self) -> None:
        programs = ("web", *(f"worker-{name}" for name in ("high", "normal", "low", *self._dedicated)))
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while True:
            is_ready, answer = _ask(f"{self.url}/readyz")
            if is_ready:
                return
            broken = [name for name in programs if self.supervisor.deaths(name) >= _HOPELESS_DEATHS]
            if broken:
                raise StartFailed(f"{', '.join(broken)} cannot start\n{self._log_tails(*broken)}")
            if time.monotonic() > deadline:
                raise StartFailed(f"not ready after {_READY_TIMEOUT_S:g} s: {answer}\n{self._log_tails(*programs)}")
            time.sleep(0.2)

    def _log_tails(self, *names: str) -> str:
        return "\n".join(f"--- {self.supervisor.log(name)}\n{self.supervisor.log_tail(name)}" for name in names)


def _inherited(*, private: bool) -> dict[str, str]:
    if not private:
        return {name: value for name, value in os.environ.items() if value or not name.startswith(_SETTINGS_PREFIXES)}
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_SETTINGS_PREFIXES) and name not in _SETTINGS
    }


def _ask(url: str) -> tuple[bool, str]:
    """Whether the answer was 200, and what it said."""
    try:
        with urlopen(url, timeout=5) as answer:  # noqa: S310 - our own http URL
            return answer.status == 200, answer.read().decode(errors="replace")
    except HTTPError as error:
        with error:
            return False, error.read().decode(errors="replace")
    except (URLError, OSError) as error:
        return False, str(error)
