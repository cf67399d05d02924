"""The stage of the fault suite: one system that most scenarios share, and the table printed at the end.

FAULTS_TARGET=compose plays on containers that tests/compose-faults.sh has started; else a private system is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from taskservice.local.install import are_packages_installed
from tests.faults.checks import Evidence, nothing_refused_runs
from tests.faults.compose_target import ComposeTarget
from tests.faults.ledger import Submitted, read_executions
from tests.faults.scenario import Stage
from tests.faults.table import Row, table
from tests.faults.target import LocalTarget, Target

_ROWS = pytest.StashKey[list[Row]]()
REFUSED = pytest.StashKey[list[Submitted]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_ROWS] = []
    config.stash[REFUSED] = []
    config.addinivalue_line("markers", "soak: minutes of random faults; `make soak` runs it alone")


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    rows = config.stash[_ROWS]
    if rows:
        terminalreporter.section("every task, counted")
        terminalreporter.write_line("\n".join(table(rows)))


@pytest.fixture(scope="session")
def target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """The system that scenarios share. At the very end nothing that any of them saw refused may have run."""
    if os.environ.get("FAULTS_TARGET") == "compose":
        containers = ComposeTarget()
        yield containers
        fail_if_any_ran(request.config.stash[REFUSED], containers)
        return
    if not are_packages_installed():
        pytest.fail("RabbitMQ and Redis are not installed: apt-get install rabbitmq-server redis-server")
    local = LocalTarget(tmp_path_factory.mktemp("faults"))
    with local.system:
        yield local
        fail_if_any_ran(request.config.stash[REFUSED], local)


@pytest.fixture
def stage(request: pytest.FixtureRequest, target: Target) -> Iterator[Stage]:
    """The shared system, and a row of the table named after the test. Whole again afterwards, also after a failure."""
    name = request.node.name.removeprefix("test_").replace("_", " ")
    yield Stage(target, request.config.stash[_ROWS], request.config.stash[REFUSED], name)
    target.heal()


def fail_if_any_ran(refused: list[Submitted], target: Target) -> None:
    found = list(nothing_refused_runs(Evidence(refused, read_executions(target.ledger))))
    if found:
        pytest.fail(f"{len(found)} refused task(s) ran after all\n" + "\n\n".join(found[:3]), pytrace=False)
