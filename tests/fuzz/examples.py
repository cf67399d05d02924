"""The examples of the description made true: what each stands for is there, so that every operation can succeed once.

Must not know any route by name: what comes first is in the document, as `x-before`.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping
from typing import Any

import requests

from taskservice.describe.document import Operation, Step, operations_of
from tests.support.pointers import at

STEP_TIMEOUT_S = 30.0


def make_true(document: dict[str, Any], url: str, key: str, callback_url: str) -> None:
    """Runs the steps of each operation and puts what they made in the place of its stand-ins. Changes the document."""
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {key}"
        for operation in list(operations_of(document)):
            described = document["paths"][operation.path][operation.method.lower()]
            kept = _made(operation, session, url, callback_url)
            text = json.dumps(described)
            for name, stand_in in operation.values.items():
                text = text.replace(json.dumps(stand_in), json.dumps(kept[name]))
            described.update(json.loads(text))


def _made(operation: Operation, session: requests.Session, url: str, callback_url: str) -> Mapping[str, str]:
    kept = {name: _fresh(value) for name, value in operation.values.items()}
    stand_ins = {value: kept[name] for name, value in operation.values.items()}
    for step in operation.steps:
        deadline = time.monotonic() + STEP_TIMEOUT_S
        while True:
            body = _performed(step, session, url + step.path.format(**kept), stand_ins, callback_url)
            kept |= {name: str(at(body, pointer)) for name, pointer in step.keep.items()}
            if step.until is None or at(body, step.until["pointer"]) in step.until["values"]:
                break
            assert time.monotonic() < deadline, f"{step}: {body}"
            time.sleep(0.1)
    return kept


def _fresh(value: str) -> str:
    """Of a file: each operation has one of its own, so that no other operation's task needs it."""
    return f"{uuid.uuid4().hex}-{value}"


def _performed(
    step: Step, session: requests.Session, address: str, stand_ins: Mapping[str, str], callback_url: str
) -> Any:
    options: dict[str, Any] = {}
    if step.file is not None:
        filename = stand_ins.get(step.file["filename"], step.file["filename"])
        options["files"] = {"file": (filename, step.file["content"].encode())}
    elif step.body is not None:
        options["json"] = _sent_here(step.body, callback_url)
    answer = session.request(step.method, address, timeout=STEP_TIMEOUT_S + 10, **options)
    assert answer.ok, f"{step}: {answer.text}"
    return answer.json()


def _sent_here(body: Mapping[str, Any], callback_url: str) -> Mapping[str, Any]:
    if "callback" not in body:
        return body
    return {**body, "callback": {**body["callback"], "url": callback_url}}
