"""What every answer tells a browser, whichever route gives it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from tests.support.api import open_api

PAGES = ["/", "/console/index.html", "/docs", "/docs/index.html"]
OTHERS = ["/healthz", "/openapi.json", "/api/tasks", "/api/nothing", "/console/none.js", "/docs/none.js", "/nothing"]


@pytest.fixture
def client(tmp_path: Path) -> Iterator[FlaskClient]:
    with open_api(tmp_path) as api:
        yield api.client


@pytest.mark.parametrize("path", PAGES)
def test_a_page_runs_the_services_own_scripts_only(client: FlaskClient, path: str) -> None:
    response = client.get(path, buffered=True)
    policy = dict(part.strip().split(" ", 1) for part in response.headers["Content-Security-Policy"].split(";"))

    assert (response.status_code, response.mimetype) == (200, "text/html")
    assert (policy["default-src"], policy["script-src"]) == ("'none'", "'self'")
    assert {policy[name] for name in ("base-uri", "form-action", "frame-ancestors")} == {"'none'"}
    assert "<script>" not in response.text


@pytest.mark.parametrize("path", [*PAGES, *OTHERS])
def test_every_answer_is_kept_from_other_sites(client: FlaskClient, path: str) -> None:
    headers = client.get(path, buffered=True).headers

    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cross-Origin-Opener-Policy"] == headers["Cross-Origin-Resource-Policy"] == "same-origin"


def test_a_file_keeps_its_own_policy(client: FlaskClient) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.html"\r\n\r\n<script>\r\n--x--\r\n'
    client.post("/api/files", data=body, content_type="multipart/form-data; boundary=x")

    assert "sandbox" in client.get("/api/files/a.html", buffered=True).headers["Content-Security-Policy"]
