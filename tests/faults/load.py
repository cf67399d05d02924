"""Many clients that submit without pause for thought, and a watcher that looks at every accepted task all the time.

Keeps what happened; judges nothing.
"""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from tests.faults.client import REPEAT_AFTER_S, Client
from tests.faults.ledger import Outcome, Submitted

CLIENTS = 8
PAUSE_S = 0.3  # of a client between two requests: about 25 submissions a second in all
WATCH_PAUSE_S = 0.01  # between two looks, so that watching leaves the two cores to the service
PRIORITIES = ("high", "normal", "low")

Recipe = Callable[[random.Random], Submitted]


def sleep_task(
    parameters: dict[str, Any] | None = None,
    *,
    task_type: str = "sleep",
    priority: str = "normal",
    key: str | None = None,
    final_statuses: Iterable[str] = ("succeeded",),
    executions: int = 1,
    error_code: str | None = None,
    **members: Any,
) -> Submitted:
    """A task of tests/support/task_types.py that carries its mark; `members` are further ones of the body."""
    submitted = Submitted({}, key, frozenset(final_statuses), executions, error_code)
    body = {"task_type": task_type, "priority": priority, **members}
    submitted.body = body | {"parameters": {**(parameters or {}), "mark": submitted.mark}}
    return submitted


def plain_mix(chance: random.Random) -> Submitted:
    """Short tasks, some that run for two seconds, some that fail once; all priorities, half of them with a key."""
    parameters: dict[str, Any] = {"seconds": chance.choice((0.0, 0.0, 0.05, 0.1, 0.2))}
    executions = 1
    if chance.random() < 0.05:
        parameters["seconds"] = 2.0
    elif chance.random() < 0.05:
        parameters["fail_attempts"], executions = 1, 2
    key = uuid.uuid4().hex if chance.random() < 0.5 else None  # not of the seed: a key is remembered for a day
    return sleep_task(parameters, priority=chance.choice(PRIORITIES), key=key, executions=executions)


def delayed_mix(chance: random.Random) -> Submitted:
    """The plain mix, some of it delayed by up to five seconds."""
    submitted = plain_mix(chance)
    if chance.random() < 0.2:
        submitted.body = {**submitted.body, "delay": round(chance.uniform(0, 5), 3)}
    return submitted


@dataclass
class Load:
    """Clients that submit from `start` to `stop`. What they submit is appended to `submitted`."""

    url: str
    submitted: list[Submitted]
    recipe: Recipe = plain_mix
    clients: int = CLIENTS
    pause_s: float = PAUSE_S
    seed: int = 0
    _ended: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        self._threads = [
            threading.Thread(target=self._submit, args=(number,), name=f"client-{number}", daemon=True)
            for number in range(self.clients)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Returns when each client has its last answer and has settled what was unsure."""
        self._ended.set()
        for thread in self._threads:
            thread.join()

    @property
    def accepted_count(self) -> int:
        return sum(one.outcome is Outcome.ACCEPTED for one in list(self.submitted))

    def _submit(self, number: int) -> None:
        client, chance = Client(self.url), random.Random(f"{self.seed}-{number}")
        unsure: list[Submitted] = []
        while not self._ended.is_set():
            one = self.recipe(chance)
            self.submitted.append(one)
            client.submit(one)
            unsure = [*_repeated(client, unsure), *([one] if one.key and not one.outcome.is_settled else [])]
            self._ended.wait(self.pause_s)
        for one in unsure:
            client.settle(one)


def _repeated(client: Client, unsure: list[Submitted]) -> list[Submitted]:
    """Repeat the oldest one if it has waited long enough; those that are still unsure."""
    if unsure and time.time() - unsure[0].answers[-1].answered_at > REPEAT_AFTER_S:
        client.submit(unsure[0])
    return [one for one in unsure if not one.answers[-1].outcome.is_settled]


@dataclass
class Watcher:
    """Looks at each accepted task again and again until it is final. `submitted` may grow meanwhile."""

    url: str
    submitted: list[Submitted]
    _ended: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._watch, name="watcher", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def look_at_all(self) -> None:
        """One last look at every accepted task, so that a final status that changed or vanished is seen."""
        accepted = [one for one in self.submitted if one.task_id]
        with ThreadPoolExecutor(CLIENTS) as pool:
            list(pool.map(self._look_last, _in_parts(accepted, CLIENTS)))

    def _watch(self) -> None:
        client = Client(self.url)
        while not self._ended.is_set():
            for one in self._unfinished():
                client.look(one)
                if self._ended.wait(WATCH_PAUSE_S):
                    return
            self._ended.wait(WATCH_PAUSE_S)

    def _unfinished(self) -> list[Submitted]:
        return [one for one in list(self.submitted) if one.is_pending]

    def _look_last(self, part: list[Submitted]) -> None:
        client = Client(self.url)
        for one in part:
            client.look(one)


def _in_parts(items: list[Submitted], count: int) -> list[list[Submitted]]:
    return [items[start::count] for start in range(count)]
