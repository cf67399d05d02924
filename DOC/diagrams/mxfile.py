"""The same sheet as draw.io keeps it, so that a .drawio.svg opens there and can be edited.

Must not know what is drawn. draw.io's own format: a graph of cells, in its light colours.
"""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement, tostring

from DOC.diagrams.drawing import Badge, Box, Sheet, Way, Words
from DOC.diagrams.palette import BOXES, LINES, MONO, SHEET, TEXTS

LIGHT = 0
_LETTER = 0.6  # a letter's width, in sizes; only how large the cell of a text is
_ALIGN = {"start": ("left", 0.0), "middle": ("center", 0.5), "end": ("right", 1.0)}


def mxfile(sheet: Sheet) -> str:
    """The XML that draw.io looks for in the attribute `content` of an SVG's root."""
    file = Element("mxfile")
    page = SubElement(SubElement(file, "diagram", name=sheet.title), "mxGraphModel")
    root = SubElement(page, "root")
    _cell(root, id="0")
    _cell(root, id="1", parent="0")
    for number, shape in enumerate([*sheet.shapes, *sheet.words], start=2):
        match shape:
            case Box():
                _add_box(root, number, shape)
            case Way():
                _add_way(root, number, shape)
            case Badge():
                _add_badge(root, number, shape)
            case Words():
                _add_words(root, number, shape)
    return tostring(file, encoding="unicode")


def _cell(root: Element, **attributes: str) -> Element:
    return SubElement(root, "mxCell", attributes)


def _add_box(root: Element, number: int, box: Box) -> None:
    fill, line = BOXES[box.role][LIGHT]
    style = f"rounded=1;absoluteArcSize=1;arcSize=16;fillColor={SHEET[LIGHT][0] if box.is_inside else fill};"
    style += f"strokeColor={line};strokeWidth=1.5;dashed={int(box.is_dashed)};"
    _vertex(root, number, style, "", (box.x, box.y, box.width, box.height))


def _add_badge(root: Element, number: int, badge: Badge) -> None:
    line = LINES[badge.role][LIGHT]
    style = f"ellipse;fillColor={line};strokeColor=none;fontColor={SHEET[LIGHT][0]};fontSize=13;fontStyle=1;"
    _vertex(root, number, style, str(badge.number), (badge.x - 11, badge.y - 11, 22, 22))


def _add_words(root: Element, number: int, words: Words) -> None:
    size, weight, colour, font = TEXTS[words.kind]
    align, share = _ALIGN[words.anchor]
    family = "Courier New" if font == MONO else "Helvetica"
    style = f"text;fillColor=none;strokeColor=none;align={align};verticalAlign=middle;spacing=0;"
    style += f"fontSize={size};fontFamily={family};fontStyle={int(weight > 400)};fontColor={(colour or SHEET)[LIGHT]};"
    width = len(words.text) * size * _LETTER
    _vertex(root, number, style, words.text, (words.x - share * width, words.y - 0.36 * size - 10, width, 20))


def _add_way(root: Element, number: int, way: Way) -> None:
    ends = {"end": ("none", "block"), "both": ("block", "block"), "none": ("none", "none")}[way.heads]
    style = f"edgeStyle=none;rounded=1;strokeColor={LINES[way.role][LIGHT]};strokeWidth=1.8;"
    style += f"dashed={int(way.is_dashed)};startArrow={ends[0]};endArrow={ends[1]};startSize=4;endSize=4;"
    cell = _cell(root, id=str(number), style=style, edge="1", parent="1")
    geometry = SubElement(cell, "mxGeometry", {"relative": "1", "as": "geometry"})
    first, *corners, last = [{"x": f"{x:g}", "y": f"{y:g}"} for x, y in way.points]
    SubElement(geometry, "mxPoint", first | {"as": "sourcePoint"})
    SubElement(geometry, "mxPoint", last | {"as": "targetPoint"})
    if corners:
        array = SubElement(geometry, "Array", {"as": "points"})
        for corner in corners:
            SubElement(array, "mxPoint", corner)


def _vertex(root: Element, number: int, style: str, value: str, place: tuple[float, float, float, float]) -> None:
    cell = _cell(root, id=str(number), value=value, style=style, vertex="1", parent="1")
    x, y, width, height = (f"{one:g}" for one in place)
    SubElement(cell, "mxGeometry", {"x": x, "y": y, "width": width, "height": height, "as": "geometry"})
