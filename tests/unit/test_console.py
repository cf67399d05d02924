"""The console's files held to their promises: this origin only, no inline code, small, modules that fit together, and
only routes that exist."""

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
MODULES = {path.name: path.read_text(encoding="utf-8") for path in FILES if path.suffix == ".js"}
SCRIPT = "\n".join(MODULES.values())
PAGE = (FOLDER / "index.html").read_text(encoding="utf-8")
MAX_BYTES = 64_000
MAX_LINES = 150
_IMPORT = re.compile(r'^import \{([^}]*)\} from "\./([^"]+)";$', re.MULTILINE)
_EXPORT = re.compile(r"^export (?:async )?(?:function\*?|const|class) (\w+)", re.MULTILINE)


MEDIA_TYPES = {
    ".js": {"text/javascript", "application/javascript"},
    ".css": {"text/css"},
    ".svg": {"image/svg+xml"},
}


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


@pytest.mark.parametrize("path", [path for path in FILES if path.suffix != ".html"], ids=lambda path: path.name)
def test_the_page_gets_its_parts(client: FlaskClient, path: Path) -> None:
    name = path.name
    response = client.get(f"/console/{name}", buffered=True)
    again = client.get(f"/console/{name}", headers={"If-None-Match": response.headers["ETag"]}, buffered=True)

    assert response.status_code == 200
    assert response.mimetype in MEDIA_TYPES[path.suffix]
    assert response.headers["X-Content-Type-Options"] == "nosniff"  # so a wrong type would be no module
    assert (again.status_code, response.headers["Cache-Control"]) == (304, "no-cache")


def test_the_page_names_the_first_module_its_style_and_its_icon() -> None:
    markup = Markup(PAGE)
    named = {attributes.get("src") or attributes.get("href") for _, attributes in markup.elements}

    assert {"/console/console.js", "/console/console.css", "/console/icon.svg"} <= named
    assert ("script", {"type": "module", "src": "/console/console.js"}) in markup.elements


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_only_what_another_one_exports(name: str) -> None:
    wanted = {(source, one) for source, names in _imports(name) for one in names}
    offered = {(source, one) for source, text in MODULES.items() for one in _EXPORT.findall(text)}

    assert wanted <= offered
    assert MODULES[name].count("\nimport ") + MODULES[name].startswith("import ") == len(_imports(name))


@pytest.mark.parametrize("name", MODULES)
def test_a_module_uses_what_it_imports_and_is_short(name: str) -> None:
    text = _IMPORT.sub("", MODULES[name])

    assert [one for _, names in _imports(name) for one in names if not re.search(rf"\b{one}\b", text)] == []
    assert len(MODULES[name].splitlines()) < MAX_LINES


def test_every_module_is_reached_from_the_first_and_none_from_itself() -> None:
    def reached(name: str, path: tuple[str, ...] = ()) -> set[str]:
        assert name not in path, f"a circle: {path}"
        return {name}.union(*(reached(source, (*path, name)) for source, _ in _imports(name)))

    assert reached("console.js") == set(MODULES)


def test_nothing_is_exported_in_vain() -> None:
    used = {(source, one) for name in MODULES for source, names in _imports(name) for one in names}
    inside = {(name, one) for name, text in MODULES.items() for one in _EXPORT.findall(text)}

    assert inside - used == set()


@pytest.mark.parametrize(
    "path", ["/console/", "/console/none.js", "/console/../console.py", "/console/%2e%2e/console.py"]
)
def test_nothing_else_is_served(client: FlaskClient, path: str) -> None:
    assert client.get(path).status_code == 404


def test_the_script_finds_every_element_it_names() -> None:
    named = set(re.findall(r'(?:byId|look)\("([\w-]+)"', SCRIPT))
    of_the_form = {f"submit-{name}" for name in re.findall(r'value\("([\w-]+)"\)', SCRIPT)}

    assert named | of_the_form <= Markup(PAGE).ids()
    assert {"submit-delay", "submit-callback"} <= of_the_form


def test_the_script_asks_only_for_routes_that_exist(tmp_path: Path) -> None:
    app = create_app(load_settings({"FILES_URL": str(tmp_path)}))
    routes = app.url_map.bind("localhost")
    named = SCRIPT.replace("`${self}", "`/api/tasks/${id}").replace("`${address(one)}", "`/api/tasks/${id}")
    named = named.replace("${verb}", "pause")
    paths = {re.sub(r"\$\{[^}]*\}", "x", path) for path in re.findall(r'["`](/api/[^"`?]*)', named)}

    assert {path for path in paths if not routes.allowed_methods(path)} == set()
    assert {"/api/tasks/x/retry", "/api/tasks/x/events", "/api/queues/x/pause", "/api/events", "/api/stats"} <= paths


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


def _imports(name: str) -> list[tuple[str, list[str]]]:
    """(module, names) of each import line."""
    return [(source, [one.strip() for one in names.split(",")]) for names, source in _IMPORT.findall(MODULES[name])]


def _quoted(words: list[Status] | list[Priority]) -> str:
    return ", ".join(f'"{word}"' for word in words)
