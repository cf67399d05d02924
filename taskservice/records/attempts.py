"""The attempts of tasks, as a worker claims, holds and ends them.

Knows neither HTTP nor Celery.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import redis

from taskservice.model import ErrorInfo, Progress, RateLimit, Submission
from taskservice.records.script import AT_ONCE, Transitions, connect, creation, record_key

logger = logging.getLogger(__name__)

SWEEP_S = 0.5  # for what has come due at once; the leases of what runs must not wait longer

_OUTBOX = "outbox"
_OUTBOX_TRIES = "outbox_tries"
_POSTED = re.compile(r"(\S+) (\S+) ([a-z_]+) ([1-9]\d*)")


class Claim(StrEnum):
    """A worker's answer when it asks to start an attempt."""

    GRANTED = "granted"
    STALE = "stale"  # refused, final, or not the record's next attempt: drop the message
    REVOKED = "revoked"  # cancelled or expired: drop the message
    DEAD_LETTER = "dead_letter"  # failed with its workers: the message goes to the dead letters
    WAIT = "wait"  # the type's rate limit, or another delivery that may still run: ask again in `wait_s`
    PAUSED = "paused"  # its queue is paused: put the message back


@dataclass(frozen=True, slots=True)
class ClaimAnswer:
    """What became of a claim; `wait_s` only with WAIT."""

    claim: Claim
    wait_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Run:
    """An attempt that runs here: the task, and the delivery that claimed it."""

    task_id: str
    delivery: str
    attempt: int = 0  # 0: not known, so that nobody can tell whether it is forgotten


@dataclass(frozen=True, slots=True)
class Lease:
    """How a renewal went."""

    is_held: bool  # False: the attempt has ended, another delivery has taken over, or it is forgotten
    is_forgotten: bool  # Redis has lost that it was granted, and would let another delivery start it
    cancelled_since_s: float | None  # since when a client wants it to stop
    is_settling: bool  # its handler has ended, and its next attempt waits for the broker


@dataclass(frozen=True, slots=True)
class Swept:
    """How many tasks a sweep moved."""

    became_due: int
    expired: int
    lost: int


@dataclass(frozen=True, slots=True)
class Posted:
    """A change that a client wants to hear of: its delivery's id, and what happened to which task."""

    delivery_id: str
    task_id: str
    event: str
    version: int

    @classmethod
    def parse(cls, text: str) -> Posted | None:
        """None for what the script did not write."""
        found = _POSTED.fullmatch(text)
        return cls(found[1], found[2], found[3], int(found[4])) if found else None

    @property
    def text(self) -> str:
        return f"{self.delivery_id} {self.task_id} {self.event} {self.version}"


