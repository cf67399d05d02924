"""`make docs` writes both files; with `--check` it says which of them are stale, and fails.

Must not know how they are laid out.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from app import create_app
from taskservice.describe.document import Document
from taskservice.describe.markdown import page
from taskservice.describe.postman import collection
from taskservice.settings import load_settings

_DOC = Path(__file__).resolve().parents[2] / "DOC"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m taskservice.describe", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing")
    is_check = parser.parse_args().check
    texts = _texts(_document())
    stale = [path for path, text in texts.items() if not path.exists() or path.read_text("utf-8") != text]
    for path in stale:
        if not is_check:
            path.write_text(texts[path], encoding="utf-8")
        sys.stdout.write(f"{path.relative_to(_DOC.parent)}: {'stale, run: make docs' if is_check else 'written'}\n")
    return 1 if is_check and stale else 0


def _document() -> Document:
    """Of the service as it comes: whatever this machine's settings are."""
    document: Document = create_app(load_settings({})).test_client().get("/openapi.json").get_json()
    return document


def _texts(document: Document) -> dict[Path, str]:
    postman = json.dumps(collection(document), indent=2, ensure_ascii=False) + "\n"
    return {_DOC / "api.md": page(document), _DOC / "taskservice.postman_collection.json": postman}


if __name__ == "__main__":
    sys.exit(main())
