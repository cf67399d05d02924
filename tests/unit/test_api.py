"""The HTTP border held to API.md, with the broker and the store replaced by stand-ins in memory."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app import create_app
from taskservice.api import bodies, strict_json, views
from taskservice.errors import ConfigurationError, InvalidSubmission
from taskservice.model import Attempt, ErrorInfo, Priority, Record, Status, Submission, now
from taskservice.settings import load_settings
from tests.conftest import WaitUntil
from tests.support.api import MAX_UPLOAD_BYTES, UNKNOWN_ID, Api, assert_problem, open_api, pointers, submit
from tests.support.fakes import MemoryBroker, MemoryRecords
from tests.support.keys import MemoryKeys


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with open_api(tmp_path) as api:
        yield api


@pytest.fixture
def broker(api: Api) -> MemoryBroker:
    return api.broker


@pytest.fixture
def records(api: Api) -> MemoryRecords:
    return api.records


@pytest.fixture
def client(api: Api) -> FlaskClient:
    return api.client


def send(client: FlaskClient, body: bytes) -> TestResponse:
    return client.post("/api/tasks", data=body, content_type="application/json")


def upload(client: FlaskClient, name: str, content: bytes) -> TestResponse:
    """The body is built here because the test client would leave a large one's temporary file open."""
    head = f'--x\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode()
    body = head + content + b"\r\n--x--\r\n"
    return client.post("/api/files", data=body, content_type="multipart/form-data; boundary=x")


# Submit


def test_an_accepted_task_is_published_and_answered_with_202_and_its_location(
    client: FlaskClient, broker: MemoryBroker
) -> None:
    response = submit(client, priority="high", delay=0)

    assert response.status_code == 202
    body = response.get_json()
    assert response.headers["Location"] == f"/api/tasks/{body['task_id']}"
    assert [one.task_id for one in broker.published] == [body["task_id"]]
    assert body.keys() == {
        *("task_id", "state", "status", "task_type", "priority", "queue", "created_at", "due_at", "message", "links")
    }
    assert (body["state"], body["status"], body["queue"]) == ("PENDING", "queued", "high_priority")
    path = response.headers["Location"]
    assert body["links"] == {
        **{"self": path, "cancel": path},
        **{name: f"{path}/{name}" for name in ("events", "deliveries")},
    }


def test_a_delayed_task_is_answered_as_scheduled(client: FlaskClient) -> None:
    body = submit(client, delay=60).get_json()

    assert body["status"] == "scheduled"


def test_times_are_utc_with_milliseconds_and_z(client: FlaskClient) -> None:
    body = submit(client).get_json()

    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", body["created_at"])


@pytest.mark.parametrize(
    ("members", "pointer"),
    [
        ({"task_type": "no_such_type"}, "/task_type"),
        ({"priority": "urgent"}, "/priority"),
        ({"colour": "red"}, "/colour"),
        ({"parameters": {"data": "x", "colour": "red"}}, "/parameters/colour"),
        ({"delay": -1}, "/delay"),
    ],
)
def test_what_does_not_validate_is_refused_and_named(
    client: FlaskClient, broker: MemoryBroker, members: dict[str, Any], pointer: str
) -> None:
    document = assert_problem(submit(client, **members), 422, "invalid_request")

    assert any(error["pointer"].startswith(pointer) for error in document["errors"]), document
    assert broker.published == []


@pytest.mark.parametrize("body", [b"[]", b'"{}"', b"null", b"1"])
def test_json_that_is_not_an_object_does_not_validate(client: FlaskClient, body: bytes) -> None:
    assert_problem(send(client, body), 422, "invalid_request")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"task_type": NaN}',
        b'{"a": -Infinity}',
        b"\xef\xbb\xbf{}",
        b'{"a": "\xff"}',
        b'{"a": 1, "a": 2}',
        b"[" * 101 + b"]" * 101,
        b"[" * 500_000,
        b'{"a":' * 101 + b"1" + b"}" * 101,
        '{"a": 1}'.encode("utf-16"),
    ],
)
def test_what_is_not_json_is_a_bad_request(client: FlaskClient, body: bytes) -> None:
    assert_problem(send(client, body), 400, "invalid_json")


def test_brackets_inside_strings_do_not_nest() -> None:
    text = "[" * 200 + '"\\'

    assert strict_json.decode_json(json.dumps([text]).encode()) == [text]


def test_nesting_of_100_is_still_json() -> None:
    assert strict_json.decode_json(b"[" * 100 + b"]" * 100)


