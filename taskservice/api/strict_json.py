"""JSON by the letter of RFC 8259, at a price that follows the size of the text, whatever is in it.

Must not know HTTP requests, nor what a value means.
"""

from __future__ import annotations

import gc
import json
import math
import re
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, islice
from typing import Any, NoReturn

from werkzeug.exceptions import BadRequest

from taskservice.errors import FieldError, InvalidSubmission
from taskservice.request_bodies import escape

MAX_DEPTH = 100
MAX_INTEGER_DIGITS = 4000  # below the length at which Python refuses to convert
MAX_ERRORS = 100  # of unusable values named in one answer

_SLICE = 2**16  # what is searched or counted at once: other threads get no turn meanwhile
_UNUSABLE_CHARACTER = re.compile("[\x00\ud800-\udfff]")
# Only a text with one of these can hold NUL, a surrogate, a number of more than 64 bits or an infinite one.
_SUSPICIOUS = re.compile(r"\\u(?:0000|[dD][89a-fA-F])|[0-9]{19}|[eE]\+?[0-9]{3}")
_LONGEST_SUSPICION = 19
_TOO_LARGE = 2**64  # stands for an integer that is not worth converting
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


class InvalidJSON(BadRequest):
    """The body is not JSON; the description says where and why."""

    error = "invalid_json"


@dataclass(frozen=True, slots=True)
class Parsed:
    """A JSON value. `is_suspicious`: it may hold what `refuse_unusable` refuses; else it surely does not."""

    value: Any
    is_suspicious: bool


def decode_json(body: bytes) -> Any:
    """The body's value, all of it usable. Raises InvalidJSON, and InvalidSubmission as `refuse_unusable` does."""
    parsed = parse_json(body)
    if parsed.is_suspicious:
        refuse_unusable(parsed.value)
    return parsed.value


def refuse_unusable(value: Any) -> None:
    """Raises InvalidSubmission for a number of more than 64 bits, NUL or a lone surrogate somewhere."""
    if errors := unusable_values(value):
        raise InvalidSubmission(errors)


def unusable_values(value: Any) -> list[FieldError]:
    """What `refuse_unusable` names, at most 100 of them."""
    return list(islice(_unusable(value), MAX_ERRORS))


def parse_json(body: bytes) -> Parsed:
    """Raises InvalidJSON: also for NaN, Infinity, a BOM, broken UTF-8, a name given twice, nesting beyond 100."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidJSON(f"The body is not UTF-8: byte {error.start} is broken.") from error
    if text.startswith("\ufeff"):
        raise InvalidJSON("The body begins with a byte order mark.")
    _refuse_deep_nesting(body)
    is_suspicious = _is_suspicious(text)
    try:
        with _without_collector(len(body)):
            value = json.loads(
                text,
                parse_constant=_refuse_constant,
                parse_int=_integer if is_suspicious else None,
                object_pairs_hook=_object,
            )
    except json.JSONDecodeError as error:
        raise InvalidJSON(f"The body is not JSON: {error.msg} at character {error.pos}.") from error
    return Parsed(value, is_suspicious)


def _refuse_deep_nesting(body: bytes) -> None:
    """Before parsing, because the parser recurses. What is not JSON may be counted wrongly: the parser stops there."""
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return
    outside_strings = b"".join(body.replace(rb"\\", b"").replace(rb"\"", b"").split(b'"')[::2])
    steps = outside_strings.translate(_STEPS, _NO_BRACKETS)
    depth = 0
    for start in range(0, len(steps), _SLICE):
        depths = list(accumulate(array("b", steps[start : start + _SLICE]), initial=depth))
        if max(depths) > MAX_DEPTH:
            raise InvalidJSON(f"The body nests deeper than {MAX_DEPTH} levels.")
        depth = depths[-1]


def _is_suspicious(text: str) -> bool:
    ends = range(_SLICE, len(text) + _SLICE, _SLICE)
    return any(_SUSPICIOUS.search(text, end - _SLICE, end + _LONGEST_SUSPICION) for end in ends)


@contextmanager
def _without_collector(size_bytes: int) -> Iterator[None]:
    """Millions of new lists would make it look through all of them again and again: five times as long, or more."""
    was_enabled = gc.isenabled() and size_bytes > _SLICE
    if was_enabled:
        gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _refuse_constant(name: str) -> NoReturn:
    raise InvalidJSON(f"The body is not JSON: {name} is not a JSON value.")


def _integer(digits: str) -> int:
    return int(digits) if len(digits) <= MAX_INTEGER_DIGITS else _TOO_LARGE


def _object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(members)
    if len(found) < len(members):
        raise InvalidJSON("The body is not unambiguous JSON: an object has the same name twice.")
    return found


def _unusable(value: Any, pointer: str = "") -> Iterator[FieldError]:
    """What is JSON and yet would break the store, a database or a mail on its way. Recurses as deep as it may nest."""
    if not isinstance(value, list | dict):
        if fault := _fault(value):
            yield FieldError(pointer, f"the value {fault}")
        return
    for name, member in value.items() if isinstance(value, dict) else enumerate(value):
        if fault := _fault(name):
            yield FieldError(pointer, f"the name of a member {fault}")
        elif isinstance(member, list | dict) or _fault(member):
            yield from _unusable(member, f"{pointer}/{escape(str(name))}")


def _fault(value: Any) -> str | None:
    if isinstance(value, str):
        found = _UNUSABLE_CHARACTER.search(value)
        return f"holds U+{ord(found[0]):04X}, which is no text" if found else None
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return "is a whole number of more than 64 bits"
    if isinstance(value, float) and math.isinf(value):
        return "is a number beyond all measure"
    return None
