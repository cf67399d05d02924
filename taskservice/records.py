"""What we keep of each task, in Redis. All keys are built here and every transition is one atomic script.

Knows neither HTTP nor Celery.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from enum import StrEnum
from importlib import resources
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from taskservice.errors import Unavailable
from taskservice.model import Attempt, ErrorInfo, Progress, Record, Status, Submission, from_ms

MAX_DELIVERIES = 3  # of one attempt, each lost with its worker; then the task is failed as worker_lost


class Claim(StrEnum):
    """A worker's answer when it asks to start an attempt."""

    GRANTED = "granted"
    STALE = "stale"  # refused, final, or not the record's next attempt: drop the message
    LOST_TOO_OFTEN = "lost_too_often"  # the record is now failed with worker_lost


class Records:
    """The records of all tasks. Safe to share between threads; open no connection before a fork."""

    def __init__(self, client: redis.Redis, *, retention_s: int) -> None:
        self._client = client
        self._retention_s = retention_s
        self._transition = client.register_script(_TRANSITIONS)

    @classmethod
    def connect(cls, url: str, *, retention_s: int, timeout_s: float | None = 1.0) -> Records:
        """Connects lazily, at first use."""
        # One more try for a connection that the server has closed meanwhile; none for a server that hangs.
        retry = Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,))
        client = redis.Redis.from_url(
            url, decode_responses=True, socket_timeout=timeout_s, socket_connect_timeout=timeout_s, retry=retry
        )
        return cls(client, retention_s=retention_s)

    def ping(self) -> None:
        """Raises Unavailable."""
        self._guarded(self._client.ping)

    def get(self, task_id: str) -> Record | None:
        """The record, or None if there is none (or its task was refused). Raises Unavailable."""
        fields: dict[str, str] = self._guarded(self._client.hgetall, _key(task_id))
        return _to_record(fields) if "submission" in fields and "status" in fields else None

    def accept(self, submission: Submission) -> None:
        """Create the record unless a worker was faster. Raises Unavailable."""
        self._guarded(self._run, "accept", submission.task_id, _creation(submission))

    def refuse(self, task_id: str) -> bool:
        """Mark the id so that a late copy is dropped; False if a worker has claimed it. Raises Unavailable."""
        return bool(self._guarded(self._run, "refuse", task_id, {}) == "refused")

    def claim(
        self, submission: Submission, *, attempt: int, worker: str, delivery: str, redelivered: bool = False
    ) -> Claim:
        """Start an attempt. Raises redis.RedisError: what to do then is the worker's decision.

        `delivery` is one word per delivered message, so that asking twice is granted once. Only a message the broker
        calls `redelivered` may start an attempt that runs already: its worker was lost.
        """
        details = _creation(submission) | {
            "attempt": attempt,
            "worker": worker,
            "delivery": delivery,
            "redelivered": redelivered,
            "max_deliveries": MAX_DELIVERIES,
        }
        return Claim(self._run("claim", submission.task_id, details))

    def hand_back(self, task_id: str, *, attempt: int) -> None:
        """The worker returns the message: its next delivery is no lost one. Raises redis.RedisError."""
        self._run("hand_back", task_id, {"attempt": attempt})

    def succeed(self, task_id: str, *, attempt: int, result: Mapping[str, Any]) -> None:
        """Final. Ignored unless this attempt is the one that runs. Raises redis.RedisError."""
        self._run("succeed", task_id, {"attempt": attempt, "result": json.dumps(result)})

    def fail(self, task_id: str, *, attempt: int, error: ErrorInfo) -> None:
        """Final. Ignored when the record is final or a later attempt runs. Raises redis.RedisError."""
        self._run("fail", task_id, {"attempt": attempt, "error": asdict(error)})

    def retry(self, task_id: str, *, attempt: int, error: ErrorInfo, delay_s: float) -> None:
        """This attempt failed, the next is due in `delay_s`. Raises redis.RedisError."""
        self._run("retry", task_id, {"attempt": attempt, "error": asdict(error), "delay_ms": round(delay_s * 1000)})

    def report_progress(self, task_id: str, *, attempt: int, progress: Progress) -> None:
        """Raises redis.RedisError."""
        self._run("progress", task_id, {"attempt": attempt, "progress": asdict(progress)})

    def mark(self, task_id: str, key: str) -> Any | None:
        """An effect an earlier attempt remembered. Raises redis.RedisError."""
        text = self._client.hget(_key(task_id), f"mark:{key}")
        return None if text is None else json.loads(str(text))

    def set_mark(self, task_id: str, key: str, value: Any) -> None:
        """Raises redis.RedisError."""
        self._client.hset(_key(task_id), f"mark:{key}", json.dumps(value))

    def _run(self, action: str, task_id: str, details: Mapping[str, Any]) -> str:
        # Lone surrogates in a message would be refused by the script's JSON reader.
        text = json.dumps(details, ensure_ascii=False).encode("utf-8", "replace").decode()
        arguments: list[str | int] = [action, text, self._retention_s]
        return str(self._transition(keys=[_key(task_id)], args=arguments))

    def _guarded(self, call: Any, *arguments: Any) -> Any:
        try:
            return call(*arguments)
        except redis.RedisError as error:
            raise Unavailable("store") from error


_TRANSITIONS = resources.files("taskservice").joinpath("transitions.lua").read_text(encoding="utf-8")


def _key(task_id: str) -> str:
    return f"task:{task_id}"


def _creation(submission: Submission) -> dict[str, Any]:
    message = submission.to_message()
    return {
        "submission": json.dumps(message),
        "initial_status": submission.initial_status.value,
        "due_at_ms": message["due_at_ms"],
    }


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
    )


def _to_attempt(one: Mapping[str, Any]) -> Attempt:
    return Attempt(
        number=one["number"],
        worker=one["worker"],
        started_at=from_ms(one["started_at_ms"]),
        finished_at=from_ms(one["finished_at_ms"]) if "finished_at_ms" in one else None,
        error=ErrorInfo(**one["error"]) if "error" in one else None,
    )
