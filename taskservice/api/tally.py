"""What became of many tasks that one request acts on, chunk by chunk, as long as there is time.

Must not know what is done to them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from taskservice.errors import Unavailable

AT_ONCE = 100
NOT_FOUND = "task_not_found"
OUTCOME_UNKNOWN = "outcome_unknown"


@dataclass(slots=True)
class Tally:
    """What became of each task."""

    succeeded: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)  # id: stable reason
    created: dict[str, str] = field(default_factory=dict)  # id: the new task's
    untried: list[str] = field(default_factory=list)  # there was no time for these
    lost: Unavailable | None = None  # broker or store went away

    @property
    def outcome(self) -> str | None:
        """Of what was not done, as for a submission; None when all was done that could be."""
        if OUTCOME_UNKNOWN in self.failed.values():
            return "unknown"
        return "refused" if self.untried or self.lost else None

    @property
    def matched(self) -> int:
        told = len(self.succeeded) + len(self.failed) + len(self.untried)
        return told - list(self.failed.values()).count(NOT_FOUND)

    def has_told(self, task_id: str) -> bool:
        return task_id in self.failed or task_id in self.succeeded[-AT_ONCE:]

    def succeed(self, task_id: str, *, created: str | None = None) -> None:
        self.succeeded.append(task_id)
        if created is not None:
            self.created[task_id] = created

    def fail(self, task_ids: Sequence[str], failure: Unavailable) -> None:
        """These were not reached. Raises the failure itself when nothing has been done yet."""
        if not (self.succeeded or self.failed):
            raise failure
        self.lost = failure
        self.failed.update(dict.fromkeys(task_ids, f"{failure.missing}_unavailable"))


def act_on(task_ids: Sequence[str], act: Callable[[Sequence[str], Tally], None], *, end_at: float) -> Tally:
    """Acts on chunk after chunk until `end_at`; one in which broker or store went away is the last.

    Raises Unavailable when nothing was done.
    """
    tally = Tally()
    for start in range(0, len(task_ids), AT_ONCE):
        chunk, rest = task_ids[start : start + AT_ONCE], task_ids[start + AT_ONCE :]
        try:
            act(chunk, tally)
        except Unavailable as error:
            tally.fail([task_id for task_id in chunk if not tally.has_told(task_id)], error)
        if tally.lost is not None:  # each further try would wait as long as this one
            tally.fail(rest, tally.lost)
            break
        if time.monotonic() > end_at:
            tally.untried = list(rest)
            break
    return tally


def chunks(task_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(task_ids), AT_ONCE):
        yield task_ids[start : start + AT_ONCE]
