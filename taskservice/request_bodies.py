"""What clients may send as JSON, and what they are told of what they may not: pointers and sentences.

Must not know what becomes of a request.
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from taskservice.errors import FieldError, InvalidSubmission
from taskservice.handlers.webhook_delivery.parameters import CallbackRequest
from taskservice.model import Priority

LONGEST_DELAY_S = 30 * 86_400
MAX_TAGS = 10
MAX_METADATA_BYTES = 4096
MAX_BATCH = 1000


def _small(metadata: dict[str, Any]) -> dict[str, Any]:
    size_bytes = len(json.dumps(metadata, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace"))
    if size_bytes > MAX_METADATA_BYTES:
        raise ValueError(f"at most {MAX_METADATA_BYTES} bytes as JSON, not {size_bytes}")
    return metadata


def _rfc_3339(value: object) -> object:
    """pydantic would take a number, or the text of one, for seconds since 1970."""
    if isinstance(value, str) and not _RFC_3339.fullmatch(value):
        raise ValueError("expected an RFC 3339 instant such as 2026-01-31T12:00:00Z")
    if isinstance(value, int | float):
        raise ValueError("expected an RFC 3339 instant as a string, not a number")
    return value


_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
Instant = Annotated[AwareDatetime, Field(strict=False), BeforeValidator(_rfc_3339)]
Tag = Annotated[str, Field(min_length=1, max_length=64)]


class SubmissionRequest(BaseModel):
    """The body of POST /api/tasks."""

    model_config = ConfigDict(extra="forbid", strict=True)

    task_type: str = Field(description="A registered type; GET /api/task-types lists them.")
    priority: Annotated[Priority, Field(strict=False)] = Priority.NORMAL
    parameters: dict[str, Any] = Field(default_factory=dict, description="Validated against the type's own schema.")
    delay: Annotated[float, Field(ge=0, le=LONGEST_DELAY_S)] | None = Field(
        default=None, description="Seconds until it is due, fractions allowed; not together with run_at."
    )
    run_at: Instant | None = Field(
        default=None, description="RFC 3339 instant at which it is due; in the past means now."
    )
    expires_in: Annotated[float, Field(gt=0, le=LONGEST_DELAY_S)] | None = Field(
        default=None, description="Seconds after it is due within which it must start, else it expires; null: never."
    )
    max_retries: Annotated[int, Field(ge=0, le=20)] | None = Field(
        default=None, description="The type's own if absent."
    )
    tags: Annotated[list[Tag], Field(max_length=MAX_TAGS)] = Field(
        default_factory=list, description="Words to find it by; the second of two equal ones is dropped."
    )
    metadata: Annotated[dict[str, Any], AfterValidator(_small)] = Field(
        default_factory=dict, description=f"The client's own, echoed back; at most {MAX_METADATA_BYTES} bytes as JSON."
    )
    callback: CallbackRequest | None = Field(default=None, description="A signed webhook for each of these changes.")


class BatchRequest(BaseModel):
    """The body of POST /api/tasks/batch."""

    model_config = ConfigDict(extra="forbid", strict=True)

    tasks: Annotated[list[Any], Field(min_length=1, max_length=MAX_BATCH)] = Field(
        description="Each of at most 1 MiB, validated by itself."
    )


class RetryRequest(BaseModel):
    """The body of POST /api/tasks/{task_id}/retry, which may be empty."""

    model_config = ConfigDict(extra="forbid", strict=True)

    parameters: dict[str, Any] | None = Field(default=None, description="Instead of the first task's; all of them.")


ModelT = TypeVar("ModelT", bound=BaseModel)


def validated(model: type[ModelT], payload: object) -> ModelT:
    """A decoded body as the request it should be. Raises InvalidSubmission naming each member that is wrong."""
    if not isinstance(payload, dict):
        raise InvalidSubmission([FieldError("", "expected a JSON object")])
    try:
        return model.model_validate(payload)
    except ValidationError as error:
        raise InvalidSubmission(field_errors(error)) from error


def field_errors(error: ValidationError, prefix: str = "") -> list[FieldError]:
    """A pydantic error as RFC 6901 pointers and sentences."""
    return [
        FieldError(
            prefix + "".join(f"/{escape(str(part))}" for part in one["loc"]), one["msg"].removeprefix("Value error, ")
        )
        for one in error.errors(include_url=False, include_context=False, include_input=False)
    ]


def escape(part: str) -> str:
    """A member's name as a part of an RFC 6901 pointer."""
    return part.replace("~", "~0").replace("/", "~1")
