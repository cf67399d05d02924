"""The examples of the OpenAPI document against a running system: each works as it stands, once what it needs is there.

Must not know any route by name: what comes first is in the document.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import requests

from taskservice.api.examples import CALLBACK_URL, FILENAME
from taskservice.describe.document import Example, Operation, Step, operations_of
from tests.support.pointers import at
from tests.support.receiver import receiving
from tests.support.service import Service

STEP_TIMEOUT_S = 30.0


@dataclass(slots=True)
class Trial:
    """One operation with one example body. The one thing that is not as it stands: webhooks go to our receiver."""

    url: str
    operation: Operation
    example: Example | None
    callback_url: str
    kept: dict[str, str] = field(default_factory=dict)

    def status(self) -> int:
        """What the service answers."""
        self.kept = dict(self.operation.values)
        if self.operation.needs_steps(self.example):
            for step in self.operation.steps:
                self._perform(step)
        return self._call()

    def _perform(self, step: Step) -> None:
        deadline = time.monotonic() + STEP_TIMEOUT_S
        while True:
            answer = requests.request(
                step.method,
                self.url + step.path.format(**self.kept),
                timeout=STEP_TIMEOUT_S + 10,
                **_content(self._filled(step.body), step.file),
            )
            assert answer.ok, f"{step}: {answer.text}"
            body = answer.json()
            self.kept |= {name: str(at(body, pointer)) for name, pointer in step.keep.items()}
            if step.until is None or at(body, step.until["pointer"]) in step.until["values"]:
                return
            assert time.monotonic() < deadline, f"{step}: {body}"
            time.sleep(0.1)

    def _call(self) -> int:
        operation = self.operation
        given: dict[str, dict[str, str]] = {one.place: {} for one in operation.parameters}
        for one in operation.parameters:
            text = self.kept.get(one.name, str(one.example)) if one.place == "path" else str(one.example)
            given[one.place][one.name] = str(uuid.uuid4()) if one.is_used_once else text
        value: Any = self.example.value if self.example else None
        is_file = operation.media_type == "multipart/form-data"
        with requests.request(
            operation.method,
            self.url + operation.path.format(**given.get("path", {})),
            params=given.get("query"),
            headers=given.get("header"),
            timeout=30,
            stream=True,  # a stream may have no end
            **_content(
                None if is_file else self._filled(value),
                {"filename": FILENAME, "content": value["file"]} if is_file else None,
            ),
        ) as answer:
            return answer.status_code

    def _filled(self, value: Any) -> Any:
        """The body with what was kept in the place of what stands for it."""
        if isinstance(value, Mapping):
            return {key: self._filled(one) for key, one in value.items()}
        if isinstance(value, list):
            return [self._filled(one) for one in value]
        stand_ins = {example: self.kept[name] for name, example in self.operation.values.items()}
        return (stand_ins | {CALLBACK_URL: self.callback_url}).get(value, value) if isinstance(value, str) else value


def test_every_parameter_and_body_has_an_example(service: Service) -> None:
    document = service.call("GET", "/openapi.json")

    parameters = [(one.path, each.name, each.example) for one in operations_of(document) for each in one.parameters]
    bodies = [(one.path, one.examples) for one in operations_of(document) if one.media_type]

    assert [(path, name) for path, name, example in parameters if example is None] == []
    assert [path for path, examples in bodies if not examples] == []


def test_every_example_works_as_it_stands(service: Service) -> None:
    document = service.call("GET", "/openapi.json")

    with receiving() as receiver:
        trials = list(_trials(document, service.system.url, receiver.url()))
        answers = [(trial, _status_in_the_end(trial)) for trial in trials]

    assert len(trials) > 30
    assert [
        (trial.operation.method, trial.operation.path, trial.example, status)
        for trial, status in answers
        if status not in trial.operation.successes
    ] == []


def _status_in_the_end(trial: Trial) -> int:
    """A worker takes a moment to consume a queue that an example before has resumed: /readyz says so with 503."""
    until = time.monotonic() + 15
    while (status := trial.status()) == 503 and trial.operation.path == "/readyz" and time.monotonic() < until:
        time.sleep(0.5)
    return status


def _trials(document: Mapping[str, Any], url: str, callback_url: str) -> Iterator[Trial]:
    for operation in operations_of(document):
        for example in operation.examples or (None,):
            yield Trial(url, operation, example, callback_url)


def _content(body: Any, file: Mapping[str, str] | None) -> dict[str, Any]:
    if file is not None:
        return {"files": {"file": (file["filename"], file["content"].encode(), "text/plain")}}
    return {} if body is None else {"json": body}
