"""Paths and query parameters: how a name, an instant or a selection of tasks is written in a URL.

Must not know what is done there.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TypedDict
from urllib.parse import quote

from taskservice.client.errors import InvalidArgument
from taskservice.model import Priority, Status


class TaskQuery(TypedDict, total=False):
    """Which tasks: everything given must hold."""

    status: Status | str
    state: str
    task_type: str
    priority: Priority | str
    tag: str
    created_after: datetime  # exclusive; without a zone it is local time
    created_before: datetime


def query_members(query: TaskQuery) -> dict[str, str]:
    return {name: instant(value) if isinstance(value, datetime) else str(value) for name, value in query.items()}


def instant(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def task_path(task_id: str) -> str:
    return f"/api/tasks/{segment(task_id)}"


def segment(name: str) -> str:
    if name in ("", ".", ".."):  # they would address something else
        raise InvalidArgument(f"{name!r} is not a name")
    return quote(name, safe="")
