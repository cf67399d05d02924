"""What a turn may end in without ending its thread, and the few places where everything is caught."""

from __future__ import annotations

import ast
import logging
from collections.abc import Iterator
from pathlib import Path

import kombu
import pytest
import redis
from celery import Celery

from taskservice.errors import Unavailable
from taskservice.worker.threads import BrokerThread, EndlessThread

ROOT = Path(__file__).resolve().parents[2]
BORDERS = {
    "taskservice/publisher/publisher.py": 1,  # the web's publishing thread
    "taskservice/worker/task.py": 1,  # a task's attempt
    "taskservice/worker/threads.py": 1,  # the threads of a worker's main process
}


class _ProcessEnd(BaseException):
    """What nothing may catch."""


class _Turns(EndlessThread):
    """Each of its turns ends in the next of these."""

    every_s = 0.0

    def __init__(self, *ends: BaseException) -> None:
        super().__init__("example")
        self._ends = iter(ends)

    def turn(self) -> None:
        raise next(self._ends)


class _Connections(BrokerThread):
    """Each use of its connections ends in the next of these."""

    every_s = 0.0

    def __init__(self, *ends: BaseException) -> None:
        super().__init__("example", Celery(broker="memory://", set_as_current=False))
        self._ends = iter(ends)
        self.used: list[kombu.Connection] = []

    def use(self, connection: kombu.Connection) -> None:
        assert connection.connected
        self.used.append(connection)
        raise next(self._ends)


@pytest.mark.parametrize(
    ("end", "event"),
    [
        (redis.ConnectionError("gone"), "example.store_unreachable cause=ConnectionError"),
        (Unavailable("store"), "example.store_unreachable cause=Unavailable"),
        (ZeroDivisionError(), "example.failed"),
    ],
)
def test_a_turn_that_fails_is_logged_and_the_next_one_begins(
    end: Exception, event: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(_ProcessEnd):
        _Turns(end, end, _ProcessEnd()).run()

    assert [record.getMessage() for record in caplog.records] == [event, event]


def test_only_what_nobody_expects_brings_a_traceback(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(_ProcessEnd):
        _Turns(redis.ConnectionError("gone"), ZeroDivisionError(), _ProcessEnd()).run()

    assert [bool(record.exc_info) for record in caplog.records] == [False, True]


def test_a_connection_that_fails_is_closed_and_replaced(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="taskservice")
    thread = _Connections(ConnectionResetError(), redis.ConnectionError("gone"), _ProcessEnd())

    with pytest.raises(_ProcessEnd):
        thread.run()

    assert [record.getMessage() for record in caplog.records] == [
        "example.reconnects cause=ConnectionResetError",
        "example.store_unreachable cause=ConnectionError",
    ]
    assert len(set(map(id, thread.used))) == 3
    assert not any(connection.connected for connection in thread.used)


def test_everything_is_caught_at_the_borders_alone() -> None:
    found = {path.relative_to(ROOT).as_posix(): len(list(_broad_excepts(path))) for path in _modules()}

    assert {path: count for path, count in found.items() if count} == BORDERS


def _modules() -> list[Path]:
    return [*sorted((ROOT / "taskservice").rglob("*.py")), *(ROOT / name for name in ("app.py", "tasks.py"))]


def _broad_excepts(path: Path) -> Iterator[ast.ExceptHandler]:
    """Handlers of Exception, of BaseException, and of whatever comes."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ExceptHandler):
            caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            if any(one is None or ast.unparse(one) in {"Exception", "BaseException"} for one in caught):
                yield node
