"""The commands for API keys: create, list, revoke, rotate-webhook-secret. They work on the store, not over HTTP.

So whoever may run them on the service's machine makes the first key; must not know how a key is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from taskservice.cli.screen import Screen, document_table
from taskservice.cli.store import Duration, as_json, existing, instant, overlap, service_store
from taskservice.cli.webhooks import secrets_of_service, tell_secret
from taskservice.keys import MAX_NAME_LENGTH, ApiKey, Scope, is_key_id, make_key
from taskservice.model import RateLimit

if TYPE_CHECKING:
    from taskservice.records.keys import Keys


class Rate(click.ParamType[RateLimit]):
    """`10/s`, `100/m` or `1000/h`."""

    name = "RATE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> RateLimit:
        if isinstance(value, RateLimit):
            return value
        try:
            return RateLimit.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Shown:
    """A key as a document, without what must not be shown again."""

    def __init__(self, key: ApiKey) -> None:
        self.document: dict[str, Any] = {
            "key_id": key.key_id,
            "name": key.name,
            "scopes": sorted(key.scopes),
            "rate": str(key.rate) if key.rate else None,
            "created_at": instant(key.created_at),
            "last_used_at": instant(key.last_used_at),
            "expires_at": instant(key.expires_at),
            "revoked_at": instant(key.revoked_at),
        }


@click.group()
def keys() -> None:
    """Make, list and revoke API keys, in the store that CELERY_RESULT_BACKEND or REDIS_HOST names.

    The first key ends the time without keys: from then on the service asks everybody for one.
    """


@keys.command()
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice([one.value for one in Scope]),
    multiple=True,
    required=True,
    help="What it may do; once per scope. No scope implies another.",
)
@click.option("--rate", type=Rate(), help="As 10/s, 100/m or 1000/h.  [default: the service's API_RATE_LIMIT]")
@click.option("--expires-in", type=Duration(), help="As 90d, 24h or 30m; refused afterwards.  [default: never]")
@as_json
def create(
    name: str, scopes: tuple[str, ...], rate: RateLimit | None, expires_in: timedelta | None, as_json: bool
) -> None:
    """Make a key called NAME and print it. It cannot be shown again."""
    if not (0 < len(name) <= MAX_NAME_LENGTH and name.isprintable()):
        raise click.BadParameter(f"expected 1 to {MAX_NAME_LENGTH} printable characters", param_hint="NAME")
    key, text = make_key(name, frozenset(map(Scope, scopes)), rate=rate, expires_in=expires_in)
    with _store() as store:
        store.add(key)
    screen = Screen(as_json=as_json)
    if as_json:
        screen.json({"key": text, "webhook_secret": key.webhook_secret, **Shown(key).document})
        return
    click.echo(text)
    until = f", until {instant(key.expires_at)}" if key.expires_at else ""
    screen.tell(
        f"Key {key.key_id} is in force within 5 s{until}. Keep the line above: it cannot be shown again.\n"
        f"Receivers of its webhooks verify them with {key.webhook_secret}"
    )


@keys.command("list")
@as_json
def list_keys(as_json: bool) -> None:
    """List all keys, revoked and expired ones too. `last_used_at` is told to about a minute."""
    with _store() as store:
        found = store.list()
    Screen(as_json=as_json).answers(map(Shown, found), document_table)


@keys.command()
@click.argument("key_id")
@as_json
def revoke(key_id: str, as_json: bool) -> None:
    """Refuse the key KEY_ID from now on, in every process within 5 s. This cannot be undone."""
    with _store() as store:
        key = store.revoke(key_id) if is_key_id(key_id) else None
    _answer(existing(key, key_id), as_json=as_json)


@keys.command("rotate-webhook-secret")
@click.argument("key_id")
@overlap
@as_json
def rotate_webhook_secret(key_id: str, overlap: timedelta, as_json: bool) -> None:
    """Give the key KEY_ID a new webhook secret and print it; the former one signs too for the time of --overlap."""
    with secrets_of_service() as secrets:
        secret = secrets.rotate(key_id, overlap=overlap) if is_key_id(key_id) else None
    tell_secret(secret, Screen(as_json=as_json), key_id=key_id)


def _answer(key: ApiKey, *, as_json: bool) -> None:
    screen = Screen(as_json=as_json)
    if as_json:
        screen.json(Shown(key).document)
    else:
        screen.tell(f"Key {key.key_id} ({key.name}) is revoked since {instant(key.revoked_at)}.")


@contextmanager
def _store() -> Iterator[Keys]:
    from taskservice.records.keys import Keys  # here: it needs the store's client

    with service_store(Keys) as store:
        yield store
