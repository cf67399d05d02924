"""Every verb of the API while something breaks: what each answer promised is kept."""

from __future__ import annotations

import time

from tests.faults import outages
from tests.faults.scenario import Stage
from tests.faults.target import STORES, WORKERS


def test_all_verbs_while_stores_and_workers_are_killed(stage: Stage) -> None:
    with stage.scenario(accepts=150) as scenario, scenario.all_verbs():
        for store in STORES:
            outages.kill(scenario, store)
            scenario.wait_for_the_next_202()
            time.sleep(3)  # of load
        stage.target.kill(*WORKERS)
        scenario.wait_until_ready()


def test_all_verbs_while_everything_is_stopped_and_started(stage: Stage) -> None:
    with stage.scenario(accepts=100, loses_connections=True) as scenario, scenario.all_verbs():
        outages.restart_everything(scenario)
        scenario.recovered()
