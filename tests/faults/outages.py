"""The ways in which a store can be away, each from its beginning to the moment that it is back.

Used by the scenarios one at a time and by the soak at random.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.faults.scenario import Scenario
from tests.faults.target import STORES

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
    scenario.target.freeze(*stores)
    try:
        time.sleep(away_s)
    finally:
        scenario.target.thaw(*stores)
    scenario.recovered(*stores)


def raise_memory_alarm(scenario: Scenario, *, away_s: float = AWAY_S) -> None:
    """RabbitMQ's own: it blocks the connections of those who publish."""
    scenario.target.memory_alarm(on=True)
    try:
        time.sleep(away_s)
    finally:
        scenario.target.memory_alarm(on=False)
    scenario.recovered()


def raise_disk_alarm(scenario: Scenario, *, away_s: float = AWAY_S / 2) -> None:
    """RabbitMQ's other one, with the same effect."""
    scenario.target.disk_alarm(on=True)
    try:
        time.sleep(away_s)
    finally:
        scenario.target.disk_alarm(on=False)
    scenario.recovered()


def lose_broker_data(scenario: Scenario) -> None:
    """Its volume was removed: every message is gone, and every queue until somebody declares it."""
    scenario.target.lose_broker_data()
    scenario.recovered("rabbitmq")


def break_redis_disk(scenario: Scenario, *, away_s: float = AWAY_S / 2) -> None:
    """Redis cannot save and refuses all writes (MISCONF)."""
    scenario.target.break_redis_disk(broken=True)
    try:
        time.sleep(away_s)
    finally:
        scenario.target.break_redis_disk(broken=False)
    scenario.recovered()


def fill_redis(scenario: Scenario, *, away_s: float = AWAY_S) -> None:
    """Redis' equivalent: out of memory, and nothing may be evicted."""
    scenario.target.limit_redis(full=True)
    try:
        time.sleep(away_s)
    finally:
        scenario.target.limit_redis(full=False)
    scenario.recovered()


def take_both_down(scenario: Scenario, *, away_s: float = AWAY_S / 2) -> None:
    scenario.target.stop(*STORES)
    time.sleep(away_s)
    scenario.target.start(*STORES)
    scenario.recovered(*STORES)
