"""The evidence of a run: every request with its answers, every sighting of a task, every execution.

Independent of the service's own store. Knows nothing of faults, nor of what is right or wrong.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

FINAL = frozenset({"succeeded", "failed", "cancelled", "expired"})
SUCCEEDS = frozenset({"succeeded"})


class Outcome(StrEnum):
    """What a client knows after an answer."""

    ACCEPTED = "accepted"  # 202: a promise
    REFUSED = "refused"  # it will not run
    UNKNOWN = "unknown"  # told so, or no answer at all: repeat it with its Idempotency-Key
    IN_FLIGHT = "in flight"  # 409: an earlier request with this key has not been answered yet
    UNEXPECTED = "unexpected"  # nothing a valid submission may be answered with

    @property
    def is_settled(self) -> bool:
        return self in (Outcome.ACCEPTED, Outcome.REFUSED, Outcome.UNEXPECTED)


class Verb(StrEnum):
    """What a request asks for."""

    SUBMIT = "submit"
    BATCH = "batch"
    CANCEL = "cancel"
    RETRY = "retry"
    RUN = "run"
    BULK_CANCEL = "bulk cancel"
    BULK_RETRY = "bulk retry"
    PAUSE = "pause"
    RESUME = "resume"


@dataclass(frozen=True, slots=True)
class Answer:
    """One request's end. Times are seconds since the epoch, as everywhere in this room."""

    asked_at: float
    answered_at: float
    status_code: int | None  # None: the connection broke or nothing came
    outcome: Outcome
    document: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    verb: Verb = Verb.SUBMIT

    @property
    def took_s(self) -> float:
        return self.answered_at - self.asked_at

    def __str__(self) -> str:
        what = self.status_code or "no answer"
        return f"{self.answered_at:.3f} {self.verb} {what} {self.outcome} after {self.took_s:.2f} s"


@dataclass(frozen=True, slots=True)
class Sighting:
    """What a GET said of a task."""

    at: float
    status_code: int
    status: str | None = None
    attempt: int = 0

    def __str__(self) -> str:
        return f"{self.at:.3f} GET {self.status_code} {self.status or ''} attempt={self.attempt}"


@dataclass(frozen=True, slots=True)
class Execution:
    """One run of a handler's code; `ended_at` is None while it runs, and for ever if it was killed.

    `ended_by` is "return" or the name of the exception: its own, or one that was raised to stop it.
    """

    mark: str
    task_id: str
    attempt: int
    host: str
    pid: int
    started_at: float
    ended_at: float | None = None
    ended_by: str = ""

    @property
    def was_cut(self) -> bool:
        """By a worker that stopped: neither its own error nor its time limit's."""
        return self.ended_by in ("SystemExit", "KeyboardInterrupt", "WorkerShutdown", "WorkerTerminate")

    def __str__(self) -> str:
        end = f"ended {self.ended_at:.3f} by {self.ended_by}" if self.ended_at else "never ended"
        return f"{self.started_at:.3f} execution of attempt {self.attempt} in {self.host}/{self.pid}, {end}"


@dataclass(frozen=True, slots=True)
class Kill:
    """Processes that were ended by force; `pids` None: all of that host. `asked_at`: a stop with a grace began."""

    at: float
    host: str
    pids: frozenset[int] | None
    asked_at: float | None = None

    def hit(self, execution: Execution) -> bool:
        """Whether it was running there, or had just ended and not been settled."""
        if execution.host != self.host or (self.pids is not None and execution.pid not in self.pids):
            return False
        cut_after = (self.asked_at or self.at) if execution.was_cut else self.at
        return execution.started_at <= self.at and (execution.ended_at or self.at) > cut_after - _SETTLE_S


_SETTLE_S = 1.0  # between the end of the handler's code and the acknowledgement of its message


@dataclass(slots=True)
class Submitted:
    """One task a client asked for, with all its answers; `mark` names it in the execution ledger."""

    body: Mapping[str, Any]
    key: str | None = None  # Idempotency-Key
    final_statuses: frozenset[str] = SUCCEEDS  # where it may be when the scenario ends
    executions: int = 1  # at most, as long as nobody kills one
    error_code: str | None = None  # when it is meant to fail
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    answers: list[Answer] = field(default_factory=list)
    sightings: list[Sighting] = field(default_factory=list)
    task: Mapping[str, Any] = field(default_factory=dict)  # the last whole answer to a GET

    @property
    def outcome(self) -> Outcome:
        """Accepted once is accepted for ever; else what the last answer said."""
        if any(answer.outcome is Outcome.ACCEPTED for answer in self.answers):
            return Outcome.ACCEPTED
        return self.answers[-1].outcome if self.answers else Outcome.UNKNOWN

    @property
    def task_id(self) -> str | None:
        return next((str(answer.document["task_id"]) for answer in self.answers if "task_id" in answer.document), None)

    @property
    def status(self) -> str | None:
        return self.sightings[-1].status if self.sightings else None

    @property
    def is_meant_to_wait(self) -> bool:
        """It outlasts the scenario."""
        return not self.final_statuses <= FINAL

    @property
    def is_pending(self) -> bool:
        """Promised, and not yet where it is meant to end."""
        return self.outcome is Outcome.ACCEPTED and self.status not in FINAL and not self.is_meant_to_wait

    @property
    def was_unsure(self) -> bool:
        """Whether any request for it ended without a settled outcome."""
        return any(not answer.outcome.is_settled for answer in self.answers)


@dataclass(frozen=True, slots=True)
class Call:
    """A request for anything but one new task: its answer, and the tasks or the queue that it named."""

    answer: Answer
    names: tuple[Submitted, ...] = ()
    queue: str = ""

    @property
    def verb(self) -> Verb:
        return self.answer.verb


@dataclass(frozen=True)
class Batch:
    """Tasks submitted in one request, or in several with one key; the service may have rejected some of them."""

    members: Sequence[Submitted]
    key: str | None = None
    answers: list[Answer] = field(default_factory=list)

    @property
    def batch_id(self) -> str | None:
        return next((str(one.document["batch_id"]) for one in self.answers if "batch_id" in one.document), None)


@dataclass(frozen=True)
class Survey:
    """What lists, counts and queues said when all was quiet."""

    listed: Mapping[str, str]  # status by task, of all tasks created since the scenario began
    totals: tuple[Mapping[str, int], Mapping[str, int]]  # by status, of all: as counted, and as listed
    batches: Sequence[tuple[Batch, Mapping[str, int]]]  # and their counts by status
    queues: Sequence[Mapping[str, Any]]


def read_executions(path: Path) -> list[Execution]:
    """All executions noted so far, in order of their start; tests/support/task_types.py writes them."""
    if not path.exists():
        return []
    started: dict[str, dict[str, Any]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        started.setdefault(entry.pop("execution"), {}).update(entry)
    return sorted((Execution(**entry) for entry in started.values()), key=lambda one: one.started_at)
