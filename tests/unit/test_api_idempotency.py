"""One Idempotency-Key is one task, whatever became of the first request and however often it is repeated."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.api import Api, assert_problem, open_api, pointers


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with open_api(tmp_path) as api:
        yield api


def published_ids(api: Api) -> list[str]:
    return [submission.task_id for submission in api.broker.published]


def test_a_repetition_gets_the_first_answer_and_publishes_nothing(api: Api) -> None:
    first, second = api.submit(key="k"), api.submit(key="k")

    assert (first.status_code, second.status_code) == (202, 202)
    assert second.data == first.data
    assert second.headers["Location"] == first.headers["Location"]
    assert second.headers["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first.headers
    assert len(api.broker.published) == 1


def test_a_replay_is_answered_even_when_the_broker_is_away(api: Api) -> None:
    first = api.submit(key="k")
    api.broker.is_down = True

    assert api.submit(key="k").data == first.data


def test_without_a_key_and_with_different_keys_there_are_different_tasks(api: Api) -> None:
    ids = {api.submitted(), api.submitted(), api.submitted(key="a"), api.submitted(key="b")}

    assert len(ids) == 4


def test_a_key_with_another_body_is_refused(api: Api) -> None:
    api.submit(key="k")

    assert_problem(api.submit(key="k", priority="high"), 422, "idempotency_key_reused")


def test_spaces_and_the_order_of_members_do_not_make_another_body(api: Api) -> None:
    first = api.submit(key="k", delay=1)
    body = b'{ "delay":1, "parameters": {"data": "test data"},"task_type":"data_processing" }'

    second = api.client.post("/api/tasks", data=body, content_type="application/json", headers={"Idempotency-Key": "k"})

    assert second.data == first.data


def test_a_key_in_flight_is_409_with_retry_after(api: Api) -> None:
    interrupted(api)

    response = api.submit(key="k")

    assert_problem(response, 409, "idempotency_in_flight")
    assert response.headers["Retry-After"] == "1"


def test_what_does_not_validate_uses_up_no_key(api: Api) -> None:
    refused = api.submit(key="k", priority="urgent")

    assert refused.status_code == 422
    assert api.submit(key="k").status_code == 202


@pytest.mark.parametrize("key", ["", "x" * 256, "schlüssel", "a\tb"])
def test_what_is_not_a_key_is_refused(api: Api, key: str) -> None:
    document = assert_problem(api.submit(key=key), 422, "invalid_request")

    assert pointers(document) == ["/Idempotency-Key"]
    assert api.broker.published == []


@pytest.mark.parametrize("key", ["x", "x" * 255, "two words", "~"])
def test_what_is_a_key_is_taken(api: Api, key: str) -> None:
    assert api.submit(key=key).status_code == 202


def test_a_refused_task_runs_under_its_id_when_it_is_repeated(api: Api) -> None:
    api.broker.is_down = True
    refused = api.submit(key="k")
    (task_id,) = api.records.refused
    api.broker.is_down = False
    accepted = api.submit(key="k")

    assert assert_problem(refused, 503, "broker_unavailable")["outcome"] == "refused"
    assert accepted.get_json()["task_id"] == task_id
    assert published_ids(api) == [task_id]
    assert api.records.refused == set()  # no tombstone is left to drop its message
    assert "Idempotency-Replayed" not in accepted.headers


def test_without_a_store_nothing_is_published_and_an_earlier_try_is_unknown(api: Api) -> None:
    api.records.is_down = True

    document = assert_problem(api.submit(key="k"), 503, "store_unavailable")

    assert document["outcome"] == "unknown"
    assert api.broker.published == []


def interrupted(api: Api, **members: Any) -> str:
    """A request with the key `k` that was published, then lost its store; the id of its task."""
    api.records.accept_fails = True
    document = assert_problem(api.submit(key="k", **members), 503, "store_unavailable")
    api.records.accept_fails = False
    assert document["outcome"] == "unknown"
    return published_ids(api)[-1]


def test_an_unknown_task_is_the_same_one_when_it_is_repeated(api: Api) -> None:
    task_id = interrupted(api)
    api.reservations.forget_flights()

    accepted = api.submit(key="k")

    assert accepted.get_json()["task_id"] == task_id
    assert published_ids(api) == [task_id, task_id]  # the claim drops the second copy


def test_a_record_is_promised_only_when_it_could_be_written_again(api: Api) -> None:
    interrupted(api)
    (submission,) = api.broker.published
    api.records.accept_many([submission])  # the first try's record was made, but no replica confirmed it
    api.records.accept_fails = True
    api.reservations.forget_flights()

    refused = api.submit(key="k")

    assert assert_problem(refused, 503, "store_unavailable")["outcome"] == "unknown"
    api.records.accept_fails = False
    api.reservations.forget_flights()
    assert api.submit(key="k").get_json()["task_id"] == submission.task_id


def test_a_task_that_a_worker_knows_is_not_published_again_and_tells_its_own_times(api: Api) -> None:
    interrupted(api, delay=5)
    first = api.broker.published[0]
    api.records.accept_many([first])  # as a worker's claim does
    api.reservations.forget_flights()

    accepted = api.submit(key="k", delay=5).get_json()
    kept = api.client.get(accepted["links"]["self"]).get_json()

    assert len(api.broker.published) == 1
    assert (accepted["created_at"], accepted["due_at"]) == (kept["created_at"], kept["due_at"])


def test_an_answer_that_cannot_be_kept_is_given_all_the_same(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    api.reservations.settle_fails = True
    first = api.submit(key="k")
    api.reservations.settle_fails = False
    api.reservations.forget_flights()
    second = api.submit(key="k")

    assert (first.status_code, second.status_code) == (202, 202)
    assert second.get_json() == first.get_json()
    assert len(api.broker.published) == 1
    assert "idempotency.not_settled" in caplog.text


def test_a_retry_takes_a_key_and_the_key_belongs_to_its_address(api: Api) -> None:
    task_ids = [api.submitted(), api.submitted()]
    api.records.cancel_many(task_ids)

    first, second = (retry(api, task_ids[0]) for _ in range(2))
    elsewhere = retry(api, task_ids[1])

    assert (first.status_code, second.data) == (202, first.data)
    assert_problem(elsewhere, 422, "idempotency_key_reused")


def retry(api: Api, task_id: str) -> Any:
    return api.client.post(f"/api/tasks/{task_id}/retry", headers={"Idempotency-Key": "k"})
