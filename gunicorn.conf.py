"""How gunicorn serves app.py: greenlets that wait for confirms, nothing opened before the fork.

Must not know routes or brokers; `-b` or GUNICORN_CMD_ARGS may choose another port, but no wider address.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from gunicorn.workers.ggevent import GeventWorker

from taskservice.api.guests import is_loopback
from taskservice.errors import ConfigurationError
from taskservice.settings import load_settings


class QuietWorker(GeventWorker):  # type: ignore[misc]
    """Greenlets that say nothing of a malformed header: it may hold a key, and gunicorn would log and answer it."""

    def handle_error(self, req: Any, client: Any, addr: Any, exc: Any) -> None:
        if hasattr(exc, "hdr"):
            exc.hdr = "(not repeated)"
        super().handle_error(req, client, addr, exc)


_settings = load_settings()
_host = f"[{_settings.listen_address}]" if ":" in _settings.listen_address else _settings.listen_address

bind = f"{_host}:5000"
wsgi_app = "app:app"
worker_class = QuietWorker
workers = 2
worker_connections = 1000  # per worker; each is a greenlet
keepalive = 5  # s for an idle connection and, with this worker, for the whole head of a request
preload_app = False  # each worker imports the application itself, after the fork
graceful_timeout = 20
accesslog = None
loglevel = _settings.log_level.lower()
control_socket_disable = True


def on_starting(server: Any) -> None:
    """Whether an API key is needed follows from BIND_ADDRESS, so `-b` must not go beyond it."""
    for address in server.cfg.address:
        host = address[0] if isinstance(address, tuple) else "localhost"  # else a Unix socket or a descriptor
        if not is_loopback(host) and host not in (_settings.bind_address, _settings.listen_address):
            raise ConfigurationError(
                f"gunicorn -b {host!r} is wider than BIND_ADDRESS={_settings.bind_address!r}; set BIND_ADDRESS, and "
                "LISTEN_ADDRESS if it is reached through another address, as in a container"
            )


def post_worker_init(worker: Any) -> None:
    """Connect to the broker before the first request waits for it."""
    worker.wsgi.extensions["publisher"].start()
    threading.Thread(target=_end_streams, args=(worker,), name="end-streams", daemon=True).start()


def _end_streams(worker: Any) -> None:
    """A stream would go on until graceful_timeout; gunicorn has no hook at the moment a worker is told to stop."""
    while worker.alive:
        time.sleep(0.5)
    worker.wsgi.extensions["live"].close()
