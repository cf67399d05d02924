"""Which worker runs which type: shared queues, and queues of a type's own."""

from __future__ import annotations

from DOC.diagrams.drawing import Box, Sheet

DESCRIPTION = (
    "By default the three task types share the three priority queues, and each worker runs every type of its priority. "
    "A type named in DEDICATED_TASK_TYPES, here email_sending, gets a queue of its own per priority, such as "
    "high_priority.email_sending with the key high_email_sending, on the same exchanges; a worker of its own consumes "
    "all three. All other types stay on the shared queues."
)
PRIORITIES = ("high", "normal", "low")


def draw() -> Sheet:
    sheet = Sheet("Types and workers", DESCRIPTION, width=1080, height=800)
    sheet.say(30, 48, "heading: Shared queues, the default", anchor="start")
    _draw_shared(sheet, 70, ("data_processing", "email_sending", "file_processing"))
    sheet.say(30, 318, "heading: A type with queues and a worker of its own", anchor="start")
    sheet.say(1050, 318, "code: DEDICATED_TASK_TYPES=email_sending", anchor="end")
    _draw_shared(sheet, 340, ("data_processing", "file_processing"))
    _draw_dedicated(sheet, 570)
    return sheet


def _draw_shared(sheet: Sheet, y: float, types: tuple[str, ...]) -> None:
    kinds = sheet.box(30, y, 190, 200, "web", "name: Task types", *(f"code: {name}" for name in types))
    queues = sheet.box(420, y, 300, 200, "broker")
    for index, priority in enumerate(PRIORITIES):
        top = y + 16 + index * 60
        queue = sheet.box(440, top, 260, 48, "broker", f"code: {priority}_priority", inside=True)
        worker = sheet.box(870, top, 180, 48, "worker", f"code: worker-{priority}")
        sheet.way((queue.right, queue.middle), (worker.left, worker.middle))
    _publish(sheet, kinds, queues, "key", "high, normal, low")


def _draw_dedicated(sheet: Sheet, y: float) -> None:
    kinds = sheet.box(30, y, 190, 200, "web", "name: Task type", "code: email_sending")
    queues = sheet.box(420, y, 300, 200, "broker")
    worker = sheet.box(870, y + 16, 180, 168, "worker", "code: email-worker", "note: one worker,", "note: three queues")
    for index, priority in enumerate(PRIORITIES):
        top = y + 16 + index * 60
        queue = sheet.box(440, top, 260, 48, "broker", f"code: {priority}_priority.email_sending", inside=True)
        sheet.way((queue.right, queue.middle), (worker.left, queue.middle))
    _publish(sheet, kinds, queues, "same exchanges, key", "high_email_sending …")


def _publish(sheet: Sheet, kinds: Box, queues: Box, what: str, keys: str) -> None:
    sheet.way((kinds.right, kinds.middle), (queues.left, queues.middle))
    sheet.say((kinds.right + queues.left) / 2, kinds.middle - 33, f"note: {what}", f"code: {keys}")
