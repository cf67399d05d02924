"""The words of access: keys, what they allow, and the form of their texts.

Standard library only; must not know where keys are kept or how they are sent.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from taskservice.model import RateLimit, from_ms, now, to_ms

MAX_NAME_LENGTH = 100

_KEY = re.compile(r"tsk_(?P<key_id>[0-9a-f]{16})_[0-9a-f]{64}")
_KEY_ID = re.compile(r"[0-9a-f]{16}")


class Scope(StrEnum):
    """What a key may do. None implies another: a key that acts on tasks but cannot read them is a fair wish."""

    SUBMIT = "submit"  # new tasks and what they need: submissions, retries, run now, uploads
    READ = "read"  # every GET
    MANAGE = "manage"  # what changes the work of others: cancel, bulk, queues, deleting files


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is kept: enough to recognise its text, not to say it."""

    key_id: str
    name: str
    scopes: frozenset[Scope]
    created_at: datetime
    text_hash: str = field(repr=False)
    webhook_secret: str = field(repr=False)  # whsec_…, as it is: signing needs it
    rate: RateLimit | None = None  # None: the service's default
    expires_at: datetime | None = None  # None: never
    last_used_at: datetime | None = None  # to about a minute
    revoked_at: datetime | None = None

    @property
    def is_revoked(self) -> bool:
        return self.revoked_at is not None

    @property
    def is_in_force(self) -> bool:
        """Whether it opens anything at this moment."""
        return not self.is_revoked and (self.expires_at is None or now() < self.expires_at)

    def has_text(self, text: str) -> bool:
        """Whether this is the key's text; takes as long for a near miss as for a far one."""
        return hmac.compare_digest(hash_text(text), self.text_hash)


def make_key(
    name: str,
    scopes: frozenset[Scope],
    *,
    rate: RateLimit | None = None,
    expires_in: timedelta | None = None,
) -> tuple[ApiKey, str]:
    """A new key and its text, which nothing can tell again."""
    created_at = from_ms(to_ms(now()))  # as precise as it is kept
    key_id = secrets.token_hex(8)
    text = f"tsk_{key_id}_{secrets.token_hex(32)}"
    key = ApiKey(
        key_id=key_id,
        name=name,
        scopes=scopes,
        created_at=created_at,
        text_hash=hash_text(text),
        webhook_secret=make_webhook_secret(),
        rate=rate,
        expires_at=None if expires_in is None else created_at + expires_in,
    )
    return key, text


def make_webhook_secret() -> str:
    """As Standard Webhooks writes a symmetric secret: whsec_ and 32 random bytes in base64."""
    return f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"


def hash_text(text: str) -> str:
    """SHA-256 is enough: 256 random bits cannot be guessed, however fast the guesses are."""
    return hashlib.sha256(text.encode()).hexdigest()


def key_id_in(text: str) -> str | None:
    """The id of the key that this would be the text of; None when it is no key's text."""
    found = _KEY.fullmatch(text)
    return found["key_id"] if found else None


def is_key_id(text: str) -> bool:
    """Whether a key could have this id."""
    return _KEY_ID.fullmatch(text) is not None
