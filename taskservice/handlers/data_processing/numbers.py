"""Statistics of an array of numbers.

Must not know where the numbers come from; that they are finite was checked before.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from typing import Any


def summarize_numbers(numbers: list[int | float]) -> dict[str, Any]:
    """`stdev` is the sample's, `p95` interpolates linearly; null where nothing finite can be said."""
    return {
        "count": len(numbers),
        "min": min(numbers, default=None),
        "max": max(numbers, default=None),
        "mean": _finite(lambda: statistics.mean(numbers)) if numbers else None,
        "median": _finite(lambda: statistics.median(numbers)) if numbers else None,
        "stdev": _finite(lambda: statistics.stdev(numbers)) if len(numbers) > 1 else None,
        "p95": _finite(lambda: _percentile(sorted(numbers), 0.95)) if numbers else None,
        "sum": _finite(lambda: _sum(numbers)),
    }


def _finite(compute: Callable[[], float]) -> float | None:
    try:
        value = compute()
    except OverflowError:
        return None
    return value if math.isfinite(value) else None


def _percentile(ordered: list[int | float], share: float) -> float:
    position = share * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    weight = position - below
    return ordered[below] * (1 - weight) + ordered[above] * weight


def _sum(numbers: list[int | float]) -> int | float:
    if any(isinstance(number, float) for number in numbers):
        return math.fsum(numbers)
    total = sum(numbers)
    return total if abs(total) < 2**63 else float(total)
