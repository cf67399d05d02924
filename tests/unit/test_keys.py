"""Keys: the form of their texts, what is kept of them, and how long a process goes by what it remembers."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import timedelta

import pytest

from taskservice.errors import Unavailable
from taskservice.keys import ApiKey, Scope, is_key_id, key_id_in, make_key, make_webhook_secret
from taskservice.model import now
from taskservice.records.keys import ASK_AGAIN_S, FRESH_S, MAX_REMEMBERED, STALE_S, RememberedKeys
from tests.support.keys import MemoryKeys

READ = frozenset({Scope.READ})


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def added(store: MemoryKeys) -> ApiKey:
    key, _ = make_key("test", READ)
    store.kept[key.key_id] = key
    return key


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store() -> MemoryKeys:
    return MemoryKeys()


@pytest.fixture
def remembered(store: MemoryKeys, clock: Clock) -> RememberedKeys:
    return RememberedKeys(store, clock=clock)


def test_a_text_names_its_key_and_is_recognised() -> None:
    key, text = make_key("ci", READ)

    assert text.startswith(f"tsk_{key.key_id}_")
    assert key_id_in(text) == key.key_id
    assert key.has_text(text)


def test_a_key_holds_256_random_bits_and_its_text_is_not_kept() -> None:
    key, text = make_key("ci", READ)
    other, other_text = make_key("ci", READ)

    random_part = text.rsplit("_", 1)[1]

    assert len(bytes.fromhex(random_part)) == 32
    assert not other.has_text(text)
    assert text != other_text
    assert random_part not in str([getattr(key, name) for name in key.__slots__])


@pytest.mark.parametrize(
    ("expires_in_s", "is_revoked", "is_in_force"),
    [(None, False, True), (60, False, True), (-1, False, False), (60, True, False)],
)
def test_a_key_is_in_force_until_it_expires_or_is_revoked(
    expires_in_s: int | None, is_revoked: bool, is_in_force: bool
) -> None:
    expires_in = None if expires_in_s is None else timedelta(seconds=expires_in_s)
    key, _ = make_key("ci", READ, expires_in=expires_in)

    assert replace(key, revoked_at=now() if is_revoked else None).is_in_force == is_in_force


def test_a_key_shows_no_secret_when_it_is_printed() -> None:
    key, text = make_key("ci", READ)

    assert key.webhook_secret not in repr(key)
    assert key.text_hash not in repr(key)
    assert text not in repr(key)


def test_a_webhook_secret_is_32_bytes_as_standard_webhooks_writes_them() -> None:
    secret = make_webhook_secret()

    assert secret.startswith("whsec_")
    assert len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) == 32
    assert secret != make_webhook_secret()


@pytest.mark.parametrize(
    "text",
    ["", "tsk_", "tsk_0123456789abcdef", "tsk_0123456789abcdef_", "tsk_../../etc_" + "0" * 64,
     "tsk_0123456789abcdef_" + "0" * 63, "tsk_0123456789abcdef_" + "0" * 64 + "\n", "TSK_0123456789abcdef_" + "0" * 64,
     "tsk_0123456789abcdef_" + "٣" * 64, "whsec_" + "0" * 64],
)  # fmt: skip
def test_what_is_no_key_is_not_looked_up(text: str) -> None:
    assert key_id_in(text) is None


@pytest.mark.parametrize("text", ["", "0123456789abcde", "0123456789abcdeg", "0123456789ABCDEF", "0123456789abcdef\n"])
def test_what_is_no_key_id_is_not_looked_up(text: str) -> None:
    assert not is_key_id(text)


def test_an_answer_is_remembered_while_it_is_fresh(remembered: RememberedKeys, store: MemoryKeys, clock: Clock) -> None:
    key = added(store)

    first = remembered.get(key.key_id)
    clock.now_s += FRESH_S - 0.1
    second = remembered.get(key.key_id)

    assert first == second == key
    assert store.asked == 1


def test_a_revocation_is_seen_within_5_s(remembered: RememberedKeys, store: MemoryKeys, clock: Clock) -> None:
    key = added(store)
    remembered.get(key.key_id)
    store.kept[key.key_id] = replace(key, revoked_at=now())

    clock.now_s += FRESH_S
    found = remembered.get(key.key_id)

    assert FRESH_S < 5
    assert found is not None
    assert found.is_revoked


def test_a_guess_is_remembered_too_and_a_new_key_is_seen_within_5_s(
    remembered: RememberedKeys, store: MemoryKeys, clock: Clock
) -> None:
    key, _ = make_key("late", READ)

    guesses = [remembered.get(key.key_id) for _ in range(3)]
    asked = store.asked
    store.kept[key.key_id] = key
    clock.now_s += FRESH_S

    assert guesses == [None, None, None]
    assert asked == 1
    assert remembered.get(key.key_id) == key


def test_guesses_push_no_key_out_and_take_bounded_memory(remembered: RememberedKeys, store: MemoryKeys) -> None:
    key = added(store)
    remembered.get(key.key_id)

    for number in range(MAX_REMEMBERED + 10):
        remembered.get(f"{number:016x}")
    asked = store.asked
    found = remembered.get(key.key_id)
    remembered.get(f"{0:016x}")

    assert found == key
    assert store.asked == asked + 1  # only the first guess was forgotten


def test_a_known_key_goes_on_working_for_60_s_without_the_store(
    remembered: RememberedKeys, store: MemoryKeys, clock: Clock
) -> None:
    key = added(store)
    remembered.get(key.key_id)
    store.is_away = True

    clock.now_s += STALE_S - 1
    found = remembered.get(key.key_id)
    clock.now_s += ASK_AGAIN_S

    assert STALE_S == 60
    assert found == key
    with pytest.raises(Unavailable):
        remembered.get(key.key_id)


def test_without_the_store_not_every_request_waits_for_it(
    remembered: RememberedKeys, store: MemoryKeys, clock: Clock
) -> None:
    key = added(store)
    remembered.get(key.key_id)
    store.is_away = True
    clock.now_s += FRESH_S
    asked = store.asked

    for _ in range(10):
        remembered.get(key.key_id)

    assert store.asked == asked + 1


def test_an_unknown_key_is_not_judged_without_the_store(remembered: RememberedKeys, store: MemoryKeys) -> None:
    store.is_away = True

    with pytest.raises(Unavailable):
        remembered.get("0123456789abcdef")


def test_the_first_key_is_seen_within_5_s(remembered: RememberedKeys, store: MemoryKeys, clock: Clock) -> None:
    before = remembered.are_configured()
    added(store)
    clock.now_s += FRESH_S

    assert not before
    assert remembered.are_configured()


def test_a_store_that_lost_its_keys_does_not_open_a_running_service(
    remembered: RememberedKeys, store: MemoryKeys, clock: Clock
) -> None:
    added(store)
    remembered.are_configured()
    store.kept.clear()

    clock.now_s += FRESH_S

    assert remembered.are_configured()


def test_a_service_without_keys_stays_as_it_was_while_the_store_is_away(
    remembered: RememberedKeys, store: MemoryKeys, clock: Clock
) -> None:
    remembered.are_configured()
    store.is_away = True

    clock.now_s += STALE_S * 2

    assert not remembered.are_configured()


def test_a_service_that_has_never_reached_its_store_does_not_say_that_there_are_no_keys(
    remembered: RememberedKeys, store: MemoryKeys
) -> None:
    store.is_away = True

    with pytest.raises(Unavailable):
        remembered.are_configured()
