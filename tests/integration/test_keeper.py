"""The worker's keeper on a real Redis: what it does each second, also when Redis takes nothing more."""

from __future__ import annotations

import uuid
from contextlib import suppress

import pytest
import redis

from taskservice.errors import Unavailable
from taskservice.local.system import LocalSystem
from taskservice.model import Priority, Submission, now
from taskservice.records import Attempts, Pauses, Records
from taskservice.records.roster import Roster
from taskservice.worker.keeper import Keeper
from taskservice.worker.presence import Presence


@pytest.fixture
def client(stores: LocalSystem) -> redis.Redis:
    client = Records.connect(stores.result_backend, retention_s=60).client
    client.flushdb()
    return client


def keeper_of(client: redis.Redis) -> Keeper:
    presence = Presence(Roster(client), name="low@test", queues=["low_priority"], concurrency=1)
    return Keeper(Attempts(client, retention_s=60), Pauses(client), presence, tuple)


def submitted() -> Submission:
    moment = now()
    parameters = {"data": "x" * 10_000}
    return Submission(str(uuid.uuid4()), "data_processing", Priority.LOW, parameters, moment, moment, 1)


def test_a_full_redis_full_of_old_records_has_room_again_after_a_tick(client: redis.Redis) -> None:
    records = Records(client, retention_s=0)
    old = [submitted() for _ in range(500)]
    records.accept_many(old)
    records.cancel_many([one.task_id for one in old])
    client.zunionstore("expiring", {"expiring": 0})  # due since 1970
    client.config_set("maxmemory", int(client.info("memory")["used_memory"]) - 2_000_000)
    try:
        with pytest.raises(Unavailable):
            records.ping()
        with suppress(redis.RedisError, Unavailable):  # as the keeper's own loop does
            keeper_of(client).tick()
        records.accept(submitted())
    finally:
        client.config_set("maxmemory", 0)

    assert client.zcard("expiring") == 0
