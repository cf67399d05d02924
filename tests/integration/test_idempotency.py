"""Idempotency keys on a real Redis: of all requests with one key, one runs at a time and one is answered for all."""

from __future__ import annotations

import math
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from taskservice.errors import Unavailable
from taskservice.local.ports import choose_port
from taskservice.local.system import LocalSystem
from taskservice.publisher import PATIENCE_S
from taskservice.records import Records
from taskservice.records.idempotency import IN_FLIGHT_MS, KEPT_S, Outcome, Reservation, Reservations
from taskservice.records.script import AT_ONCE
from taskservice.request_bodies import MAX_BATCH
from tests.conftest import WaitUntil

ANSWER = {"task_id": "first", "links": {"self": "/api/tasks/first"}, "due_at": "ü"}


@pytest.fixture
def client(stores: LocalSystem) -> redis.Redis:
    return Records.connect(stores.result_backend, retention_s=60).client


@pytest.fixture
def reservations(client: redis.Redis) -> Reservations:
    return Reservations(client)


@pytest.fixture
def key() -> str:
    return str(uuid.uuid4())


def test_the_first_request_runs_as_its_own_task(reservations: Reservations, key: str) -> None:
    reservation = reservations.reserve(key, fingerprint="f", task_id="first")

    assert reservation == Reservation(Outcome.RESERVED, "first")


def test_a_second_request_waits_for_the_first(reservations: Reservations, key: str) -> None:
    reservations.reserve(key, fingerprint="f", task_id="first")

    assert reservations.reserve(key, fingerprint="f", task_id="second").outcome is Outcome.IN_FLIGHT


def test_a_settled_request_is_answered_for_all_word_by_word(reservations: Reservations, key: str) -> None:
    reservations.reserve(key, fingerprint="f", task_id="first")
    reservations.settle(key, ANSWER)

    reservation = reservations.reserve(key, fingerprint="f", task_id="second")

    assert reservation == Reservation(Outcome.REPLAYED, "first", ANSWER)
    assert list(reservation.answer or ()) == list(ANSWER)


def test_another_request_does_not_get_the_key(reservations: Reservations, key: str) -> None:
    reservations.reserve(key, fingerprint="f", task_id="first")
    in_flight = reservations.reserve(key, fingerprint="other", task_id="second")
    reservations.settle(key, ANSWER)
    settled = reservations.reserve(key, fingerprint="other", task_id="second")

    assert (in_flight.outcome, settled.outcome) == (Outcome.MISMATCH, Outcome.MISMATCH)


def test_a_refused_request_may_be_repeated_at_once_as_the_same_task(reservations: Reservations, key: str) -> None:
    reservations.reserve(key, fingerprint="f", task_id="first")
    reservations.release(key)

    again = reservations.reserve(key, fingerprint="f", task_id="second")
    third = reservations.reserve(key, fingerprint="f", task_id="third")

    assert again == Reservation(Outcome.RESERVED, "first")
    assert third.outcome is Outcome.IN_FLIGHT


def test_a_request_that_did_nothing_leaves_its_key_unused(reservations: Reservations, key: str) -> None:
    reservations.reserve(key, fingerprint="f", task_id="first")
    reservations.forget(key)

    assert reservations.reserve(key, fingerprint="other", task_id="second") == Reservation(Outcome.RESERVED, "second")


def test_a_request_that_died_frees_its_key_by_itself(client: redis.Redis, key: str, wait_until: WaitUntil) -> None:
    reservations = Reservations(client, in_flight_ms=300)
    reservations.reserve(key, fingerprint="f", task_id="first")
    found: list[Reservation] = []

    def is_free() -> bool:
        found.append(reservations.reserve(key, fingerprint="f", task_id="second"))
        return found[-1].outcome is not Outcome.IN_FLIGHT

    wait_until(is_free, 5, "the reservation ended")

    assert (found[0].outcome, found[-1]) == (Outcome.IN_FLIGHT, Reservation(Outcome.RESERVED, "first"))


def test_a_reservation_outlasts_the_longest_request() -> None:
    """A repeated batch: asked for, lifted, published, and recorded or refused, each answer just in time."""
    store_timeout_s = 1.0
    round_trips = 1 + 2 * math.ceil(MAX_BATCH / AT_ONCE) + 1

    assert PATIENCE_S + round_trips * store_timeout_s < IN_FLIGHT_MS / 1000


def test_of_requests_at_the_same_moment_one_runs(stores: LocalSystem, key: str) -> None:
    def reserve(task_id: str) -> Reservation:
        own = Reservations(Records.connect(stores.result_backend, retention_s=60).client)
        return own.reserve(key, fingerprint="f", task_id=task_id)

    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(reserve, [str(number) for number in range(64)]))

    assert Counter(one.outcome for one in found) == {Outcome.RESERVED: 1, Outcome.IN_FLIGHT: 63}
    assert len({one.task_id for one in found}) == 1


@pytest.mark.parametrize("key", ["a", "a:b", "x" * 255, " ", "*"])
def test_a_reservation_is_kept_a_day_and_never_longer(
    reservations: Reservations, client: redis.Redis, key: str
) -> None:
    reservations.reserve(key, fingerprint="f", task_id="first")
    reservations.release(key)
    reservations.reserve(key, fingerprint="f", task_id="first")
    reservations.settle(key, ANSWER)

    kept_s = [client.ttl(name) for name in client.scan_iter("idempotency:*")]

    assert all(0 < left_s <= KEPT_S for left_s in kept_s)


def test_a_store_that_is_down_is_said_so() -> None:
    reservations = Reservations(Records.connect(f"redis://127.0.0.1:{choose_port()}/0", retention_s=60).client)

    with pytest.raises(Unavailable):
        reservations.reserve("k", fingerprint="f", task_id="first")
    with pytest.raises(Unavailable):
        reservations.settle("k", ANSWER)
