"""Who waits for events, and the events on their way to them.

Must not know where events come from.
"""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass

from taskservice.records.events import EventId, TaskEvent

INBOX_BATCHES = 1000  # a listener that is further behind than this is dropped; it may resume


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Events that arrived together; one object for all listeners, so that what is made of it can be shared."""

    events: tuple[TaskEvent, ...] = ()


_NOTHING = Batch()


class Listener:
    """Receives every event after `after`, of one task or of all, until it ends."""

    def __init__(self, task_id: str | None, after: EventId) -> None:
        self.task_id = task_id
        self.after = after
        self._inbox: queue.Queue[Batch] = queue.Queue(INBOX_BATCHES)
        self._ended = threading.Event()

    @property
    def is_open(self) -> bool:
        return not self._ended.is_set()

    def receive(self, timeout_s: float) -> Batch:
        """The next events; without any when time is up or the listener has ended."""
        if not self.is_open:
            return _NOTHING
        try:
            return self._inbox.get(timeout=timeout_s)
        except queue.Empty:
            return _NOTHING

    def pause(self, timeout_s: float) -> None:
        """Sleep, but not beyond the end."""
        self._ended.wait(timeout_s)

    def offer(self, batch: Batch) -> bool:
        """False: it does not keep up."""
        try:
            self._inbox.put_nowait(batch)
        except queue.Full:
            return False
        return True

    def end(self) -> None:
        """Whoever receives or pauses stops at once, and what was not received yet is lost to this listener."""
        self._ended.set()
        try:
            self._inbox.put_nowait(_NOTHING)  # wakes who waits; nobody waits on a full inbox
        except queue.Full:
            return
