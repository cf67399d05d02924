"""The stage of the fault suite, on the cluster that tests/cluster.sh has started. Its table is printed at the end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.target import ClusterTarget
from tests.faults.conftest import (  # noqa: F401  pytest finds hooks and fixtures here
    REFUSED,
    fail_if_any_ran,
    pytest_configure,
    pytest_terminal_summary,
    stage,
)


@pytest.fixture(scope="session")
def target(request: pytest.FixtureRequest) -> Iterator[ClusterTarget]:
    """At the very end nothing that any scenario saw refused may have run."""
    cluster = ClusterTarget()
    cluster.wait_until_whole()
    yield cluster
    fail_if_any_ran(request.config.stash[REFUSED], cluster)
