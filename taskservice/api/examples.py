"""An example of every parameter and body, that works as it stands, and what must be there before: `x-before`.

Must not know who tries them: the page /docs, the Postman collection, DOC/api.md and a test do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TASK_ID = "01234567-89ab-4cde-8f01-23456789abcd"
BATCH_ID = "fedcba98-7654-4321-8fed-cba987654321"
FILENAME = "example.txt"
CALLBACK_URL = "https://example.com/webhooks"

_BEFORE_THE_NEWEST = "OTAwNzE5OTI1NDc0MDk5MTp-"  # a cursor from which the first page follows
_OF_PARAMETERS: dict[str, Any] = {
    "Idempotency-Key": "order-4711",
    "If-None-Match": '"etag-of-an-earlier-answer"',
    "Last-Event-ID": "0-0",
    "batch_id": BATCH_ID,
    "created_after": "2026-01-01T00:00:00Z",
    "created_before": "2099-12-31T23:59:59Z",
    "cursor": _BEFORE_THE_NEWEST,
    "dry_run": "false",
    "filename": FILENAME,
    "limit": 50,
    "n": "1",
    "name": "low_priority",
    "priority": "normal",
    "state": "SUCCESS",
    "status": "succeeded",
    "tag": "reports",
    "task_id": TASK_ID,
    "task_type": "data_processing",
    "wait": 5,
}
_USED_ONCE = frozenset({"Idempotency-Key"})  # who tries an example twice, or another one, takes another value

_WORDS = {"task_type": "data_processing", "parameters": {"data": "test data"}}
_LATER = {**_WORDS, "delay": 3600, "tags": ["reports"]}
_ROWS = [{"region": "north", "amount": 120}, {"region": "south", "amount": 80}, {"region": "north", "amount": 200}]
_SUBMISSIONS: dict[str, Any] = {
    "query": {
        "summary": "SQL over rows",
        "value": {
            "task_type": "data_processing",
            "priority": "high",
            "parameters": {"data": _ROWS, "query": "SELECT region, sum(amount) AS total FROM data GROUP BY region"},
        },
    },
    "later": {"summary": "Due in an hour, with words to find it by", "value": {**_LATER, "metadata": {"order": 4711}}},
    "limits": {
        "summary": "Must start within 10 minutes, and is tried once",
        "value": {**_WORDS, "run_at": "2026-01-01T00:00:00Z", "expires_in": 600, "max_retries": 0},
    },
    "callback": {
        "summary": "Tell a URL when it ends",
        "value": {**_WORDS, "callback": {"url": CALLBACK_URL, "events": ["succeeded", "failed"]}},
    },
}
_BODIES: dict[tuple[str, str], dict[str, Any]] = {
    ("post", "/api/tasks"): _SUBMISSIONS,
    ("post", "/api/tasks/batch"): {
        "two": {
            "summary": "Two tasks",
            "value": {"tasks": [_WORDS, {"task_type": "data_processing", "parameters": {"data": [1, 2, 3, 4]}}]},
        }
    },
    ("post", "/api/tasks/{task_id}/retry"): {
        "other": {"summary": "With other parameters", "value": {"parameters": {"data": "other words"}}},
        "same": {"summary": "With its own", "value": {}},
    },
    ("post", "/api/tasks/bulk"): {
        "ids": {"summary": "Cancel those", "value": {"action": "cancel", "task_ids": [TASK_ID]}},
        "filter": {
            "summary": "How many would be repeated",
            "value": {"action": "retry", "filter": {"status": ["failed"], "tag": "reports"}, "dry_run": True},
        },
    },
    ("post", "/api/files"): {"text": {"summary": "A text", "value": {"file": "One line.\nAnother one.\n"}}},
}


def _submit(body: Mapping[str, Any]) -> dict[str, Any]:
    return {"method": "POST", "path": "/api/tasks", "body": body, "keep": {"task_id": "/task_id"}}


_UPLOAD = {
    "method": "POST",
    "path": "/api/files",
    "file": {"filename": FILENAME, "content": "One line.\nAnother one.\n"},
}
_ENDED = {"pointer": "/data/0/status", "values": ["succeeded", "failed"]}
_A_TASK = {"task_id": TASK_ID}, [_submit(_WORDS)]
_A_FILE = {"filename": FILENAME}, [_UPLOAD]
_A_LATER_TASK = {"task_id": TASK_ID}, [_submit(_LATER)]
_AN_ENDED_TASK = {"task_id": TASK_ID}, [_submit(_WORDS), {"method": "GET", "path": "/api/tasks/{task_id}?wait=30"}]
_A_DELIVERY = (
    {"task_id": TASK_ID},
    [
        _submit({**_WORDS, "callback": {"url": CALLBACK_URL, "events": ["succeeded"]}}),
        {"method": "GET", "path": "/api/tasks/{task_id}/deliveries", "until": _ENDED},
    ],
)
_A_BATCH = (
    {"batch_id": BATCH_ID},
    [
        {
            "method": "POST",
            "path": "/api/tasks/batch",
            "body": {"tasks": [_WORDS]},
            "keep": {"batch_id": "/batch_id"},
        }
    ],
)
_BEFORE: dict[tuple[str, str], tuple[dict[str, str], list[dict[str, Any]]]] = {
    ("post", "/api/tasks"): _A_FILE,
    ("get", "/api/tasks/{task_id}"): _A_TASK,
    ("delete", "/api/tasks/{task_id}"): _A_LATER_TASK,
    ("get", "/api/batches/{batch_id}"): _A_BATCH,
    ("post", "/api/tasks/{task_id}/retry"): _AN_ENDED_TASK,
    ("post", "/api/tasks/{task_id}/run"): _A_LATER_TASK,
    ("post", "/api/tasks/bulk"): _A_LATER_TASK,
    ("get", "/api/files/{filename}"): _A_FILE,
    ("delete", "/api/files/{filename}"): _A_FILE,
    ("get", "/api/tasks/{task_id}/events"): _A_TASK,
    ("get", "/api/tasks/{task_id}/deliveries"): _A_DELIVERY,
    ("post", "/api/tasks/{task_id}/deliveries/{n}/replay"): _A_DELIVERY,
}


def with_examples(paths: Mapping[str, Any]) -> dict[str, Any]:
    """The document's paths with their examples.

    `x-before` of an operation has `values`, the examples that stand for something that must be there, by name, and
    `steps`, the requests that make it: `method`, `path` with {names} of what was kept, `body` or `file`; `keep`: names
    and the JSON pointers into the answer where their values are; `until`: to be repeated until the value at `pointer`
    is one of `values`. `x-used-once` marks a parameter that wants another value each time.
    """
    return {
        path: {method: _with_example(method, path, operation) for method, operation in operations.items()}
        for path, operations in paths.items()
    }


def _with_example(method: str, path: str, operation: Mapping[str, Any]) -> dict[str, Any]:
    exemplified = dict(operation)
    if parameters := operation.get("parameters"):
        exemplified["parameters"] = [_parameter(one) for one in parameters]
    if examples := _BODIES.get((method, path)):
        exemplified["requestBody"] = _body(operation["requestBody"], examples)
    if before := _BEFORE.get((method, path)):
        values, steps = before
        exemplified["x-before"] = {"values": values, "steps": steps}
    return exemplified


def _parameter(parameter: Mapping[str, Any]) -> dict[str, Any]:
    name = parameter["name"]
    example = {"example": _OF_PARAMETERS[name]} if name in _OF_PARAMETERS else {}
    return {**parameter, **example, **({"x-used-once": True} if name in _USED_ONCE else {})}


def _body(body: Mapping[str, Any], examples: Mapping[str, Any]) -> dict[str, Any]:
    """Examples of its own, of each task type, come first."""
    content = {
        media_type: {**media, "examples": {**media.get("examples", {}), **examples}}
        for media_type, media in body["content"].items()
    }
    return {**body, "content": content}
