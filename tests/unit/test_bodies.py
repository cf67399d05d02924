"""When a body is read, and how much of all bodies is held at once."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from flask import Flask, Response, request
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app import create_app
from taskservice.api import bodies, errors, streams
from taskservice.api.bodies import Space
from taskservice.keys import Scope
from taskservice.settings import load_settings
from tests.support.api import assert_problem
from tests.support.keys import MemoryKeys

LARGE = bodies.SMALL_BYTES + 1


@pytest.fixture
def keys() -> MemoryKeys:
    return MemoryKeys()


@pytest.fixture
def client(keys: MemoryKeys, tmp_path: Path) -> FlaskClient:
    return create_app(load_settings({"FILES_URL": str(tmp_path)}), keys=keys).test_client()


@pytest.mark.parametrize("path", ["/api/tasks", "/api/tasks/batch", "/api/tasks/bulk", "/api/files", "/api/nothing"])
@pytest.mark.parametrize("body", [b"{", b"x" * (11 * 2**20)], ids=["not JSON", "too large"])
def test_who_has_no_key_is_told_so_whatever_the_body_is(
    client: FlaskClient, keys: MemoryKeys, path: str, body: bytes
) -> None:
    keys.make(Scope.SUBMIT)

    assert_problem(client.post(path, data=body, content_type="text/plain"), 401, "key_missing")


def test_the_media_type_is_asked_for_before_the_body_is_read(client: FlaskClient) -> None:
    assert_problem(
        client.post("/api/tasks", data=b"x" * LARGE, content_type="text/plain"), 415, "unsupported_media_type"
    )


def test_a_length_over_the_limit_is_refused_before_the_body_is_read(client: FlaskClient) -> None:
    response = client.post("/api/tasks", data=b" " * (bodies.MAX_JSON_BYTES + 1), content_type="text/plain")

    assert_problem(response, 413, "body_too_large")


def test_a_body_that_nobody_asked_for_is_bounded_too(client: FlaskClient) -> None:
    response = client.get("/healthz", data=b"x" * (bodies.MAX_JSON_BYTES + 1))

    assert_problem(response, 413, "body_too_large")
    assert client.get("/healthz", data=b"x" * 1000).status_code == 200


def test_large_bodies_beyond_what_is_held_at_once_come_later() -> None:
    inside, leave = threading.Event(), threading.Event()
    app = _app(inside, leave, at_once_bytes=LARGE)
    first = threading.Thread(target=_post, args=(app, LARGE))

    first.start()
    assert inside.wait(5)
    large, small = _post(app, LARGE), _post(app, 10)
    leave.set()
    first.join()
    afterwards = _post(app, LARGE)

    assert assert_problem(large, 503, "too_many_bodies")["outcome"] == "refused"
    assert int(large.headers["Retry-After"]) > 0
    assert (small.status_code, afterwards.status_code) == (200, 200)


def test_space_that_is_given_back_wakes_who_waits_for_it() -> None:
    space = Space(100)
    assert space.take(60, timeout_s=0)
    assert not space.take(60, timeout_s=0)
    giver = threading.Timer(0.05, space.give, args=(60,))

    giver.start()

    assert space.take(100, timeout_s=5)
    giver.join()


def _app(inside: threading.Event, leave: threading.Event, *, at_once_bytes: int) -> Flask:
    app = Flask(__name__, static_folder=None)
    errors.answer_problems(app)
    streams.pace_bodies(app)
    limits = {"take": bodies.MAX_JSON_BYTES}
    bodies.bound_bodies(
        app,
        upload_endpoint="none",
        max_upload_bytes=0,
        json_endpoints=limits,
        at_once_bytes=at_once_bytes,
        turn_s=0.05,
    )

    def take() -> Response:
        if (request.content_length or 0) >= LARGE:
            inside.set()
            leave.wait(5)
        return Response(status=200)

    app.add_url_rule("/take", endpoint="take", view_func=take, methods=["POST"])
    return app


def _post(app: Flask, size_bytes: int) -> TestResponse:
    body = b"{}".ljust(size_bytes)
    return app.test_client().post("/take", data=body, content_type="application/json")
