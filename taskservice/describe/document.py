"""The OpenAPI document as its operations, in order.

Must not know what is written from it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Parameter:
    name: str
    place: str  # path, query or header
    is_required: bool
    description: str
    schema: Mapping[str, Any]
    example: Any
    is_used_once: bool


@dataclass(frozen=True, slots=True)
class Example:
    """A request body that works as it stands."""

    summary: str
    value: Any


@dataclass(frozen=True, slots=True)
class Step:
    """A request that must come first; `{names}` in the path are what earlier ones kept."""

    method: str
    path: str
    body: Any = None
    file: Mapping[str, str] | None = None  # filename, content
    keep: Mapping[str, str] = field(default_factory=dict)  # name: JSON pointer into the answer
    until: Mapping[str, Any] | None = None  # pointer, values


@dataclass(frozen=True, slots=True)
class Operation:
    """A method of a path."""

    method: str  # in capitals
    path: str
    tag: str
    summary: str
    description: str
    parameters: tuple[Parameter, ...]
    media_type: str | None  # of the body
    body_schema: Mapping[str, Any]
    examples: tuple[Example, ...]
    responses: Mapping[str, Mapping[str, Any]]
    values: Mapping[str, str]  # examples that stand for what the steps make
    steps: tuple[Step, ...]

    @property
    def is_stream(self) -> bool:
        return "text/event-stream" in self.responses.get("200", {}).get("content", {})

    @property
    def is_endless(self) -> bool:
        """A stream that has no last event: it is about nothing that ends."""
        return self.is_stream and "{" not in self.path

    @property
    def successes(self) -> list[int]:
        return [int(status) for status in self.responses if status < "300"]

    def steps_keep(self, name: str) -> bool:
        """Whether the value of this name is known only once the steps have run."""
        return any(name in step.keep for step in self.steps)

    def needs_steps(self, example: Example | None) -> bool:
        """Whether a value that the steps make is in the path or in this body."""
        text = self.path + json.dumps(example.value if example else None)
        return any(f"{{{name}}}" in text or value in text for name, value in self.values.items())


def operations_of(document: Document) -> Iterator[Operation]:
    for path, methods in document["paths"].items():
        for method, described in methods.items():
            yield _operation(method, path, described)


def by_tag(document: Document) -> dict[str, list[Operation]]:
    """In the order of the document."""
    tags: dict[str, list[Operation]] = {}
    for operation in operations_of(document):
        tags.setdefault(operation.tag, []).append(operation)
    return tags


def _operation(method: str, path: str, described: Mapping[str, Any]) -> Operation:
    content: Mapping[str, Any] = described.get("requestBody", {}).get("content", {})
    media_type = next(iter(content), None)
    media = content[media_type] if media_type else {}
    before = described.get("x-before", {"values": {}, "steps": []})
    return Operation(
        method=method.upper(),
        path=path,
        tag=described["tags"][0],
        summary=described["summary"],
        description=described.get("description", ""),
        parameters=tuple(_parameter(one) for one in described.get("parameters", ())),
        media_type=media_type,
        body_schema=media.get("schema", {}),
        examples=tuple(Example(one["summary"], one["value"]) for one in media.get("examples", {}).values()),
        responses=described["responses"],
        values=before["values"],
        steps=tuple(Step(**step) for step in before["steps"]),
    )


def _parameter(described: Mapping[str, Any]) -> Parameter:
    return Parameter(
        name=described["name"],
        place=described["in"],
        is_required=described.get("required", False),
        description=described.get("description", ""),
        schema=described["schema"],
        example=described.get("example"),
        is_used_once=described.get("x-used-once", False),
    )