@pytest.mark.parametrize("number", [b"9" * 5000, b"-" + b"9" * 5000, b"18446744073709551616", b"1e999", b"-1e999"])
@pytest.mark.parametrize(
    ("body", "pointer"), [(b"%s", ""), (b'[1, {"a/b": [%s]}]', "/1/a~1b/0"), (b'{"parameters": %s}', "/parameters")]
)
def test_numbers_beyond_all_measure_do_not_validate(number: bytes, body: bytes, pointer: str) -> None:
    with pytest.raises(InvalidSubmission) as caught:
        strict_json.decode_json(body % number)

    assert [error.pointer for error in caught.value.errors] == [pointer]


@pytest.mark.parametrize("number", [b"18446744073709551615", b"-9223372036854775808", b"1e308", b"0"])
def test_numbers_of_64_bits_are_read(number: bytes) -> None:
    assert strict_json.decode_json(number) == json.loads(number)


@pytest.mark.parametrize("character", ["\\u0000", "\\ud800", "\\udfff", "\\ud800\\ud800"])
@pytest.mark.parametrize("place", ["parameters", "metadata"])
def test_text_that_is_none_is_refused_wherever_it_is(client: FlaskClient, place: str, character: str) -> None:
    as_value = send(client, f'{{"task_type": "x", "{place}": {{"a": ["b", "c{character}"]}}}}'.encode())
    as_name = send(client, f'{{"task_type": "x", "{place}": {{"a{character}": 1}}}}'.encode())

    assert pointers(assert_problem(as_value, 422, "invalid_request")) == [f"/{place}/a/1"]
    assert pointers(assert_problem(as_name, 422, "invalid_request")) == [f"/{place}"]


def test_a_tag_with_nul_is_refused(client: FlaskClient) -> None:
    assert pointers(assert_problem(submit(client, tags=["a", "\0"]), 422, "invalid_request")) == ["/tags/1"]


def test_characters_beyond_the_basic_plane_are_text(client: FlaskClient) -> None:
    assert (
        send(client, b'{"task_type": "data_processing", "parameters": {"data": "\\ud83d\\ude00"}}').status_code == 202
    )


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_a_submission_must_be_application_json(client: FlaskClient, content_type: str) -> None:
    response = client.post("/api/tasks", data=b"{}", content_type=content_type)

    assert_problem(response, 415, "unsupported_media_type")


def test_a_compressed_body_is_refused(client: FlaskClient) -> None:
    response = client.post("/api/tasks", json={}, headers={"Content-Encoding": "gzip"})

    assert_problem(response, 415, "unsupported_media_type")


def test_a_body_over_one_mebibyte_is_refused_and_read_to_its_end(client: FlaskClient) -> None:
    stream = io.BytesIO(b" " * (3 * 2**20))

    response = client.post("/api/tasks", input_stream=stream, content_type="application/json", content_length=3 * 2**20)

    assert_problem(response, 413, "body_too_large")
    assert stream.read() == b""


def test_a_chunked_body_over_one_mebibyte_is_refused_and_read_to_its_end(client: FlaskClient) -> None:
    stream = io.BytesIO(b" " * (3 * 2**20))

    response = client.post(
        "/api/tasks",
        input_stream=stream,
        content_type="application/json",
        headers={"Transfer-Encoding": "chunked"},
        environ_overrides={"wsgi.input_terminated": True},
    )

    assert_problem(response, 413, "body_too_large")
    assert stream.read() == b""


def test_a_body_of_exactly_one_mebibyte_is_read(client: FlaskClient) -> None:
    body = json.dumps({"task_type": "data_processing", "parameters": {"data": "x"}}).encode()

    response = send(client, body.ljust(bodies.MAX_JSON_BYTES))

    assert response.status_code == 202
    assert_problem(send(client, body.ljust(bodies.MAX_JSON_BYTES + 1)), 413, "body_too_large")


def test_no_more_than_16_mebibytes_of_a_refused_body_are_read(client: FlaskClient) -> None:
    size_bytes = 40 * 2**20
    stream = io.BytesIO(bytes(size_bytes))

    client.post("/api/tasks", input_stream=stream, content_type="application/json", content_length=size_bytes)

    assert stream.tell() <= 18 * 2**20


def test_an_unknown_query_parameter_is_refused_not_ignored(client: FlaskClient, broker: MemoryBroker) -> None:
    response = client.post("/api/tasks?dryrun=true", json={"task_type": "data_processing"})

    assert assert_problem(response, 422, "invalid_request")["errors"][0]["pointer"] == "/dryrun"
    assert broker.published == []


