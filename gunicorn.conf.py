"""How gunicorn serves app.py: greenlets that wait for confirms, nothing opened before the fork.

Must not know routes or brokers; `-b` or GUNICORN_CMD_ARGS overrides the address, as in a container.
"""

from __future__ import annotations

from typing import Any

from taskservice.settings import load_settings

_settings = load_settings()
_host = f"[{_settings.bind_address}]" if ":" in _settings.bind_address else _settings.bind_address

bind = f"{_host}:5000"
wsgi_app = "app:app"
worker_class = "gevent"
workers = 2
worker_connections = 1000  # per worker; each is a greenlet
preload_app = False  # each worker imports the application itself, after the fork
graceful_timeout = 20
accesslog = None
loglevel = _settings.log_level.lower()
control_socket_disable = True


def post_worker_init(worker: Any) -> None:
    """Connect to the broker before the first request waits for it."""
    worker.wsgi.extensions["publisher"].start()
