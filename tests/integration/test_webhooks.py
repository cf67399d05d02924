"""From a change of a task to a signed request at a real receiver: the outbox on a real Redis, then everything."""

from __future__ import annotations

import json
import socket
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from standardwebhooks import Webhook

from taskservice.handlers.webhook_delivery.parameters import MAX_ATTEMPTS
from taskservice.keys import Scope, make_key
from taskservice.local.ports import choose_port
from taskservice.local.system import LocalSystem
from taskservice.model import Callback, Priority, Record, Status, Submission, now
from taskservice.records import Attempts, Records
from taskservice.records.deliveries import Delivery, DeliveryLog
from taskservice.records.keys import Keys
from taskservice.records.receivers import SLOW_IN_A_ROW, SLOW_S, TURN_S, SlowReceivers
from taskservice.records.script import connect, record_key
from taskservice.records.webhook_secrets import WebhookSecrets
from taskservice.worker.outbox import MAX_TRIES, Outbox
from tests.conftest import WaitUntil
from tests.support.receiver import Answer, Received, receiving
from tests.support.service import Service

URL = "https://example.com/hook"


class Store:
    """One emptied Redis, its outbox, and what was published from it."""

    def __init__(self, url: str) -> None:
        self.records = Records.connect(url, retention_s=60)
        self.client = self.records.client
        self.client.flushdb()
        self.attempts = Attempts(self.client, retention_s=60)
        self.log = DeliveryLog(self.client)
        self.secrets = WebhookSecrets(self.client)
        self.receivers = SlowReceivers(self.client)
        self.published: list[Submission] = []
        self.broker_fails = False
        self._outbox = Outbox(self.client, retention_s=60)

    def finished(self, *events: str, **changes: Any) -> Submission:
        """A task that has started and succeeded, with a callback for these events."""
        moment = now()
        submission = Submission(str(uuid.uuid4()), "sleep", Priority.LOW, {}, moment, moment, 3)
        submission = replace(submission, callback=Callback(URL, events), **changes)
        self.records.accept(submission)
        self.attempts.claim(submission, attempt=1, worker="low@test", delivery="d")
        self.attempts.succeed(submission, delivery="d", attempt=1, result={"words": 2})
        return submission

    def empty_outbox(self) -> bool:
        return self._outbox.empty(self._publish)

    def lapse_holds(self) -> None:
        """As if HOLD_S had passed."""
        for posted in self.client.zrange("outbox", 0, -1):
            self.client.zadd("outbox", {str(posted): 1})

    def read(self, task_id: str) -> Record:
        record = self.records.get(task_id)
        assert record is not None
        return record

    def _publish(self, submission: Submission, *, attempt: int = 1) -> None:
        if self.broker_fails:
            raise ConnectionError
        self.published.append(submission)


@pytest.fixture
def store(stores: LocalSystem) -> Store:
    return Store(stores.result_backend)


# The outbox


def test_each_wanted_change_is_one_delivery_that_can_be_read(store: Store) -> None:
    submission = store.finished("started", "succeeded", key_id="k")
    store.empty_outbox()
    waits_on = store.empty_outbox()

    first, second = store.published
    bodies = [json.loads(one.parameters["body"]) for one in (first, second)]
    assert [body["type"] for body in bodies] == ["task.started", "task.succeeded"]
    assert [body["data"]["status"] for body in bodies] == ["running", "succeeded"]
    assert bodies[1]["data"]["result"] == {"words": 2}
    assert (first.parameters["url"], first.parameters["key_id"], first.max_attempts) == (URL, "k", MAX_ATTEMPTS)
    assert store.read(first.task_id).status is Status.QUEUED
    assert [(one.n, one.event, one.delivery_id) for one in store.log.of_task(submission.task_id)] == [
        (1, "started", first.task_id),
        (2, "succeeded", second.task_id),
    ]
    assert not waits_on


def test_what_could_not_be_published_is_published_later(store: Store) -> None:
    store.finished("succeeded")
    store.broker_fails = True
    with pytest.raises(ConnectionError):
        store.empty_outbox()
    store.broker_fails = False
    while_held = store.empty_outbox()
    store.lapse_holds()
    store.empty_outbox()

    assert not while_held
    assert len(store.published) == 1


