"""Files that tasks made: noted while the task is kept, unneeded once it is forgotten (transitions/forget.lua).

Must not know where files are kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import redis

_UNNEEDED = "unneeded_files"
_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class MadeFile:
    """One file as a task left it: whoever writes it again gives it another version."""

    filename: str  # one path segment
    version: str


class MadeFiles:
    """Every method raises redis.RedisError."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def note(self, task_id: str, made: MadeFile) -> None:
        """To be deleted with the task's record."""
        self._client.sadd(f"made_files:{task_id}", _member(made))

    def unneeded(self) -> list[MadeFile]:
        """Some files of tasks that are not kept any more, those that were put off once it is time."""
        found = self._client.zrangebyscore(_UNNEEDED, "-inf", self._now_ms(), start=0, num=_AT_ONCE)
        return [MadeFile(*str(member).split("/", 1)) for member in found]

    def settle(self, made: MadeFile) -> None:
        """It is deleted, or is not the task's any more."""
        self._client.zrem(_UNNEEDED, _member(made))

    def put_off(self, made: MadeFile, wait_s: float) -> None:
        self._client.zadd(_UNNEEDED, {_member(made): self._now_ms() + round(wait_s * 1000)})

    def is_my_turn(self, what: str, *, every_s: float) -> bool:
        """True for one of all workers, once in that time."""
        return bool(self._client.set(f"turn:{what}", "taken", nx=True, px=round(every_s * 1000)))

    def _now_ms(self) -> int:
        seconds, microseconds = self._client.time()
        return int(seconds) * 1000 + int(microseconds) // 1000


def _member(made: MadeFile) -> str:
    return f"{made.filename}/{made.version}"  # as transitions/forget.lua writes it
