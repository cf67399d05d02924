"""What the commands share that work on the service's store and not over HTTP: the way there, and durations.

Must not know what is kept there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, TypeVar

import click

from taskservice.cli.connection import RefusedByService, Unavailable
from taskservice.cli.screen import plain
from taskservice.errors import ConfigurationError
from taskservice.errors import Unavailable as StoreUnavailable

View = TypeVar("View")
Found = TypeVar("Found")

LONGEST = timedelta(days=3660)

_DURATION = re.compile(r"(\d{1,9})([smhd])", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class Duration(click.ParamType[timedelta]):
    """`90d`, `24h`, `30m` or `45s`; `0` where nothing is a choice."""

    name = "DURATION"

    def __init__(self, *, may_be_zero: bool = False) -> None:
        self._may_be_zero = may_be_zero

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        found = _DURATION.fullmatch("0s" if value == "0" else value)
        duration = timedelta(**{_UNITS[found[2]]: int(found[1])}) if found else None
        if duration is None or duration > LONGEST or not (duration or self._may_be_zero):
            self.fail(f"{value!r} is not a duration such as 90d, 24h, 30m or 45s, at most {LONGEST.days}d", param, ctx)
        return duration


as_json = click.option("--json", "as_json", is_flag=True, help="Answer with JSON, one document a line.")
overlap = click.option(
    "--overlap",
    type=Duration(may_be_zero=True),
    default="24h",
    show_default=True,
    help="For so long the former secret signs too, beside the new one, so that receivers can change over. 0: not at "
    "all, for a secret that others have seen; then earlier ones end as well.",
)


@contextmanager
def service_store(view: Callable[[Any], View]) -> Iterator[View]:
    """The store of the service that the environment describes, as `view` shows it."""
    from taskservice.records.script import connect  # here: the other commands work without a store's client
    from taskservice.settings import load_settings

    try:
        client = connect(load_settings().result_backend, timeout_s=5.0)
    except ConfigurationError as error:
        raise click.UsageError(str(error)) from error
    try:
        yield view(client)
    except StoreUnavailable as error:
        hint = "CELERY_RESULT_BACKEND, or REDIS_HOST, REDIS_PORT and REDIS_PASSWORD, name it."
        raise Unavailable(f"the store cannot be reached. {hint}") from error
    finally:
        client.close()


def existing(found: Found | None, key_id: str) -> Found:
    """Raises RefusedByService when there is none."""
    if found is None:
        raise RefusedByService(plain(f"no key has the id {key_id!r}; `keys list` shows those there are"))
    return found


def instant(moment: datetime | None) -> str | None:
    """As the HTTP API writes instants."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z") if moment else None
