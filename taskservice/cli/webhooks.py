"""The commands for the secret that signs the webhooks of a service without API keys. They work on the store.

Must not know how a webhook is signed, nor how a secret is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from taskservice.cli.screen import Screen
from taskservice.cli.store import as_json, existing, instant, overlap, service_store

if TYPE_CHECKING:
    from taskservice.records.webhook_secrets import SigningSecret, WebhookSecrets


@click.group()
def webhooks() -> None:
    """Show and rotate the service's own webhook secret, in the store that CELERY_RESULT_BACKEND or REDIS_HOST names.

    It signs what was submitted without an API key. A key has a secret of its own: `keys create` prints it, and
    `keys rotate-webhook-secret` replaces it.
    """


@webhooks.command("secret")
@as_json
def show(as_json: bool) -> None:
    """Print the secret; the first call makes it, unless a webhook was sent before."""
    with secrets_of_service() as secrets:
        secret = secrets.show(None)
    tell_secret(secret, Screen(as_json=as_json))


@webhooks.command("rotate")
@overlap
@as_json
def rotate(overlap: timedelta, as_json: bool) -> None:
    """Make a new secret and print it; the former one signs too for the time of --overlap."""
    with secrets_of_service() as secrets:
        secret = secrets.rotate(None, overlap=overlap)
    tell_secret(secret, Screen(as_json=as_json))


@contextmanager
def secrets_of_service() -> Iterator[WebhookSecrets]:
    """The secrets of the service that the environment describes."""
    from taskservice.records.webhook_secrets import WebhookSecrets  # here: it needs the store's client

    with service_store(WebhookSecrets) as secrets:
        yield secrets


def tell_secret(secret: SigningSecret | None, screen: Screen, *, key_id: str | None = None) -> None:
    """The secret alone on standard output, so that a script can take it from there. None: no such key."""
    kept = existing(secret, key_id or "")
    former_until = instant(kept.former_until)
    if screen.as_json:
        whose = {"key_id": key_id} if key_id else {}
        screen.json({**whose, "webhook_secret": kept.text, "former_until": former_until})
        return
    click.echo(kept.text)
    if former_until:
        screen.tell(f"Until {former_until} webhooks carry the former secret's signature too.")
