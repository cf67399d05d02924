"""Methods: an address names its own and no other's, and says so to everybody who may read it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.api import Api, assert_problem, open_api

TASK = {"task_type": "data_processing", "parameters": {"data": "x"}}


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with open_api(tmp_path) as api:
        yield api


@pytest.mark.parametrize("method", ["OPTIONS", "PUT"])
@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("/api/tasks", {"GET", "HEAD", "OPTIONS", "POST"}),
        ("/api/tasks/batch", {"OPTIONS", "POST"}),
        ("/api/tasks/bulk", {"OPTIONS", "POST"}),
        ("/api/tasks/any", {"DELETE", "GET", "HEAD", "OPTIONS"}),
    ],
)
def test_allow_names_the_methods_of_the_address_and_no_others(
    api: Api, method: str, address: str, allowed: set[str]
) -> None:
    response = api.client.open(address, method=method)

    assert response.status_code == (200 if method == "OPTIONS" else 405)
    assert set(response.headers["Allow"].split(", ")) == allowed


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
@pytest.mark.parametrize("address", ["/api/tasks/batch", "/api/tasks/bulk"])
def test_an_address_of_its_own_is_no_task(api: Api, method: str, address: str) -> None:
    response = api.client.open(address, method=method)

    assert (response.status_code, response.headers["Allow"]) == (405, "OPTIONS, POST")


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_a_dry_run_refuses_the_key_that_a_submission_would(api: Api, key: str) -> None:
    response = api.client.post("/api/tasks?dry_run=true", json=TASK, headers={"Idempotency-Key": key})

    assert_problem(response, 422, "invalid_request")


@pytest.mark.parametrize("run_at", [0, 1.5, True, "1700000000", "2026-01-31", "2026-01-31T12:00:00"])
def test_an_instant_is_rfc_3339_and_no_number(api: Api, run_at: object) -> None:
    response = api.client.post("/api/tasks", json=TASK | {"run_at": run_at})

    assert_problem(response, 422, "invalid_request")
