"""The commands of a chapter, taken from the page itself.

Must not run anything.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).resolve().parents[2]

Place = Literal["here", "instance", "account"]

_BLOCK = re.compile(r"^```sh\n(.*?)^```", re.DOTALL | re.MULTILINE)
_MARKS: dict[str, Place] = {"# on the instance": "instance", "# needs an AWS account": "account"}


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block: where its commands can be run, and the commands."""

    place: Place
    commands: str


def blocks(page: str) -> list[Block]:
    """Every ```sh block of a page below DOC, in order; the first line marks what cannot be run just anywhere."""
    return [_block(text) for text in _BLOCK.findall((ROOT / "DOC" / page).read_text(encoding="utf-8"))]


def _block(text: str) -> Block:
    first = text.partition("\n")[0]
    return Block(place=_MARKS.get(first, "here"), commands=text)
