"""A sheet to draw on: boxes, words and ways, kept as values, then written as SVG.

Must not know what is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from typing import Literal

from DOC.diagrams.palette import LEADING, TEXTS, style

Anchor = Literal["start", "middle", "end"]
Point = tuple[float, float]

RADIUS = 8
_ASCENT = 0.36  # of a line's middle above its base, in sizes of its letters


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle of one role. `is_inside`: the sheet's own colour, for a part of another box."""

    x: float
    y: float
    width: float
    height: float
    role: str
    is_dashed: bool = False
    is_inside: bool = False

    @property
    def left(self) -> float:
        return self.x

    @property
    def right(self) -> float:
        return self.x + self.width

    @property
    def top(self) -> float:
        return self.y

    @property
    def bottom(self) -> float:
        return self.y + self.height

    @property
    def middle(self) -> float:
        return self.y + self.height / 2

    @property
    def centre(self) -> float:
        return self.x + self.width / 2


@dataclass(frozen=True, slots=True)
class Words:
    """One line of text; y is its base line."""

    text: str
    x: float
    y: float
    kind: str
    anchor: Anchor = "middle"


@dataclass(frozen=True, slots=True)
class Way:
    """A line with an arrow head at its end, at both ends, or at none. Corners are rounded."""

    points: tuple[Point, ...]
    role: str = "plain"
    is_dashed: bool = False
    heads: Literal["end", "both", "none"] = "end"


@dataclass(frozen=True, slots=True)
class Badge:
    """A step's number in a disc."""

    number: int
    x: float
    y: float
    role: str


@dataclass
class Sheet:
    """What is on it, in drawing order, words above all. `title` and `description` are for those who hear it read."""

    title: str
    description: str
    width: int
    height: int
    shapes: list[Box | Way | Badge] = field(default_factory=list)
    words: list[Words] = field(default_factory=list)

    def box(
        self, x: float, y: float, width: float, height: float, role: str, *lines: str,
        dashed: bool = False, inside: bool = False, top: bool = False,
    ) -> Box:  # fmt: skip
        """A box with its lines, each "kind: text", centred in it or, with `top`, at its upper edge."""
        box = Box(x, y, width, height, role, dashed, inside)
        self.shapes.append(box)
        self._fill(box, [_kind_and_text(line) for line in lines], is_top=top)
        return box

    def say(self, x: float, y: float, *lines: str, anchor: Anchor = "middle") -> None:
        """Lines of text, the first one's base line at y."""
        for kind, text in map(_kind_and_text, lines):
            self.words.append(Words(text, x, y, kind, anchor))
            y += TEXTS[kind][0] * LEADING

    def way(
        self, *points: Point, role: str = "plain", dashed: bool = False, heads: Literal["end", "both", "none"] = "end"
    ) -> None:
        self.shapes.append(Way(points, role, dashed, heads))

    def badge(self, number: int, x: float, y: float, role: str = "plain") -> None:
        self.shapes.append(Badge(number, x, y, role))

    def svg(self, *, content: str | None = None) -> str:
        """The whole file. `content` is for a program that keeps a model of its own in an SVG."""
        attributes = f' content="{escape(content)}"' if content else ""
        body = [*map(_shape_svg, self.shapes), *map(_words_svg, self.words)]
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{self.width}" height="{self.height}" '
            f'viewBox="0 0 {self.width} {self.height}" role="img" aria-labelledby="title text"{attributes}>\n'
            f'  <title id="title">{escape(self.title)}</title>\n'
            f'  <desc id="text">{escape(self.description)}</desc>\n'
            f"  <style>\n{style()}\n  </style>\n"
            f'  <rect class="sheet" x="0.5" y="0.5" width="{self.width - 1}" height="{self.height - 1}" rx="10"/>\n'
            + "".join(f"  {line}\n" for line in body)
            + "</svg>\n"
        )

    def _fill(self, box: Box, lines: list[tuple[str, str]], *, is_top: bool) -> None:
        heights = [TEXTS[kind][0] * LEADING for kind, _ in lines]
        y = box.top + 10 if is_top else box.middle - sum(heights) / 2
        for (kind, text), height in zip(lines, heights, strict=True):
            base = y + height / 2 + TEXTS[kind][0] * _ASCENT
            self.words.append(Words(text, box.centre, base, kind))
            y += height


