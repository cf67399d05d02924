"""One node after another goes away while eight clients submit, every submission with an Idempotency-Key."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.cluster.target import BROKERS, ClusterTarget
from tests.faults.ledger import Submitted
from tests.faults.load import plain_mix
from tests.faults.scenario import Scenario, Stage
from tests.faults.target import WORKERS
from tests.support.waiting import wait_until

AWAY_S = 15.0
WITHOUT_IT_S = 5.0  # the new primary takes tasks that the former one has never seen
CUT_OFF_S = 40.0  # longer than RabbitMQ needs to call a silent node gone
FAILOVER_S = 40.0  # Sentinels wait for 6 s before they act; on a busy machine all of it takes its time


def keyed_mix(chance: random.Random) -> Submitted:
    one = plain_mix(chance)
    one.key = one.key or uuid.uuid4().hex
    return one


@contextmanager
def under_load(stage: Stage, *, longest_gap: float, accepts: int = 200) -> Iterator[Scenario]:
    """What breaks inside is whole again at the end; between two 202s there are at most `longest_gap` seconds."""
    with stage.scenario(accepts=accepts) as scenario, scenario.load(keyed_mix):
        yield scenario
    assert stage.rows[-1].longest_gap_s <= longest_gap


def test_the_rabbitmq_node_with_most_leaders_is_killed_and_returns(stage: Stage, target: ClusterTarget) -> None:
    with under_load(stage, longest_gap=15) as scenario:
        node = target.busiest_broker()
        target.kill_for_good(node)
        time.sleep(AWAY_S)

        target.start(node)
        wait_until(target.are_brokers_whole, 120, f"{node} is back")
        scenario.recovered()


@pytest.mark.parametrize("node", BROKERS[:2])
def test_a_rabbitmq_node_is_cut_off(stage: Stage, target: ClusterTarget, node: str) -> None:
    stage.name = f"{node} is cut off for {CUT_OFF_S:g} s"
    with under_load(stage, longest_gap=30) as scenario:
        target.cut_off(node)
        time.sleep(CUT_OFF_S)

        target.reconnect(node)
        wait_until(target.are_brokers_whole, 120, f"{node} is back")
        scenario.recovered()


def test_all_rabbitmq_nodes_are_restarted_one_by_one(stage: Stage, target: ClusterTarget) -> None:
    with under_load(stage, longest_gap=15) as scenario:
        for node in BROKERS:
            target.stop(node)
            target.start(node)
            wait_until(target.are_brokers_whole, 120, f"{node} is back")
        scenario.recovered()


def test_two_rabbitmq_nodes_are_gone_and_return(stage: Stage, target: ClusterTarget) -> None:
    with under_load(stage, longest_gap=120) as scenario:
        for node in BROKERS[1:]:
            target.kill_for_good(node)
        time.sleep(AWAY_S)

        target.start(*BROKERS[1:])
        wait_until(target.are_brokers_whole, 120, "both are back")
        scenario.recovered()


def test_the_redis_primary_is_killed_and_returns_as_a_replica(stage: Stage, target: ClusterTarget) -> None:
    with under_load(stage, longest_gap=FAILOVER_S) as scenario:
        former = target.redis_primary()
        target.kill_for_good(former)
        wait_until(lambda: target.redis_primary() != former, FAILOVER_S, "another primary")
        scenario.recovered()
        time.sleep(WITHOUT_IT_S)

        target.start(former)
        wait_until(target.are_redises_whole, 120, f"{former} is back")
        assert target.role(former) == "slave"


def test_the_redis_primary_is_restarted_at_once_and_lets_another_take_over(stage: Stage, target: ClusterTarget) -> None:
    with under_load(stage, longest_gap=FAILOVER_S) as scenario:
        former = target.redis_primary()
        target.kill(former)
        wait_until(lambda: target.redis_primary() != former, FAILOVER_S, "another primary")
        wait_until(target.are_redises_whole, 120, f"{former} follows it")
        scenario.recovered()


def test_the_redis_primary_is_cut_off(stage: Stage, target: ClusterTarget) -> None:
    with under_load(stage, longest_gap=FAILOVER_S) as scenario:
        former = target.redis_primary()
        target.cut_off(former)
        time.sleep(CUT_OFF_S)

        target.reconnect(former)
        wait_until(target.are_redises_whole, 120, f"{former} is back")
        scenario.recovered()
        assert target.redis_primary() != former


def test_a_redis_replica_is_killed_and_returns(stage: Stage, target: ClusterTarget) -> None:
    with under_load(stage, longest_gap=10) as scenario:
        primary = target.redis_primary()
        replica = next(name for name in ("redis", "redis-2", "redis-3") if name != primary)
        target.kill_for_good(replica)
        time.sleep(AWAY_S)

        target.start(replica)
        wait_until(target.are_redises_whole, 120, f"{replica} is back")
        scenario.recovered()


def test_workers_are_restarted_while_a_rabbitmq_node_is_away(stage: Stage, target: ClusterTarget) -> None:
    with under_load(stage, longest_gap=15) as scenario:
        target.kill_for_good(BROKERS[2])
        for worker in WORKERS:
            target.stop(worker)
            target.start(worker)

        target.start(BROKERS[2])
        wait_until(target.are_brokers_whole, 120, f"{BROKERS[2]} is back")
        scenario.wait_until_ready()
        scenario.recovered()
