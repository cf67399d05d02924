"""The web process dies, or starts too early, while clients submit."""

from __future__ import annotations

from tests.faults.ledger import Outcome
from tests.faults.load import sleep_task
from tests.faults.scenario import Stage


def test_web_killed_between_publish_and_answer_keeps_the_task(stage: Stage) -> None:
    with stage.scenario(accepts=1, loses_connections=True) as scenario:
        stage.target.fail_point.touch()

        unsure = scenario.attempt(sleep_task({"seconds": 0.2}, key="killed-between-publish-and-answer"))
        was_answered = unsure.answers[-1].status_code is not None
        scenario.client.settle(unsure)
        scenario.wait_for_final([unsure])

        assert not was_answered
        assert unsure.outcome is Outcome.ACCEPTED
        assert len(scenario.executions(unsure)) == 1


def test_kill_9_of_the_web(stage: Stage) -> None:
    with stage.scenario(accepts=100, loses_connections=True) as scenario, scenario.load():
        stage.target.kill("web")

        scenario.wait_until_ready()
        scenario.recovered()


def test_web_started_before_the_broker_serves_when_it_comes(stage: Stage) -> None:
    with stage.scenario(accepts=60, loses_connections=True) as scenario, scenario.load():
        stage.target.stop("web", "rabbitmq")
        stage.target.start("web")
        refused = scenario.attempt(sleep_task())
        while refused.answers[-1].status_code is None:
            refused = scenario.attempt(sleep_task())

        stage.target.start("rabbitmq")
        scenario.recovered("rabbitmq")

        assert refused.outcome is Outcome.REFUSED
