"""One running system for all integration tests that need its processes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from taskservice.local.system import LocalSystem
from tests.support.service import LEDGER, Service


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    env = {
        "TASK_TYPE_MODULES": "tests.support.task_types",
        "EXECUTION_LEDGER": str(folder / LEDGER),
        "RATE_LIMITS": "short_sleep=2/s",
        "WEBHOOKS_ALLOW_HTTP": "1",  # receivers are on this machine
    }
    with LocalSystem(folder, private_ports=True, env=env) as system:
        yield Service(system)
