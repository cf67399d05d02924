"""One message in a worker: delivered, claimed, run, settled, acknowledged."""

from __future__ import annotations

from DOC.diagrams.drawing import Box, Sheet

DESCRIPTION = (
    "RabbitMQ delivers a message, unacknowledged, one for each child. The claim, one script in Redis, grants it "
    "or not: what must wait or is paused is published again, what is stale or revoked is dropped, and the message of "
    "a task that lost three workers is rejected to the dead letters. A granted attempt runs in a child process; the "
    "keeper renews its lease. Its end is settled in Redis as succeeded, failed, retrying or cancelled, and only then "
    "is the message acknowledged. When the child dies the message goes back and the same attempt runs again."
)
ANSWERS = (
    (("wait", "paused"), "publish again,", "the same attempt;", "acknowledge"),
    (("stale", "revoked"), "drop it:", "acknowledge"),
    (("dead_letter",), "reject:", "to the dead letters"),
)
ENDS = (
    ("a result", "", "succeeded", "acknowledge"),
    ("PermanentError,", "time limit", "failed", "acknowledge"),
    ("any other error", "", "retrying", "acknowledge"),
    ("cancelled by", "a client", "cancelled", "acknowledge"),
    ("its child dies", "", "retrying", "hand back"),
)


def draw() -> Sheet:
    sheet = Sheet("A task in a worker", DESCRIPTION, width=1080, height=800)
    deliver = _step(sheet, 1, 30, 160, "broker", "name: Deliver", "note: one per child,", "note: unacknowledged")
    claim = _step(sheet, 2, 260, 170, "store", "name: Claim", "note: one script", "note: in Redis")
    run = _step(sheet, 3, 510, 180, "worker", "name: Run", "note: the handler,", "note: in a child process")
    settle = _step(sheet, 4, 740, 140, "store", "name: Settle", "note: one script", "note: in Redis")
    end = _step(sheet, 5, 930, 120, "broker", "name: Release", "note: the message")
    for before, after in ((deliver, claim), (claim, run), (run, settle), (settle, end)):
        sheet.way((before.right, before.middle), (after.left, after.middle))
    sheet.say(470, claim.middle - 10, "code: granted")
    keeper = sheet.box(
        510, 30, 370, 66, "worker", "name: Keeper", "note: renews the lease of 8 s every second", dashed=True
    )
    sheet.way((run.centre, keeper.bottom), (run.centre, run.top), role="worker", dashed=True)
    _draw_answers(sheet, claim)
    _draw_ends(sheet, run)
    sheet.say(540, 774, "note: Any other error of the last attempt is failed, too; a child's third death as well.")
    return sheet


def _step(sheet: Sheet, number: int, x: float, width: float, role: str, *lines: str) -> Box:
    box = sheet.box(x, 150, width, 96, role, *lines)
    sheet.badge(number, x + 20, 150, role)
    return box


def _draw_answers(sheet: Sheet, claim: Box) -> None:
    answers = sheet.box(260, 306, 170, 430, "store", "name: or else", top=True)
    sheet.way((claim.centre, claim.bottom), (claim.centre, answers.top))
    for index, (words, *done) in enumerate(ANSWERS):
        y = 352 + index * 132
        answer = sheet.box(280, y, 130, 100, "store", *(f"code: {word}" for word in words), inside=True)
        action = sheet.box(30, y, 160, 100, "broker", *(f"note: {line}" for line in done))
        sheet.way((answer.left, answer.middle), (action.right, action.middle))


def _draw_ends(sheet: Sheet, run: Box) -> None:
    ends = sheet.box(510, 306, 180, 430, "worker", "name: ends with", top=True)
    sheet.way((run.centre, run.bottom), (run.centre, ends.top))
    for index, (why, more, status, done) in enumerate(ENDS):
        y = 352 + index * 76
        lines = [f"note: {line}" for line in (why, more) if line]
        way_out = sheet.box(530, y, 140, 60, "worker", *lines, inside=True)
        settled = sheet.box(740, y, 140, 60, "store", f"code: {status}", *_detail(why))
        released = sheet.box(930, y, 120, 60, "broker", f"note: {done}")
        sheet.way((way_out.right, way_out.middle), (settled.left, settled.middle))
        sheet.way((settled.right, settled.middle), (released.left, released.middle))


def _detail(why: str) -> list[str]:
    if why == "any other error":
        return ["note: next published"]
    return ["note: same attempt"] if why == "its child dies" else []
