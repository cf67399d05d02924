"""Three exchanges, three queues, three sets of workers, and the levels in which RabbitMQ holds what is not due."""

from __future__ import annotations

from itertools import pairwise

from DOC.diagrams.drawing import Box, Sheet

DESCRIPTION = (
    "The web publishes to the topic exchange of the task's priority, high_priority, normal_priority or low_priority, "
    "with the key high, normal or low. Each exchange has a quorum queue of the same name, and each queue workers of "
    "its own. A delayed task and a retry go to celery_delayed_27 instead: 28 levels, each twice as long as the next, "
    "add up to the wait; then celery_delayed_delivery hands the message to the exchange it was meant for."
)
ROWS = ((86, "high", 4), (166, "normal", 4), (246, "low", 2))
LEVELS = ((27, ""), (5, "32 s"), (4, "16 s"), (3, "8 s"), (2, "4 s"), (1, "2 s"), (0, "1 s"))
WAITS_IN = (4, 2)  # 20 s


def draw() -> Sheet:
    sheet = Sheet("Priorities and delays", DESCRIPTION, width=1080, height=690)
    web = sheet.box(30, 86, 150, 220, "web", "name: Web", "note: priority", "note: chooses", "note: the exchange")
    broker = sheet.box(310, 30, 470, 300, "broker")
    for x, heading in ((410, "Topic exchanges"), (676, "Quorum queues"), (965, "Workers")):
        sheet.say(x, 62, f"name: {heading}")
    for y, priority, children in ROWS:
        _draw_row(sheet, web, y, priority, children)
    levels = _draw_levels(sheet)
    sheet.way((web.centre, web.bottom), (web.centre, levels.top), role="broker", dashed=True)
    sheet.say(web.centre + 14, 372, "note: delay or run_at", anchor="start")
    delivery = sheet.box(800, 470, 216, 60, "broker", "code: celery_delayed_delivery")
    sheet.way((levels.right, delivery.middle), (delivery.left, delivery.middle), role="broker", dashed=True)
    sheet.way((826, 470), (826, 372), (700, 372), (700, broker.bottom), role="broker", dashed=True)
    sheet.say(812, 392, "note: due: to its own exchange", anchor="end")
    sheet.way((1034, 306), (1034, 620), (105, 620), (105, levels.bottom), role="broker", dashed=True)
    sheet.say(119, 609, "note: a failed attempt's retry, after 1, 2, 4 … up to 60 s", anchor="start")
    sheet.say(540, 660, "note: A high task never waits behind a low one: capacity is reserved, not reordered.")
    return sheet


def _draw_row(sheet: Sheet, web: Box, y: float, priority: str, children: int) -> None:
    exchange = sheet.box(330, y, 160, 60, "broker", f"code: {priority}_priority", inside=True)
    queue = sheet.box(596, y, 160, 60, "broker", f"code: {priority}_priority", inside=True)
    worker = sheet.box(880, y, 170, 60, "worker", f"code: worker-{priority}", f"note: {children} at a time")
    sheet.way((web.right, exchange.middle), (exchange.left, exchange.middle))
    sheet.way((exchange.right, exchange.middle), (queue.left, queue.middle))
    sheet.say((exchange.right + queue.left) / 2, exchange.middle - 10, f"code: {priority}")
    sheet.way((queue.right, queue.middle), (worker.left, worker.middle))


def _draw_levels(sheet: Sheet) -> Box:
    levels = sheet.box(30, 420, 740, 150, "broker", "code: celery_delayed_27 … celery_delayed_0", top=True)
    boxes = []
    for index, (level, wait) in enumerate(LEVELS):
        x = 52 + index * 100 + (0 if level == 27 else 18)
        lines = [f"code: {level}", *([f"note: {wait}"] if wait else ["note: 4 years"])]
        boxes.append(sheet.box(x, 458, 76, 62, "broker", *lines, inside=True, dashed=level not in WAITS_IN))
    for before, after in pairwise(boxes):
        sheet.way((before.right, before.middle), (after.left, after.middle), role="broker", dashed=before is boxes[0])
    sheet.say(levels.centre, 553, "note: 20 s are 16 + 4: it waits in levels 4 and 2, and passes the others")
    return levels
