"""A task's parameters from the command line: JSON, single members, and files to upload first.

Must not know how they are sent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import click

FILE_PARAMETERS = ("file", "filename", "attachments")  # as the service's own task types name an uploaded file


class JSONObject(click.ParamType[dict[str, Any]]):
    """`{"a": 1}`, or `@PATH` for a file that holds it, `@-` for standard input."""

    name = "JSON"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, Mapping):
            return value
        text = self._read(value, param, ctx)
        try:
            decoded = json.loads(text, parse_constant=_refuse_constant)
        except ValueError as error:
            self.fail(f"not JSON: {error}", param, ctx)
        if not isinstance(decoded, dict):
            self.fail('expected a JSON object such as {"data": "x"}', param, ctx)
        return decoded

    def _read(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not value.startswith("@"):
            return value
        try:
            with click.open_file(value[1:], encoding="utf-8") as file:
                return str(file.read())
        except (OSError, UnicodeDecodeError) as error:
            self.fail(f"{value[1:]}: {getattr(error, 'strerror', None) or 'not UTF-8'}", param, ctx)


class Member(click.ParamType[tuple[str, Any]]):
    """`name=text` or `name:=JSON`, as HTTPie writes them: a text is never taken for a number by its looks."""

    name = "NAME=TEXT|NAME:=JSON"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, tuple):
            return value
        name, separator, text = value.partition("=")
        if not separator or not name.removesuffix(":"):
            self.fail(f"{value!r}: expected name=text or name:=JSON", param, ctx)
        if not name.endswith(":"):
            return name, text
        try:
            return name[:-1], json.loads(text, parse_constant=_refuse_constant)
        except ValueError as error:
            self.fail(f"{value!r}: not JSON after := ({error}); for a text write {name[:-1]}={text}", param, ctx)


class FileArgument(click.ParamType[tuple[str | None, Path]]):
    """`PATH`, or `NAME=PATH` to name the parameter that takes it."""

    name = "[NAME=]PATH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, tuple):
            return value
        name, separator, path = value.partition("=")
        if not separator or Path(value).is_file():
            name, path = "", value
        return name or None, _READABLE_FILE.convert(path, param, ctx)


class Instant(click.ParamType[datetime]):
    """RFC 3339, or a date; without an offset it is local time."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            return datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r}: expected a time such as 2026-01-31T12:00:00Z", param, ctx)


_READABLE_FILE = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)


def merged(whole: Mapping[str, Any] | None, members: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Single members win over the object."""
    return {**(whole or {}), **dict(members)}


def file_parameter(schema: Mapping[str, Any]) -> str:
    """The parameter of a task type that names an uploaded file. Raises UsageError when it has none of a known name."""
    properties = schema.get("properties") or {}
    for name in FILE_PARAMETERS:
        if name in properties:
            return name
    names = ", ".join(properties) or "none"
    raise click.UsageError(f"which parameter takes the file? Write --file NAME=PATH with one of: {names}")


def with_file(parameters: Mapping[str, Any], name: str, filename: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """An array gets one more, anything else becomes the file's name. Raises UsageError for a second one."""
    present = parameters.get(name)
    if _takes_many(schema, name):
        return {**parameters, name: [*(present or ()), filename]}
    if present is not None:
        raise click.UsageError(f"the parameter {name} is given twice")
    return {**parameters, name: filename}


def _takes_many(schema: Mapping[str, Any], name: str) -> bool:
    member = (schema.get("properties") or {}).get(name) or {}
    return any(one.get("type") == "array" for one in (member, *member.get("anyOf", ())))


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")
