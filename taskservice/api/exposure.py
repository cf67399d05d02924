"""Whether other machines reach the service, and that it does not start without a key if they do.

Must not know what happens to a request.
"""

from __future__ import annotations

import logging
import time

import click

from taskservice.api.credentials import KnownKeys
from taskservice.api.guests import is_loopback
from taskservice.errors import ConfigurationError, Unavailable

logger = logging.getLogger(__name__)

STORE_PATIENCE_S = 25.0  # gunicorn ends a worker that is silent for 30 s


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
