"""The status machine: its words, its drawing in DOC and what the store's script may do are one."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from taskservice.model import Status

DRAWING = Path(__file__).resolve().parents[2] / "DOC" / "images" / "status.svg"
SVG = "{http://www.w3.org/2000/svg}"


def test_the_drawing_shows_every_status_with_its_state() -> None:
    texts = [(text.get("class", ""), text.text or "") for text in ElementTree.parse(DRAWING).iter(f"{SVG}text")]
    drawn = {}
    for (kind, word), (_, state) in itertools.pairwise(texts):
        if "status" in kind.split():
            drawn[word] = state

    assert drawn == {status.value: status.state for status in Status}


def test_the_drawing_shows_every_transition_and_no_other() -> None:
    arrows = [path for path in ElementTree.parse(DRAWING).iter(f"{SVG}path") if path.get("data-from")]
    drawn = {
        (source, target)
        for arrow in arrows
        for source in arrow.get("data-from", "").split()
        for target in arrow.get("data-to", "").split()
    }

    assert drawn == {(status.value, follower.value) for status in Status for follower in status.followers}


def test_a_final_status_has_no_follower() -> None:
    assert {status for status in Status if not status.followers} == {status for status in Status if status.is_final}
