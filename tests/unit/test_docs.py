"""What README and DOC promise exists: the files they link to, the commands they name, the routes Postman calls.

Must not start anything: it reads files and the description of an application that nothing was sent to.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from app import create_app
from taskservice.settings import load_settings

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "DOC").rglob("*.md"))]
MAX_IMAGE_BYTES = 300_000

_FENCED = re.compile(r"^ *```.*?^ *```", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_PICTURE = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)\)")
_OTHER_LINK = re.compile(
    r"<(?:img|a|source)\b|^ *\[[^\]]+\]: ", re.MULTILINE
)  # forms that the tests here do not follow
_HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)
_MAKE = re.compile(r"^ *make ([a-z][a-z-]*)|`(?:\w+=\S+ )*make ([a-z][a-z-]*)|=\S+ make ([a-z][a-z-]*)", re.MULTILINE)
_TARGET = re.compile(r"^([a-z][a-z-]*):", re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    links = [link for link in _LINK.findall(_prose(page)) if "://" not in link]

    broken = [link for link in links if not _leads_somewhere(page, link)]

    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_is_of_a_form_that_is_followed(page: Path) -> None:
    assert not _OTHER_LINK.findall(_without_code(_prose(page)))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_picture_says_what_it_shows(page: Path) -> None:
    pictures = _PICTURE.findall(_prose(page))

    silent = [target for words, target in pictures if len(words) < 8]

    assert not silent


def test_every_page_is_reached_from_the_readme() -> None:
    reached, waiting = set[Path](), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        reached.add(page)
        waiting += [target for target in _pages_linked_by(page) if target not in reached]

    assert set(PAGES) <= reached


def test_the_chapters_lead_from_one_to_the_next() -> None:
    chapters = [ROOT / "DOC" / path for path in ("Lab-01/README.md", "Lab-02/aws-deployment.md", "Lab-03/pulumi.md")]

    missing = [
        (page.name, other.name)
        for page, other in [*pairwise(chapters), *pairwise(reversed(chapters))]
        if other not in _pages_linked_by(page)
    ]

    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_make_command_exists(page: Path) -> None:
    targets = set(_TARGET.findall((ROOT / "Makefile").read_text()))

    named = {name for names in _MAKE.findall(page.read_text()) for name in names if name}

    assert named <= targets


def test_the_readme_names_the_two_commands() -> None:
    named = {name for names in _MAKE.findall((ROOT / "README.md").read_text()) for name in names if name}

    assert {"run", "test"} <= named


def test_every_image_is_shown_and_small() -> None:
    images = [image for image in sorted((ROOT / "DOC").rglob("images/*")) if image.is_file()]
    shown = {_target(page, link) for page in PAGES for link in _LINK.findall(_prose(page)) if "://" not in link}

    assert images
    assert set(images) <= shown
    assert all(image.stat().st_size < MAX_IMAGE_BYTES for image in images)


def test_every_request_of_the_postman_collection_is_a_route() -> None:
    routes = _described_routes()
    collection = json.loads((ROOT / "DOC" / "taskservice.postman_collection.json").read_text())
    requests = list(_requests(collection["item"]))

    unknown = [request for request in requests if request not in routes]

    assert requests
    assert not unknown


def test_every_route_is_in_the_postman_collection() -> None:
    collection = json.loads((ROOT / "DOC" / "taskservice.postman_collection.json").read_text())

    missing = _described_routes() - set(_requests(collection["item"]))

    assert not missing


def test_what_is_written_from_the_openapi_document_is_fresh() -> None:
    # in a process of its own: task types of other tests are registered in this one
    command = [sys.executable, "-m", "taskservice.describe", "--check"]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_names_in_the_postman_collection_differ_where_a_request_is_repeated() -> None:
    collection = json.loads((ROOT / "DOC" / "taskservice.postman_collection.json").read_text())
    items = list(_leaves(collection["item"]))
    names = [item["name"] for item in items]

    repeated = [item["name"] for item in items if "setNextRequest" in json.dumps(item)]

    assert repeated
    assert [name for name in repeated if names.count(name) > 1] == []


def _leaves(items: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for item in items:
        if "item" in item:
            yield from _leaves(item["item"])
        else:
            yield item


def _prose(page: Path) -> str:
    return _FENCED.sub("", page.read_text(encoding="utf-8"))


def _without_code(prose: str) -> str:
    return re.sub(r"`[^`\n]*`", "", prose)


def _pages_linked_by(page: Path) -> set[Path]:
    targets = {_target(page, link) for link in _LINK.findall(_prose(page)) if "://" not in link}
    return {target for target in targets if target.suffix == ".md" and target.is_file()}


def _target(page: Path, link: str) -> Path:
    path = unquote(link.partition("#")[0])
    return (page.parent / path).resolve() if path else page


def _leads_somewhere(page: Path, link: str) -> bool:
    target = _target(page, link)
    if not target.exists() or not target.is_relative_to(ROOT):
        return False
    anchor = link.partition("#")[2]
    return not anchor or anchor in _anchors(target)


def _anchors(page: Path) -> set[str]:
    """As GitHub makes them: a heading that comes again gets a number."""
    seen = Counter[str]()
    anchors = set()
    for heading in _HEADING.findall(_prose(page)):
        anchor = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        anchors.add(f"{anchor}-{seen[anchor]}" if seen[anchor] else anchor)
        seen[anchor] += 1
    return anchors


def _described_routes() -> set[tuple[str, str]]:
    document = create_app(load_settings({})).test_client().get("/openapi.json").get_json()
    return {
        (method.upper(), re.sub(r"\{\w+\}", "{}", path))
        for path, operations in document["paths"].items()
        for method in operations
    }


def _requests(items: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """Method and path of each request, variables blanked."""
    for item in _leaves(items):
        path = item["request"]["url"]["raw"].removeprefix("{{baseUrl}}").partition("?")[0]
        yield item["request"]["method"], re.sub(r"\{\{\w+\}\}", "{}", path)
