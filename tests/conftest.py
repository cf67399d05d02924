"""What all tests share: private stores, the whole system, and waiting for events instead of the clock.

Nothing here touches a service it did not start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from taskservice.local.install import are_packages_installed
from taskservice.local.system import LocalSystem
from tests.support import waiting

WaitUntil = Callable[[Callable[[], object], float, str], None]


@pytest.fixture(scope="session")
def wait_until() -> WaitUntil:
    """See tests/support/waiting.py."""
    return waiting.wait_until


@pytest.fixture(scope="session")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSystem]:
    """A private RabbitMQ and Redis, without web and workers: `.broker_url`, `.result_backend`, `.environment`, …"""
    system = _private_system(tmp_path_factory, "stores")
    try:
        system.start_stores()
        yield system
    finally:
        system.stop()


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSystem]:
    """The whole service on private ports: `.url` is the API, `.supervisor` can stop, kill and start its programs."""
    with _private_system(tmp_path_factory, "system") as running:
        yield running


def _private_system(tmp_path_factory: pytest.TempPathFactory, name: str) -> LocalSystem:
    if not are_packages_installed():
        pytest.fail("RabbitMQ and Redis are not installed: apt-get install rabbitmq-server redis-server")
    return LocalSystem(tmp_path_factory.mktemp(name), private_ports=True)
