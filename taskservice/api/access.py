"""Who may: before its view, every request shows an API key or, on a loopback service without keys, comes as a guest.

Must not know what the views do, nor where keys and rates are kept.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Protocol

import click
from flask import Flask, Response, g, request
from werkzeug.middleware.proxy_fix import ProxyFix

from taskservice.api.errors import Problem, Refusal
from taskservice.api.guests import is_loopback, refuse_strangers
from taskservice.api.methods import rule_of_address
from taskservice.errors import ConfigurationError, Unavailable
from taskservice.keys import ApiKey, Scope, key_id_in
from taskservice.model import RateLimit

logger = logging.getLogger(__name__)

STORE_PATIENCE_S = 25.0  # gunicorn ends a worker that is silent for 30 s

_OPEN = {
    "/",
    "/console/<path:filename>",
    "/healthz",
    "/readyz",
    "/openapi.json",
    "/docs",
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


class KnownKeys(Protocol):
    """The keys there are."""

    def get(self, key_id: str) -> ApiKey | None:
        """Revoked ones too. Raises Unavailable."""

    def are_configured(self) -> bool:
        """Whether there is any, revoked ones included. Raises Unavailable."""


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
    """Let in who may come in. Register it after `bound_bodies`: who still writes must be able to read a refusal."""
    if door.trusted_proxies:
        count = door.trusted_proxies
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=count, x_proto=count, x_host=0)  # type: ignore[method-assign]
    app.before_request(lambda: _admit(door))
    app.after_request(_tell_rate)


def caller() -> ApiKey | None:
    """The key of this request; None for a guest."""
    key: ApiKey | None = g.get("api_key")
    return key


def caller_id() -> str | None:
    """The id of this request's key; None for a guest."""
    key = caller()
    return key.key_id if key else None


def public_address(bind_address: str) -> str | None:
    """Where other machines reach the service, None when none does; `flask run --host` may widen BIND_ADDRESS."""
    context = click.get_current_context(silent=True)
    host = context.params.get("host") if context is not None and context.info_name == "run" else None
    wider = [address for address in (bind_address, host) if address and not is_loopback(address)]
    return wider[0] if wider else None


def require_keys(keys: KnownKeys, address: str, *, patience_s: float = STORE_PATIENCE_S) -> None:
    """For a service that other machines reach. Waits for the store. Raises ConfigurationError when there is no key."""
    try:
        are_configured = _ask_patiently(keys, patience_s)
    except Unavailable as error:
        raise ConfigurationError(
            f"BIND_ADDRESS or --host is {address!r}, which needs an API key, and the store did not answer "
            f"within {patience_s:g} s; see CELERY_RESULT_BACKEND and REDIS_HOST"
        ) from error
    if not are_configured:
        raise ConfigurationError(
            f"BIND_ADDRESS or --host is {address!r}, and there is no API key to tell callers apart, so only "
            "a loopback address is accepted; set BIND_ADDRESS=127.0.0.1, or make a key: "
            "python -m taskservice keys create NAME --scope submit --scope read"
        )


def _ask_patiently(keys: KnownKeys, patience_s: float) -> bool:
    """Raises Unavailable when the store has not answered in time."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return keys.are_configured()
        except Unavailable as error:
            if time.monotonic() > deadline:
                raise
            logger.info("start.waits missing=%s", error.missing)
            time.sleep(min(1.0, patience_s))


def _admit(door: Door) -> None:
    address = rule_of_address()  # so that a method that /healthz does not have is told so without a key, too
    if address is not None and (address.rule in _OPEN or (address.rule == _METRICS and _is_local(door))):
        return
    scope = _scope_of(request.url_rule.rule if request.url_rule else None)
    try:
        if not door.is_public and not door.keys.are_configured():
            refuse_strangers(door.allowed_hosts)
            return
        key = _authenticate(door.keys)
    except Unavailable as error:
        is_submission = scope is Scope.SUBMIT and request.path.startswith("/api/tasks")
        raise Unavailable(error.missing, outcome="refused" if is_submission else None) from error
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


def _authenticate(keys: KnownKeys) -> ApiKey:
    """The valid key that the request carries. Raises Refusal, Unavailable."""
    text = _sent_text()
    key_id = key_id_in(text)
    key = keys.get(key_id) if key_id else None
    if key is None or not key.has_text(text) or key.is_revoked:
        raise Refusal(_KEY_INVALID)
    return key


def _sent_text() -> str:
    """Raises Refusal when there is none, or two that differ."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    sent = {token.strip()} if scheme.lower() == "bearer" else set()
    if "X-API-Key" in request.headers:
        sent.add(request.headers["X-API-Key"].strip())
    if not sent:
        raise Refusal(_KEY_MISSING)
    if len(sent) > 1:
        raise Refusal(_KEYS_DIFFER)
    return sent.pop()


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


def _is_local(door: Door) -> bool:
    """Whether only this machine, or a container beside this one, can have sent the request."""
    return not (door.is_public or door.trusted_proxies or "X-Forwarded-For" in request.headers)


def _scope_missing(scope: Scope) -> Problem:
    return Problem(
        403,
        "scope_missing",
        f"This key does not have the scope {scope}.",
        members={"scope": scope.value},
        headers={"WWW-Authenticate": f'{_CHALLENGE}, error="insufficient_scope", scope="{scope}"'},
    )


_CHALLENGE = 'Bearer realm="tasks"'
_INVALID_TOKEN = {"WWW-Authenticate": f'{_CHALLENGE}, error="invalid_token"'}
_KEY_MISSING = Problem(
    401,
    "key_missing",
    "Send an API key as `Authorization: Bearer KEY` or as `X-API-Key: KEY`.",
    headers={"WWW-Authenticate": _CHALLENGE},
)
_KEY_INVALID = Problem(401, "key_invalid", "This is no valid API key.", headers=_INVALID_TOKEN)
_KEYS_DIFFER = Problem(401, "key_invalid", "Authorization and X-API-Key carry different keys.", headers=_INVALID_TOKEN)
