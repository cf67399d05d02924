"""Which task still needs a file: one that is not final and names it in its parameters, whatever for.

Must not know where files are kept, nor which types have files.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any

import redis

from taskservice.model import Priority, Status
from taskservice.records.script import guarded, record_key

# Running twice: a task that goes from retrying to running meanwhile would be missed.
_PLACES = (Status.SCHEDULED, Status.QUEUED, Status.RUNNING, Status.RETRYING, Status.RUNNING)
_AT_ONCE = 2000  # tasks that one call looks at: some milliseconds, in which Redis does nothing else


class FilesInUse:
    """Looks through the tasks that are not final, inside Redis; nothing has to be noted when they are submitted."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        script = resources.files("taskservice.records").joinpath("naming.lua").read_text(encoding="utf-8")
        self._script = client.register_script(script)

    def user_of(self, filename: str) -> str | None:
        """The id of a task that needs the file, or None. Raises Unavailable."""
        needle = json.dumps(filename)
        for cell in self._cells():
            for task_id in self._candidates(cell, needle):
                if self._names(task_id, filename):
                    return task_id
        return None

    def _cells(self) -> list[str]:
        types = sorted(str(name) for name in guarded(lambda: self._client.smembers("task_types")))
        return [f"cell:{status}:{kind}:{priority}" for status in _PLACES for kind in types for priority in Priority]

    def _candidates(self, cell: str, needle: str) -> Iterator[str]:
        """From the newest: whoever leaves the cell meanwhile moves older ones only to places that are still to come."""
        end = int(guarded(lambda: self._client.zcard(cell)))
        while end > 0:
            start = max(0, end - _AT_ONCE)
            arguments: list[str | int] = [needle, start, end - 1]
            found = guarded(lambda: self._script(keys=[cell], args=arguments))  # noqa: B023  called at once
            yield from (str(task_id) for task_id in found)
            end = start

    def _names(self, task_id: str, filename: str) -> bool:
        text = guarded(lambda: self._client.hget(record_key(task_id), "submission"))
        return text is not None and filename in _texts(json.loads(text)["parameters"])


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _texts(one)
