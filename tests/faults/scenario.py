"""One scenario: submit while something breaks, wait for quiet, judge, and add a row to the table.

Knows the order of things; what breaks is the test's, what counts as right is checks.py's.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.faults import checks
from tests.faults.acts import VerbLoad
from tests.faults.checks import Evidence
from tests.faults.client import Client
from tests.faults.ledger import FINAL, Execution, Outcome, Submitted, Survey, read_executions
from tests.faults.load import PRIORITIES, Load, Recipe, Watcher, plain_mix, sleep_task
from tests.faults.survey import Surveyor, counted_by_status
from tests.faults.table import Row, row_of
from tests.faults.target import Target
from tests.faults.verb_checks import VERB_RULES
from tests.faults.verbs import Journal
from tests.support.waiting import wait_until

WARM_COUNT = 30  # accepted before anything breaks
READY_WITHIN_S = 60.0
QUIET_WITHIN_S = 120.0
ENOUGH_WITHIN_S = 20.0  # for a load to reach what its scenario names


@dataclass(repr=False)
class Scenario:
    """What a test holds while it breaks things. Every submission made through it is watched and judged."""

    target: Target
    name: str
    accepts: int  # the scenario falls short if fewer are accepted
    loses_connections: bool = False
    quiet_within_s: float = QUIET_WITHIN_S
    submitted: list[Submitted] = field(default_factory=list)
    recoveries: list[float] = field(default_factory=list)
    journal: Journal = field(default_factory=Journal)
    _survey: Survey | None = None
    _began_at: float = field(default_factory=time.time)
    _surveyor: Surveyor | None = None

    def __post_init__(self) -> None:
        self.client = Client(self.target.url)
        self._watcher = Watcher(self.target.url, self.submitted)
        self._kills_before = len(self.target.kills)

    @contextmanager
    def load(self, recipe: Recipe = plain_mix, *, clients: int = 8, seed: int = 0) -> Iterator[Load]:
        """Clients submit inside the block, from the moment that they are accepted until they are again."""
        with self._played(Load(self.target.url, self.submitted, recipe, clients, seed=seed)) as load:
            yield load

    @contextmanager
    def all_verbs(self, *, clients: int = 8, seed: int = 0) -> Iterator[Load]:
        """The same with every verb of the API. Lists, counts and queues must agree at the end."""
        counted = counted_by_status(self.client)
        self._surveyor = Surveyor(self.client, counted, since=self._began_at)
        with self._played(
            VerbLoad(self.target.url, self.submitted, clients=clients, seed=seed, journal=self.journal)
        ) as load:
            yield load

    @contextmanager
    def _played(self, load: Load) -> Iterator[Load]:
        load.start()
        try:
            wait_until(lambda: load.accepted_count >= WARM_COUNT, READY_WITHIN_S, f"{WARM_COUNT} accepted at the start")
            yield load
            self._wait_for_more(load)
        finally:
            load.stop()

    def submit(self, parameters: dict[str, Any] | None = None, **members: Any) -> Submitted:
        """One task; see load.sleep_task. It is accepted, or the test fails."""
        one = self.attempt(sleep_task(parameters, **members))
        assert one.outcome is Outcome.ACCEPTED, f"not accepted: {one.answers[-1]}"
        return one

    def attempt(self, one: Submitted) -> Submitted:
        """Submit it once, whatever the answer."""
        self.submitted.append(one)
        self.client.submit(one)
        return one

    def recovered(self, *stores: str) -> None:
        """What was away is back, or will be once these answer: from now on a 202 must come within 10 s."""
        for store in stores:
            self.target.wait_until_up(store)
        self.recoveries.append(time.time())

    def executions(self, one: Submitted) -> list[Execution]:
        return [execution for execution in read_executions(self.target.ledger) if execution.mark == one.mark]

    def wait_for_start(self, one: Submitted) -> Execution:
        """Its execution that runs now."""
        wait_until(lambda: self._running(one), 30, f"task {one.task_id} started")
        return self._running(one)[-1]

    def wait_for_final(self, submitted: Iterable[Submitted], timeout_s: float = 60) -> None:
        waiting = list(submitted)
        wait_until(lambda: all(one.status in FINAL for one in waiting), timeout_s, "these tasks are final")

    def start(self) -> None:
        self.wait_until_ready()
        self._watcher.start()

    def finish(self) -> Row:
        """Wait for quiet and judge. The row is filled either way; `verdict` says what was broken."""
        self._wait_for_quiet()
        self._watcher.stop()
        self._watcher.look_at_all()
        if self._surveyor:
            self._survey = self._surveyor.survey(self.journal.batches)
        evidence = self.evidence()
        self.verdict = checks.judge(evidence, *VERB_RULES)
        return row_of(self.name, evidence, took_s=time.time() - self._began_at, has_passed=not self.verdict)

    def abandon(self) -> Row:
        """The test itself failed: what is known so far."""
        self._watcher.stop()
        return row_of(self.name, self.evidence(), took_s=time.time() - self._began_at, has_passed=False)

    def evidence(self) -> Evidence:
        marks = {one.mark for one in self.submitted}
        executions = [one for one in read_executions(self.target.ledger) if one.mark in marks]
        kills = self.target.kills[self._kills_before :]
        return Evidence(
            self.submitted,
            executions,
            kills,
            self.recoveries,
            self.accepts,
            self.loses_connections,
            self.journal.calls,
            self._survey,
        )

    def wait_until_ready(self) -> None:
        wait_until(lambda: self.client.missing() == [], READY_WITHIN_S, "/readyz says ready")

    def _running(self, one: Submitted) -> list[Execution]:
        return [execution for execution in self.executions(one) if execution.ended_at is None]

    def wait_for_the_next_202(self) -> None:
        """After the last recovery; bounded, never raises: what comes late is the checks' to judge."""
        since = self.recoveries[-1] if self.recoveries else time.time()
        deadline = time.monotonic() + 2 * checks.RECOVERY_S
        while time.monotonic() < deadline and not self._has_accepted_since(since):
            time.sleep(0.2)

    def _wait_for_more(self, load: Load) -> None:
        """Until clients are accepted again, and until as many were as the scenario names; bounded."""
        self.wait_for_the_next_202()
        deadline = time.monotonic() + ENOUGH_WITHIN_S
        while time.monotonic() < deadline and load.accepted_count < self.accepts:
            time.sleep(0.2)

    def _has_accepted_since(self, since: float) -> bool:
        return any(
            one.outcome is Outcome.ACCEPTED and one.answers[-1].answered_at > since for one in reversed(self.submitted)
        )

    def _wait_for_quiet(self) -> None:
        """Every promise is kept, and whatever the queues held before has been delivered; bounded, never raises."""
        deadline = time.monotonic() + self.quiet_within_s
        while time.monotonic() < deadline and any(one.is_pending for one in list(self.submitted)):
            time.sleep(0.1)
        self.wait_until_delivered()

    def wait_until_delivered(self) -> None:
        """A task at the end of each queue: when it has run, no copy of another waits before it. Bounded."""
        last = [sleep_task(priority=priority) for priority in PRIORITIES for _ in range(2)]
        for one in last:
            self.client.submit(one)
        deadline = time.monotonic() + READY_WITHIN_S
        while time.monotonic() < deadline and not all(self.executions(one) for one in last):
            time.sleep(0.1)


@dataclass(repr=False)
class Stage:
    """Where the tests play: the target, the table that all scenarios fill, and everything that was ever refused."""

    target: Target
    rows: list[Row]
    refused: list[Submitted]
    name: str

    @contextmanager
    def scenario(
        self, *, accepts: int, loses_connections: bool = False, quiet_within_s: float = QUIET_WITHIN_S
    ) -> Iterator[Scenario]:
        """Judged when the block ends; fails the test with the evidence."""
        scenario = Scenario(self.target, self.name, accepts, loses_connections, quiet_within_s)
        scenario.start()
        try:
            yield scenario
        except BaseException:
            self.rows.append(scenario.abandon())
            raise
        self.rows.append(scenario.finish())
        marks = Counter(one.mark for one in scenario.submitted)  # a bulk retry shares that of its first task
        self.refused.extend(
            one for one in scenario.submitted if one.outcome is Outcome.REFUSED and marks[one.mark] == 1
        )
        if scenario.verdict:
            pytest.fail("\n\n".join(scenario.verdict), pytrace=False)
