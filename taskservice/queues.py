"""Which queue carries a task: its priority's own, or the one of its type and priority when that type has its own.

Must not know a broker: celery_config.py declares what is named here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Self

from taskservice.errors import ConfigurationError
from taskservice.model import Priority


@dataclass(frozen=True, slots=True)
class WorkQueue:
    """A queue of one priority; of all task types that have none of their own, or of one type."""

    priority: Priority
    task_type: str | None = None

    @property
    def name(self) -> str:
        return f"{self.priority.queue}.{self.task_type}" if self.task_type else self.priority.queue

    @property
    def routing_key(self) -> str:
        """One word: delayed delivery binds `#.<key>`, and a key with a dot would end like another's."""
        return f"{self.priority.value}_{self.task_type}" if self.task_type else self.priority.value

    @classmethod
    def named(cls, name: str) -> Self:
        """Raises ValueError when no work queue is called so."""
        exchange, _, task_type = name.partition(".")
        queue = cls(Priority(exchange.removesuffix("_priority")), task_type or None)
        if queue.name != name:
            raise ValueError(f"{name!r} is no work queue")
        return queue


def queue_for(task_type: str, priority: Priority, dedicated: Collection[str]) -> str:
    """The name of the queue that a task is published to. `dedicated`: the types that have queues of their own."""
    return WorkQueue(priority, task_type if task_type in dedicated else None).name


def work_queues(dedicated: Iterable[str] = ()) -> tuple[WorkQueue, ...]:
    """The shared queue of each priority, then those of each of these types."""
    return tuple(WorkQueue(priority, task_type) for task_type in (None, *dedicated) for priority in Priority)


def unlisted_queues(known: Iterable[str], dedicated: Collection[str]) -> tuple[WorkQueue, ...]:
    """The queues that these types had, or would have, of their own: nobody publishes to them now."""
    return tuple(WorkQueue(priority, kind) for kind in known if kind not in dedicated for priority in Priority)


def check_dedicated(dedicated: Iterable[str], known: Collection[str]) -> None:
    """Raises ConfigurationError for the first name that is not a registered task type."""
    for name in dedicated:
        if name not in known:
            raise ConfigurationError(f"DEDICATED_TASK_TYPES: {name!r} is not one of: {', '.join(known)}")
