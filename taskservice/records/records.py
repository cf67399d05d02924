"""The records of all tasks, as the web reads and changes them.

Knows neither HTTP nor Celery.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any

import redis

from taskservice.model import Attempt, Cancellation, ErrorInfo, Progress, Record, Status, Submission, from_ms
from taskservice.records.script import AT_ONCE, Transitions, connect, creation, guarded, record_key


class Records:
    """Safe to share between threads; open no connection before a fork. Every method raises Unavailable."""

    def __init__(self, client: redis.Redis, *, retention_s: int) -> None:
        self.client = client
        self._transitions = Transitions(client, retention_s=retention_s)

    @classmethod
    def connect(cls, url: str, *, retention_s: int, timeout_s: float | None = 1.0) -> Records:
        """Connects lazily, at first use."""
        return cls(connect(url, timeout_s=timeout_s), retention_s=retention_s)

    def ping(self) -> None:
        """By a write, because a full Redis answers PING. Raises Unavailable."""
        guarded(lambda: self.client.set("readiness", "asked", ex=60))

    def get(self, task_id: str) -> Record | None:
        """The record, or None if there is none (or its task was refused). Raises Unavailable."""
        fields: dict[Any, Any] = guarded(lambda: self.client.hgetall(record_key(task_id)))
        return _to_record(fields) if "submission" in fields else None

    def get_many(self, task_ids: Sequence[str]) -> list[Record]:
        """In this order, in one round trip; those that are gone are left out. Raises Unavailable."""
        pipeline = self.client.pipeline(transaction=False)
        for task_id in task_ids:
            pipeline.hgetall(record_key(task_id))
        found: list[dict[str, str]] = guarded(pipeline.execute)
        return [_to_record(fields) for fields in found if "submission" in fields]

    def sizes_bytes(self, task_ids: Sequence[str]) -> list[int]:
        """About how much JSON each record is, in this order; 0 for those that are gone. Raises Unavailable."""
        pipeline = self.client.pipeline(transaction=False)
        for task_id in task_ids:
            for name in _LARGE_FIELDS:
                pipeline.hstrlen(record_key(task_id), name)
        found: list[int] = guarded(pipeline.execute)
        width = len(_LARGE_FIELDS)
        return [sum(found[start : start + width]) for start in range(0, len(found), width)]

    def accept(self, submission: Submission) -> None:
        """Create the record unless a worker was faster. Raises Unavailable."""
        self.accept_many([submission])

    def accept_many(self, submissions: Sequence[Submission]) -> None:
        """`accept` in few round trips. Raises Unavailable: then some may have been accepted."""
        self._run_many("accept", {one.task_id: {"creation": creation(one)} for one in submissions})

    def refuse(self, task_id: str) -> bool:
        """Mark the id so that a late copy is dropped; False if a worker has claimed it. Raises Unavailable."""
        return self.refuse_many([task_id]) == [True]

    def refuse_many(self, task_ids: Sequence[str]) -> list[bool]:
        """`refuse` in few round trips: each answer, in this order. Raises Unavailable: then some may be marked."""
        return [word == "refused" for word in self._run_many("refuse", dict.fromkeys(task_ids, _NOTHING_MORE))]

    def lift(self, task_id: str) -> None:
        """Take such a mark away, so that the id can be published again. Raises Unavailable."""
        self.lift_many([task_id])

    def lift_many(self, task_ids: Sequence[str]) -> None:
        """`lift` in few round trips. Raises Unavailable: then some may be lifted."""
        self._run_many("lift", dict.fromkeys(task_ids, _NOTHING_MORE))

    def cancel(self, task_id: str) -> Cancellation:
        """End what has not started, ask what runs to stop. Raises Unavailable."""
        return self.cancel_many([task_id])[0]

    def cancel_many(self, task_ids: Sequence[str]) -> list[Cancellation]:
        """`cancel` in few round trips: each answer, in this order. Raises Unavailable: then some may be cancelled.

        Each id once.
        """
        words = self._run_many("cancel", dict.fromkeys(task_ids, _NOTHING_MORE))
        return [Cancellation(str(word)) for word in words]

    def hasten(self, task_id: str, *, attempt: int) -> bool:
        """This attempt is due now, its message was published again; False if another one is awaited."""
        return bool(guarded(lambda: self._transitions.run("hasten", task_id, attempt=attempt)) == "hastened")

    def _run_many(self, action: str, details_of: Mapping[str, Mapping[str, Any]]) -> list[Any]:
        """In chunks, so that no single answer is waited for longer than the client does."""
        answers: list[Any] = []
        for chunk in _chunks(details_of):
            answers += guarded(partial(self._transitions.run_many, action, chunk))
        return answers


_LARGE_FIELDS = ("submission", "result")
_NOTHING_MORE: Mapping[str, Any] = {}


def _chunks(details_of: Mapping[str, Mapping[str, Any]]) -> Iterator[dict[str, Mapping[str, Any]]]:
    rest = iter(details_of.items())
    while chunk := dict(islice(rest, AT_ONCE)):
        yield chunk


def _to_record(fields: Mapping[str, str]) -> Record:
    return Record(
        submission=Submission.from_message(json.loads(fields["submission"])),
        status=Status(fields["status"]),
        due_at=from_ms(int(fields["due_at_ms"])),
        attempts=tuple(_to_attempt(one) for one in json.loads(fields.get("attempts", "[]"))),
        progress=Progress(**json.loads(fields["progress"])) if "progress" in fields else None,
        result=json.loads(fields["result"]) if "result" in fields else None,
        error=ErrorInfo(**json.loads(fields["error"])) if "error" in fields else None,
        finished_at=from_ms(int(fields["finished_at_ms"])) if "finished_at_ms" in fields else None,
        is_cancel_requested="cancel_requested_at_ms" in fields,
        version=int(fields.get("version", 0)),
        repeats_attempt="may_reclaim" in fields,
    )


def _to_attempt(one: Mapping[str, Any]) -> Attempt:
    return Attempt(
        number=one["number"],
        worker=one["worker"],
        started_at=from_ms(one["started_at_ms"]),
        finished_at=from_ms(one["finished_at_ms"]) if "finished_at_ms" in one else None,
        error=ErrorInfo(**one["error"]) if "error" in one else None,
    )
