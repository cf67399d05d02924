"""What a message may carry: the shape of each member that a worker or the store's script relies on.

Standard library only. Must not know what a member means. Runs once for every message, so it is plain comparisons.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

LATEST_MS = 253_402_300_799_999  # the last millisecond that a datetime can hold
LARGEST = 2**53 - 1  # up to here the script's numbers, and those of many JSON readers, are exact

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TYPE_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")  # of which Redis keys and routing keys are made
_NAME = re.compile(r"[\w.-]{1,255}", re.ASCII)
_SURROGATE = re.compile("[\ud800-\udfff]")  # the script's JSON reader refuses a lone one

Check = Callable[[Any], bool]


def check_message(message: object) -> None:
    """Raises ValueError, and nothing else, naming the first member that is missing or wrong; values are never told."""
    if not isinstance(message, Mapping):
        raise ValueError(f"expected an object, not {type(message).__name__}")
    for name, is_valid in _REQUIRED.items():
        if not is_valid(message.get(name)):
            raise ValueError(f"{name} is {'of the wrong form' if name in message else 'missing'}")
    for name, is_valid in _OPTIONAL.items():
        if name in message and not is_valid(message[name]):
            raise ValueError(f"{name} is of the wrong form")
    if message["due_at_ms"] + (message.get("expires_in_s") or 0) * 1000 > LATEST_MS:
        raise ValueError("expires_in_s is of the wrong form: it would end after the year 9999")


def _matches(pattern: re.Pattern[str]) -> Check:
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


def _between(least: int, most: int) -> Check:
    return lambda value: type(value) is int and least <= value <= most  # a bool is an int to isinstance


def _or_none(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and _SURROGATE.search(value) is None


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_duration(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value <= LARGEST  # False for NaN


def _is_callback(value: Any) -> bool:
    return isinstance(value, dict) and _is_text(value.get("url")) and _are_texts(value.get("events"))


# From 1, not from 0: a record keeps no member that is empty or 0.
_REQUIRED: dict[str, Check] = {
    "task_id": _matches(_UUID),
    "task_type": _matches(_TYPE_NAME),
    "priority": ("high", "normal", "low").__contains__,  # model.py has the same
    "parameters": _is_object,
    "created_at_ms": _between(1, LATEST_MS),
    "due_at_ms": _between(1, LATEST_MS),
    "max_attempts": _between(1, LARGEST),
}
_OPTIONAL: dict[str, Check] = {
    "expires_in_s": _or_none(_is_duration),
    "tags": _are_texts,
    "metadata": _is_object,
    "retried_from": _or_none(_matches(_UUID)),
    "callback": _or_none(_is_callback),
    "key_id": _or_none(_matches(_NAME)),
    "batch_id": _or_none(_matches(_UUID)),
    "sequence": _between(0, LARGEST),
    "own_queue": _or_none(_matches(_NAME)),
}
