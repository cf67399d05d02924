"""A private RabbitMQ node from Debian's package: own ports, data, cookie and epmd, all on 127.0.0.1.

Leaves the system's own service alone. Knows nothing of the task service.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

from taskservice.local.supervisor import Program

# The scripts in /usr/sbin change to the user rabbitmq; the library folder's own do not.
_SERVER_SCRIPTS = (
    "/usr/lib/rabbitmq/bin/rabbitmq-server",
    "/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server",
)
_CONSUMER_TIMEOUT_MS = 2 * 3600 * 1000  # above every time limit: past it the broker closes the worker's channel
_START_TIMEOUT_S = 90.0
# Distribution on the loopback only; schedulers that sleep instead of spinning when idle.
_ERLANG_ARGUMENTS = "-kernel inet_dist_use_interface {127,0,0,1} +sbwt none +sbwtdcpu none +sbwtdio none"


def find_rabbitmq_server() -> Path | None:
    """The package's server script, or None if the package is not installed."""
    if shutil.which("erl") is None or shutil.which("epmd") is None:
        return None
    for pattern in _SERVER_SCRIPTS:
        for script in sorted(Path("/").glob(pattern.lstrip("/")), reverse=True):
            return script
    return None


@dataclass(frozen=True, slots=True)
class PrivateRabbitMQ:
    """One node. `prepare`, start both `programs` in order, `wait_until_ready`."""

    data_dir: Path
    port: int
    management_port: int
    prometheus_port: int
    dist_port: int
    epmd_port: int

    @property
    def broker_url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    @property
    def management_url(self) -> str:
        return f"http://127.0.0.1:{self.management_port}"

    @property
    def api_url(self) -> str:
        """The management API with its login, as Flower wants it."""
        return f"http://guest:guest@127.0.0.1:{self.management_port}/api/"

    def prepare(self) -> None:
        """Write the node's configuration; its data of an earlier run stays."""
        for folder in ("home", "mnesia", "log", "conf.d"):
            (self.data_dir / folder).mkdir(parents=True, exist_ok=True)
        (self.data_dir / "rabbitmq.conf").write_text(self._configuration())
        (self.data_dir / "enabled_plugins").write_text("[rabbitmq_management,rabbitmq_prometheus].\n")
        (self.data_dir / "env.conf").write_text("")

    def programs(self) -> list[Program]:
        script, epmd = find_rabbitmq_server(), shutil.which("epmd")
        if script is None or epmd is None:
            raise FileNotFoundError("RabbitMQ is not installed: apt-get install rabbitmq-server")
        env = self._environment()
        # Our own epmd in the foreground: the one Erlang would start by itself outlives the node.
        command = [epmd, "-port", str(self.epmd_port), "-address", "127.0.0.1"]
        return [
            Program("epmd", command, env, self.data_dir, stop_rank=4),
            Program("rabbitmq", [str(script)], env, self.data_dir, stop_rank=3, grace_s=30),
        ]

    def control(self, *arguments: str) -> str:
        """What rabbitmqctl prints, asked with this node's own cookie and epmd. Raises CalledProcessError."""
        server = find_rabbitmq_server()
        command = [str(server.with_name("rabbitmqctl")) if server else "rabbitmqctl", "-q", *arguments]
        ended = subprocess.run(command, env=self._environment(), check=True, capture_output=True, text=True, timeout=60)
        return ended.stdout

    def wait_until_ready(self) -> None:
        """Until it speaks AMQP and its management answers. Raises TimeoutError."""
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not (self._speaks_amqp() and self._is_managed()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"RabbitMQ did not answer on port {self.port} within {_START_TIMEOUT_S:g} s")
            time.sleep(0.2)

    def _speaks_amqp(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
                connection.sendall(b"AMQP\x00\x00\x09\x01")
                return connection.recv(1) == b"\x01"  # a method frame: connection.start
        except OSError:
            return False

    def _is_managed(self) -> bool:
        request = Request(f"{self.management_url}/api/overview", headers={"Authorization": "Basic Z3Vlc3Q6Z3Vlc3Q="})  # noqa: S310
        try:
            with urlopen(request, timeout=2) as answer:  # noqa: S310 - our own http URL
                return bool(answer.status == 200)
        except (URLError, OSError):
            return False

    def _configuration(self) -> str:
        return f"""\
listeners.tcp.1 = 127.0.0.1:{self.port}
management.tcp.ip = 127.0.0.1
management.tcp.port = {self.management_port}
prometheus.tcp.ip = 127.0.0.1
prometheus.tcp.port = {self.prometheus_port}
consumer_timeout = {_CONSUMER_TIMEOUT_MS}
vm_memory_high_watermark.relative = 0.4
disk_free_limit.absolute = 50MB
"""

    def _environment(self) -> dict[str, str]:
        # RABBITMQ_HOST and the like are the service's settings; what else is set may belong to another node.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("RABBITMQ_", "ERL_"))}
        return inherited | {
            "HOME": str(self.data_dir / "home"),  # holds the Erlang cookie
            "ERL_EPMD_PORT": str(self.epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": "taskservice@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self.dist_port),
            "RABBITMQ_MNESIA_BASE": str(self.data_dir / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.data_dir / "log"),
            "RABBITMQ_LOGS": "-",  # standard output, which is the log file of the supervisor
            "RABBITMQ_PID_FILE": str(self.data_dir / "rabbitmq.pid"),
            "RABBITMQ_CONF_ENV_FILE": str(self.data_dir / "env.conf"),
            "RABBITMQ_CONFIG_FILE": str(self.data_dir / "rabbitmq.conf"),
            "RABBITMQ_CONFIG_FILES": str(self.data_dir / "conf.d"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.data_dir / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.data_dir / "enabled_plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": _ERLANG_ARGUMENTS,
        }
