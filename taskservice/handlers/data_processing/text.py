"""Statistics of a text: its characters, words and lines, and the words it uses most.

Must not know where the text comes from.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from typing import Any

TOP_WORDS = 10


def summarize_text(text: str) -> dict[str, Any]:
    """Words stand between white space, without the punctuation around them; they are the same in any letter case."""
    words = [word for chunk in text.split() if (word := _bare_word(chunk))]
    counts = Counter(unicodedata.normalize("NFC", word.casefold()) for word in words)
    top = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:TOP_WORDS]
    return {
        "characters": len(text),
        "words": len(words),
        "lines": len(text.splitlines()),
        "unique_words": len(counts),
        "top_words": [{"word": word, "count": count} for word, count in top],
    }


def _bare_word(chunk: str) -> str:
    start, end = 0, len(chunk)
    while start < end and unicodedata.category(chunk[start]).startswith("P"):
        start += 1
    while end > start and unicodedata.category(chunk[end - 1]).startswith("P"):
        end -= 1
    return chunk[start:end]