class Attempts:
    """Safe to share between threads; open no connection before a fork.

    Every method raises redis.RedisError: whether to wait then is the worker's decision.
    """

    def __init__(self, client: redis.Redis, *, retention_s: int) -> None:
        self.client = client
        self._transitions = Transitions(client, retention_s=retention_s)

    @classmethod
    def connect(cls, url: str, *, retention_s: int, timeout_s: float | None = 1.0) -> Attempts:
        """Connects lazily, at first use."""
        return cls(connect(url, timeout_s=timeout_s), retention_s=retention_s)

    def claim(
        self,
        submission: Submission,
        *,
        attempt: int,
        worker: str,
        delivery: str,
        queue: str | None = None,
        rate: RateLimit | None = None,
    ) -> ClaimAnswer:
        """Start an attempt, and hold it for LEASE_S.

        `delivery` is one word per delivered message: asking twice with it is granted once. It names the owner of the
        attempt in every later call. `queue`: whose pause holds it, if not that of the queue it was accepted into.
        """
        limit = {} if rate is None else {"rate": {"count": rate.count, "period_ms": round(rate.period_s * 1000)}}
        word, *wait_ms = self._transitions.run(
            "claim",
            submission.task_id,
            creation=creation(submission),
            attempt=attempt,
            worker=worker,
            delivery=delivery,
            queue=queue or submission.queue,
            **limit,
        )
        return ClaimAnswer(Claim(word), wait_ms[0] / 1000 if wait_ms else 0.0)

    def succeed(self, submission: Submission, *, delivery: str, attempt: int, result: Mapping[str, Any]) -> None:
        """Final. Ignored unless this delivery owns the attempt."""
        self._end("succeed", submission, attempt, delivery, result=json.dumps(result))

    def fail(
        self, submission: Submission, *, delivery: str, attempt: int, error: ErrorInfo, message_returns: bool = False
    ) -> None:
        """Final. Ignored unless this delivery owns the attempt. `message_returns`: its child dies without a word."""
        details = {"error": asdict(error), "message_returns": message_returns}
        self._end("fail", submission, attempt, delivery, **details)

    def retry(self, submission: Submission, *, delivery: str, attempt: int, error: ErrorInfo, delay_s: float) -> None:
        """This attempt failed, the next is due in `delay_s`."""
        self._end("retry", submission, attempt, delivery, error=asdict(error), delay_ms=round(delay_s * 1000))

    def stop(self, task_id: str, *, delivery: str, message_returns: bool = False) -> None:
        """Final: cancelled. Ignored when another delivery runs it. `message_returns`: its child dies without a word."""
        self._transitions.run("stop", task_id, delivery=delivery, message_returns=message_returns)

    def give_up(self, run: Run, *, is_lost: bool) -> None:
        """Its message goes back to the broker; a lost delivery is counted, one handed back is not.

        Raises redis.RedisError; then the lease ends the attempt, as a lost one.
        """
        self._transitions.run("give_up", run.task_id, delivery=run.delivery, is_lost=is_lost)

    def renew(self, runs: Sequence[Run]) -> list[Lease]:
        """Hold each of these attempts for LEASE_S more, in one round trip."""
        if not runs:
            return []
        answers = self._transitions.run("renew", runs=[asdict(run) for run in runs])
        return [
            Lease(word == "runs", word == "forgotten", since_ms / 1000 if since_ms >= 0 else None, bool(is_settling))
            for word, since_ms, is_settling in answers
        ]

    def recall(self, submission: Submission, *, delivery: str, attempt: int, worker: str = "unknown") -> None:
        """This attempt was granted, and runs or has run, though Redis has lost it. Ignored if it goes on without it."""
        known = {"creation": creation(submission), "worker": worker}
        self._transitions.run("recall", submission.task_id, delivery=delivery, attempt=attempt, **known)

    def sweep(self, *, may_judge_leases: bool) -> Swept:
        """Move what time has moved: due, expired, lost. What takes longer than SWEEP_S is left for the next call.

        `may_judge_leases` only if Redis could be reached for longer than a lease.
        """
        return Swept(*_repeat(lambda: self._transitions.run("sweep", may_judge_leases=may_judge_leases)))

    def forget(self) -> int:
        """Remove the records whose retention is over, as `sweep` moves others; on a full Redis too. How many."""
        (forgotten,) = _repeat(self._transitions.forget)
        return forgotten

    def bury(
        self, task_id: str, *, error: ErrorInfo, submission: Submission | None = None, attempt: int | None = None
    ) -> str | None:
        """The broker gave up on its message: final unless it runs, or waits for a later attempt than the message's.

        Answers the code with which the task has failed, then or before; None when it has not.
        """
        known: dict[str, Any] = {} if submission is None else {"creation": creation(submission)}
        if attempt is not None:
            known["attempt"] = attempt
        return self._transitions.run("bury", task_id, error=asdict(error), **known) or None

    def note_settling(self, run: Run) -> None:
        """Its handler has ended: what it still waits for is not its own time."""
        self._transitions.run("settling", run.task_id, delivery=run.delivery)

    def take_outbox(self, *, hold_s: float) -> list[Posted]:
        """Some changes to deliver, each task's in order; back after `hold_s` unless `clear_outbox` removes it."""
        taken = [str(one) for one in self._transitions.run("take_outbox", hold_ms=round(hold_s * 1000))]
        posted = {text: Posted.parse(text) for text in taken}
        if unreadable := [text for text, one in posted.items() if one is None]:
            logger.error("webhook.dropped count=%d cause=unreadable", len(unreadable))
            self.client.zrem(_OUTBOX, *unreadable)
        return sorted((one for one in posted.values() if one is not None), key=lambda one: one.version)

    def clear_outbox(self, posted: Posted) -> None:
        """It has been published, or will never be."""
        pipeline = self.client.pipeline(transaction=True)
        pipeline.zrem(_OUTBOX, posted.text)
        pipeline.hdel(_OUTBOX_TRIES, posted.text)
        pipeline.execute()

    def count_outbox_try(self, posted: Posted) -> int:
        """One more that failed for a reason of its own; how many there were."""
        return self.client.hincrby(_OUTBOX_TRIES, posted.text, 1)

    def report_progress(self, run: Run, progress: Progress) -> bool:
        """False if a client wants the task to stop."""
        answer = self._transitions.run("progress", run.task_id, delivery=run.delivery, progress=asdict(progress))
        return bool(answer != "cancelled")

    def mark(self, task_id: str, key: str) -> Any | None:
        """An effect an earlier attempt remembered."""
        text = self.client.hget(record_key(task_id), f"mark:{key}")
        return None if text is None else json.loads(str(text))

    def set_mark(self, task_id: str, key: str, value: Any) -> None:
        self.client.hset(record_key(task_id), f"mark:{key}", json.dumps(value))

    def _end(self, action: str, submission: Submission, attempt: int, delivery: str, **details: Any) -> None:
        """When Redis has lost the claim meanwhile, or the record, it is told again: the result must not be lost too."""
        whose: dict[str, Any] = {"delivery": delivery, "attempt": attempt}
        if self._transitions.run(action, submission.task_id, **whose, **details) == "forgotten":
            self.recall(submission, delivery=delivery, attempt=attempt)
            self._transitions.run(action, submission.task_id, **whose, **details)


def _repeat(turn: Callable[[], Sequence[int]]) -> list[int]:
    """The sums of what it moved, kind by kind; again while there may be more of a kind, within SWEEP_S."""
    ends_at = time.monotonic() + SWEEP_S
    moved = list(turn())
    latest: Sequence[int] = moved
    while AT_ONCE in latest and time.monotonic() < ends_at:
        latest = turn()
        moved = [one + more for one, more in zip(moved, latest, strict=True)]
    return moved
