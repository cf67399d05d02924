"""What the drawings share: colours on light and dark, sizes of letters, weights of lines.

Must not know any drawing.
"""

from __future__ import annotations

SANS = "system-ui, 'Segoe UI', Helvetica, Arial, sans-serif"
MONO = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"

# role: (fill, line) on light, (fill, line) on dark
BOXES = {
    "plain": (("#f6f8fa", "#57606a"), ("#161b22", "#9198a1")),
    "web": (("#eaf3ff", "#0860c4"), ("#10213a", "#58a6ff")),
    "broker": (("#fff4e5", "#bc4c00"), ("#2b1d0e", "#f0883e")),
    "store": (("#fdeef0", "#b3273d"), ("#2d151a", "#ff7b8b")),
    "worker": (("#eaf6ec", "#1a7f37"), ("#12261a", "#3fb950")),
    "watch": (("#f5effd", "#7342b8"), ("#21173a", "#b48cf2")),
}
LINES = {name: (light[1], dark[1]) for name, (light, dark) in BOXES.items()}
SHEET = (("#ffffff", "#d0d7de"), ("#0d1117", "#30363d"))
INK = ("#1f2328", "#f0f6fc")
QUIET = ("#424a53", "#b7bdc8")

# kind: (size, weight, colour, font)
TEXTS = {
    "heading": (19, 600, INK, SANS),
    "name": (17, 600, INK, SANS),
    "item": (15, 400, INK, SANS),
    "note": (14.5, 400, QUIET, SANS),
    "code": (14, 400, INK, MONO),
    "number": (13, 700, None, SANS),
}
LEADING = 1.42  # from one line of a text to the next, in sizes of its letters


def style() -> str:
    """The style sheet of every drawing: light unless the reader prefers dark."""
    return f"{_rules(0)}\n    @media (prefers-color-scheme: dark) {{\n{_indented(_colours(1))}\n    }}"


def _rules(theme: int) -> str:
    letters = [f"    .{kind} {{ font: {weight} {size}px {font}; }}" for kind, (size, weight, _, font) in TEXTS.items()]
    shapes = [
        "    rect, path { stroke-width: 1.5; }",
        "    .way { fill: none; stroke-width: 1.8; }",
        "    .dashed { stroke-dasharray: 6 4; }",
        "    .start { text-anchor: start; } .middle { text-anchor: middle; } .end { text-anchor: end; }",
    ]
    return "\n".join([*shapes, *letters, _colours(theme)])


def _colours(theme: int) -> str:
    fill, line = SHEET[theme]
    rules = [f"    .sheet {{ fill: {fill}; stroke: {line}; }}", f"    .inside {{ fill: {fill}; }}"]
    for name, themes in BOXES.items():
        fill, line = themes[theme]
        rules.append(f"    .{name} {{ fill: {fill}; stroke: {line}; }}")
        rules.append(f"    .{name}-line {{ stroke: {line}; }} .{name}-full {{ fill: {line}; stroke: none; }}")
    for kind, (_, _, colour, _) in TEXTS.items():
        rules.append(f"    .{kind} {{ fill: {(colour or (SHEET[0][0], SHEET[1][0]))[theme]}; }}")
    return "\n".join(rules)


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
