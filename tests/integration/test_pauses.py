"""Pauses on a real Redis: facts that every client sees and that survive a restart of whoever set them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from taskservice.errors import Unavailable
from taskservice.local.ports import choose_port
from taskservice.local.system import LocalSystem
from taskservice.records import Records
from taskservice.records.pauses import Pauses


def connect(url: str) -> Pauses:
    return Pauses(Records.connect(url, retention_s=60).client)


@pytest.fixture
def pauses(stores: LocalSystem) -> Iterator[Pauses]:
    pauses = connect(stores.result_backend)
    yield pauses
    for queue in pauses.paused():
        pauses.resume(queue)


def test_nothing_is_paused_unless_someone_did(pauses: Pauses) -> None:
    assert pauses.paused() == frozenset()


def test_a_pause_is_seen_by_every_client_until_it_is_lifted(pauses: Pauses, stores: LocalSystem) -> None:
    pauses.pause("low_priority")
    pauses.pause("high_priority")
    pauses.resume("high_priority")

    assert connect(stores.result_backend).paused() == {"low_priority"}


def test_pausing_twice_is_pausing_once(pauses: Pauses) -> None:
    pauses.pause("low_priority")
    pauses.pause("low_priority")
    pauses.resume("low_priority")
    pauses.resume("low_priority")

    assert pauses.paused() == frozenset()


def test_a_store_that_is_down_is_said_so() -> None:
    pauses = connect(f"redis://127.0.0.1:{choose_port()}/0")

    with pytest.raises(Unavailable):
        pauses.pause("low_priority")
    with pytest.raises(Unavailable):
        pauses.paused()
