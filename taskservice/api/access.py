"""Who may: before its view, every request shows an API key or, on a loopback service without keys, comes as a guest.

Must not know what the views do, nor where keys and rates are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from flask import Flask, Response, g, request
from werkzeug.middleware.proxy_fix import ProxyFix

from taskservice.api.credentials import CHALLENGE, KnownKeys, authenticate
from taskservice.api.errors import Problem, Refusal, unsent_outcome
from taskservice.api.guests import refuse_strangers
from taskservice.api.methods import rule_of_address
from taskservice.errors import Unavailable
from taskservice.keys import ApiKey, Scope
from taskservice.model import RateLimit

_OPEN = {
    "/",
    "/console/<path:filename>",
    "/healthz",
    "/readyz",
    "/openapi.json",
    "/docs",
    "/docs/<filename>",
    "/docs/assets/<path:filename>",
}
_METRICS = "/metrics"
_SUBMITTING = {
    "/api/tasks",
    "/api/tasks/batch",
    "/api/tasks/<task_id>/retry",
    "/api/tasks/<task_id>/run",
    "/api/tasks/<task_id>/deliveries/<n>/replay",
    "/api/files",
}  # by POST


class Usage(Protocol):
    """A key's rate after a request."""

    @property
    def is_allowed(self) -> bool: ...

    @property
    def remaining(self) -> int: ...

    @property
    def more_in_s(self) -> int: ...


class RateMeter(Protocol):
    """Counts the requests of each key."""

    def hit(self, key_id: str, rate: RateLimit) -> Usage | None:
        """None: nothing can be counted now."""


@dataclass(frozen=True, slots=True)
class Door:
    """What decides who comes in."""

    keys: KnownKeys
    meter: RateMeter
    default_rate: RateLimit
    is_public: bool  # other machines reach it: without keys it is closed, not open
    allowed_hosts: frozenset[str] = frozenset()
    trusted_proxies: int = 0


def guard(app: Flask, door: Door) -> None:
    """Let in who may come in. Register it after `pace_bodies`: who still writes must be able to read a refusal."""
    if door.trusted_proxies:
        count = door.trusted_proxies
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=count, x_proto=count, x_host=0)  # type: ignore[method-assign]
    app.before_request(lambda: _admit(door))
    app.after_request(_tell_rate)
    app.after_request(lambda response: _end_with_key(response, door))


def caller() -> ApiKey | None:
    """The key of this request; None for a guest."""
    key: ApiKey | None = g.get("api_key")
    return key


def caller_id() -> str | None:
    """The id of this request's key; None for a guest."""
    key = caller()
    return key.key_id if key else None


def _admit(door: Door) -> None:
    address = rule_of_address()  # so that a method that /healthz does not have is told so without a key, too
    if address is not None and (address.rule in _OPEN or (address.rule == _METRICS and _is_local(door))):
        return
    scope = _scope_of(request.url_rule.rule if request.url_rule else None)
    try:
        if not door.is_public and not door.keys.are_configured():
            refuse_strangers(door.allowed_hosts)
            return
        key = authenticate(door.keys)
    except Unavailable as error:
        is_act = request.method == "POST" and request.path.startswith("/api/tasks")
        raise Unavailable(error.missing, outcome=unsent_outcome() if is_act else None) from error
    g.api_key = key
    _count(key, door)
    if scope is not None and scope not in key.scopes:
        raise Refusal(_scope_missing(scope))


def _scope_of(rule: str | None) -> Scope | None:
    """What nobody listed asks for the most. None: any key will do, for what does not exist or does nothing."""
    if rule is None or request.method == "OPTIONS":
        return None
    if request.method in ("GET", "HEAD"):
        return Scope.READ
    return Scope.SUBMIT if request.method == "POST" and rule in _SUBMITTING else Scope.MANAGE


def _count(key: ApiKey, door: Door) -> None:
    """Raises Refusal over the rate; a request that is refused for its scope counts too."""
    rate = key.rate or door.default_rate
    usage = door.meter.hit(key.key_id, rate)
    if usage is None:
        return
    g.rate, g.usage = rate, usage
    if not usage.is_allowed:
        raise Refusal(
            Problem(
                429,
                "rate_limited",
                f"This key may make {rate.count} requests in {rate.period_s:g} s.",
                headers={"Retry-After": str(usage.more_in_s)},
            )
        )


def _tell_rate(response: Response) -> Response:
    """The fields of draft-ietf-httpapi-ratelimit-headers, in the form they have since its eighth version."""
    if "usage" in g:
        rate: RateLimit = g.rate
        usage: Usage = g.usage
        response.headers["RateLimit-Policy"] = f'"key";q={rate.count};w={rate.period_s:.0f}'
        response.headers["RateLimit"] = f'"key";r={usage.remaining};t={usage.more_in_s}'
    return response


def _end_with_key(response: Response, door: Door) -> Response:
    """An event stream may last for days: it tells nothing more once its key is revoked or has expired."""
    if response.mimetype == "text/event-stream":
        response.response = _while_admitted(response.iter_encoded(), caller_id(), door.keys)
    return response


def _while_admitted(parts: Iterable[bytes], key_id: str | None, keys: KnownKeys) -> Iterator[bytes]:
    for part in parts:
        if not _is_admitted(key_id, keys):
            return
        yield part


def _is_admitted(key_id: str | None, keys: KnownKeys) -> bool:
    try:
        if key_id is None:
            return not keys.are_configured()
        key = keys.get(key_id)
    except Unavailable:
        return key_id is None  # as `_admit` does: guests stay, a key is good for as long as it is remembered
    return key is not None and key.is_in_force


def _is_local(door: Door) -> bool:
    """Whether only this machine, or a container beside this one, can have sent the request."""
    return not (door.is_public or door.trusted_proxies or "X-Forwarded-For" in request.headers)


def _scope_missing(scope: Scope) -> Problem:
    return Problem(
        403,
        "scope_missing",
        f"This key does not have the scope {scope}.",
        members={"scope": scope.value},
        headers={"WWW-Authenticate": f'{CHALLENGE}, error="insufficient_scope", scope="{scope}"'},
    )