def test_a_task_the_broker_did_not_take_is_answered_as_refused(client: FlaskClient, broker: MemoryBroker) -> None:
    broker.is_down = True

    response = submit(client)

    assert assert_problem(response, 503, "broker_unavailable")["outcome"] == "refused"
    assert response.headers["Retry-After"] == "5"


def test_a_task_whose_refusal_cannot_be_recorded_is_answered_as_unknown(
    client: FlaskClient, broker: MemoryBroker, records: MemoryRecords
) -> None:
    broker.is_down = records.is_down = True

    assert assert_problem(submit(client), 503, "store_unavailable")["outcome"] == "unknown"


# Read


def test_an_accepted_task_can_be_read(client: FlaskClient) -> None:
    accepted = submit(client, max_retries=2).get_json()

    response = client.get(accepted["links"]["self"])

    body = response.get_json()
    assert response.headers["Retry-After"] == "1"
    assert {name: body[name] for name in ("task_id", "state", "status", "created_at", "due_at", "links")} == {
        name: accepted[name] for name in ("task_id", "state", "status", "created_at", "due_at", "links")
    }
    assert (body["attempt"], body["max_attempts"], body["attempts"]) == (0, 3, [])
    assert body["message"] == "Task waiting in normal_priority."
    assert body["parameters"] == {"data": "test data"}
    assert (body["tags"], body["metadata"], body["retried_from"]) == ([], {}, None)
    assert (body["expires_in"], body["cancel_requested"]) == (None, False)


def test_what_the_client_said_about_a_task_is_echoed(client: FlaskClient) -> None:
    said: dict[str, Any] = {"tags": ["b", "a"], "metadata": {"order": {"id": 7}}, "expires_in": 1.5}

    body = client.get(submit(client, **said).headers["Location"]).get_json()

    assert {name: body[name] for name in said} == said


@pytest.mark.parametrize("task_id", [UNKNOWN_ID, "nonsense", "%00", "*", "a" * 5000])
def test_an_unknown_or_malformed_id_is_404(client: FlaskClient, task_id: str) -> None:
    assert_problem(client.get(f"/api/tasks/{task_id}"), 404, "task_not_found")


def test_a_finished_task_reads_with_all_its_attempts_and_no_retry_after(
    client: FlaskClient, records: MemoryRecords
) -> None:
    record = failed_record()
    records.kept[record.submission.task_id] = record

    response = client.get(f"/api/tasks/{record.submission.task_id}")

    body = response.get_json()
    assert "Retry-After" not in response.headers
    assert (body["state"], body["status"]) == ("FAILURE", "failed")
    assert body["error"] == {"code": "file_not_found", "message": "no such file", "retryable": False}
    assert (body["wait_s"], body["run_s"], body["worker"]) == (2.0, 4.0, "worker-b")
    assert [attempt["number"] for attempt in body["attempts"]] == [1, 2]
    assert body["started_at"] == "2026-01-31T12:00:02.000Z"
    assert body["finished_at"] == "2026-01-31T12:00:20.000Z"


def failed_record() -> Record:
    start = datetime(2026, 1, 31, 12, tzinfo=UTC)
    submission = Submission(UNKNOWN_ID, "data_processing", Priority.LOW, {"file": "a.csv"}, start, start, 2)
    error = ErrorInfo("file_not_found", "no such file", retryable=False)

    def at(seconds: int) -> datetime:
        return start + timedelta(seconds=seconds)

    attempts = (Attempt(1, "worker-a", at(2), at(3), error), Attempt(2, "worker-b", at(17), at(20), error))
    return Record(submission, Status.FAILED, at(16), attempts, error=error, finished_at=at(20))


def test_a_scheduled_task_that_is_due_reads_as_queued() -> None:
    record = replace(failed_record(), status=Status.SCHEDULED)

    early = views.task(record, record.due_at - timedelta(seconds=1))
    due = views.task(record, record.due_at)

    assert (early.status, due.status) == (Status.SCHEDULED, Status.QUEUED)


def test_retry_after_is_the_time_left_up_to_a_minute() -> None:
    moment = now()
    waiting = replace(failed_record(), status=Status.RETRYING, due_at=moment + timedelta(seconds=7.2))

    assert views.retry_after_s(waiting, moment) == 8
    assert views.retry_after_s(replace(waiting, due_at=moment + timedelta(days=1)), moment) == 60


def test_reading_without_a_store_is_503_without_an_outcome(client: FlaskClient, records: MemoryRecords) -> None:
    records.is_down = True

    response = client.get(f"/api/tasks/{UNKNOWN_ID}")

    assert "outcome" not in assert_problem(response, 503, "store_unavailable")


