"""The services that the contract is shown on: the shared one, and web processes that have keys, or lack a store.

Each of the latter is a single process on the shared broker and Redis, with a database of its own.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import requests

from taskservice.keys import Scope, make_key
from taskservice.local.ports import choose_port
from taskservice.local.supervisor import Program, Supervisor
from taskservice.local.system import REPOSITORY
from taskservice.model import RateLimit
from taskservice.records.keys import Keys
from taskservice.records.script import connect
from tests.contract.client import PATIENCE_S, Client
from tests.support.service import Service
from tests.support.waiting import wait_until


class Locked:
    """A service with API keys."""

    def __init__(self, url: str, store_url: str) -> None:
        self.url = url
        self._store_url = store_url

    def client(self, *scopes: str, rate: str | None = None) -> Client:
        return Client(self.url, key=self.make_key(*scopes, rate=rate))

    def make_key(self, *scopes: str, rate: str | None = None) -> str:
        wanted = frozenset(map(Scope, scopes))
        key, text = make_key("contract", wanted, rate=RateLimit.parse(rate) if rate else None)
        Keys(connect(self._store_url)).add(key)
        return text


@pytest.fixture(scope="session")
def client(service: Service) -> Client:
    return Client(service.system.url)


@pytest.fixture(scope="session")
def locked(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Locked]:
    store_url = f"{service.system.result_backend.rpartition('/')[0]}/9"
    with _web(service, tmp_path_factory.mktemp("locked"), {"CELERY_RESULT_BACKEND": store_url}) as url:
        locked = Locked(url, store_url)
        locked.make_key("read")
        wait_until(lambda: requests.get(f"{url}/api/tasks", timeout=10).status_code == 401, 20, "it asks for a key")
        yield locked


@pytest.fixture(scope="session")
def brokerless(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Nobody answers where its broker should be."""
    broker_url = f"amqp://contract:hidden@127.0.0.1:{choose_port()}/"
    store_url = f"{service.system.result_backend.rpartition('/')[0]}/10"
    env = {"CELERY_BROKER_URL": broker_url, "CELERY_RESULT_BACKEND": store_url}
    with _web(service, tmp_path_factory.mktemp("brokerless"), env) as url:
        yield Client(url)


@pytest.fixture(scope="session")
def storeless(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Nobody answers where its Redis should be."""
    env = {"CELERY_RESULT_BACKEND": f"redis://:hidden@127.0.0.1:{choose_port()}/0"}
    with _web(service, tmp_path_factory.mktemp("storeless"), env) as url:
        yield Client(url)


@contextmanager
def _web(service: Service, folder: Path, env: dict[str, str]) -> Iterator[str]:
    """Its address, once it answers."""
    port = choose_port()
    command = [sys.executable, "-m", "gunicorn", "app:app", "-w", "1", "-b", f"127.0.0.1:{port}"]
    supervisor = Supervisor(folder, print)
    try:
        supervisor.start(Program("web", command, service.system.environment | env, REPOSITORY, stop_rank=0, grace_s=35))
        wait_until(lambda: _is_up(f"http://127.0.0.1:{port}"), PATIENCE_S, "the web answers")
        yield f"http://127.0.0.1:{port}"
    finally:
        supervisor.stop_all()


def _is_up(url: str) -> bool:
    with suppress(requests.ConnectionError):
        return requests.get(f"{url}/healthz", timeout=10).ok
    return False
