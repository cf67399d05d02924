"""Minutes of all verbs with a random fault every ten seconds. `make soak SEED=… MINUTES=…` repeats a run."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable

import pytest

from tests.faults import outages
from tests.faults.ledger import Outcome
from tests.faults.load import PRIORITIES, sleep_task
from tests.faults.scenario import Scenario, Stage
from tests.faults.target import WORKERS
from tests.support.waiting import wait_until

EVERY_S = 10.0

Fault = Callable[[Scenario, random.Random], None]


@pytest.mark.soak
def test_soak(stage: Stage) -> None:
    seed = int(os.environ.get("SEED") or random.SystemRandom().randrange(10**6))
    minutes = float(os.environ.get("MINUTES") or 10)
    print(f"\nsoak: SEED={seed} MINUTES={minutes:g}", flush=True)
    chance = random.Random(seed)
    stage.name = f"soak, seed {seed}, {minutes:g} min"

    accepts = round(minutes * 200)
    with (
        stage.scenario(accepts=accepts, loses_connections=True, quiet_within_s=300) as scenario,
        scenario.all_verbs(seed=seed),
    ):
        ends_at = time.monotonic() + 60 * minutes
        while time.monotonic() < ends_at:
            _break_something(scenario, chance)


def _break_something(scenario: Scenario, chance: random.Random) -> None:
    """One fault, then the rest of its ten seconds."""
    next_at = time.monotonic() + EVERY_S
    fault = chance.choice(_FAULTS)
    print(f"{time.strftime('%H:%M:%S')} {fault.__name__}", flush=True)
    fault(scenario, chance)
    wait_until(lambda: time.monotonic() >= next_at, 2 * EVERY_S, "the next fault is due")
    scenario.wait_for_the_next_202()


def kill_a_child(scenario: Scenario, chance: random.Random) -> None:
    victim = scenario.attempt(sleep_task({"seconds": 3}, priority=chance.choice(PRIORITIES)))
    if victim.outcome is Outcome.ACCEPTED:
        scenario.target.kill_running(scenario.wait_for_start(victim))


def kill_a_worker(scenario: Scenario, chance: random.Random) -> None:
    scenario.target.kill_main(chance.choice(WORKERS))


def kill_all_workers(scenario: Scenario, chance: random.Random) -> None:
    scenario.target.kill(*WORKERS)


def restart_a_worker(scenario: Scenario, chance: random.Random) -> None:
    worker = chance.choice(WORKERS)
    scenario.target.stop(worker)
    scenario.target.start(worker)


def kill_web(scenario: Scenario, chance: random.Random) -> None:
    scenario.target.kill("web")


def restart_rabbitmq(scenario: Scenario, chance: random.Random) -> None:
    outages.restart(scenario, "rabbitmq")


def kill_rabbitmq(scenario: Scenario, chance: random.Random) -> None:
    outages.kill(scenario, "rabbitmq")


def freeze_rabbitmq(scenario: Scenario, chance: random.Random) -> None:
    outages.freeze(scenario, "rabbitmq", away_s=chance.uniform(1, 8))


def alarm_rabbitmq(scenario: Scenario, chance: random.Random) -> None:
    outages.raise_memory_alarm(scenario, away_s=chance.uniform(1, 8))


def fill_rabbitmqs_disk(scenario: Scenario, chance: random.Random) -> None:
    outages.raise_disk_alarm(scenario, away_s=chance.uniform(1, 8))


def lose_broker_data(scenario: Scenario, chance: random.Random) -> None:
    outages.lose_broker_data(scenario)


def restart_redis(scenario: Scenario, chance: random.Random) -> None:
    outages.restart(scenario, "redis")


def kill_redis(scenario: Scenario, chance: random.Random) -> None:
    outages.kill(scenario, "redis")


def freeze_redis(scenario: Scenario, chance: random.Random) -> None:
    outages.freeze(scenario, "redis", away_s=chance.uniform(1, 8))


def fill_redis(scenario: Scenario, chance: random.Random) -> None:
    outages.fill_redis(scenario, away_s=chance.uniform(1, 8))


def break_redis_disk(scenario: Scenario, chance: random.Random) -> None:
    outages.break_redis_disk(scenario, away_s=chance.uniform(1, 8))


def take_both_down(scenario: Scenario, chance: random.Random) -> None:
    outages.take_both_down(scenario, away_s=chance.uniform(1, 4))


_FAULTS: tuple[Fault, ...] = (
    kill_a_child, kill_a_worker, kill_all_workers, restart_a_worker, kill_web, restart_rabbitmq, kill_rabbitmq,
    freeze_rabbitmq, alarm_rabbitmq, fill_rabbitmqs_disk, lose_broker_data, restart_redis, kill_redis, freeze_redis,
    fill_redis, break_redis_disk, take_both_down,
)  # fmt: skip
