"""Who may import whom: the layout's arrows, read from the imports themselves."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WEB = {"flask", "flask_openapi3", "werkzeug"}
BROKER = {"celery", "kombu", "amqp"}
STORE = {"redis", "valkey"}
WORDS = (
    "taskservice.model",
    "taskservice.messages",
    "taskservice.errors",
    "taskservice.context",
    "taskservice.task_type",
)

FORBIDDEN: dict[str, set[str]] = {
    "taskservice/handlers": WEB | BROKER | STORE | {"taskservice.records", "taskservice.publisher", "taskservice.api"},
    "taskservice/api": BROKER | STORE | {"tasks", "app", "taskservice.worker", "celery_config"},
    "taskservice/worker": WEB | {"app", "taskservice.api"},
    "taskservice/records": WEB | BROKER | {"taskservice.api", "taskservice.worker", "celery_config"},
    "taskservice/publisher": WEB | STORE,
    "taskservice/queues.py": WEB | BROKER | STORE,
    "taskservice/management.py": WEB | BROKER | STORE,
    "taskservice/submission.py": WEB | BROKER | STORE,
    "taskservice/request_bodies.py": WEB | BROKER | STORE,
    "taskservice/client": WEB | BROKER | STORE | {"taskservice.api", "taskservice.records", "taskservice.settings"},
    "taskservice/cli": WEB | BROKER | STORE | {"taskservice.api"},
    "app.py": {"tasks", "taskservice.worker"},
    "tasks.py": {"app", "taskservice.api"},
}


@pytest.mark.parametrize(("room", "forbidden"), FORBIDDEN.items())
def test_a_room_imports_only_what_it_may(room: str, forbidden: set[str]) -> None:
    for path in modules_in(room):
        found = {name for name in imports_of(path) for banned in forbidden if is_within(name, banned)}

        assert not found, f"{path} must not import {sorted(found)}"


@pytest.mark.parametrize("module", WORDS)
def test_the_words_need_only_the_standard_library_and_one_another(module: str) -> None:
    imported = imports_of(ROOT / f"{module.replace('.', '/')}.py")
    others = {name for name in imported if not any(is_within(name, word) for word in WORDS)}

    assert {name.split(".")[0] for name in others} <= set(sys.stdlib_module_names)


def test_only_settings_and_the_local_system_read_the_environment() -> None:
    readers = {
        path.relative_to(ROOT).as_posix()
        for path in [*modules_in("taskservice"), ROOT / "app.py", ROOT / "tasks.py", ROOT / "celery_config.py"]
        if "os.environ" in path.read_text(encoding="utf-8")
    }

    assert {path for path in readers if not path.startswith("taskservice/local/")} == {"taskservice/settings.py"}


def modules_in(room: str) -> list[Path]:
    path = ROOT / room
    return [path] if path.is_file() else sorted(path.rglob("*.py"))


def imports_of(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def is_within(name: str, banned: str) -> bool:
    return name == banned or name.startswith(f"{banned}.")