def test_each_task_type_is_listed_with_its_schema_and_limits(client: FlaskClient) -> None:
    listed = client.get("/api/task-types").get_json()["data"]

    assert {"data_processing", "email_sending", "file_processing"} <= {kind["name"] for kind in listed}
    for kind in listed:
        assert kind.keys() == {
            *("name", "description", "parameters_schema", "max_retries", "time_limit_s", "rate_limit", "example")
        }


def test_each_task_type_s_example_works_as_it_stands(client: FlaskClient) -> None:
    for kind in client.get("/api/task-types").get_json()["data"]:
        response = client.post("/api/tasks", json={"task_type": kind["name"], "parameters": kind["example"]})

        assert response.status_code == 202, response.text


# Files


def test_an_uploaded_file_can_be_listed_downloaded_and_deleted(client: FlaskClient) -> None:
    created = upload(client, "räk 1.txt", b"content")

    assert created.status_code == 201
    assert created.get_json().keys() == {"filename", "size_bytes", "sha256", "mime_type"}
    assert client.get("/api/files").get_json() == {"data": [created.get_json()]}
    downloaded = client.get(created.headers["Location"])
    assert downloaded.data == b"content"
    assert downloaded.headers["Content-Disposition"].startswith("attachment")
    assert downloaded.headers["Content-Length"] == "7"
    assert downloaded.headers["X-Content-Type-Options"] == "nosniff"
    downloaded.close()
    assert client.delete(created.headers["Location"]).status_code == 204
    assert_problem(client.get(created.headers["Location"]), 404, "file_not_found")


@pytest.mark.parametrize("name", ["..", "a/b.txt", "/etc/passwd", "a\\\\b.txt"])
def test_a_name_that_is_not_one_segment_is_refused(client: FlaskClient, name: str) -> None:
    assert_problem(upload(client, name, b"content"), 422, "invalid_request")


def test_a_download_of_a_path_is_refused(client: FlaskClient) -> None:
    for name in ("..%2Fsecret", "%2Fetc%2Fpasswd", "/etc/passwd", "a//b", "a%2F", "%2F", "a%00b"):
        assert_problem(client.get(f"/api/files/{name}"), 422, "invalid_request")
        assert_problem(client.delete(f"/api/files/{name}"), 422, "invalid_request")


def test_two_slashes_are_another_address_and_no_detour(client: FlaskClient) -> None:
    assert_problem(client.get("/api//tasks"), 404, "not_found")
    assert_problem(client.get("/api/files/"), 404, "not_found")


def test_a_file_that_a_task_still_needs_is_not_deleted(client: FlaskClient, records: MemoryRecords) -> None:
    upload(client, "needed.csv", b"a\n1\n")
    task_id = submit(client, parameters={"file": "needed.csv"}).get_json()["task_id"]

    refused = assert_problem(client.delete("/api/files/needed.csv"), 409, "file_in_use")
    records.cancel_many([task_id])
    deleted = client.delete("/api/files/needed.csv")

    assert refused["task_id"] == task_id
    assert deleted.status_code == 204
    assert_problem(client.delete("/api/files/needed.csv"), 404, "file_not_found")


def test_an_upload_has_exactly_one_file_and_nothing_else(client: FlaskClient) -> None:
    nothing = client.post("/api/files", data={}, content_type="multipart/form-data; boundary=x")
    extra = client.post("/api/files", data={"file": (io.BytesIO(b"x"), "a.txt"), "colour": "red"})

    assert assert_problem(nothing, 422, "invalid_request")["errors"][0]["pointer"] == "/file"
    assert assert_problem(extra, 422, "invalid_request")["errors"][0]["pointer"] == "/colour"


def test_an_upload_must_be_multipart(client: FlaskClient) -> None:
    assert_problem(client.post("/api/files", json={}), 415, "unsupported_media_type")


@pytest.mark.parametrize("excess_bytes", [1, 2**20])
def test_an_upload_over_the_limit_is_refused(client: FlaskClient, excess_bytes: int) -> None:
    assert_problem(upload(client, "a.bin", bytes(MAX_UPLOAD_BYTES + excess_bytes)), 413, "body_too_large")


def test_an_upload_of_exactly_the_limit_is_taken(client: FlaskClient) -> None:
    assert upload(client, "a.bin", bytes(MAX_UPLOAD_BYTES)).status_code == 201


# Errors


