"""A load of all verbs: each client plays one short act after another, and a queue is paused now and then.

Keeps what happened; judges nothing.
"""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.faults.client import Client
from tests.faults.ledger import FINAL, Batch, Outcome, Submitted
from tests.faults.load import PRIORITIES, Load, delayed_mix, plain_mix, sleep_task
from tests.faults.verbs import Journal, Verbs, copies, insist

LATER_S = 20.0  # of what is cancelled before
MUCH_LATER_S = 45.0  # of what is run now: longer than any fault lasts
PATIENCE_S = 3.0  # for a task to come where an act wants it
PAUSED_QUEUE = "low_priority"
PAUSED_S, RESUMED_S = 5.0, 7.0
AWAKE = ("high", "normal")  # the priorities that are never paused


@dataclass(frozen=True)
class Player:
    """One client of the load."""

    client: Client
    verbs: Verbs
    submitted: list[Submitted]
    chance: random.Random

    def submit(self, parameters: dict[str, Any] | None = None, **members: Any) -> Submitted | None:
        """A task that was accepted at once, or None."""
        members.setdefault("priority", self.chance.choice(PRIORITIES))
        one = sleep_task(parameters, **members)
        self.submitted.append(one)
        return one if self.client.submit(one) is Outcome.ACCEPTED else None

    def submit_batch(self, members: list[Submitted], *, key: str | None = None) -> list[Submitted]:
        """Those that were accepted; a batch with a key is repeated until that is sure."""
        self.submitted.extend(members)
        batch = Batch(members, key)
        if key is None:
            self.verbs.submit(batch)
        else:
            insist(lambda: self.verbs.submit(batch), until=lambda _: all(_is_settled(one) for one in members))
        return [one for one in members if one.outcome is Outcome.ACCEPTED]

    def wait_until(self, one: Submitted, *statuses: str) -> bool:
        """Whether it came there in time. Not kept as a sighting: the watcher's are in order."""
        deadline = time.monotonic() + PATIENCE_S
        while self.client.read(f"/api/tasks/{one.task_id}").get("status") not in statuses:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        return True


def submit_one(player: Player) -> None:
    one = delayed_mix(player.chance)
    player.submitted.append(one)
    player.client.submit(one)
    player.client.settle(one)


def submit_a_batch(player: Player) -> None:
    """One member does not validate."""
    members = [plain_mix(player.chance) for _ in range(6)]
    invalid = sleep_task({"seconds": "soon"})
    player.submit_batch([*members, invalid], key=player.chance.choice((None, uuid.uuid4().hex)))


def cancel_one_that_waits(player: Player) -> None:
    one = player.submit(delay=player.chance.choice((0, 1, LATER_S)))
    if one:
        insist(lambda: player.verbs.cancel(one))


def cancel_one_that_runs(player: Player) -> None:
    one = player.submit({"seconds": 2})
    if one and player.wait_until(one, "running"):
        player.verbs.cancel(one)


def cancel_many(player: Player) -> None:
    delays = (0, 0, 1, LATER_S, LATER_S)
    accepted = player.submit_batch([sleep_task(priority=player.chance.choice(PRIORITIES), delay=s) for s in delays])
    if accepted:
        insist(lambda: player.verbs.cancel_many(accepted))


def retry_one(player: Player) -> None:
    first = player.submit()
    if first and player.wait_until(first, *FINAL):
        again = sleep_task(priority=str(first.body["priority"]), key=uuid.uuid4().hex)
        player.submitted.append(again)
        insist(lambda: player.verbs.retry(first, again))


def retry_many(player: Player) -> None:
    firsts = player.submit_batch([sleep_task(priority=player.chance.choice(AWAKE)) for _ in range(3)])
    if firsts and all(player.wait_until(one, *FINAL) for one in firsts):
        again = copies(firsts)
        player.submitted.extend(again)
        insist(lambda: player.verbs.retry_many(firsts, again), until=lambda _: all(_is_settled(one) for one in again))


def run_one_now(player: Player) -> None:
    one = player.submit(priority=player.chance.choice(AWAKE), delay=MUCH_LATER_S)
    if one:
        key = uuid.uuid4().hex
        insist(lambda: player.verbs.run_now(one, key=key))


def run_a_retry_now(player: Player) -> None:
    one = player.submit({"fail_attempts": 1}, priority=player.chance.choice(AWAKE), executions=2)
    if one and player.wait_until(one, "retrying"):
        player.verbs.run_now(one)


def submit_some_that_expire(player: Player) -> None:
    for delay in (0, 1):
        player.submit(
            delay=delay, expires_in=player.chance.choice((0.05, 1, 3)), final_statuses=["succeeded", "expired"]
        )


def submit_some_over_their_rate(player: Player) -> None:
    player.submit_batch([sleep_task(task_type="rated_sleep", priority=player.chance.choice(AWAKE)) for _ in range(5)])


ACTS: tuple[Callable[[Player], None], ...] = (
    submit_one, submit_a_batch, cancel_one_that_waits, cancel_one_that_runs, cancel_many, retry_one, retry_many,
    run_one_now, run_a_retry_now, submit_some_that_expire, submit_some_over_their_rate,
)  # fmt: skip


@dataclass
class VerbLoad(Load):
    """Every client plays all acts in an order of its own, again and again; see `Load`."""

    journal: Journal = field(default_factory=Journal)

    def start(self) -> None:
        super().start()
        pauser = threading.Thread(target=self._pause_now_and_then, name="pauser", daemon=True)
        self._threads.append(pauser)
        pauser.start()

    def _submit(self, number: int) -> None:
        client = Client(self.url)
        chance = random.Random(f"{self.seed}-{number}")
        player = Player(client, Verbs(client, self.journal), self.submitted, chance)
        while True:
            for act in chance.sample(ACTS, len(ACTS)):
                if self._ended.is_set():
                    return
                act(player)
                self._ended.wait(self.pause_s)

    def _pause_now_and_then(self) -> None:
        """Ends resumed."""
        verbs = Verbs(Client(self.url), self.journal)
        while not self._ended.wait(RESUMED_S):
            insist(lambda: verbs.pause(PAUSED_QUEUE))
            self._ended.wait(PAUSED_S)
            insist(lambda: verbs.resume(PAUSED_QUEUE))


def _is_settled(one: Submitted) -> bool:
    return bool(one.answers) and one.answers[-1].outcome.is_settled
