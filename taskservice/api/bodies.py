"""Request bodies: what they may be and how large, before one is read; bounded in number; and then their JSON.

Must not know what a body means.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from flask import Flask, g, request
from werkzeug.exceptions import RequestEntityTooLarge, UnsupportedMediaType

from taskservice.api.aside import aside
from taskservice.api.errors import Refusal, unavailable, unsent_outcome
from taskservice.api.streams import drain
from taskservice.api.strict_json import decode_json

MAX_JSON_BYTES = 2**20  # unless the endpoint says otherwise
MULTIPART_OVERHEAD_BYTES = 64 * 2**10  # boundaries and part headers around an upload
SMALL_BYTES = 64 * 2**10  # is neither counted nor decoded aside: 1000 connections hold 64 MiB of these at most
AT_ONCE_BYTES = 24 * 2**20  # of all larger bodies that a process holds; decoded, each may be ten times as large
TURN_S = 2.0  # how long a large body waits for others to leave

_TOO_MANY = "Too many large bodies arrive at once; send this one again."

Value = TypeVar("Value")


class Space:
    """Bytes that may be held at once, shared by the requests of a process."""

    def __init__(self, size_bytes: int) -> None:
        self._free_bytes = size_bytes
        self._changed = threading.Condition()

    def take(self, size_bytes: int, *, timeout_s: float) -> bool:
        """False: there was not enough in time."""
        with self._changed:
            is_there = self._changed.wait_for(lambda: self._free_bytes >= size_bytes, timeout_s)
            if is_there:
                self._free_bytes -= size_bytes
            return is_there

    def give(self, size_bytes: int) -> None:
        with self._changed:
            self._free_bytes += size_bytes
            self._changed.notify_all()


def bound_bodies(
    app: Flask,
    *,
    upload_endpoint: str,
    max_upload_bytes: int,
    json_endpoints: Mapping[str, int],
    at_once_bytes: int = AT_ONCE_BYTES,
    turn_s: float = TURN_S,
) -> None:
    """Read every body within its limit before its view runs, after who may not has been turned away.

    `json_endpoints`: those that take JSON, and how many bytes. The upload is left to its view's form parser, and what
    is sent to any other endpoint is not kept.
    """
    space = Space(at_once_bytes)

    def read_bounded() -> None:
        if request.endpoint == upload_endpoint:
            request.max_content_length = max_upload_bytes + MULTIPART_OVERHEAD_BYTES
            return
        limit_bytes = json_endpoints.get(request.endpoint or "")
        if (request.content_length or 0) > (limit_bytes or MAX_JSON_BYTES):
            raise RequestEntityTooLarge
        if limit_bytes is None:
            drain(request.environ)
        elif _has_body():
            _require_json()
            if (size_bytes := _size_bytes(limit_bytes)) > SMALL_BYTES:
                take(size_bytes)
            _read(limit_bytes)

    def take(size_bytes: int) -> None:
        if not space.take(size_bytes, timeout_s=turn_s):
            raise Refusal(unavailable("too_many_bodies", _TOO_MANY, outcome=unsent_outcome()))
        g.body_space_bytes = size_bytes

    def leave(_error: BaseException | None) -> None:
        space.give(g.pop("body_space_bytes", 0))

    app.before_request(read_bounded)
    app.teardown_request(leave)


def _size_bytes(limit_bytes: int) -> int:
    """As the client says, or the most that it may send."""
    return limit_bytes if request.content_length is None else request.content_length


def _read(limit_bytes: int) -> None:
    request.max_content_length = limit_bytes + 1  # a chunked body is cut off here without a complaint
    if len(request.get_data()) > limit_bytes:
        raise RequestEntityTooLarge


def read_json() -> Any:
    """The body's JSON value, all of it usable.

    Raises:
        UnsupportedMediaType: it is not application/json, or it is compressed.
        InvalidJSON, InvalidSubmission: see `strict_json`.
    """
    return read_json_with(decode_json)


def read_json_with(decode: Callable[[bytes], Value]) -> Value:
    """The same for a view with a decoder of its own, which must be a pure function: a large body is decoded aside."""
    _require_json()
    body = request.get_data()
    return decode(body) if len(body) <= SMALL_BYTES else aside(decode, body)


def _has_body() -> bool:
    """Whether there is anything to read; a chunked body has no length."""
    return bool(request.content_length) or "Transfer-Encoding" in request.headers


def _require_json() -> None:
    if request.mimetype != "application/json":
        raise UnsupportedMediaType("The body must be application/json.")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType("The body must not be compressed.")
