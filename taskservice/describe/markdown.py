"""The OpenAPI document as a page to read: each call with its parameters, a curl command, its answers and their members.

Must not know where it is written to.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from taskservice.describe.document import Document, Example, Operation, Parameter, Step, by_tag

_INTRODUCTION = """# The API

Written by `make docs` from the OpenAPI document that the service answers at `/openapi.json`; do not edit.
`/docs` tries each call in a browser, [the Postman collection](taskservice.postman_collection.json) has them all.
Back to the [README](../README.md).

The commands work as they stand against a service on this machine without keys. With keys, add
`-H "Authorization: Bearer $KEY"`. Every failure is a [problem document](#problemdocument).
"""
_BASE = "http://localhost:5000"
_EVERY_ROUTE = frozenset({"401", "403", "429", "500"})
_ROW_END = re.compile(r"\s*\n\s*")


def page(document: Document) -> str:
    """Markdown, with a line break at its end."""
    schemas = document["components"]["schemas"]
    lines = [_INTRODUCTION]
    for tag, operations in by_tag(document).items():
        lines += [f"## {tag.capitalize()}", ""]
        for operation in operations:
            lines += [*_operation(operation), ""]
    lines += ["## Schemas", ""]
    for name in sorted(schemas):
        lines += [*_schema(name, schemas[name]), ""]
    return "\n".join(lines).rstrip() + "\n"


def _operation(operation: Operation) -> Iterator[str]:
    yield f"### {operation.method} {operation.path}"
    yield ""
    yield f"{operation.summary}.".replace("..", ".")
    if operation.description:
        yield ""
        yield operation.description
    if operation.parameters:
        yield ""
        yield from _table(("parameter", "in", "type", "meaning", "example"), map(_parameter, operation.parameters))
    if operation.body_schema:
        yield ""
        yield f"Body: {_type(operation.body_schema)}, `{operation.media_type}`."
    yield ""
    yield from _commands(operation)
    yield ""
    yield from _table(("answer", "", "body"), _answers(operation))


def _parameter(one: Parameter) -> tuple[str, ...]:
    example = "" if one.example is None else f"`{one.example}`"
    return (f"`{one.name}`", one.place, _type(one.schema), one.description, example)


def _commands(operation: Operation) -> Iterator[str]:
    yield "```bash"
    for number, example in enumerate(operation.examples or (None,)):
        if number:
            yield ""
        if example is not None:
            yield f"# {example.summary}"
        if operation.needs_steps(example):
            yield from (_step(step) for step in operation.steps)
        yield _curl(operation, example)
    yield "```"


def _step(step: Step) -> str:
    """One line; what it keeps is a variable of the shell, in capitals."""
    command = f"curl -sS{'' if step.method == 'GET' else f' -X {step.method}'} {_quoted(_BASE + step.path, step.path)}"
    if step.file is not None:
        text = shlex.quote(step.file["content"].replace("\n", "\\n"))
        return f"printf {text} | {command} -F 'file=@-;filename={step.file['filename']}'"
    if step.body is not None:
        command += f" --json {shlex.quote(json.dumps(step.body, ensure_ascii=False))}"
    for name, pointer in step.keep.items():
        command = f"{name.upper()}=$({command} | jq -r {pointer.replace('/', '.')})"
    return f"{command}  # until it has ended" if step.until else command


def _curl(operation: Operation, example: Example | None) -> str:
    path = operation.path
    for one in operation.parameters:
        if one.place == "path" and not operation.steps_keep(one.name):
            path = path.replace(f"{{{one.name}}}", str(one.example))
    method = "" if operation.method == "GET" else f" -X {operation.method}"
    command = f"curl -sS{' -N' if operation.is_stream else ''}{method} {_quoted(_BASE + path, path)}"
    if example is None:
        return command
    if operation.media_type != "application/json":
        text = shlex.quote(example.value["file"].replace("\n", "\\n"))
        return f"printf {text} | {command} -F 'file=@-;filename=example.txt'"
    return f"{command} --json {_json(example.value, operation)}"


def _json(value: Any, operation: Operation) -> str:
    """Quoted for the shell, with variables where an example stands for what a step kept."""
    text = shlex.quote(json.dumps(value, ensure_ascii=False))
    for name, stand_in in operation.values.items():
        if operation.steps_keep(name):
            text = text.replace(stand_in, f"'\"${name.upper()}\"'")
    return text


def _quoted(url: str, path: str) -> str:
    if "{" in path:
        variables = re.sub(r"\{(\w+)\}", lambda match: f"${match[1].upper()}", url)
        return f'"{variables}"'
    return shlex.quote(url)


def _answers(operation: Operation) -> Iterator[tuple[str, ...]]:
    """Without those that every route has for the same reasons."""
    for status, answer in sorted(operation.responses.items()):
        if status in _EVERY_ROUTE:
            continue
        media = next(iter(answer.get("content", {}).items()), None)
        body = "" if media is None else _body(*media)
        yield (status, answer.get("description", ""), body)


def _body(media_type: str, media: Mapping[str, Any]) -> str:
    if media_type.endswith("json"):
        return _type(media.get("schema", {}))
    return f"`{media_type}`"


def _schema(name: str, schema: Mapping[str, Any]) -> Iterator[str]:
    yield f"### {name}"
    yield ""
    if description := schema.get("description"):
        yield _ROW_END.sub(" ", description)
        yield ""
    if "enum" in schema:
        yield _type(schema)
        return
    required = schema.get("required", ())
    members = schema.get("properties", {}).items()
    yield from _table(
        ("member", "type", "meaning"),
        ((f"`{key}`{'' if key in required else ' (optional)'}", _type(one), _meaning(one)) for key, one in members),
    )


def _meaning(schema: Mapping[str, Any]) -> str:
    default = schema.get("default")
    said = str(schema.get("description", ""))
    return said if default in (None, [], {}) else f"{said} Default `{json.dumps(default)}`.".strip()


def _type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{re.sub(r'[^a-z0-9_-]', '', name.lower())})"
    if choices := schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf"):
        return " or ".join(dict.fromkeys(_type(one) for one in choices))
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    kind = str(schema.get("format") or schema.get("type") or "any value")
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    bounds = [f"{word} {schema[key]:.10g}" for key, word in _BOUNDS.items() if key in schema]
    return f"{kind} ({', '.join(bounds)})" if bounds else kind


_BOUNDS = {
    "minimum": "at least",
    "exclusiveMinimum": "more than",
    "maximum": "at most",
    "exclusiveMaximum": "less than",
    "maxLength": "length at most",
}


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        cells = (_ROW_END.sub(" ", cell).replace("|", "\\|") for cell in row)
        yield f"| {' | '.join(cells)} |"
