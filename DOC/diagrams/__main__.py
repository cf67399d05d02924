"""`make diagrams`: writes the drawings of chapter 1 from their modules; `--check` says which of them are stale.

Must not know how anything is drawn.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

from DOC.diagrams.drawing import Sheet
from DOC.diagrams.mxfile import mxfile

FOLDER = Path(__file__).resolve().parents[1] / "Lab-01" / "images"

# file: module of this package that draws it
DRAWINGS = {
    "archi.drawio.svg": "archi",
    "Dataflow.drawio.svg": "dataflow",
    "priorityqueue.drawio.svg": "priorityqueue",
    "taskflow.svg": "taskflow",
    "task_worker.drawio.svg": "task_worker",
    "workerTask.drawio.svg": "monitoring",
    "taskflow.drawio.svg": "errors",
    "load-balancer.svg": "load_balancer",
}


def main() -> int:
    is_check = sys.argv[1:] == ["--check"]
    stale = [name for name in DRAWINGS if _read(name) != render(name)]
    if is_check:
        sys.stdout.writelines(f"{name} is not what its module draws: make diagrams\n" for name in stale)
        return 1 if stale else 0
    for name in stale:
        (FOLDER / name).write_text(render(name), encoding="utf-8")
    sys.stdout.write(f"{len(stale)} of {len(DRAWINGS)} drawings written\n")
    return 0


def render(name: str) -> str:
    """The SVG of one drawing."""
    sheet = draw(name)
    return sheet.svg(content=mxfile(sheet) if name.endswith(".drawio.svg") else None)


def draw(name: str) -> Sheet:
    sheet: Sheet = import_module(f"DOC.diagrams.{DRAWINGS[name]}").draw()
    return sheet


def _read(name: str) -> str:
    path = FOLDER / name
    return path.read_text(encoding="utf-8") if path.exists() else ""


if __name__ == "__main__":
    sys.exit(main())
