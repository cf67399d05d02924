"""The key that a request carries, in one of two headers.

Must not know what the key opens.
"""

from __future__ import annotations

from typing import Protocol

from flask import request

from taskservice.api.errors import Problem, Refusal
from taskservice.keys import ApiKey, key_id_in


class KnownKeys(Protocol):
    """The keys there are."""

    def get(self, key_id: str) -> ApiKey | None:
        """Revoked ones too. Raises Unavailable."""

    def are_configured(self) -> bool:
        """Whether there is any, revoked ones included. Raises Unavailable."""


def authenticate(keys: KnownKeys) -> ApiKey:
    """The valid key that the request carries. Raises Refusal, Unavailable."""
    text = _sent_text()
    key_id = key_id_in(text)
    key = keys.get(key_id) if key_id else None
    if key is None or not key.has_text(text) or not key.is_in_force:
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


CHALLENGE = 'Bearer realm="tasks"'
_INVALID_TOKEN = {"WWW-Authenticate": f'{CHALLENGE}, error="invalid_token"'}
_KEY_MISSING = Problem(
    401,
    "key_missing",
    "Send an API key as `Authorization: Bearer KEY` or as `X-API-Key: KEY`.",
    headers={"WWW-Authenticate": CHALLENGE},
)
_KEY_INVALID = Problem(401, "key_invalid", "This is no valid API key.", headers=_INVALID_TOKEN)
_KEYS_DIFFER = Problem(401, "key_invalid", "Authorization and X-API-Key carry different keys.", headers=_INVALID_TOKEN)
