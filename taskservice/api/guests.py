"""Guests of a loopback service without API keys: programs of this machine may, web pages of other sites may not.

Must not know what they want.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from flask import request

from taskservice.api.errors import Problem, Refusal


def refuse_strangers(allowed_hosts: frozenset[str]) -> None:
    """A web page must not use its visitor's loopback service: neither from its own site nor by rebinding its name.

    Forms and plain text need no preflight, so the browser would send them; it always says where from (Origin), and
    under which name it found us (Host). Raises Refusal.
    """
    host = request.headers.get("Host")
    if host is not None and not is_loopback(host) and _name_in(host) not in allowed_hosts:
        raise Refusal(_FORBIDDEN_HOST)
    origin = request.headers.get("Origin")
    if origin is None:
        return
    site = origin.partition("://")[2].lower()
    if not site or (site != (host or "").lower() and _name_in(site) not in allowed_hosts):
        raise Refusal(_FORBIDDEN_ORIGIN)


def is_loopback(host: str) -> bool:
    """Whether this name or address, with or without a port, is this machine's own and nobody else's."""
    name = _name_in(host) or host
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _name_in(host: str) -> str:
    """Without port, brackets and final dot; empty when it is no host."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


_FORBIDDEN_HOST = Problem(
    403,
    "forbidden_origin",
    "Without API keys this service answers to localhost and 127.0.0.1 only; ALLOWED_HOSTS names further hosts.",
)
_FORBIDDEN_ORIGIN = Problem(
    403, "forbidden_origin", "Without API keys this service takes no requests from pages of other sites."
)
