"""`make env`: a `.env` for docker-compose, made of .env.example, with fresh random passwords.

Must not start anything nor print a secret; standard library only, so that it runs before any package is installed.
"""

from __future__ import annotations

import os
import re
import secrets
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from taskservice.errors import ConfigurationError
from taskservice.settings import load_settings

_REPOSITORY = Path(__file__).resolve().parents[2]
_ASSIGNMENT = re.compile(r"(?P<name>[A-Z][A-Z0-9_]*)=(?P<value>.*)")
_PLAIN_VALUE = re.compile(r"[A-Za-z0-9_.,:;/@%+=-]*")  # means the same to every reader of .env, without quotes
_REPLACE = "FORCE"
_COOKIE = "RABBITMQ_ERLANG_COOKIE"  # of the cluster's file only

_NEXT = """\
{path} is written, mode 600: passwords of its own for RabbitMQ, Redis and Flower, and the logins are in it.
{kept}Next, while nobody else can reach the service:
  docker-compose run --rm web python -m taskservice keys create me --scope submit --scope read --scope manage
  docker-compose up -d
{publish}"""
_KEPT = """\
The one before is {copy}. RabbitMQ keeps the user and password its volume was made with, so the new ones need a new
volume (`docker-compose down --volumes` deletes all tasks), or `rabbitmqctl add_user` in the running broker.
"""
_PUBLISH_LATER = """\
To let others in, set BIND_ADDRESS=0.0.0.0 in {path} and run `docker-compose up -d` again.
"""


class EnvRefused(Exception):
    """Nothing was written; the message says why and what to do."""


def main() -> int:
    try:
        wanted = dict(_assignment(argument) for argument in sys.argv[1:])
        print(write_env(_REPOSITORY / ".env", example=_REPOSITORY / ".env.example", wanted=wanted), end="")
    except (EnvRefused, ConfigurationError) as error:
        print(f"make env: {error}", file=sys.stderr)
        return 1
    return 0


def write_env(path: Path, *, example: Path, wanted: Mapping[str, str]) -> str:
    """Write `path`, and say what to do next. FORCE in `wanted` replaces a file that exists and keeps a copy of it.

    Raises EnvRefused; ConfigurationError for a value that the service would refuse.
    """
    may_replace = wanted.get(_REPLACE, "") not in ("", "0")
    values = {name: value for name, value in wanted.items() if name != _REPLACE}
    text = fill(example.read_text(encoding="utf-8"), _secrets() | values, required=values)
    load_settings(_values_of(text))
    copy = _keep(path) if path.exists() and may_replace else None
    _create(path, text)
    is_loopback = load_settings(_values_of(text)).binds_loopback_only
    kept = _KEPT.format(copy=copy.name) if copy else ""
    return _NEXT.format(path=path.name, kept=kept, publish=_PUBLISH_LATER.format(path=path.name) if is_loopback else "")


def fill(example: str, values: Mapping[str, str], *, required: Mapping[str, str]) -> str:
    """The example with these values in their lines, its comments kept. Raises EnvRefused."""
    lines = []
    names: set[str] = set()
    for line in example.splitlines():
        match = _ASSIGNMENT.fullmatch(line)
        if match:
            names.add(match["name"])
            line = f"{match['name']}={values.get(match['name'], match['value'])}"
        lines.append(line)
    if _COOKIE not in names:
        lines += [
            "",
            "# --- Cluster",
            "# Secret. What RabbitMQ's nodes know one another by, in docker-compose.cluster.yml.",
        ]
        lines += [f"{_COOKIE}={values.get(_COOKIE, '')}"]
        names.add(_COOKIE)
    unknown = sorted(set(required) - names)
    if unknown:
        raise EnvRefused(f"{', '.join(unknown)}: no such setting; .env.example lists them all")
    return "\n".join(lines) + "\n"


def _secrets() -> dict[str, str]:
    """Letters and digits only: these go into URLs, command lines and a shell, and need no quotes in any."""
    return {
        "RABBITMQ_USER": "taskservice",
        "RABBITMQ_PASSWORD": secrets.token_hex(20),
        _COOKIE: secrets.token_hex(20),
        "REDIS_PASSWORD": secrets.token_hex(20),
        "REDIS_SENTINEL_PASSWORD": secrets.token_hex(20),
        "FLOWER_BASIC_AUTH": f"flower:{secrets.token_hex(20)}",
    }


def _assignment(argument: str) -> tuple[str, str]:
    name, _, value = argument.partition("=")
    if not _PLAIN_VALUE.fullmatch(value):
        raise EnvRefused(f"{name}: this value needs quotes; write it into .env yourself, after `make env`")
    return name, value


def _values_of(text: str) -> dict[str, str]:
    return {match["name"]: match["value"] for match in map(_ASSIGNMENT.fullmatch, text.splitlines()) if match}


def _keep(path: Path) -> Path:
    copy = path.with_name(f"{path.name}.{datetime.now():%Y%m%dT%H%M%S}")
    path.rename(copy)
    copy.chmod(0o600)
    return copy


def _create(path: Path, text: str) -> None:
    """Readable by its owner only, from its first byte on."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise EnvRefused(
            f"{path.name} exists and stays as it is; `make env {_REPLACE}=1` writes a new one and keeps a copy"
        ) from error
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


if __name__ == "__main__":
    sys.exit(main())
