"""API keys in Redis, and what one process remembers of them while it need not or cannot ask.

Must not know HTTP, nor what a scope allows.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, Protocol, TypeVar

import redis

from taskservice.errors import Unavailable
from taskservice.keys import ApiKey, Scope
from taskservice.model import RateLimit, from_ms, now, to_ms
from taskservice.records.script import guarded

FRESH_S = 3.0  # so that a revocation holds everywhere within 5 s, a slow answer of Redis included
STALE_S = 60.0  # how long a known key goes on working while Redis is away
ASK_AGAIN_S = 1.0  # after a failure, so that not every request waits for Redis in vain
MAX_REMEMBERED = 1000  # of each kind: keys that exist, and guesses

_KEY_IDS = "api_keys"
_USES = "api_keys_used"  # id: when, in ms; apart, so that a late note makes no half a key in an emptied store

Value = TypeVar("Value")


class Keys:
    """Every key that was ever made: a revoked one stays, so that a service with keys never becomes an open one."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def add(self, key: ApiKey) -> None:
        """Atomic. Raises Unavailable."""
        pipeline = self._client.pipeline(transaction=True)
        pipeline.hset(_key(key.key_id), items=_to_items(key))
        pipeline.sadd(_KEY_IDS, key.key_id)
        guarded(pipeline.execute)

    def get(self, key_id: str) -> ApiKey | None:
        """Raises Unavailable."""
        return next(iter(self._read([key_id])), None)

    def list(self) -> list[ApiKey]:
        """All, oldest first. Raises Unavailable."""
        key_ids = sorted(str(one) for one in guarded(lambda: self._client.smembers(_KEY_IDS)))
        return sorted(self._read(key_ids), key=lambda key: key.created_at)

    def are_configured(self) -> bool:
        """Whether there is any key, revoked ones included. Raises Unavailable."""
        return bool(guarded(lambda: self._client.exists(_KEY_IDS)))

    def revoke(self, key_id: str) -> ApiKey | None:
        """Refused from now on; revoking again keeps the first time. None: no such key. Raises Unavailable."""
        key = self.get(key_id)
        if key is None:
            return None
        guarded(lambda: self._client.hsetnx(_key(key_id), "revoked_at_ms", str(to_ms(now()))))
        return self.get(key_id)

    def _read(self, key_ids: Sequence[str]) -> Sequence[ApiKey]:
        """Those there are, in one round trip."""
        if not key_ids:
            return []
        pipeline = self._client.pipeline(transaction=False)
        pipeline.hmget(_USES, list(key_ids))
        for key_id in key_ids:
            pipeline.hgetall(_key(key_id))
        uses, *found = guarded(pipeline.execute)
        read = zip(key_ids, found, uses, strict=True)
        return [_to_key(key_id, fields, used_at_ms) for key_id, fields, used_at_ms in read if fields]


def note_use(client: redis.Redis, key_id: str) -> None:
    """The key was shown just now. Raises redis.RedisError."""
    client.hset(_USES, key_id, str(to_ms(now())))


class KeyStore(Protocol):
    """What RememberedKeys asks; `Keys`, or a test's own."""

    def get(self, key_id: str) -> ApiKey | None: ...

    def are_configured(self) -> bool: ...


class RememberedKeys:
    """A store's answers, each kept for FRESH_S; a known key is good for STALE_S while the store is away.

    Safe to share between threads.
    """

    def __init__(self, store: KeyStore, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._known: _Memory[ApiKey] = _Memory(clock)
        self._unknown: _Memory[None] = _Memory(clock)  # apart, so that guesses push no key out
        self._configured: _Memory[bool] = _Memory(clock)

    def get(self, key_id: str) -> ApiKey | None:
        """Raises Unavailable."""
        if self._unknown.is_fresh(key_id):
            return None
        key = self._known.recall(key_id, lambda: self._store.get(key_id))
        if key is None:
            self._unknown.put(key_id, None)
        return key

    def are_configured(self) -> bool:
        """Raises Unavailable. Once true it stays so: an emptied store locks everybody out, it lets nobody in."""
        return bool(self._configured.recall("", self._ask_configured, forever=True))

    def _ask_configured(self) -> bool:
        return bool(self._configured.value("")) or self._store.are_configured()


@dataclass(slots=True)
class _Entry(Generic[Value]):
    value: Value
    confirmed_at: float
    ask_at: float


class _Memory(Generic[Value]):
    """The latest answers by name, the least used forgotten first."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._entries: OrderedDict[str, _Entry[Value]] = OrderedDict()
        self._lock = threading.Lock()

    def is_fresh(self, name: str) -> bool:
        entry = self._entries.get(name)
        return entry is not None and self._clock() < entry.ask_at

    def value(self, name: str) -> Value | None:
        entry = self._entries.get(name)
        return entry.value if entry else None

    def recall(self, name: str, ask: Callable[[], Value | None], *, forever: bool = False) -> Value | None:
        """What is fresh; else what `ask` answers; else what is not too old. Raises Unavailable."""
        entry = self._entries.get(name)
        if entry is not None and self._clock() < entry.ask_at:
            return entry.value
        try:
            answer = ask()
        except Unavailable:
            if entry is None or not (forever or self._clock() < entry.confirmed_at + STALE_S):
                raise
            entry.ask_at = self._clock() + ASK_AGAIN_S
            return entry.value
        if answer is None:
            self._forget(name)
        else:
            self.put(name, answer)
        return answer

    def put(self, name: str, value: Value) -> None:
        moment = self._clock()
        with self._lock:
            self._entries[name] = _Entry(value, moment, moment + FRESH_S)
            self._entries.move_to_end(name)
            while len(self._entries) > MAX_REMEMBERED:
                self._entries.popitem(last=False)

    def _forget(self, name: str) -> None:
        with self._lock:
            self._entries.pop(name, None)


def _key(key_id: str) -> str:
    return f"api_key:{key_id}"


def _to_items(key: ApiKey) -> list[str]:
    """Names and values in turn."""
    fields = {
        "name": key.name,
        "scopes": " ".join(sorted(key.scopes)),
        "created_at_ms": str(to_ms(key.created_at)),
        "text_hash": key.text_hash,
        "webhook_secret": key.webhook_secret,
    }
    if key.rate is not None:
        fields["rate"] = str(key.rate)
    if key.expires_at is not None:
        fields["expires_at_ms"] = str(to_ms(key.expires_at))
    return [word for item in fields.items() for word in item]


def _to_key(key_id: str, fields: Mapping[str, str], used_at_ms: str | None) -> ApiKey:
    return ApiKey(
        key_id=key_id,
        name=fields["name"],
        scopes=frozenset(Scope(word) for word in fields["scopes"].split()),
        created_at=from_ms(int(fields["created_at_ms"])),
        text_hash=fields["text_hash"],
        webhook_secret=fields["webhook_secret"],
        rate=RateLimit.parse(fields["rate"]) if "rate" in fields else None,
        expires_at=_instant(fields.get("expires_at_ms")),
        last_used_at=_instant(used_at_ms),
        revoked_at=_instant(fields.get("revoked_at_ms")),
    )


def _instant(milliseconds: str | None) -> datetime | None:
    return None if milliseconds is None else from_ms(int(milliseconds))
