"""Request bodies: bounded before anything looks at them, and JSON read by the letter of RFC 8259.

Must not know what a body means.
"""

from __future__ import annotations

import json
import math
import re
import time
from typing import Any, NoReturn

from flask import Flask, request
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge, UnsupportedMediaType
from werkzeug.wsgi import get_input_stream

from taskservice.errors import FieldError, InvalidSubmission

MAX_JSON_BYTES = 2**20
MULTIPART_OVERHEAD_BYTES = 64 * 2**10  # boundaries and part headers around an upload
MAX_DRAIN_BYTES = 16 * 2**20
MAX_DRAIN_S = 5.0
MAX_DEPTH = 100
MAX_INTEGER_DIGITS = 4000  # below the length at which Python refuses to convert

_BRACKET_OR_STRING = re.compile(r'[\[\]{}]|"(?:[^"\\]|\\.)*+"?', re.DOTALL)


class InvalidJSON(BadRequest):
    """The body is not JSON; the description says where and why."""

    error = "invalid_json"


def bound_bodies(app: Flask, *, upload_endpoint: str, max_upload_bytes: int) -> None:
    """Read every body within its limit before a view runs; only the upload's is left to the view's form parser."""

    def read_bounded() -> None:
        # Make the stream end where the body ends, whoever serves, so that `drain` may read on from anywhere.
        request.environ["wsgi.input"] = get_input_stream(request.environ)
        request.environ["wsgi.input_terminated"] = True
        if request.endpoint == upload_endpoint:
            request.max_content_length = max_upload_bytes + MULTIPART_OVERHEAD_BYTES
            return
        request.max_content_length = MAX_JSON_BYTES + 1  # a chunked body is cut off here without a complaint
        if len(request.get_data()) > MAX_JSON_BYTES:
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


def refuse_query_parameters() -> None:
    """An option that is not understood must not be ignored: `?dry_run=true` would submit."""
    if request.args:
        raise InvalidSubmission([FieldError(f"/{name}", "no such query parameter") for name in request.args])


def read_json() -> Any:
    """The body's JSON value.

    Raises:
        UnsupportedMediaType: it is not application/json, or it is compressed.
        InvalidJSON: not JSON: NaN, Infinity, a BOM, broken UTF-8, duplicate names, nesting beyond 100.
        InvalidSubmission: JSON, but a number is beyond what is accepted.
    """
    if request.mimetype != "application/json":
        raise UnsupportedMediaType("The body must be application/json.")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType("The body must not be compressed.")
    return decode_json(request.get_data())


def decode_json(body: bytes) -> Any:
    """See `read_json`."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidJSON(f"The body is not UTF-8: byte {error.start} is broken.") from error
    if text.startswith("\ufeff"):
        raise InvalidJSON("The body begins with a byte order mark.")
    _refuse_deep_nesting(text)
    try:
        return json.loads(
            text,
            parse_constant=_refuse_constant,
            parse_int=_integer,
            parse_float=_number,
            object_pairs_hook=_object,
        )
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
    if len(digits) > MAX_INTEGER_DIGITS:
        raise InvalidSubmission([FieldError("", f"an integer of {len(digits)} digits is too large")])
    return int(digits)


def _number(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise InvalidSubmission([FieldError("", f"the number {text[:40]} is too large")])
    return value


def _object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(members)
    if len(found) < len(members):
        raise InvalidJSON("The body is not unambiguous JSON: an object has the same name twice.")
    return found
