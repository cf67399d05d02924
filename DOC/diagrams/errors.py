"""What can go wrong with a task, what the service does about it, and how it ends."""

from __future__ import annotations

from DOC.diagrams.drawing import Box, Sheet

DESCRIPTION = (
    "Four kinds of trouble. A permanent error or the time limit makes the task failed at once. Any other error is "
    "retried after 1, 2, 4 and so on up to 60 seconds, waiting in RabbitMQ; when the retries are used up the task is "
    "failed. When a worker is lost its message comes back and the same attempt runs again; the third loss makes it "
    "failed and its message a dead letter. A message that nobody can run goes to dead_letter_intake; the reaper makes "
    "its task failed and keeps the letter in dead_letter. A failed task can be retried as a new one."
)


def draw() -> Sheet:
    sheet = Sheet("Errors", DESCRIPTION, width=1080, height=770)
    for x, heading in ((160, "What happened"), (500, "What the service does"), (910, "How it ends")):
        sheet.say(x, 52, f"heading: {heading}")
    failed = sheet.box(
        800,
        80,
        250,
        480,
        "store",
        "code: failed",
        "note: error.code says why,",
        "note: error.retryable whether",
        "note: trying again may help;",
        "note: a client may retry it,",
        "note: as a new task",
    )
    _draw_permanent(sheet, failed)
    _draw_transient(sheet, failed)
    _draw_lost(sheet, failed)
    _draw_dead_letter(sheet, failed)
    return sheet


def _draw_permanent(sheet: Sheet, failed: Box) -> None:
    cause = _cause(sheet, 80, 100, "name: It would fail again", "code: PermanentError", "note: or over the time limit")
    does = _answer(
        sheet,
        80,
        100,
        "worker",
        "name: No retry",
        "note: a missing file, a bad query,",
        "note: a 5xx of the mail server",
    )
    _lead(sheet, cause, does, failed)


def _draw_transient(sheet: Sheet, failed: Box) -> None:
    cause = _cause(sheet, 220, 160, "name: It may pass", "code: TransientError", "note: or anything unexpected")
    does = _answer(
        sheet,
        220,
        160,
        "broker",
        "code: retrying",
        "note: waits in RabbitMQ:",
        "note: 1, 2, 4 … up to 60 s,",
        "note: then the next attempt",
        "note: in the same queue",
    )
    _lead(sheet, cause, does, failed)
    sheet.say(715, does.middle - 28, "note: after", "code: max_retries")


def _draw_lost(sheet: Sheet, failed: Box) -> None:
    cause = _cause(
        sheet,
        420,
        140,
        "name: Its worker is lost",
        "note: a child died: seen at once;",
        "note: the whole worker: when",
        "note: its lease of 8 s lapses",
    )
    does = _answer(
        sheet,
        420,
        140,
        "broker",
        "code: retrying",
        "note: RabbitMQ delivers the",
        "note: message again:",
        "note: the same attempt",
    )
    _lead(sheet, cause, does, failed)
    sheet.say(715, does.middle - 28, "note: third loss", "code: worker_lost")


def _draw_dead_letter(sheet: Sheet, failed: Box) -> None:
    cause = _cause(sheet, 640, 100, "name: Nobody can run it", "code: unknown_task_type", "code: undecodable_message")
    intake = sheet.box(370, 650, 260, 80, "broker", "code: dead_letter_intake", "note: emptied by the reaper")
    kept = sheet.box(800, 650, 250, 80, "broker", "code: dead_letter", "note: kept for the retention")
    sheet.way((cause.right, intake.middle), (intake.left, intake.middle))
    sheet.way((intake.right, intake.middle), (kept.left, kept.middle))
    sheet.way((570, intake.top), (570, 605), (925, 605), (925, failed.bottom))
    sheet.way((430, 560), (430, intake.top))
    sheet.say(418, 610, "note: third loss", anchor="end")


def _cause(sheet: Sheet, y: float, height: float, *lines: str) -> Box:
    return sheet.box(30, y, 260, height, "plain", *lines)


def _answer(sheet: Sheet, y: float, height: float, role: str, *lines: str) -> Box:
    return sheet.box(370, y, 260, height, role, *lines)


def _lead(sheet: Sheet, cause: Box, does: Box, failed: Box) -> None:
    sheet.way((cause.right, cause.middle), (does.left, does.middle))
    sheet.way((does.right, does.middle), (failed.left, does.middle))
