"""The parameters of `data_processing`: what a client may send, and their JSON Schema.

Must not compute anything and must not import DuckDB: the web needs this module alone.
"""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema, model_validator

from taskservice.handlers.filenames import FileName

MAX_TEXT_CHARS = 2**20  # more than a request's body of 1 MiB can hold
MAX_COLUMNS = 1000
MAX_QUERY_CHARS = 10_000


def _checked_data(value: Any) -> Any:
    """Return the value. Raises ValueError if it is none of the four kinds, or a number in it is not finite."""
    if isinstance(value, str):
        if len(value) > MAX_TEXT_CHARS:
            raise ValueError(f"a string may have at most {MAX_TEXT_CHARS} characters")
    elif isinstance(value, dict) or (isinstance(value, list) and _is_uniform(value)):
        _refuse_unusable_numbers(value)
        _refuse_many_columns([value] if isinstance(value, dict) else value)
    else:
        raise ValueError("expected a string, an array of numbers, an array of objects or an object")
    return value


def _is_uniform(items: list[Any]) -> bool:
    return all(_is_number(item) for item in items) or all(isinstance(item, dict) for item in items)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _refuse_unusable_numbers(value: Any) -> None:
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)
        elif isinstance(item, float) and not math.isfinite(item):
            raise ValueError("numbers must be finite: NaN and Infinity are not JSON")
        elif isinstance(item, int) and not -(2**63) <= item < 2**64:
            raise ValueError("whole numbers must fit into 64 bits")


def _refuse_many_columns(rows: list[Any]) -> None:
    names = {name for row in rows if isinstance(row, dict) for name in row}
    if len(names) > MAX_COLUMNS:
        raise ValueError(f"the objects may have at most {MAX_COLUMNS} different members, not {len(names)}")


_DATA_SCHEMA = {
    "title": "Data",
    "description": "text, numbers, rows (objects), or one row (an object)",
    "anyOf": [
        {"type": "string", "maxLength": MAX_TEXT_CHARS},
        {"type": "array", "items": {"type": "number"}},
        {"type": "array", "items": {"type": "object"}},
        {"type": "object"},
    ],
}


def _describe_choice(schema: dict[str, Any]) -> None:
    for described in schema["properties"].values():
        described.pop("default", None)  # our marks for "not given" are not values a client may send
    schema["oneOf"] = [{"required": ["data"]}, {"required": ["file"]}]


class DataProcessingParameters(BaseModel):
    """Exactly one of `data` and `file`; with `query`, its answer instead of statistics."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra=_describe_choice)

    data: Annotated[Any, AfterValidator(_checked_data), WithJsonSchema(_DATA_SCHEMA)] = None
    file: FileName = Field(
        default="",
        min_length=1,
        max_length=255,
        description="an uploaded .csv (with a header), .json, .ndjson or .parquet",
    )
    query: str = Field(
        default="",
        min_length=1,
        max_length=MAX_QUERY_CHARS,
        description="one SELECT over the table `data`; text has the column `line`, numbers have `value`",
    )

    @model_validator(mode="after")
    def _exactly_one_source(self) -> DataProcessingParameters:
        if (self.data is None) == (not self.file):
            raise ValueError("expected exactly one of data and file")
        return self
