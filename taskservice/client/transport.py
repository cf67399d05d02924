"""One call over HTTP: sent, repeated where that is safe and useful, and bounded in total.

Must not know what a task is.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase

from taskservice.client.answers import failure_of, innermost, unreachable
from taskservice.client.errors import (
    ApiError,
    ClientError,
    Conflict,
    InvalidArgument,
    RateLimited,
    ServiceUnavailable,
    UnexpectedAnswer,
    Unreachable,
)

Received = TypeVar("Received")
OnRepeat = Callable[[ClientError, float], None]

CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 10.0  # the service answers a submission within 5 s, whatever happens
SHORTEST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0  # where the service does not say


@dataclass(frozen=True, slots=True)
class Call:
    """One request that, done twice, has the effect of once: so a lost answer may be asked for again."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None  # JSON
    upload: Path | None = None  # sent as the multipart field `file`
    headers: Mapping[str, str] = field(default_factory=dict)
    hold_s: float = 0.0  # the service keeps the answer back for so long, on purpose


class Transport:
    """A connection to one service; not to be shared between threads.

    `timeout_s` bounds a call with all its repeats. `on_repeat` is told the failure and the pause before each repeat.
    """

    def __init__(self, url: str, api_key: str | None, timeout_s: float, on_repeat: OnRepeat | None) -> None:
        if timeout_s <= 0:
            raise InvalidArgument(f"timeout_s={timeout_s}: expected more than 0 s")
        self.url = _checked_url(url)
        self.timeout_s = timeout_s
        self._on_repeat = on_repeat
        self._session = requests.Session()
        self._session.auth = _Bearer(_checked_key(api_key))

    def close(self) -> None:
        self._session.close()

    def call(
        self, call: Call, receive: Callable[[requests.Response], Received], *, timeout_s: float | None = None
    ) -> Received:
        """What `receive` makes of the 2xx answer; it may be called again when its reading breaks off.

        `timeout_s` shortens the bound for this call.

        Raises ApiError, Unreachable, UnexpectedAnswer: the last failure, once repeating is of no use or out of time.
        """
        bound_s = self.timeout_s if timeout_s is None else min(timeout_s, self.timeout_s)
        deadline = time.monotonic() + bound_s + call.hold_s
        for backoff_s in _backoffs():
            try:
                return self._try(call, receive, deadline - time.monotonic())
            except ClientError as failure:
                pause_s = _pause_s(failure, backoff_s)
                if not _may_repeat(failure) or time.monotonic() + pause_s >= deadline:
                    raise
                if self._on_repeat is not None:
                    self._on_repeat(failure, pause_s)
                time.sleep(pause_s)
        raise AssertionError("there is always a next back-off")

    def _try(self, call: Call, receive: Callable[[requests.Response], Received], left_s: float) -> Received:
        left_s = max(left_s, SHORTEST_PAUSE_S)  # a pause may end late, and no time-out may be 0
        timeout = (min(CONNECT_TIMEOUT_S, left_s), min(ANSWER_TIMEOUT_S, left_s) + call.hold_s)
        try:
            with self._send(call, timeout) as response:
                if not 200 <= response.status_code < 300:
                    raise failure_of(self.url, response)
                return receive(response)
        except requests.exceptions.SSLError as error:
            raise UnexpectedAnswer(self.url, f"its TLS cannot be trusted ({innermost(error)})") from error
        except requests.exceptions.JSONDecodeError as error:
            raise UnexpectedAnswer(self.url, "a successful answer that is not JSON") from error
        except requests.RequestException as error:
            raise unreachable(self.url, error) from error

    def _send(self, call: Call, timeout: tuple[float, float]) -> requests.Response:
        headers = dict(call.headers)
        if call.body is not None:
            headers["Content-Type"] = "application/json"
        with ExitStack() as opened:
            files = None
            if call.upload is not None:
                files = {"file": (call.upload.name, opened.enter_context(call.upload.open("rb")))}
            return self._session.request(
                call.method,
                self.url + call.path,
                params=dict(call.query),
                data=call.body,
                files=files,
                headers=headers,
                timeout=timeout,
                allow_redirects=False,  # following one would turn a POST into a GET
                stream=True,  # so that reading the body is part of the try
            )


class _Bearer(AuthBase):
    """The key, or nothing: having an auth of its own keeps `requests` from sending what ~/.netrc says instead."""

    def __init__(self, api_key: str | None) -> None:
        self._api_key = api_key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._api_key:
            request.headers["Authorization"] = f"Bearer {self._api_key}"
        return request


def encode_json(value: Any) -> bytes:
    """Raises InvalidArgument for what JSON has no form for: NaN, a set, an object of your own."""
    try:
        return json.dumps(value, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArgument(f"not a JSON value: {error}") from error


def _checked_url(url: str) -> str:
    expected = "expected http://host:port or https://host"
    try:
        parts = urlsplit(url.strip())
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if "@" in url:  # it may hold a password, so it is not repeated
        raise InvalidArgument(f"the URL has a login, which is not for keys: {expected}")
    if not usable or parts.query or parts.fragment:
        raise InvalidArgument(f"{url!r} is not the URL of a service: {expected}")
    return url.strip().rstrip("/")


def _checked_key(api_key: str | None) -> str | None:
    if api_key is not None and not (api_key.isascii() and api_key.isprintable()):
        raise InvalidArgument("the API key has characters that no key has (a line break, an accent?)")
    return api_key


def _may_repeat(failure: ClientError) -> bool:
    match failure:
        case Unreachable() | ServiceUnavailable() | RateLimited():
            return True
        case Conflict():
            return failure.error == "idempotency_in_flight"
        case _:
            return False


def _pause_s(failure: ClientError, backoff_s: float) -> float:
    asked_s = failure.retry_after_s if isinstance(failure, ApiError) else None
    return backoff_s if asked_s is None else max(asked_s, SHORTEST_PAUSE_S)


def _backoffs() -> Iterator[float]:
    pause_s = SHORTEST_PAUSE_S
    while True:
        yield pause_s
        pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
