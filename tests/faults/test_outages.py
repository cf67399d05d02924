"""RabbitMQ and Redis go away and come back while eight clients submit."""

from __future__ import annotations

from tests.faults import outages
from tests.faults.load import PRIORITIES
from tests.faults.scenario import Scenario, Stage


def test_rabbitmq_is_restarted(stage: Stage) -> None:
    with stage.scenario(accepts=150) as scenario, scenario.load():
        outages.restart(scenario, "rabbitmq")


def test_rabbitmq_is_killed(stage: Stage) -> None:
    with stage.scenario(accepts=150) as scenario, scenario.load():
        outages.kill(scenario, "rabbitmq")


def test_rabbitmq_hangs_for_20_s(stage: Stage) -> None:
    with stage.scenario(accepts=150) as scenario, scenario.load():
        outages.freeze(scenario, "rabbitmq")


def test_rabbitmq_has_a_memory_alarm_for_20_s(stage: Stage) -> None:
    with stage.scenario(accepts=150) as scenario, scenario.load():
        outages.raise_memory_alarm(scenario)


def test_rabbitmq_has_a_disk_alarm_for_10_s(stage: Stage) -> None:
    with stage.scenario(accepts=100) as scenario, scenario.load():
        outages.raise_disk_alarm(scenario)


def test_redis_is_restarted(stage: Stage) -> None:
    with stage.scenario(accepts=150) as scenario, scenario.load():
        outages.restart(scenario, "redis")


def test_redis_is_killed(stage: Stage) -> None:
    with stage.scenario(accepts=150) as scenario, scenario.load():
        outages.kill(scenario, "redis")


def test_redis_hangs_for_20_s(stage: Stage) -> None:
    with stage.scenario(accepts=150) as scenario, scenario.load():
        outages.freeze(scenario, "redis")


def test_redis_is_out_of_memory_for_20_s(stage: Stage) -> None:
    with stage.scenario(accepts=150) as scenario, scenario.load():
        outages.fill_redis(scenario)


def test_redis_cannot_save_for_10_s(stage: Stage) -> None:
    with stage.scenario(accepts=100) as scenario, scenario.load():
        outages.break_redis_disk(scenario)

        assert _refused_for(scenario, "store_unavailable"), "Redis took all writes: nothing is shown"


def test_both_are_down_together(stage: Stage) -> None:
    with stage.scenario(accepts=150) as scenario, scenario.load():
        outages.take_both_down(scenario)


def test_rabbitmq_loses_its_data(stage: Stage) -> None:
    """What was accepted is published again from the records: queued, scheduled and retrying, and nothing runs twice."""
    with stage.scenario(accepts=60) as scenario, scenario.load():
        running = scenario.submit({"seconds": 4}, priority="high")
        failing = [scenario.submit({"fail_attempts": 3}, max_retries=3, executions=4) for _ in range(4)]
        stage.target.stop("worker-low")  # so that these stay queued
        queued = [scenario.submit(priority="low") for _ in range(20)]
        scheduled = [scenario.submit(priority=priority, delay=25) for priority in PRIORITIES for _ in range(3)]

        outages.lose_broker_data(scenario)
        stage.target.start("worker-low")
        scenario.wait_for_final([running, *failing, *queued, *scheduled], 120)


def _refused_for(scenario: Scenario, error: str) -> bool:
    return any(answer.document.get("error") == error for one in scenario.submitted for answer in one.answers)
