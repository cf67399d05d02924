"""The drawings of chapter 1: fresh, legible, and true in every name they show.

Widths of letters are those of a wide font (DejaVu Sans), so that what fits here fits with any reader's.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from itertools import combinations, pairwise
from pathlib import Path

import pytest
from kombu.transport.native_delayed_delivery import CELERY_DELAYED_DELIVERY_EXCHANGE, level_name

from app import create_app
from celery_config import DEAD_LETTER_QUEUES, WORK_QUEUES
from DOC.diagrams.__main__ import DRAWINGS, FOLDER, draw, render
from DOC.diagrams.drawing import Badge, Box, Sheet, Way, Words
from DOC.diagrams.palette import BOXES, QUIET, SHEET, TEXTS
from taskservice.errors import PermanentError, TransientError
from taskservice.handlers import load_task_types
from taskservice.model import Priority, Status
from taskservice.records.attempts import Claim
from taskservice.request_bodies import SubmissionRequest
from taskservice.settings import load_settings

ROOT = Path(__file__).resolve().parents[2]
EDGE = 12  # nothing is nearer to the sheet's
NAMES = sorted(DRAWINGS)


@dataclass(frozen=True)
class Area:
    """A rectangle."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: Area) -> bool:
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )

    def holds(self, other: Area) -> bool:
        return (
            self.left <= other.left
            and other.right <= self.right
            and self.top <= other.top
            and other.bottom <= self.bottom
        )


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def sheet(name: str) -> Sheet:
    return draw(name)


def test_what_is_committed_is_what_its_module_draws(name: str) -> None:
    assert (FOLDER / name).read_text(encoding="utf-8") == render(name), "stale: make diagrams"


def test_it_is_read_aloud_and_needs_nothing_from_elsewhere(name: str) -> None:
    root = ElementTree.fromstring(render(name))
    tags = {element.tag.rpartition("}")[2] for element in root.iter()}
    parts = {element.get("id"): element.text for element in root.iter() if element.get("id")}

    assert parts["title"]
    assert len(parts["text"] or "") > 100
    assert tags <= {"svg", "title", "desc", "style", "rect", "path", "circle", "text"}
    assert "url(" not in render(name)
    assert "@import" not in render(name)


def test_no_words_lie_over_others_or_leave_the_sheet(sheet: Sheet) -> None:
    inner = Area(EDGE, EDGE, sheet.width - EDGE, sheet.height - EDGE)
    shown: list[Words | Badge] = [*sheet.words, *badges(sheet)]
    areas = {one: area_of(one) for one in shown}

    outside = [one for one, area in areas.items() if not inner.holds(area)]
    overlapping = [(a, b) for (a, one), (b, other) in combinations(areas.items(), 2) if one.meets(other)]

    assert outside == []
    assert overlapping == []


def test_no_words_stick_out_of_a_box(sheet: Sheet) -> None:
    sticking_out = [
        (words.text, box)
        for words in sheet.words
        for box in boxes(sheet)
        if area_of(box).meets(area_of(words)) and not area_of(box).holds(area_of(words))
    ]

    assert sticking_out == []


def test_boxes_lie_inside_or_beside_one_another(sheet: Sheet) -> None:
    areas = [area_of(box) for box in boxes(sheet)]

    overlapping = [
        (one, other)
        for one, other in combinations(areas, 2)
        if one.meets(other) and not one.holds(other) and not other.holds(one)
    ]

    assert overlapping == []


def test_no_way_runs_through_words(sheet: Sheet) -> None:
    struck = [
        (words.text, way)
        for words in sheet.words
        for way in ways(sheet)
        for start, end in pairwise(way.points)
        if area_of(words).meets(Area(*sorted_corners(start, end)))
    ]

    assert struck == []


def test_ways_do_not_cross(sheet: Sheet) -> None:
    drawn = [way for way in ways(sheet) if way.heads != "none"]  # life lines are crossed on purpose

    crossing = [
        (one, other)
        for one, other in combinations(drawn, 2)
        for start, end in pairwise(one.points)
        for begin, finish in pairwise(other.points)
        if strictly_cross(sorted_corners(start, end), sorted_corners(begin, finish))
    ]

    assert crossing == []