def test_a_crash_between_publishing_and_clearing_makes_no_second_delivery(store: Store) -> None:
    submission = store.finished("succeeded")
    posted = store.client.zrange("outbox", 0, -1)
    store.empty_outbox()
    store.client.zadd("outbox", {str(posted[0]): 1})
    store.empty_outbox()

    first, again = store.published
    assert first == again
    assert len(store.log.of_task(submission.task_id)) == 1


def test_a_delivery_that_has_run_is_not_published_again(store: Store) -> None:
    store.finished("succeeded")
    posted = store.client.zrange("outbox", 0, -1)
    store.empty_outbox()
    (delivery,) = store.published
    store.attempts.claim(delivery, attempt=1, worker="normal@test", delivery="d2")
    store.client.zadd("outbox", {str(posted[0]): 1})
    store.empty_outbox()

    assert len(store.published) == 1
    assert store.client.zcard("outbox") == 0


def test_a_change_of_a_task_that_is_forgotten_leaves_nothing_behind(store: Store) -> None:
    submission = store.finished("succeeded")
    forget(store)
    store.empty_outbox()
    store.log.add(submission.task_id, Delivery("late", "succeeded", "late"))

    assert store.published == []
    assert not store.client.exists("outbox", f"deliveries:{submission.task_id}")


