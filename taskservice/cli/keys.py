"""The commands for API keys: create, list, revoke, rotate-webhook-secret. They work on the store, not over HTTP.

So whoever may run them on the service's machine makes the first key; must not know how a key is kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from taskservice.cli.connection import RefusedByService, Unavailable
from taskservice.cli.screen import Screen, document_table, plain
from taskservice.errors import ConfigurationError
from taskservice.errors import Unavailable as StoreUnavailable
from taskservice.keys import MAX_NAME_LENGTH, ApiKey, Scope, is_key_id, make_key, make_webhook_secret
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
            "created_at": _instant(key.created_at),
            "revoked_at": _instant(key.revoked_at),
        }


_as_json = click.option("--json", "as_json", is_flag=True, help="Answer with JSON, one document a line.")


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
@_as_json
def create(name: str, scopes: tuple[str, ...], rate: RateLimit | None, as_json: bool) -> None:
    """Make a key called NAME and print it. It cannot be shown again."""
    if not (0 < len(name) <= MAX_NAME_LENGTH and name.isprintable()):
        raise click.BadParameter(f"expected 1 to {MAX_NAME_LENGTH} printable characters", param_hint="NAME")
    key, text = make_key(name, frozenset(map(Scope, scopes)), rate=rate)
    with _store() as store:
        store.add(key)
    screen = Screen(as_json=as_json)
    if as_json:
        screen.json({"key": text, "webhook_secret": key.webhook_secret, **Shown(key).document})
        return
    click.echo(text)
    screen.tell(
        f"Key {key.key_id} is in force within 5 s. Keep the line above: it cannot be shown again.\n"
        f"Receivers of its webhooks verify them with {key.webhook_secret}"
    )


@keys.command("list")
@_as_json
def list_keys(as_json: bool) -> None:
    """List all keys, revoked ones too."""
    with _store() as store:
        found = store.list()
    Screen(as_json=as_json).answers(map(Shown, found), document_table)


@keys.command()
@click.argument("key_id")
@_as_json
def revoke(key_id: str, as_json: bool) -> None:
    """Refuse the key KEY_ID from now on, in every process within 5 s. This cannot be undone."""
    with _store() as store:
        key = store.revoke(key_id) if is_key_id(key_id) else None
    _answer(_existing(key, key_id), as_json=as_json)


@keys.command("rotate-webhook-secret")
@click.argument("key_id")
@_as_json
def rotate_webhook_secret(key_id: str, as_json: bool) -> None:
    """Give the key KEY_ID a new webhook secret and print it; the old one signs nothing any more."""
    with _store() as store:
        key = store.set_webhook_secret(key_id, make_webhook_secret()) if is_key_id(key_id) else None
    secret = _existing(key, key_id).webhook_secret
    click.echo(json.dumps({"key_id": key_id, "webhook_secret": secret}) if as_json else secret)


def _answer(key: ApiKey, *, as_json: bool) -> None:
    screen = Screen(as_json=as_json)
    if as_json:
        screen.json(Shown(key).document)
    else:
        screen.tell(f"Key {key.key_id} ({key.name}) is revoked since {_instant(key.revoked_at)}.")


def _existing(key: ApiKey | None, key_id: str) -> ApiKey:
    if key is None:
        raise RefusedByService(plain(f"no key has the id {key_id!r}; `keys list` shows those there are"))
    return key


@contextmanager
def _store() -> Iterator[Keys]:
    """The keys of the service that the environment describes."""
    from taskservice.records.keys import Keys  # here: the other commands work without a store's client
    from taskservice.records.script import connect
    from taskservice.settings import load_settings

    try:
        client = connect(load_settings().result_backend, timeout_s=5.0)
    except ConfigurationError as error:
        raise click.UsageError(str(error)) from error
    try:
        yield Keys(client)
    except StoreUnavailable as error:
        hint = "CELERY_RESULT_BACKEND, or REDIS_HOST, REDIS_PORT and REDIS_PASSWORD, name it."
        raise Unavailable(f"the store cannot be reached. {hint}") from error
    finally:
        client.close()


def _instant(moment: datetime | None) -> str | None:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z") if moment else None
