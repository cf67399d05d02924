"""RFC 6901 pointers into what was answered."""

from __future__ import annotations

from typing import Any


def at(value: Any, pointer: str) -> Any:
    """What an RFC 6901 pointer leads to; None where nothing is."""
    for part in pointer.split("/")[1:]:
        try:
            value = value[int(part)] if isinstance(value, list) else value[part]
        except (LookupError, ValueError):
            return None
    return value
