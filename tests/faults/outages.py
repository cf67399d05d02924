"""The ways in which a store can be away, each from its beginning to the moment that it is back.

Used by the scenarios one at a time and by the soak at random.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

from tests.faults.scenario import Scenario
from tests.faults.target import EVERYTHING, STORES, WORKERS

AWAY_S = 20.0

Outage = Callable[[Scenario, str], None]


def restart(scenario: Scenario, *stores: str) -> None:
    scenario.target.stop(*stores)
    scenario.target.start(*stores)
    scenario.recovered(*stores)


def kill(scenario: Scenario, *stores: str) -> None:
    scenario.target.kill(*stores)
    time.sleep(1)  # until it is seen to be dead
    scenario.recovered(*stores)


def freeze(scenario: Scenario, *stores: str, away_s: float = AWAY_S) -> None:
    with _recovering(scenario, lambda: scenario.target.thaw(*stores), *stores):
        scenario.target.freeze(*stores)
        time.sleep(away_s)


def raise_memory_alarm(scenario: Scenario, *, away_s: float = AWAY_S) -> None:
    """RabbitMQ's own: it blocks the connections of those who publish."""
    with _recovering(scenario, lambda: scenario.target.memory_alarm(on=False)):
        scenario.target.memory_alarm(on=True)
        time.sleep(away_s)


def raise_disk_alarm(scenario: Scenario, *, away_s: float = AWAY_S / 2) -> None:
    """RabbitMQ's other one, with the same effect."""
    with _recovering(scenario, lambda: scenario.target.disk_alarm(on=False)):
        scenario.target.disk_alarm(on=True)
        time.sleep(away_s)


def lose_broker_data(scenario: Scenario) -> None:
    """Its volume was removed: every message is gone, and every queue until somebody declares it."""
    scenario.target.lose_broker_data()
    scenario.recovered("rabbitmq")


def break_redis_disk(scenario: Scenario, *, away_s: float = AWAY_S / 2) -> None:
    """Redis cannot save and refuses all writes (MISCONF)."""
    with _recovering(scenario, lambda: scenario.target.break_redis_disk(broken=False)):
        scenario.target.break_redis_disk(broken=True)
        time.sleep(away_s)


def fill_redis(scenario: Scenario, *, away_s: float = AWAY_S) -> None:
    """Redis' equivalent: out of memory, and nothing may be evicted."""
    with _recovering(scenario, lambda: scenario.target.limit_redis(full=False)):
        scenario.target.limit_redis(full=True)
        time.sleep(away_s)


def take_both_down(scenario: Scenario, *, away_s: float = AWAY_S / 2) -> None:
    scenario.target.stop(*STORES)
    time.sleep(away_s)
    scenario.target.start(*STORES)
    scenario.recovered(*STORES)


def restart_everything(scenario: Scenario, *, running: Collection[str] = EVERYTHING) -> None:
    """Web and workers before the stores, the stores before them. Returns when /readyz says ready."""
    scenario.target.stop(*(program for program in running if program not in STORES))
    scenario.target.stop(*STORES)
    scenario.target.start(*STORES)
    for store in STORES:
        scenario.target.wait_until_up(store)
    scenario.target.start("web", *WORKERS)
    scenario.wait_until_ready()


@contextmanager
def _recovering(scenario: Scenario, undo: Callable[[], None], *stores: str) -> Iterator[None]:
    """Whatever the block breaks is mended after it, and the scenario told when it was."""
    try:
        yield
    finally:
        undo()
    scenario.recovered(*stores)
