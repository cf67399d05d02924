"""What was cancelled before it ran never runs, whatever is restarted."""

from __future__ import annotations

from tests.faults import outages
from tests.faults.ledger import Submitted
from tests.faults.load import sleep_task
from tests.faults.scenario import Scenario, Stage
from tests.faults.target import EVERYTHING

QUEUED_COUNT, SCHEDULED_COUNT = 200, 20
DELAY_S = 12.0


def test_200_cancelled_tasks_do_not_run_after_everything_restarted(stage: Stage) -> None:
    with stage.scenario(accepts=QUEUED_COUNT + SCHEDULED_COUNT) as scenario:
        stage.target.stop("worker-low")  # so that they stay queued
        queued = [scenario.submit(priority="low", final_statuses=["cancelled"]) for _ in range(QUEUED_COUNT)]
        scheduled = [
            scenario.submit(priority="low", delay=DELAY_S, final_statuses=["cancelled"]) for _ in range(SCHEDULED_COUNT)
        ]

        answers = {scenario.client.cancel(one) for one in [*queued, *scheduled]}
        outages.restart_everything(scenario, running=[one for one in EVERYTHING if one != "worker-low"])
        scenario.wait_for_final([*queued, *scheduled])
        _wait_until_the_delay_has_passed(scenario)

        assert answers == {200}
        assert not any(scenario.executions(one) for one in [*queued, *scheduled])


def _wait_until_the_delay_has_passed(scenario: Scenario) -> None:
    """A task submitted now with the same delay comes after all of them."""
    last: Submitted = scenario.attempt(sleep_task(priority="low", delay=DELAY_S))
    scenario.wait_for_final([last])