def _kind_and_text(line: str) -> tuple[str, str]:
    kind, _, text = line.partition(": ")
    return kind, text


def _shape_svg(shape: Box | Way | Badge) -> str:
    match shape:
        case Box():
            return _box_svg(shape)
        case Way():
            return _way_svg(shape)
        case Badge():
            return _badge_svg(shape)


def _box_svg(box: Box) -> str:
    classes = " ".join([f"{box.role}-line inside" if box.is_inside else box.role, *(["dashed"] * box.is_dashed)])
    place = f'x="{_n(box.x)}" y="{_n(box.y)}" width="{_n(box.width)}" height="{_n(box.height)}"'
    return f'<rect class="{classes}" {place} rx="{5 if box.is_inside else RADIUS}"/>'


def _words_svg(words: Words) -> str:
    place = f'x="{_n(words.x)}" y="{_n(words.y)}"'
    return f'<text class="{words.kind} {words.anchor}" {place}>{escape(words.text, quote=False)}</text>'


def _badge_svg(badge: Badge) -> str:
    disc = f'<circle class="{badge.role}-full" cx="{_n(badge.x)}" cy="{_n(badge.y)}" r="11"/>'
    number = f'<text class="number middle" x="{_n(badge.x)}" y="{_n(badge.y + 4.7)}">{badge.number}</text>'
    return disc + number


def _way_svg(way: Way) -> str:
    points = list(way.points)
    heads = []
    if way.heads in ("end", "both"):
        points[-1], head = _head(points[-2], points[-1])
        heads.append(head)
    if way.heads == "both":
        points[0], head = _head(points[1], points[0])
        heads.append(head)
    classes = " ".join(["way", f"{way.role}-line", *(["dashed"] * way.is_dashed)])
    line = f'<path class="{classes}" d="{_rounded(points)}"/>'
    return line + "".join(f'<path class="{way.role}-full" d="{head}"/>' for head in heads)


def _head(before: Point, tip: Point) -> tuple[Point, str]:
    """Where the line ends, and the head from there to its tip. Ways run along the axes."""
    dx, dy = _direction(before, tip)
    base = (tip[0] - 9 * dx, tip[1] - 9 * dy)
    left = (base[0] - 4.5 * dy, base[1] + 4.5 * dx)
    right = (base[0] + 4.5 * dy, base[1] - 4.5 * dx)
    return base, f"M{_p(left)} {_p(tip)} {_p(right)}z"


def _rounded(points: list[Point]) -> str:
    parts = [f"M{_p(points[0])}"]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        into, out = _direction(before, corner), _direction(corner, after)
        near = min(RADIUS, _length(before, corner) / 2, _length(corner, after) / 2)
        start = (corner[0] - near * into[0], corner[1] - near * into[1])
        end = (corner[0] + near * out[0], corner[1] + near * out[1])
        parts.append(f"L{_p(start)}Q{_p(corner)} {_p(end)}")
    return "".join([*parts, f"L{_p(points[-1])}"])


def _direction(start: Point, end: Point) -> tuple[int, int]:
    dx, dy = end[0] - start[0], end[1] - start[1]
    if (dx == 0) == (dy == 0):
        raise ValueError(f"from {start} to {end}: a way runs along the axes")
    return (dx > 0) - (dx < 0), (dy > 0) - (dy < 0)


def _length(start: Point, end: Point) -> float:
    return abs(end[0] - start[0]) + abs(end[1] - start[1])


def _p(point: Point) -> str:
    return f"{_n(point[0])} {_n(point[1])}"


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
