"""What a client sends and gets, in order, and what happens behind it."""

from __future__ import annotations

from typing import Literal

from DOC.diagrams.drawing import Sheet

DESCRIPTION = (
    "A sequence. The client posts a task; the web validates it, publishes it to RabbitMQ, waits for the confirm, "
    "writes the record in Redis and answers 202 with the task's id. RabbitMQ delivers the message to a worker, which "
    "claims the task in Redis, runs its handler, stores the result and acknowledges the message. The client reads "
    "the task; the web answers from its record."
)
CLIENT, WEB, BROKER, WORKER, STORE = 110, 330, 560, 770, 970
_BAR = 6  # half the width of the bar over a life line
_Kind = Literal["end", "both"]


def draw() -> Sheet:
    sheet = Sheet("A submission, its run, and its reading", DESCRIPTION, width=1080, height=790)
    for x, role, name in (
        (CLIENT, "plain", "Client"), (WEB, "web", "Web"), (BROKER, "broker", "RabbitMQ"),
        (WORKER, "worker", "Worker"), (STORE, "store", "Redis"),
    ):  # fmt: skip
        sheet.way((x, 78), (x, 720), role=role, dashed=True, heads="none")
        sheet.box(x - 75, 30, 150, 48, role, f"name: {name}")
    _draw_submission(sheet)
    _draw_run(sheet)
    _draw_reading(sheet)
    sheet.say(
        540, 752, "note: No confirm within 3.5 s: 503 with outcome refused, and the task will not run.",
        "note: A worker may be faster than step 4; whoever comes first creates the record.",
    )  # fmt: skip
    return sheet


def _draw_submission(sheet: Sheet) -> None:
    _stage(sheet, 106, "Submit")
    sheet.box(WEB - _BAR, 126, 2 * _BAR, 214, "web")
    _message(sheet, 1, 134, CLIENT, WEB, "code: POST /api/tasks")
    sheet.say(WEB + 16, 166, "note: validate", anchor="start")
    _message(sheet, 2, 208, WEB, BROKER, "note: publish, key high")
    _message(sheet, 3, 250, BROKER, WEB, "note: confirm, on disk")
    _message(sheet, 4, 292, WEB, STORE, "note: record: queued")
    _message(sheet, 5, 332, WEB, CLIENT, "note: 202 and its id")


def _draw_run(sheet: Sheet) -> None:
    _stage(sheet, 370, "Run")
    sheet.box(WORKER - _BAR, 390, 2 * _BAR, 174, "worker")
    _message(sheet, 6, 398, BROKER, WORKER, "note: deliver")
    _message(sheet, 7, 440, WORKER, STORE, "note: claim: running")
    sheet.say(WORKER + 16, 472, "note: the handler runs", anchor="start")
    _message(sheet, 8, 514, WORKER, STORE, "note: succeeded")
    _message(sheet, 9, 556, WORKER, BROKER, "note: acknowledge")


def _draw_reading(sheet: Sheet) -> None:
    _stage(sheet, 594, "Read")
    sheet.box(WEB - _BAR, 614, 2 * _BAR, 90, "web")
    _message(sheet, 10, 622, CLIENT, WEB, "note: GET its self link")
    _message(sheet, 11, 660, WEB, STORE, "note: the record", heads="both")
    _message(sheet, 12, 696, WEB, CLIENT, "note: 200 and its result")


def _stage(sheet: Sheet, y: float, name: str) -> None:
    sheet.say(24, y, f"name: {name}", anchor="start")


def _message(sheet: Sheet, number: int, y: float, start: float, end: float, words: str, heads: _Kind = "end") -> None:
    """Its words stand in the gap beside the left life line of the two."""
    sign = 1 if end > start else -1
    tail, tip = (_BAR if x in (WEB, WORKER) else 0 for x in (start, end))
    sheet.way((start + sign * tail, y), (end - sign * tip, y), heads=heads)
    left = min(start, end)
    sheet.badge(number, left + 26, y - 17)
    sheet.say(left + 43, y - 12, words, anchor="start")
