"""Request bodies: bounded before anything looks at them, and JSON read by the letter of RFC 8259.

Must not know what a body means.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, NoReturn

from flask import Flask, request
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge, UnsupportedMediaType
from werkzeug.wsgi import get_input_stream

from taskservice.errors import FieldError, InvalidSubmission
from taskservice.submission import escape

MAX_JSON_BYTES = 2**20  # unless the endpoint says otherwise
MULTIPART_OVERHEAD_BYTES = 64 * 2**10  # boundaries and part headers around an upload
MAX_DRAIN_BYTES = 16 * 2**20
MAX_DRAIN_S = 5.0
MAX_DEPTH = 100
MAX_INTEGER_DIGITS = 4000  # below the length at which Python refuses to convert
MAX_ERRORS = 100  # of unusable values named in one answer

_BRACKET_OR_STRING = re.compile(r'[\[\]{}]|"(?:[^"\\]|\\.)*+"?', re.DOTALL)
_UNUSABLE_CHARACTER = re.compile("[\x00\ud800-\udfff]")
_TOO_LARGE = 2**64  # stands for an integer that is not worth converting


class InvalidJSON(BadRequest):
    """The body is not JSON; the description says where and why."""

    error = "invalid_json"


def bound_bodies(
    app: Flask, *, upload_endpoint: str, max_upload_bytes: int, max_json_bytes: Mapping[str, int] | None = None
) -> None:
    """Read every body within its limit before a view runs; only the upload's is left to the view's form parser.

    `max_json_bytes` names the endpoints that take more or less than 1 MiB.
    """
    own_limits = max_json_bytes or {}

    def read_bounded() -> None:
        # Make the stream end where the body ends, whoever serves, so that `drain` may read on from anywhere.
        request.environ["wsgi.input"] = get_input_stream(request.environ)
        request.environ["wsgi.input_terminated"] = True
        if request.endpoint == upload_endpoint:
            request.max_content_length = max_upload_bytes + MULTIPART_OVERHEAD_BYTES
            return
        limit_bytes = own_limits.get(request.endpoint or "", MAX_JSON_BYTES)
        request.max_content_length = limit_bytes + 1  # a chunked body is cut off here without a complaint
        if len(request.get_data()) > limit_bytes:
            raise RequestEntityTooLarge

    app.before_request(read_bounded)


def drain(environ: dict[str, Any]) -> None:
    """Read and forget what the client still sends, up to 16 MiB or 5 s.

    A server that answers and closes while the client writes makes the kernel reset the connection, and the answer
    is lost with it.
    """
    deadline = time.monotonic() + MAX_DRAIN_S
    connection = environ.get("gunicorn.socket")
    left = MAX_DRAIN_BYTES
    try:
        while left > 0 and (patience_s := deadline - time.monotonic()) > 0:
            if connection is not None:
                connection.settimeout(patience_s)
            chunk = environ["wsgi.input"].read(min(left, 2**16))
            if not chunk:
                break
            left -= len(chunk)
    except (OSError, ValueError, BadRequest):  # the client went away or broke its framing
        return
    finally:
        if connection is not None:
            connection.settimeout(None)


def read_json() -> Any:
    """The body's JSON value, all of it usable.

    Raises:
        UnsupportedMediaType: it is not application/json, or it is compressed.
        InvalidJSON: not JSON: NaN, Infinity, a BOM, broken UTF-8, duplicate names, nesting beyond 100.
        InvalidSubmission: see `refuse_unusable`.
    """
    _require_json()
    return decode_json(request.get_data())


def read_unchecked_json() -> Any:
    """`read_json` for a view that calls `refuse_unusable` for each part by itself."""
    _require_json()
    return parse_json(request.get_data())


def _require_json() -> None:
    if request.mimetype != "application/json":
        raise UnsupportedMediaType("The body must be application/json.")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType("The body must not be compressed.")


def decode_json(body: bytes) -> Any:
    """See `read_json`."""
    value = parse_json(body)
    refuse_unusable(value)
    return value


def refuse_unusable(value: Any) -> None:
    """Raises InvalidSubmission for a number of more than 64 bits, NUL or a lone surrogate somewhere."""
    if errors := list(islice(_unusable(value), MAX_ERRORS)):
        raise InvalidSubmission(errors)


def parse_json(body: bytes) -> Any:
    """Raises InvalidJSON."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidJSON(f"The body is not UTF-8: byte {error.start} is broken.") from error
    if text.startswith("\ufeff"):
        raise InvalidJSON("The body begins with a byte order mark.")
    _refuse_deep_nesting(text)
    try:
        return json.loads(text, parse_constant=_refuse_constant, parse_int=_integer, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        raise InvalidJSON(f"The body is not JSON: {error.msg} at character {error.pos}.") from error


def _refuse_deep_nesting(text: str) -> None:
    """Before parsing, because the parser recurses."""
    depth = 0
    for match in _BRACKET_OR_STRING.finditer(text):
        depth += _STEP.get(match[0], 0)
        if depth > MAX_DEPTH:
            raise InvalidJSON(f"The body nests deeper than {MAX_DEPTH} levels.")


_STEP = {"[": 1, "{": 1, "]": -1, "}": -1}


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
