"""The console's files held to their promises: this origin only, no inline code, small, and only routes that exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app import create_app
from taskservice.api import console, headers
from taskservice.model import Priority, Status
from taskservice.settings import load_settings

FOLDER = Path(console.__file__).with_suffix("")
FILES = sorted(FOLDER.iterdir())
SCRIPT = (FOLDER / "console.js").read_text(encoding="utf-8")
PAGE = (FOLDER / "index.html").read_text(encoding="utf-8")
MAX_BYTES = 40_000


class Markup(HTMLParser):
    """What the page is made of: its elements with their attributes, and text inside script and style."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.inline = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.elements and self.elements[-1][0] in ("script", "style"):
            self.inline += data.strip()

    def ids(self) -> set[str | None]:
        return {attributes["id"] for _, attributes in self.elements if "id" in attributes}


@pytest.fixture
def client() -> Iterator[FlaskClient]:
    app = Flask(__name__, static_folder=None)
    headers.tell_browsers(app)
    app.register_blueprint(console.create_blueprint())
    with app.test_client() as client:
        yield client


def test_the_page_lets_the_browser_run_and_reach_nothing_but_its_own(client: FlaskClient) -> None:
    response = client.get("/", buffered=True)
    policy = dict(part.strip().split(" ", 1) for part in response.headers["Content-Security-Policy"].split(";"))

    assert (response.status_code, response.mimetype) == (200, "text/html")
    assert policy["default-src"] == "'none'"
    assert {policy[name] for name in ("script-src", "style-src", "connect-src", "img-src")} == {"'self'"}
    assert {policy[name] for name in ("base-uri", "form-action", "frame-ancestors")} == {"'none'"}


def test_the_page_has_no_inline_code() -> None:
    markup = Markup(PAGE)
    attributes = [name for _, attributes in markup.elements for name in attributes]

    assert markup.inline == ""
    assert not [name for name in attributes if name.startswith("on") or name == "style"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_file_names_another_origin(path: Path) -> None:
    text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")

    assert not re.findall(r"https?://|//[a-z0-9-]+\.[a-z]{2,}", text)


def test_text_never_becomes_markup() -> None:
    assert not re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", SCRIPT)


def test_everything_together_is_small() -> None:
    assert sum(path.stat().st_size for path in FILES) < MAX_BYTES


@pytest.mark.parametrize(
    ("name", "mimetypes"),
    [
        ("console.js", {"text/javascript", "application/javascript"}),
        ("console.css", {"text/css"}),
        ("icon.svg", {"image/svg+xml"}),
    ],
)
def test_the_page_gets_its_parts(client: FlaskClient, name: str, mimetypes: set[str]) -> None:
    response = client.get(f"/console/{name}", buffered=True)
    again = client.get(f"/console/{name}", headers={"If-None-Match": response.headers["ETag"]}, buffered=True)

    assert f"/console/{name}" in PAGE
    assert response.status_code == 200
    assert response.mimetype in mimetypes
    assert (again.status_code, response.headers["Cache-Control"]) == (304, "no-cache")


@pytest.mark.parametrize(
    "path", ["/console/", "/console/none.js", "/console/../console.py", "/console/%2e%2e/console.py"]
)
def test_nothing_else_is_served(client: FlaskClient, path: str) -> None:
    assert client.get(path).status_code == 404


def test_the_script_finds_every_element_it_names() -> None:
    named = set(re.findall(r'byId\("([\w-]+)"\)', SCRIPT)) | set(re.findall(r'look\("([\w-]+)"', SCRIPT))

    assert named <= Markup(PAGE).ids() | {"detail-close"}


def test_the_script_asks_only_for_routes_that_exist(tmp_path: Path) -> None:
    app = create_app(load_settings({"FILES_URL": str(tmp_path)}))
    routes = app.url_map.bind("localhost")
    named = SCRIPT.replace("`${self}", "`/api/tasks/${id}").replace("${verb}", "pause")
    paths = {re.sub(r"\$\{[^}]*\}", "x", path) for path in re.findall(r'["`](/api/[^"`?]*)', named)}

    assert {path for path in paths if not routes.allowed_methods(path)} == set()
    assert {"/api/tasks/x/retry", "/api/queues/x/pause", "/api/events", "/api/stats"} <= paths


def test_the_script_knows_the_words_of_the_service() -> None:
    finals = [status for status in Status if status.is_final]
    others = [status for status in Status if not status.is_final]

    assert f"const FINAL = [{_quoted(finals)}];" in SCRIPT
    assert f"const STATUSES = [{_quoted(others)}, ...FINAL];" in SCRIPT
    assert f"const PRIORITIES = [{_quoted(list(Priority))}];" in SCRIPT


def test_every_field_has_a_label() -> None:
    markup = Markup(PAGE)
    labelled = {attributes["for"] for tag, attributes in markup.elements if tag == "label" and "for" in attributes}
    fields = re.findall(r"(<label>[^<]*)?<(?:input|select)\b([^>]*)>", PAGE)

    for label, attributes in fields:
        own_id = re.search(r'id="([\w-]+)"', attributes)
        assert label or (own_id and own_id[1] in labelled), attributes


def _quoted(words: list[Status] | list[Priority]) -> str:
    return ", ".join(f'"{word}"' for word in words)
