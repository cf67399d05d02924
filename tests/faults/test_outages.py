"""RabbitMQ and Redis go away and come back while eight clients submit."""

from __future__ import annotations

from tests.faults import outages
from tests.faults.scenario import Stage


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


def test_both_are_down_together(stage: Stage) -> None:
    with stage.scenario(accepts=150) as scenario, scenario.load():
        outages.take_both_down(scenario)
