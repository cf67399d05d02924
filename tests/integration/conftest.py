"""What integration tests share beside tests/conftest.py."""

from __future__ import annotations

import pytest

from taskservice.local.system import LocalSystem
from tests.support.store import Store


@pytest.fixture
def store(stores: LocalSystem) -> Store:
    """A test module with a store of another kind has a fixture of its own by this name."""
    return Store.emptied(stores.result_backend)
