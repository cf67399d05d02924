"""The table that `make faults` prints: each scenario's tasks, counted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tests.faults import checks
from tests.faults.checks import Evidence
from tests.faults.ledger import Outcome


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; every member but the first and last is a count."""

    scenario: str
    accepted: int
    refused: int
    unknown: int
    succeeded: int
    failed: int
    cancelled: int  # or expired
    ran_twice: int
    lost: int
    longest_gap_s: float
    took_s: float
    has_passed: bool


def row_of(name: str, evidence: Evidence, *, took_s: float, has_passed: bool) -> Row:
    statuses = [one.status for one in evidence.accepted]
    outcomes = [one.outcome for one in evidence.submitted]
    return Row(
        scenario=name,
        accepted=len(statuses),
        refused=outcomes.count(Outcome.REFUSED),
        unknown=sum(one.was_unsure for one in evidence.submitted),
        succeeded=statuses.count("succeeded"),
        failed=statuses.count("failed"),
        cancelled=statuses.count("cancelled") + statuses.count("expired"),
        ran_twice=len(checks.ran_twice(evidence)),
        lost=len(checks.lost(evidence)),
        longest_gap_s=checks.longest_gap_s(evidence),
        took_s=took_s,
        has_passed=has_passed,
    )


_HEAD = ("scenario", "202", "refused", "unknown", "succeeded", "failed", "cancelled", "twice", "lost", "gap s", "s", "")


def table(rows: Iterable[Row]) -> list[str]:
    """The lines of the table that `make faults` prints."""
    lines = [_HEAD, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEAD))]
    return ["  ".join(_padded(line, widths)).rstrip() for line in lines]


def _padded(line: tuple[str, ...], widths: list[int]) -> list[str]:
    """Names to the left, numbers to the right."""
    return [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]


def _cells(row: Row) -> tuple[str, ...]:
    counts = (
        row.accepted, row.refused, row.unknown, row.succeeded, row.failed, row.cancelled, row.ran_twice, row.lost,
    )  # fmt: skip
    verdict = "" if row.has_passed else "FAILED"
    return (row.scenario, *(str(count) for count in counts), f"{row.longest_gap_s:.1f}", f"{row.took_s:.0f}", verdict)
