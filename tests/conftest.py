"""What all tests share: private stores, the whole system, and waiting for events instead of the clock.

Nothing here touches a service it did not start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from taskservice.local.install import are_packages_installed
from taskservice.local.system import LocalSystem
from tests.support import waiting
from tests.support.mail import moody_mail_server
from tests.support.service import LEDGER, Service

MAX_UPLOAD_BYTES = 4 * 2**20

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


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One running system for all tests that need its processes, with task types and limits that suit them."""
    folder = tmp_path_factory.mktemp("service")
    with moody_mail_server() as mail_port:
        env = {
            "TASK_TYPE_MODULES": "tests.support.task_types,tests.contract.task_types",
            "EXECUTION_LEDGER": str(folder / LEDGER),
            "RATE_LIMITS": "short_sleep=2/s",
            "WEBHOOKS_ALLOW_HTTP": "1",  # receivers are on this machine
            "MAX_UPLOAD_BYTES": str(MAX_UPLOAD_BYTES),
            "SMTP_HOST": "127.0.0.1",
            "SMTP_PORT": str(mail_port),
        }
        with LocalSystem(folder, private_ports=True, env=env) as system:
            yield Service(system)


def _private_system(tmp_path_factory: pytest.TempPathFactory, name: str) -> LocalSystem:
    if not are_packages_installed():
        pytest.fail("RabbitMQ and Redis are not installed: apt-get install rabbitmq-server redis-server")
    return LocalSystem(tmp_path_factory.mktemp(name), private_ports=True)
