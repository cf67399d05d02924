"""Instants and durations as a client reads them.

Must not know what happened then.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from pydantic import PlainSerializer, WithJsonSchema


def instant(moment: datetime) -> str:
    """RFC 3339 in UTC with milliseconds and Z."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


Instant = Annotated[
    datetime,
    PlainSerializer(instant, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2026-01-31T12:00:00.000Z"]}),
]


def seconds(start: datetime, end: datetime | None) -> float | None:
    """Never negative, although the two clocks may be different machines'."""
    return None if end is None else round(max(0.0, (end - start).total_seconds()), 3)
