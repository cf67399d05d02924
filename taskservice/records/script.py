"""The script that makes every transition of a record (transitions/*.lua), and what every part of this room shares.

Must not know who asks for a transition.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from importlib import resources
from typing import Any, TypeVar

import redis

from taskservice.errors import Unavailable
from taskservice.model import Submission
from taskservice.records.connection import open_client

MAX_DELIVERIES = 3  # of one attempt, each lost with its worker; then the task is failed as worker_lost
LEASE_S = 8.0  # how long a silent worker keeps its claim; renewed every second
AT_ONCE = 200  # tasks that one run of a script moves at most: meanwhile Redis does nothing else

Answer = TypeVar("Answer")


def connect(url: str, *, timeout_s: float | None = 1.0) -> redis.Redis:
    """A client that connects lazily, at first use, and to the next primary after a failover."""
    return open_client(url, timeout_s=timeout_s)


def guarded(call: Callable[[], Answer]) -> Answer:
    """Raises Unavailable where Redis cannot be reached or refuses."""
    try:
        return call()
    except redis.RedisError as error:
        raise Unavailable("store") from error


def record_key(task_id: str) -> str:
    return f"task:{task_id}"


def _script(*parts: str, flags: str = "") -> str:
    """The parts as one script. With the first line a full Redis refuses the whole script, not half a transition."""
    folder = resources.files("taskservice.records").joinpath("transitions")
    texts = [folder.joinpath(f"{part}.lua").read_text(encoding="utf-8") for part in ("words", *parts, "run")]
    return "\n".join([f"#!lua {flags}".rstrip(), *texts])


_SCRIPT = _script("changes", "ends", "submissions", "claims", "reports", "sweep", "waiting")
_FREEING_SCRIPT = _script("forget", flags="flags=allow-oom")


class Transitions:
    """Runs the script; safe to share between threads."""

    def __init__(self, client: redis.Redis, *, retention_s: int) -> None:
        self._client = client
        self._script = client.register_script(_SCRIPT)
        self._freeing_script = client.register_script(_FREEING_SCRIPT)
        self._limits = {
            "retention_ms": retention_s * 1000,
            "lease_ms": round(LEASE_S * 1000),
            "max_deliveries": MAX_DELIVERIES,
            "at_once": AT_ONCE,
        }

    def forget(self) -> list[int]:
        """How many tasks this run looked at whose retention is over; a full Redis runs it too.

        Raises redis.RedisError.
        """
        answer: list[int] = self._freeing_script(keys=[], args=["forget", self._text({})])
        return answer

    def run(self, action: str, task_id: str | None = None, **details: Any) -> Any:
        """The script's answer: a word or a list. Raises redis.RedisError."""
        return self._script(keys=[] if task_id is None else [record_key(task_id)], args=[action, self._text(details)])

    def run_many(self, action: str, details_of: Mapping[str, Mapping[str, Any]]) -> list[Any]:
        """The same action for each of these tasks, in one round trip: each answer, in that order.

        Each is atomic by itself. Raises redis.RedisError: then some may have been made.
        """
        try:
            return self._execute(action, details_of)
        except redis.exceptions.NoScriptError:  # then none was made
            self._client.script_load(_SCRIPT)
            return self._execute(action, details_of)

    def _execute(self, action: str, details_of: Mapping[str, Mapping[str, Any]]) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for task_id, details in details_of.items():
            pipeline.evalsha(self._script.sha, 1, record_key(task_id), action, self._text(details))
        return pipeline.execute()

    def _text(self, details: Mapping[str, Any]) -> str:
        """Lone surrogates in a message would be refused by the script's JSON reader."""
        return json.dumps({**self._limits, **details}, ensure_ascii=False).encode("utf-8", "replace").decode()


def creation(submission: Submission) -> dict[str, Any]:
    """What the script needs to create a record; what it must not interpret is one string."""
    message = submission.to_message()
    details = {
        "submission": json.dumps(_without_empty(message)),
        "status": submission.initial_status.value,
        "type": submission.task_type,
        "priority": submission.priority.value,
        "created_at_ms": message["created_at_ms"],
        "due_at_ms": message["due_at_ms"],
        "sequence": submission.sequence,
    }
    if submission.own_queue is not None:
        details["queue"] = submission.own_queue
    if submission.tags:
        details["tags"] = json.dumps(submission.tags)
    if submission.callback is not None:
        details["callback_events"] = json.dumps(submission.callback.events)
    if submission.batch_id is not None:
        details["batch_id"] = submission.batch_id
    if submission.expires_in_s is not None:
        details["expires_at_ms"] = message["due_at_ms"] + round(submission.expires_in_s * 1000)
    return details


def _without_empty(message: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in message.items() if value not in (None, [], {}, 0) or name == "parameters"}