def test_an_unknown_address_is_a_problem_document(client: FlaskClient) -> None:
    document = assert_problem(client.get("/nowhere%20here"), 404, "not_found")

    assert document["instance"] == "/nowhere%20here"


def test_a_method_that_is_not_allowed_names_those_that_are(client: FlaskClient) -> None:
    response = client.put("/api/tasks")

    assert_problem(response, 405, "method_not_allowed")
    assert "POST" in response.headers["Allow"]


def test_a_surprise_is_logged_and_not_shown(
    client: FlaskClient, records: MemoryRecords, caplog: pytest.LogCaptureFixture
) -> None:
    records.fault = RuntimeError("secret-host:6379")

    response = client.get(f"/api/tasks/{UNKNOWN_ID}")

    assert_problem(response, 500, "internal")
    assert "secret-host" not in response.text
    assert "secret-host" in caplog.text


def test_a_sane_request_id_is_kept_and_another_is_replaced(client: FlaskClient) -> None:
    kept = client.get("/healthz", headers={"X-Request-ID": "abc-123"})
    replaced = client.get("/healthz", headers={"X-Request-ID": "<script>"})

    assert kept.headers["X-Request-ID"] == "abc-123"
    assert re.fullmatch("[0-9a-f]{32}", replaced.headers["X-Request-ID"])


# Look after it


def test_ready_means_broker_store_and_a_consumer_on_every_queue(client: FlaskClient) -> None:
    assert client.get("/readyz").get_json() == {"status": "ready"}


def test_not_ready_names_what_is_missing(
    client: FlaskClient, broker: MemoryBroker, records: MemoryRecords, wait_until: WaitUntil
) -> None:
    broker.consuming = {"high_priority": 1, "normal_priority": 0}
    idle = assert_problem(client.get("/readyz"), 503, "not_ready")
    broker.is_down = records.is_down = True
    wait_until(lambda: client.get("/readyz").get_json()["missing"] != idle["missing"], 5, "another verdict")
    down = assert_problem(client.get("/readyz"), 503, "not_ready")

    assert idle["missing"] == ["normal_priority", "low_priority"]
    assert down["missing"] == ["store", "broker"]
    assert client.get("/healthz").status_code == 200


def test_nobody_needs_to_consume_a_paused_queue(api: Api, client: FlaskClient, broker: MemoryBroker) -> None:
    broker.consuming = {"high_priority": 1, "normal_priority": 1}
    api.pauses.pause("low_priority")

    assert client.get("/readyz").status_code == 200


def test_the_description_is_openapi_31_and_every_reference_in_it_resolves(client: FlaskClient) -> None:
    document = client.get("/openapi.json").get_json()

    assert document["openapi"].startswith("3.1.")
    for reference in set(re.findall(r'"\$ref": "([^"]+)"', json.dumps(document))):
        target: Any = document
        for step in reference.removeprefix("#/").split("/"):
            target = target[step]


def test_every_route_of_the_api_is_described_and_fails_with_problem_documents(client: FlaskClient) -> None:
    described = client.get("/openapi.json").get_json()["paths"]

    routed = {
        (re.sub(r"<(?:name:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in client.application.url_map.iter_rules()
        if rule.rule.startswith("/api/")
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert routed <= {(path, method) for path, operations in described.items() for method in operations}
    for operations in described.values():
        for operation in operations.values():
            failures = [answer for status, answer in operation["responses"].items() if status >= "400"]
            assert all("application/problem+json" in answer["content"] for answer in failures)


def test_the_described_examples_work_as_they_stand(client: FlaskClient) -> None:
    operation = client.get("/openapi.json").get_json()["paths"]["/api/tasks"]["post"]

    for example in operation["requestBody"]["content"]["application/json"]["examples"].values():
        assert client.post("/api/tasks", json=example["value"]).status_code == 202


def test_the_interactive_page_loads_nothing_from_elsewhere(client: FlaskClient) -> None:
    page = client.get("/docs", buffered=True)

    assert page.status_code == 200
    assert "//" not in page.text.replace("<!--", "")
    for address in re.findall(r'(?:src|href)="([^"]+)"', page.text):
        asset = client.get(address)
        assert asset.status_code == 200
        asset.close()


# Start


@pytest.mark.parametrize("environ", [{}, {"FLASK_DEBUG": "1"}])
def test_it_refuses_to_start_on_an_address_others_can_reach(environ: dict[str, str]) -> None:
    settings = load_settings({"BIND_ADDRESS": "0.0.0.0", **environ})

    with pytest.raises(ConfigurationError, match="BIND_ADDRESS"):
        create_app(settings, keys=MemoryKeys())
