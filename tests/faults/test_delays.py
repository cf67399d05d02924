"""Tasks that wait in the broker: they survive its restart, are on time, and cost nobody anything."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

from tests.faults import outages
from tests.faults.client import Client
from tests.faults.ledger import Outcome, Submitted
from tests.faults.load import PRIORITIES, sleep_task
from tests.faults.scenario import Scenario, Stage

DELAYED_COUNT = 500
FIRST_DUE_S, LAST_DUE_S = 33.0, 43.0  # from the first submission: after both faults
ON_TIME_S = 2.0
WAITING_COUNT = 10_000
MEMORY_SLACK_BYTES = 20 * 2**20  # of twelve processes, while they run what else there is


def test_500_delayed_tasks_across_a_broker_restart_and_a_worker_kill(stage: Stage) -> None:
    with stage.scenario(accepts=DELAYED_COUNT) as scenario:
        began = datetime.now(UTC)
        delayed = _submit_delayed(scenario, began)

        outages.restart(scenario, "rabbitmq")
        stage.target.kill_main("worker-normal")
        scenario.wait_until_ready()
        scenario.attempt(sleep_task())  # the 202 after the recovery
        is_in_time = (datetime.now(UTC) - began).total_seconds() < FIRST_DUE_S
        scenario.wait_for_final(delayed, LAST_DUE_S + 30)
        late_s = sorted(_late_s(scenario))

        assert is_in_time, "the first was due before both faults were over: nothing is shown"
        assert len(late_s) == DELAYED_COUNT
        assert late_s[0] >= 0, f"{-late_s[0]:.3f} s early"
        assert late_s[int(DELAYED_COUNT * 0.99) - 1] <= ON_TIME_S, f"the latest: {late_s[-10:]}"


def test_10_000_tasks_delayed_by_an_hour_cost_nothing(stage: Stage) -> None:
    with stage.scenario(accepts=WAITING_COUNT) as scenario:
        slowest_before_s = _slowest_s(scenario)
        before_bytes = stage.target.worker_memory_bytes()

        waiting = [
            sleep_task(priority=PRIORITIES[number % 3], delay=3600, final_statuses=["scheduled"])
            for number in range(WAITING_COUNT)
        ]
        _submit_all(scenario, waiting)
        slowest_after_s = _slowest_s(scenario)
        grown_bytes = stage.target.worker_memory_bytes() - before_bytes

        assert grown_bytes < MEMORY_SLACK_BYTES
        assert slowest_after_s < slowest_before_s + 1, f"{slowest_before_s:.2f} s before, {slowest_after_s:.2f} s after"


def _submit_delayed(scenario: Scenario, began: datetime) -> list[Submitted]:
    chance = random.Random(500)
    delayed = []
    for number in range(DELAYED_COUNT):
        due_at = began + timedelta(seconds=chance.uniform(FIRST_DUE_S, LAST_DUE_S))
        delayed.append(sleep_task(priority=PRIORITIES[number % 3], run_at=due_at.isoformat()))
    _submit_all(scenario, delayed)
    return delayed


def _submit_all(scenario: Scenario, submitted: list[Submitted], *, clients: int = 8) -> None:
    scenario.submitted.extend(submitted)
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(_submit_part, [(scenario.target.url, submitted[start::clients]) for start in range(clients)]))


def _submit_part(work: tuple[str, list[Submitted]]) -> None:
    url, part = work
    client = Client(url)
    for one in part:
        client.submit(one)


def _late_s(scenario: Scenario) -> list[float]:
    """How long after it was due each delayed task began."""
    evidence = scenario.evidence()
    due = {one.mark: _due_at(one) for one in evidence.accepted if "run_at" in one.body}
    return [run.started_at - due[run.mark] for run in evidence.executions if run.mark in due]


def _due_at(one: Submitted) -> float:
    text = next(str(a.document["due_at"]) for a in one.answers if a.outcome is Outcome.ACCEPTED)
    return datetime.fromisoformat(text).timestamp()


def _slowest_s(scenario: Scenario) -> float:
    """Of 30 tasks that are due at once, the longest time from the request to the start."""
    probes = [scenario.submit(priority=PRIORITIES[number % 3]) for number in range(30)]
    scenario.wait_for_final(probes)
    return max(scenario.executions(one)[0].started_at - one.answers[0].asked_at for one in probes)
