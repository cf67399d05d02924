"""The secrets that sign webhooks: of each API key, and the service's own while it has no keys.

Must not know what is signed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import redis

from taskservice.keys import make_webhook_secret
from taskservice.model import from_ms, now, to_ms
from taskservice.records.script import guarded

_OWN_SECRET = "webhook_secret"  # noqa: S105  the name of its key
_FIELD = "webhook_secret"  # of an API key


@dataclass(frozen=True, slots=True)
class SigningSecret:
    """What signs now; until `former_until` one that it replaced signs too."""

    text: str
    former_until: datetime | None


class WebhookSecrets:
    """`key_id` None is the service itself, whose secret is made at first use."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def of(self, key_id: str | None) -> tuple[str, ...]:
        """All that sign now, the latest first; empty when there is no such key.

        Raises redis.RedisError: whether to wait then is the worker's decision.
        """
        latest = self._latest(key_id)
        if latest is None:
            return ()
        former: Any = self._client.zrangebyscore(_former(key_id), f"({to_ms(now())}", "+inf")
        return (latest, *map(str, former))

    def show(self, key_id: str | None) -> SigningSecret | None:
        """None: no such key. Raises Unavailable."""
        return guarded(lambda: self._show(key_id))

    def rotate(self, key_id: str | None, *, overlap: timedelta) -> SigningSecret | None:
        """Make a new one; those that sign now go on for `overlap` at most, 0 ends them at once.

        None: no such key. Raises Unavailable.
        """
        while True:
            try:
                return guarded(lambda: self._replace(key_id, overlap))
            except _RotatedMeanwhile:  # that secret was told to a receiver: it becomes a former one
                continue

    def _show(self, key_id: str | None) -> SigningSecret | None:
        latest = self._latest(key_id)
        return None if latest is None else SigningSecret(latest, self._former_until(key_id))

    def _replace(self, key_id: str | None, overlap: timedelta) -> SigningSecret | None:
        secret = make_webhook_secret()
        with self._client.pipeline(transaction=True) as pipeline:
            pipeline.watch(_OWN_SECRET if key_id is None else _key(key_id))  # type: ignore[no-untyped-call]
            latest = self._latest(key_id)
            if latest is None:
                return None
            pipeline.multi()
            if key_id is None:
                pipeline.set(_OWN_SECRET, secret)
            else:
                pipeline.hset(_key(key_id), _FIELD, secret)
            _keep_former(pipeline, _former(key_id), latest, overlap)
            try:
                pipeline.execute()
            except redis.WatchError as error:
                raise _RotatedMeanwhile from error
        return SigningSecret(secret, self._former_until(key_id))

    def _latest(self, key_id: str | None) -> str | None:
        if key_id is not None:
            found = self._client.hget(_key(key_id), _FIELD)
            return str(found) if found else None
        self._client.set(_OWN_SECRET, make_webhook_secret(), nx=True)  # whoever comes first, all sign with the same
        return str(self._client.get(_OWN_SECRET))

    def _former_until(self, key_id: str | None) -> datetime | None:
        last: Any = self._client.zrange(_former(key_id), -1, -1, withscores=True)
        ends_at = from_ms(int(last[0][1])) if last else None
        return ends_at if ends_at and ends_at > now() else None


class _RotatedMeanwhile(Exception):
    """Somebody else did it at the same moment."""


def _keep_former(pipeline: Any, name: str, secret: str, overlap: timedelta) -> None:
    """By the moment each ends; one that was replaced earlier keeps its own, for its receiver was promised that."""
    if not overlap:
        pipeline.delete(name)
        return
    moment_ms, overlap_ms = to_ms(now()), round(overlap.total_seconds() * 1000)
    pipeline.zremrangebyscore(name, "-inf", moment_ms)
    pipeline.zadd(name, {secret: moment_ms + overlap_ms})
    pipeline.pexpire(name, overlap_ms, nx=True)
    pipeline.pexpire(name, overlap_ms, gt=True)


def _key(key_id: str) -> str:
    return f"api_key:{key_id}"


def _former(key_id: str | None) -> str:
    return "former_webhook_secrets" if key_id is None else f"former_webhook_secrets:{key_id}"
