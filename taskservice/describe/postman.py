"""The OpenAPI document as a Postman collection that runs green in order, from the first request to the last.

Must not know where it is written to, nor who runs it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from taskservice.api.examples import CALLBACK_URL, FILENAME
from taskservice.describe.document import Document, Example, Operation, Step, by_tag

_SCHEMA = "https://schema.getpostman.com/json/collection/v2.1.0/collection.json"
_ABOUT = (
    "Written by `make docs` from the OpenAPI document; do not edit. Each request that is about a task, a batch or a "
    "file is preceded by those that make it and keep its id, so that the collection can be run in order. "
    "`baseUrl` is the service; `apiKey` stays empty where it has no keys."
)
_AUTHORIZE = (
    "if (pm.variables.get('apiKey')) {",
    "    pm.request.headers.upsert({ key: 'Authorization', value: `Bearer ${pm.variables.get('apiKey')}` });",
    "}",
)
_ENDLESS = "This stream has no end, so a run leaves it out: to watch it, set the variable `skipEndless` to false."
_UNLESS_SKIPPED = ("if (pm.variables.get('skipEndless') === 'true') {", "    pm.execution.skipRequest();", "}")
_CONTENT_TYPES = {
    "application/json": "application/json",
    "multipart/form-data": "multipart/form-data; boundary=part",
}
_TRIES = 60  # of a step that is repeated
_PAUSE_MS = 500
_AT = "const at = (value, pointer) => pointer.split('/').slice(1).reduce((inner, part) => inner?.[part], value);"


def collection(document: Document) -> dict[str, Any]:
    """As the Postman application and newman read it."""
    tags = by_tag(document)
    return {
        "info": {"name": document["info"]["title"], "schema": _SCHEMA, "description": _ABOUT},
        "variable": [{"key": key, "value": value} for key, value in _variables(tags).items()],
        "event": [_script("prerequest", _AUTHORIZE)],
        "item": [
            {"name": tag.capitalize(), "item": [item for one in operations for item in _items(one)]}
            for tag, operations in tags.items()
        ],
    }


def _variables(tags: dict[str, list[Operation]]) -> dict[str, str]:
    values = {"baseUrl": "http://localhost:5000", "apiKey": "", "skipEndless": "true", "callbackUrl": CALLBACK_URL}
    for operations in tags.values():
        for operation in operations:
            values |= {one.name: str(one.example) for one in operation.parameters if one.place == "path"}
    return values


def _items(operation: Operation) -> list[dict[str, Any]]:
    """One for each example body, what must be there first before each."""
    items: list[dict[str, Any]] = []
    for example in operation.examples or (None,):
        if operation.needs_steps(example):
            items += [_step(step, operation) for step in operation.steps]
        items.append(_request(operation, example))
    return items


def _request(operation: Operation, example: Example | None) -> dict[str, Any]:
    events = [_script("test", _expectation(operation))]
    description = operation.description
    if operation.is_endless:
        events.append(_script("prerequest", _UNLESS_SKIPPED))
        description = f"{description} {_ENDLESS}".strip()
    name = operation.summary if example is None else f"{operation.summary}: {example.summary}"
    return {
        "name": name,
        "event": events,
        "request": {
            "method": operation.method,
            "description": description,
            "header": _headers(operation),
            "url": _url(operation.path, _query(operation)),
            **_body(operation, example),
        },
    }


def _step(step: Step, operation: Operation) -> dict[str, Any]:
    name = f"First, for “{operation.summary}”: {step.method} {step.path.partition('?')[0]}"
    path, _, query = step.path.partition("?")
    return {
        "name": name,
        "event": [_script("test", (*_keeping(step), *_repetition(step, name)))],
        "request": {
            "method": step.method,
            "url": _url(path, [_header(*one.split("=")) for one in query.split("&") if one]),
            **_content(step, operation),
        },
    }


def _content(step: Step, operation: Operation) -> dict[str, Any]:
    if step.file is not None:
        header = _header("Content-Type", _CONTENT_TYPES["multipart/form-data"])
        return {"header": [header], "body": _file(step.file["filename"], step.file["content"])}
    if step.body is not None:
        header = _header("Content-Type", _CONTENT_TYPES["application/json"])
        return {"header": [header], "body": _json(step.body, operation.values)}
    return {"header": []}


def _expectation(operation: Operation) -> tuple[str, ...]:
    statuses = json.dumps(operation.successes)
    return (f"pm.test('a documented success', () => pm.expect(pm.response.code).to.be.oneOf({statuses}));",)


def _keeping(step: Step) -> tuple[str, ...]:
    kept = (
        f"pm.collectionVariables.set({json.dumps(name)}, at(pm.response.json(), {json.dumps(pointer)}));"
        for name, pointer in step.keep.items()
    )
    return (_AT, "pm.test('done', () => pm.expect(pm.response.code).to.be.within(200, 299));", *kept)


def _repetition(step: Step, name: str) -> tuple[str, ...]:
    """Names must differ in the collection, for it is by its name that a request is repeated."""
    if step.until is None:
        return ()
    return (
        f"const isThere = {json.dumps(step.until['values'])}.includes("
        f"at(pm.response.json(), {json.dumps(step.until['pointer'])}));",
        "const tries = Number(pm.collectionVariables.get('tries') ?? 0) + 1;",
        f"if (isThere || tries >= {_TRIES}) {{",
        "    pm.collectionVariables.unset('tries');",
        "} else {",
        "    pm.collectionVariables.set('tries', tries);",
        f"    pm.execution.setNextRequest({json.dumps(name, ensure_ascii=False)});",
        f"    setTimeout(() => {{}}, {_PAUSE_MS});",
        "}",
    )


def _headers(operation: Operation) -> list[dict[str, Any]]:
    """What is optional is there and switched off, except what the request would be worse without."""
    headers = [_header("Content-Type", _CONTENT_TYPES[operation.media_type])] if operation.media_type else []
    for one in operation.parameters:
        if one.place == "header":
            value = "{{$guid}}" if one.is_used_once else str(one.example)
            headers.append({**_header(one.name, value, one.description), "disabled": not one.is_used_once})
    return headers


def _query(operation: Operation) -> list[dict[str, Any]]:
    """All of them, switched off: a filter that is on without being seen hides tasks."""
    return [
        {**_header(one.name, str(one.example), one.description), "disabled": True}
        for one in operation.parameters
        if one.place == "query"
    ]


def _url(path: str, query: list[dict[str, Any]]) -> dict[str, Any]:
    templated = path.replace("{", "{{").replace("}", "}}")
    active = "&".join(f"{one['key']}={quote(one['value'])}" for one in query if not one.get("disabled"))
    return {
        "raw": f"{{{{baseUrl}}}}{templated}{'?' + active if active else ''}",
        "host": ["{{baseUrl}}"],
        "path": templated.strip("/").split("/"),
        **({"query": query} if query else {}),
    }


def _body(operation: Operation, example: Example | None) -> dict[str, Any]:
    if example is None:
        return {}
    if operation.media_type == "application/json":
        return {"body": _json(example.value, operation.values)}
    return {"body": _file(FILENAME, example.value["file"])}


def _json(value: Any, values: Mapping[str, str]) -> dict[str, Any]:
    """With the variables in the place of the examples that stand for them."""
    text = json.dumps(value, indent=2, ensure_ascii=False).replace(CALLBACK_URL, "{{callbackUrl}}")
    for name, example in values.items():
        text = text.replace(example, f"{{{{{name}}}}}")
    return {"mode": "raw", "raw": text, "options": {"raw": {"language": "json"}}}


def _file(filename: str, content: str) -> dict[str, Any]:
    """As raw multipart: a form of Postman's names a file on the disk of whoever made the collection."""
    part = f'--part\r\nContent-Disposition: form-data; name="file"; filename="{filename}"\r\n'
    return {"mode": "raw", "raw": f"{part}Content-Type: text/plain\r\n\r\n{content}\r\n--part--\r\n"}


def _header(key: str, value: str, description: str = "") -> dict[str, Any]:
    return {"key": key, "value": value, **({"description": description} if description else {})}


def _script(listen: str, lines: tuple[str, ...]) -> dict[str, Any]:
    return {"listen": listen, "script": {"type": "text/javascript", "exec": list(lines)}}
