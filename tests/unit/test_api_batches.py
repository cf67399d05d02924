"""Many submissions at once held to API.md: each by itself, and what a batch is answered when stores are away."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import TestResponse

from taskservice.model import Status
from tests.support.api import UNKNOWN_ID, Api, assert_problem, open_api, pointers

VALID: dict[str, Any] = {"task_type": "data_processing", "parameters": {"data": "test data"}}
LARGE = "x" * 2**20


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with open_api(tmp_path) as api:
        yield api


def submit(api: Api, *tasks: Any, key: str | None = None) -> TestResponse:
    headers = {} if key is None else {"Idempotency-Key": key}
    return api.client.post("/api/tasks/batch", json={"tasks": tasks}, headers=headers)


def accepted(response: TestResponse) -> dict[str, Any]:
    assert response.status_code == 202, response.text
    found: dict[str, Any] = response.get_json()
    assert found.keys() == {"batch_id", "accepted", "rejected", "results", "links"}
    assert response.headers["Location"] == found["links"]["self"] == f"/api/batches/{found['batch_id']}"
    return found


def test_each_valid_submission_is_a_task_of_the_batch(api: Api) -> None:
    found = accepted(submit(api, VALID, VALID | {"priority": "high"}))

    task_ids = [result["task_id"] for result in found["results"]]
    assert (found["accepted"], found["rejected"]) == (2, 0)
    assert [result["index"] for result in found["results"]] == [0, 1]
    assert [one.task_id for one in api.broker.published] == task_ids
    assert {api.records.kept[task_id].submission.batch_id for task_id in task_ids} == {found["batch_id"]}
    assert api.client.get(f"/api/tasks/{task_ids[0]}").status_code == 200


@pytest.mark.parametrize(
    ("invalid", "pointer"),
    [
        (VALID | {"priority": "urgent"}, "/priority"),
        ({"task_type": "no_such_type"}, "/task_type"),
        (VALID | {"metadata": {"a": "\0"}}, "/metadata/a"),
        (VALID | {"metadata": {"a": 2**64}}, "/metadata/a"),
        ("no object", ""),
        (None, ""),
    ],
)
def test_an_invalid_submission_is_named_and_hinders_no_other(api: Api, invalid: Any, pointer: str) -> None:
    found = accepted(submit(api, VALID, invalid, VALID))

    rejected = found["results"][1]
    assert (found["accepted"], found["rejected"], len(api.broker.published)) == (2, 1, 2)
    assert (rejected["index"], rejected["error"], rejected["outcome"]) == (1, "invalid_request", None)
    assert pointer in [error["pointer"] for error in rejected["errors"]]


def test_a_batch_may_be_larger_than_a_submission_but_none_in_it(api: Api) -> None:
    fits = VALID | {"parameters": {"data": LARGE[:-1000]}}
    found = accepted(submit(api, fits, VALID | {"parameters": {"data": LARGE}}, fits))

    assert [result.get("error") for result in found["results"]] == [None, "body_too_large", None]


def test_a_batch_over_ten_mebibytes_is_refused(api: Api) -> None:
    response = submit(api, *[VALID | {"parameters": {"data": LARGE[:-1000]}}] * 11)

    assert_problem(response, 413, "body_too_large")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/tasks"),
        ([], ""),
        ({"tasks": []}, "/tasks"),
        ({"tasks": {}}, "/tasks"),
        ({"tasks": [VALID] * 1001}, "/tasks"),
        ({"tasks": [VALID], "colour": "red"}, "/colour"),
    ],
)
def test_a_batch_that_is_none_is_refused_and_named(api: Api, body: Any, pointer: str) -> None:
    response = api.client.post("/api/tasks/batch", json=body)

    assert pointers(assert_problem(response, 422, "invalid_request")) == [pointer]
    assert api.broker.published == []


def test_a_thousand_are_taken(api: Api) -> None:
    assert accepted(submit(api, *[VALID] * 1000))["accepted"] == 1000


def test_a_batch_without_a_valid_submission_is_refused_and_names_each(api: Api) -> None:
    document = assert_problem(submit(api, VALID | {"priority": "urgent"}, 7), 422, "invalid_request")

    assert pointers(document) == ["/tasks/0/priority", "/tasks/1"]
    assert [result["index"] for result in document["results"]] == [0, 1]


def test_without_a_broker_nothing_is_accepted_and_each_is_said_to_be_refused(api: Api) -> None:
    api.broker.is_down = True

    response = submit(api, VALID, VALID | {"priority": "urgent"})

    document = assert_problem(response, 503, "broker_unavailable")
    assert (document["outcome"], response.headers["Retry-After"]) == ("refused", "5")
    assert [(one["error"], one["outcome"]) for one in document["results"]] == [
        ("broker_unavailable", "refused"),
        ("invalid_request", None),
    ]


def test_what_could_not_be_recorded_is_said_to_be_unknown(api: Api) -> None:
    api.records.accept_fails = True

    assert assert_problem(submit(api, VALID), 503, "store_unavailable")["outcome"] == "unknown"


def test_what_the_broker_did_not_take_is_named_beside_what_it_took(api: Api) -> None:
    api.broker.takes = 1

    found = accepted(submit(api, VALID, VALID))

    assert (found["accepted"], found["rejected"]) == (1, 1)
    assert (found["results"][1]["error"], found["results"][1]["outcome"]) == ("broker_unavailable", "refused")


# Idempotency-Key


def test_a_repeated_batch_is_the_same_batch_and_gets_the_same_answer(api: Api) -> None:
    first, second = (submit(api, VALID, "no object", key="k") for _ in range(2))

    assert accepted(first) == accepted(second)
    assert second.headers["Idempotency-Replayed"] == "true"
    assert len(api.broker.published) == 1


def test_a_key_belongs_to_its_batch(api: Api) -> None:
    submit(api, VALID, key="k")

    assert_problem(submit(api, VALID, VALID, key="k"), 422, "idempotency_key_reused")


def test_a_repetition_submits_what_was_missing_and_only_that(api: Api) -> None:
    api.broker.takes = 1
    first = accepted(submit(api, VALID, VALID, key="k"))
    api.broker.takes = None

    second = accepted(submit(api, VALID, VALID, key="k"))

    assert (first["accepted"], second["accepted"], second["batch_id"]) == (1, 2, first["batch_id"])
    assert second["results"][0] == first["results"][0]
    assert [one.task_id for one in api.broker.published] == [result["task_id"] for result in second["results"]]
    assert api.records.refused == set()


def test_a_batch_that_ended_unknown_is_the_same_one_when_it_is_repeated(api: Api) -> None:
    api.records.accept_fails = True
    submit(api, VALID, key="k")
    api.records.accept_fails = False
    api.reservations.forget_flights()

    found = accepted(submit(api, VALID, key="k"))

    assert [one.task_id for one in api.broker.published] == [found["results"][0]["task_id"]] * 2


def test_a_repetition_promises_nothing_that_no_replica_has(api: Api) -> None:
    api.records.has_no_replica = True
    submit(api, VALID, key="k")
    api.reservations.forget_flights()
    while_apart = submit(api, VALID, key="k")
    api.records.has_no_replica = False
    api.reservations.forget_flights()

    found = accepted(submit(api, VALID, key="k"))

    assert assert_problem(while_apart, 503, "store_unavailable")["outcome"] == "unknown"
    assert [one.task_id for one in api.broker.published] == [found["results"][0]["task_id"]]


# Look at it


def test_a_batch_counts_its_tasks_by_status(api: Api) -> None:
    found = accepted(submit(api, VALID, VALID, VALID | {"delay": 60}))
    first_id = found["results"][0]["task_id"]
    api.records.put(replace(api.records.kept[first_id], status=Status.SUCCEEDED))
    api.submitted()

    batch = api.client.get(found["links"]["self"]).get_json()

    assert (batch["batch_id"], batch["total"], batch["is_final"]) == (found["batch_id"], 3, False)
    assert batch["counts"] == dict.fromkeys(Status, 0) | {"succeeded": 1, "queued": 1, "scheduled": 1}


def test_a_batch_is_final_when_all_its_tasks_are(api: Api) -> None:
    found = accepted(submit(api, VALID))
    api.records.cancel_many([found["results"][0]["task_id"]])

    assert api.client.get(found["links"]["self"]).get_json()["is_final"] is True


@pytest.mark.parametrize("batch_id", [UNKNOWN_ID, "nonsense", "*"])
def test_an_unknown_or_malformed_batch_is_404(api: Api, batch_id: str) -> None:
    assert_problem(api.client.get(f"/api/batches/{batch_id}"), 404, "batch_not_found")