def test_what_the_script_did_not_write_is_dropped_and_holds_nobody_up(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    store.client.zadd("outbox", {"nonsense": 1, "a b c d": 2, "a b succeeded 0": 3})
    store.finished("succeeded")
    store.empty_outbox()

    assert len(store.published) == 1
    assert store.client.zcard("outbox") == 0
    assert "webhook.dropped count=3" in caplog.text


def test_a_record_that_cannot_be_told_of_holds_nobody_up_and_is_dropped_in_the_end(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    damaged = store.finished("succeeded")
    store.client.hset(record_key(damaged.task_id), "attempts", "null")
    store.finished("succeeded")
    for _ in range(MAX_TRIES):
        assert store.client.zcard("outbox") > 0
        store.empty_outbox()
        store.lapse_holds()

    assert len(store.published) == 1
    assert not store.client.exists("outbox", "outbox_tries")
    assert caplog.text.count("webhook.unpublished") == MAX_TRIES
    assert caplog.text.count(f"webhook.dropped task_id={damaged.task_id} event=succeeded cause=unusable") == 1


def test_a_broker_that_is_away_uses_no_try_up(store: Store) -> None:
    store.finished("succeeded")
    store.broker_fails = True
    for _ in range(MAX_TRIES + 1):
        with pytest.raises(ConnectionError):
            store.empty_outbox()
        store.lapse_holds()
    store.broker_fails = False
    store.empty_outbox()

    assert len(store.published) == 1


def test_the_log_is_forgotten_with_its_task(store: Store) -> None:
    submission = store.finished("succeeded")
    store.empty_outbox()
    was_there = store.client.exists(f"deliveries:{submission.task_id}")
    forget(store)

    assert was_there
    assert not store.client.exists(f"deliveries:{submission.task_id}")


def forget(store: Store) -> None:
    for task_id in store.client.zrange("expiring", 0, -1):
        store.client.zadd("expiring", {str(task_id): 1})
    store.attempts.forget()


def test_a_replay_is_a_further_entry_and_adding_twice_is_adding_once(store: Store) -> None:
    submission = store.finished("succeeded")
    store.empty_outbox()
    replay = Delivery("again", "succeeded", store.published[0].task_id, is_replay=True)
    for _ in range(2):
        store.log.add(submission.task_id, replay)

    assert [(one.n, one.is_replay) for one in store.log.of_task(submission.task_id)] == [(1, False), (2, True)]


# Secrets


def test_without_keys_one_secret_is_made_and_kept(store: Store) -> None:
    (secret,) = store.secrets.of(None)

    assert secret.startswith("whsec_")
    assert store.secrets.of(None) == (secret,)


def test_each_key_has_its_own_secret_and_an_unknown_one_none(store: Store) -> None:
    key, _ = make_key("shop", frozenset({Scope.SUBMIT}))
    Keys(store.client).add(key)

    assert store.secrets.of(key.key_id) == (key.webhook_secret,)
    assert store.secrets.of("0123456789abcdef") == ()


@pytest.mark.parametrize("with_key", [True, False], ids=["of a key", "of the service"])
def test_a_former_secret_signs_until_its_overlap_ends(store: Store, wait_until: WaitUntil, with_key: bool) -> None:
    key_id = a_key(store) if with_key else None
    (first,) = store.secrets.of(key_id)

    second = store.secrets.rotate(key_id, overlap=timedelta(seconds=1))
    meanwhile = store.secrets.of(key_id)
    wait_until(lambda: len(store.secrets.of(key_id)) == 1, 3, "the overlap ended")
    shown = store.secrets.show(key_id)

    assert second is not None
    assert second.former_until is not None
    assert meanwhile == (second.text, first)
    assert now() >= second.former_until
    assert store.secrets.of(key_id) == (second.text,)
    assert (shown and shown.text, shown and shown.former_until) == (second.text, None)
    wait_until(lambda: not store.client.keys("former_webhook_secrets*"), 3, "the former secret is not kept")


def test_rotating_twice_breaks_no_promise_and_an_overlap_of_0_ends_all(store: Store) -> None:
    key_id = a_key(store)
    (first,) = store.secrets.of(key_id)

    second = store.secrets.rotate(key_id, overlap=timedelta(hours=24))
    third = store.secrets.rotate(key_id, overlap=timedelta(hours=1))
    three = store.secrets.of(key_id)
    ends_at = third and third.former_until
    last = store.secrets.rotate(key_id, overlap=timedelta())

    assert second is not None
    assert third is not None
    assert three[0] == third.text
    assert set(three) == {first, second.text, third.text}
    assert ends_at == second.former_until  # the later of the two
    assert store.secrets.of(key_id) == (last and last.text,)


def test_two_who_rotate_at_once_lose_no_secret(store: Store) -> None:
    key_id = a_key(store)
    (first,) = store.secrets.of(key_id)
    rotated: list[str] = []

    def rotate() -> None:
        secret = store.secrets.rotate(key_id, overlap=timedelta(hours=1))
        rotated.append(secret.text if secret else "")

    threads = [threading.Thread(target=rotate) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert set(store.secrets.of(key_id)) == {first, *rotated}


def a_key(store: Store) -> str:
    key, _ = make_key("shop", frozenset({Scope.SUBMIT}))
    Keys(store.client).add(key)
    return key.key_id


# Slow receivers

HOST = "slow.example"


def note(store: Store, took_s: float, *, times: int = 1, has_answered: bool = False) -> None:
    for _ in range(times):
        store.receivers.note(HOST, took_s=took_s, has_answered=has_answered)


def test_a_host_that_was_slow_several_times_in_a_row_is_asked_in_turns(store: Store) -> None:
    note(store, SLOW_S, times=SLOW_IN_A_ROW - 1)
    may_before = [store.receivers.may_ask(HOST) for _ in range(2)]
    note(store, SLOW_S)
    may_after = [store.receivers.may_ask(HOST) for _ in range(3)]

    assert may_before == [True, True]
    assert may_after == [True, False, False]
    assert store.receivers.may_ask("other.example")
    assert 0 < store.client.ttl(f"webhook_turn:{HOST}") <= TURN_S


def test_one_fast_answer_makes_it_a_normal_host(store: Store) -> None:
    note(store, SLOW_S, times=SLOW_IN_A_ROW)
    store.receivers.may_ask(HOST)
    note(store, 0.1, has_answered=True)

    assert [store.receivers.may_ask(HOST) for _ in range(2)] == [True, True]
    assert store.client.keys("webhook_*") == []


def test_a_slow_answer_gives_the_turn_to_the_next_and_silence_keeps_it(store: Store) -> None:
    note(store, SLOW_S, times=SLOW_IN_A_ROW)
    store.receivers.may_ask(HOST)
    note(store, SLOW_S, has_answered=True)
    after_an_answer = store.receivers.may_ask(HOST)
    note(store, SLOW_S, has_answered=False)
    after_silence = store.receivers.may_ask(HOST)

    assert (after_an_answer, after_silence) == (True, False)


def test_without_the_store_no_host_counts_as_slow() -> None:
    away = SlowReceivers(connect(f"redis://127.0.0.1:{choose_port()}/0"))

    away.note(HOST, took_s=SLOW_S, has_answered=False)

    assert away.may_ask(HOST)


# The whole service


def submit(service: Service, url: str, *events: str, **parameters: Any) -> str:
    return service.submit(parameters, callback={"url": url, "events": list(events)}, tags=["hooked"])


def deliveries(service: Service, task_id: str) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = service.call("GET", f"/api/tasks/{task_id}/deliveries")["data"]
    return listed


def are_delivered(service: Service, task_id: str, count: int) -> bool:
    return [one["status"] for one in deliveries(service, task_id)] == ["succeeded"] * count


def verified(service: Service, received: Received) -> dict[str, Any]:
    (secret,) = WebhookSecrets(connect(service.system.result_backend)).of(None)
    body: dict[str, Any] = Webhook(secret).verify(received.body, received.headers)
    return body


def test_a_client_is_told_of_each_change_it_asked_for(service: Service, wait_until: WaitUntil) -> None:
    with receiving() as receiver:
        task_id = submit(service, receiver.url(), "started", "succeeded", "failed")
        wait_until(lambda: are_delivered(service, task_id, 2), 20, "both webhooks were delivered")
        bodies = {body["type"]: body for body in (verified(service, one) for one in receiver.received)}

    task = service.task(task_id)
    assert bodies.keys() == {"task.started", "task.succeeded"}
    told = bodies["task.succeeded"]["data"]
    assert bodies["task.succeeded"]["timestamp"] == task["finished_at"]
    assert {name: told[name] for name in ("task_id", "status", "state", "attempt", "result", "tags")} == {
        name: task[name] for name in ("task_id", "status", "state", "attempt", "result", "tags")
    }
    assert [one["event"] for one in deliveries(service, task_id)] == ["started", "succeeded"]


def test_a_failing_receiver_is_tried_again_with_the_same_id_and_each_answer_is_logged(
    service: Service, wait_until: WaitUntil
) -> None:
    with receiving(Answer(500), Answer(500), Answer(200)) as receiver:
        task_id = submit(service, receiver.url(), "succeeded")
        wait_until(lambda: are_delivered(service, task_id, 1), 30, "the third attempt was accepted")

    (delivery,) = deliveries(service, task_id)
    assert {one.headers["webhook-id"] for one in receiver.received} == {delivery["webhook_id"]}
    assert len({one.body for one in receiver.received}) == 1
    assert [one["status_code"] for one in delivery["attempts"]] == [500, 500, 200]
    codes = [one["error"] and one["error"]["code"] for one in delivery["attempts"]]
    assert codes == ["webhook_rejected", "webhook_rejected", None]
    assert delivery["next_attempt_at"] is None


def test_a_waiting_delivery_tells_when_it_is_tried_next_and_is_not_replayed(
    service: Service, wait_until: WaitUntil
) -> None:
    with receiving(Answer(503)) as receiver:
        task_id = submit(service, receiver.url(), "succeeded")
        wait_until(lambda: len(receiver.received) >= 3, 20, "it was tried three times")
        wait_until(lambda: deliveries(service, task_id)[0]["status"] == "retrying", 5, "it waits for the next")
        (delivery,) = deliveries(service, task_id)
        refusal = service.call("POST", f"/api/tasks/{task_id}/deliveries/1/replay", status=409)
    service.call("DELETE", f"/api/tasks/{delivery['webhook_id']}")

    assert delivery["next_attempt_at"] > delivery["attempts"][-1]["at"]
    assert refusal["error"] == "delivery_not_final"
    assert deliveries(service, task_id)[0]["status"] == "cancelled"


def test_a_host_that_keeps_silent_holds_nobody_else_up(service: Service, wait_until: WaitUntil) -> None:
    silent = "127.0.0.2"
    pace = SlowReceivers(connect(service.system.result_backend))
    for _ in range(SLOW_IN_A_ROW):
        pace.note(silent, took_s=SLOW_S, has_answered=False)
    with socket.create_server((silent, 0)) as tarpit, receiving() as receiver:  # connects, and nobody answers
        held_up = [submit(service, f"http://{silent}:{tarpit.getsockname()[1]}/", "succeeded") for _ in range(6)]
        wait_until(lambda: {len(deliveries(service, one)) for one in held_up} == {1}, 10, "all are published")
        began = time.monotonic()
        task_id = submit(service, receiver.url(), "succeeded")
        wait_until(lambda: are_delivered(service, task_id, 1), 10, "the other receiver was told")
        took_s = time.monotonic() - began
        codes = {attempt["error"]["code"] for one in held_up for attempt in first_attempts(service, one)}
    ids = [deliveries(service, one)[0]["webhook_id"] for one in held_up]
    service.call("POST", "/api/tasks/bulk", json={"action": "cancel", "task_ids": ids})
    pace.note(silent, took_s=0, has_answered=True)

    assert took_s < 8  # six deliveries of 15 s each on two processes would take 45
    assert codes == {"webhook_held_back"}


def first_attempts(service: Service, task_id: str) -> list[dict[str, Any]]:
    """Those that have ended."""
    return [one for one in deliveries(service, task_id)[0]["attempts"] if one["error"]]


def test_a_redirect_ends_a_delivery_and_is_not_followed(service: Service, wait_until: WaitUntil) -> None:
    with receiving() as elsewhere, receiving(Answer(302, {"Location": elsewhere.url()})) as receiver:
        task_id = submit(service, receiver.url(), "succeeded")
        wait_until(lambda: statuses(service, task_id) == ["failed"], 20, "the delivery failed")

    assert len(receiver.received) == 1
    assert elsewhere.received == []


def statuses(service: Service, task_id: str) -> Sequence[str]:
    return [one["status"] for one in deliveries(service, task_id)]


def test_a_replay_sends_the_same_webhook_again(service: Service, wait_until: WaitUntil) -> None:
    with receiving(Answer(410), Answer(200)) as receiver:
        task_id = submit(service, receiver.url(), "succeeded")
        wait_until(lambda: statuses(service, task_id) == ["failed"], 20, "the receiver was gone")
        time.sleep(1.1)  # so that the second attempt has another webhook-timestamp
        replay = service.call("POST", f"/api/tasks/{task_id}/deliveries/1/replay", status=202)
        wait_until(lambda: statuses(service, task_id) == ["failed", "succeeded"], 20, "the replay was accepted")
        unknown = service.call("POST", f"/api/tasks/{task_id}/deliveries/3/replay", status=404)

    first, second = receiver.received
    assert (first.headers["webhook-id"], first.body) == (second.headers["webhook-id"], second.body)
    assert first.headers["webhook-timestamp"] != second.headers["webhook-timestamp"]
    assert verified(service, second)["data"]["task_id"] == task_id
    assert (replay["n"], replay["is_replay"], replay["event"]) == (2, True, "succeeded")
    assert unknown["error"] == "delivery_not_found"


def test_deliveries_are_the_services_own_tasks(service: Service, wait_until: WaitUntil) -> None:
    with receiving() as receiver:
        task_id = submit(service, receiver.url(), "succeeded")
        wait_until(lambda: are_delivered(service, task_id, 1), 20, "the webhook was delivered")
    (delivery,) = deliveries(service, task_id)
    since = (datetime.fromisoformat(service.task(task_id)["created_at"]) - timedelta(milliseconds=1)).isoformat()
    found = {"action": "cancel", "dry_run": True, "filter": {"created_after": since}}
    matched = service.call("POST", "/api/tasks/bulk", json=found)["matched"]
    types = service.call("GET", "/api/task-types")["data"]
    body = {"task_type": "webhook_delivery", "parameters": {"url": URL, "webhook_id": "x", "body": "{}"}}

    service.call("POST", "/api/tasks", status=422, json=body)
    service.call("POST", f"/api/tasks/{delivery['webhook_id']}/retry", status=409)
    assert service.task(delivery["webhook_id"])["task_type"] == "webhook_delivery"
    assert matched == 1
    assert "webhook_delivery" not in {one["name"] for one in types}


@pytest.mark.parametrize(
    ("callback", "pointer"),
    [
        ({"url": "ftp://example.com/", "events": ["failed"]}, "/callback/url"),
        ({"url": "https://user:secret@example.com/", "events": ["failed"]}, "/callback/url"),
        ({"url": "https://example.com/" + "x" * 2048, "events": ["failed"]}, "/callback/url"),
        ({"url": URL, "events": []}, "/callback/events"),
        ({"url": URL, "events": ["started", "progress"]}, "/callback/events/1"),
        ({"url": URL}, "/callback/events"),
        ({"url": URL, "events": ["failed"], "secret": "x"}, "/callback/secret"),
    ],
)
def test_a_callback_that_cannot_be_kept_is_refused(service: Service, callback: dict[str, Any], pointer: str) -> None:
    body = {"task_type": "sleep", "callback": callback}

    problem = service.call("POST", "/api/tasks", status=422, json=body)

    assert [error["pointer"] for error in problem["errors"]] == [pointer]


def test_a_task_without_webhooks_has_no_deliveries(service: Service) -> None:
    task_id = service.submit({})

    assert deliveries(service, task_id) == []
    service.call("GET", f"/api/tasks/{uuid.uuid4()}/deliveries", status=404)
