"""A system of its own for the fuzzer: it has a key with every scope, and webhooks stay on this machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from taskservice.keys import Scope, make_key
from taskservice.local.install import are_packages_installed
from taskservice.local.system import LocalSystem
from taskservice.model import RateLimit
from taskservice.records import Records
from taskservice.records.keys import Keys


@pytest.fixture(scope="session")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSystem]:
    """Whole and ready. Receivers of webhooks may be on this machine."""
    if not are_packages_installed():
        pytest.fail("RabbitMQ and Redis are not installed: apt-get install rabbitmq-server redis-server")
    env = {"WEBHOOKS_ALLOW_HTTP": "1"}
    with LocalSystem(tmp_path_factory.mktemp("fuzzed"), private_ports=True, env=env) as system:
        yield system


@pytest.fixture(scope="session")
def key(fuzzed: LocalSystem) -> str:
    """The text of a key that may do everything, as often as it likes."""
    kept, text = make_key("fuzz", frozenset(Scope), rate=RateLimit.parse("1000000/s"))
    Keys(Records.connect(fuzzed.result_backend, retention_s=3600).client).add(kept)
    return text
