"""One running system that all bad input goes to, and the proof after each test that it is unharmed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from taskservice.local.install import are_packages_installed
from taskservice.local.system import LocalSystem
from tests.conftest import WaitUntil
from tests.security.health import Health
from tests.support.service import Service


@pytest.fixture(scope="session")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The whole service as a stranger finds it: its own task types, no key, the default limits."""
    if not are_packages_installed():
        pytest.fail("RabbitMQ and Redis are not installed: apt-get install rabbitmq-server redis-server")
    with LocalSystem(tmp_path_factory.mktemp("security"), private_ports=True) as system:
        yield Service(system)


@pytest.fixture(scope="session")
def store(target: Service) -> Path:
    """The directory in which the service keeps files."""
    return Path(target.system.environment["FILES_URL"])


@pytest.fixture(scope="session")
def health(target: Service, wait_until: WaitUntil) -> Health:
    return Health(target, wait_until)


@pytest.fixture
def unharmed(health: Health) -> Iterator[None]:
    """Ready afterwards, nothing died, and the memory is back."""
    yield
    health.check()