def test_every_name_exists(sheet: Sheet) -> None:
    known = names_in_the_code()
    shown = {
        word for words in sheet.words if words.kind == "code" for word in re.split(r"[\s,=…]+", words.text) if word
    }

    unknown = {word for word in shown if word not in known and not re.fullmatch(r"\d+|10\.[\d.]+:\d+|10\.[\d.]+", word)}

    assert unknown == set()


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_letters_stand_out_from_every_ground(theme: int) -> None:
    grounds = [SHEET[theme][0], *(themes[theme][0] for themes in BOXES.values())]
    inks = [colour[theme] for _, _, colour, _ in TEXTS.values() if colour is not None]

    assert all(contrast(ink, ground) > 7 for ink in inks for ground in grounds)
    assert all(contrast(themes[theme][1], ground) > 3 for themes in BOXES.values() for ground in grounds)
    assert QUIET[theme] in inks


def boxes(sheet: Sheet) -> list[Box]:
    return [shape for shape in sheet.shapes if isinstance(shape, Box)]


def ways(sheet: Sheet) -> list[Way]:
    return [shape for shape in sheet.shapes if isinstance(shape, Way)]


def badges(sheet: Sheet) -> list[Badge]:
    return [shape for shape in sheet.shapes if isinstance(shape, Badge)]


def area_of(shape: Box | Badge | Words) -> Area:
    if isinstance(shape, Box):
        return Area(shape.left, shape.top, shape.right, shape.bottom)
    if isinstance(shape, Badge):
        return Area(shape.x - 11, shape.y - 11, shape.x + 11, shape.y + 11)
    size = TEXTS[shape.kind][0]
    width = width_of(shape)
    left = shape.x - {"start": 0.0, "middle": 0.5, "end": 1.0}[shape.anchor] * width
    return Area(left, shape.y - 0.75 * size, left + width, shape.y + 0.22 * size)


def width_of(words: Words) -> float:
    size, weight, *_ = TEXTS[words.kind]
    if words.kind == "code":
        return 0.605 * size * len(words.text)
    letters = sum(next(share for group, share in LETTERS if re.match(group, letter)) for letter in words.text)
    return letters * size * (1.1 if weight > 400 else 1.0)


LETTERS = ((r"[iljtfI.,:;'|! ]", 0.34), (r"[mwMW@…]", 0.96), (r"[A-Z]", 0.7), (r".", 0.62))


def sorted_corners(start: tuple[float, float], end: tuple[float, float]) -> tuple[float, float, float, float]:
    return min(start[0], end[0]), min(start[1], end[1]), max(start[0], end[0]), max(start[1], end[1])


def strictly_cross(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Whether an upright and a level line meet away from the ends of both."""
    for level, upright in ((one, other), (other, one)):
        is_pair = level[1] == level[3] and upright[0] == upright[2]
        if is_pair and level[0] < upright[0] < level[2] and upright[1] < level[1] < upright[3]:
            return True
    return False


def names_in_the_code() -> set[str]:
    compose = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    dead_letter_codes = re.findall(r'ErrorInfo\("(\w+)"', (ROOT / "taskservice/worker/reaper.py").read_text())
    queues = {name for queue in (*WORK_QUEUES, *DEAD_LETTER_QUEUES) for name in (queue.name, queue.exchange.name)}
    types = set(load_task_types((), {}))
    return (
        queues
        | types
        | {f"{priority.queue}.{kind}" for priority in Priority for kind in types}
        | {f"{priority}_{kind}" for priority in Priority for kind in types}
        | {str(one) for enum in (Priority, Status, Claim) for one in enum}
        | {level_name(0), level_name(27), CELERY_DELAYED_DELIVERY_EXCHANGE}
        | {
            re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
            for rule in create_app(load_settings({})).url_map.iter_rules()
        }
        | set(re.findall(r"^  ([a-z][a-z-]+):$", compose, re.MULTILINE))
        | set(re.findall(r"^([A-Z][A-Z0-9_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
        | {PermanentError.__name__, TransientError.__name__, *dead_letter_codes, *SubmissionRequest.model_fields}
        | {"GET", "POST", "202", "SMTP", "HTTPS", "https://", "-lb-", ".lab"}
    )


def contrast(one: str, other: str) -> float:
    """As WCAG 2 counts it: 7 is its stricter bound for text, 3 the one for lines."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    shares = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
