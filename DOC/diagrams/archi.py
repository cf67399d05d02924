"""The whole system: who calls, what accepts, what waits, what works, what is kept."""

from __future__ import annotations

from DOC.diagrams.drawing import Sheet

DESCRIPTION = (
    "A client submits a task to the web over HTTP. The web validates it, publishes it to RabbitMQ, waits for the "
    "confirm, writes the record in Redis and answers 202. RabbitMQ keeps three work queues, one per priority, each "
    "with a worker of its own, and holds delays and retries. Workers claim a task in Redis, run it, store its result "
    "there, read and write files, and send mail and webhooks. The client reads the task through the web."
)


def draw() -> Sheet:
    sheet = Sheet("System overview", DESCRIPTION, width=1080, height=590)
    sheet.box(
        30, 30, 170, 300, "plain", "name: Clients", "item: console", "code: /docs", "item: curl, Postman",
        "item: command line", "item: Python client",
    )  # fmt: skip
    web = sheet.box(310, 30, 150, 300, "web", "name: Web", "item: Flask", "item: gunicorn", "note: port 5000")
    sheet.box(570, 30, 210, 300, "broker", "name: RabbitMQ", top=True)
    workers = sheet.box(880, 30, 170, 300, "worker", "name: Celery workers", top=True)
    _draw_requests(sheet)
    _draw_queues(sheet)
    kept = sheet.box(310, 420, 470, 140, "store", "name: What is kept", top=True)
    sheet.box(330, 462, 270, 78, "store", "item: Redis", "note: records, results, API keys", inside=True)
    sheet.box(620, 462, 140, 78, "store", "item: Files", "note: disk or S3", inside=True)
    sheet.way((web.centre, web.bottom), (web.centre, kept.top), heads="both")
    sheet.badge(3, web.centre - 24, 374, "web")
    sheet.say(web.centre + 14, 379, "note: record, then 202", anchor="start")
    sheet.way((910, workers.bottom), (910, 490), (kept.right, 490), heads="both")
    sheet.say(896, 379, "note: claim, progress, result", anchor="end")
    world = sheet.box(930, 420, 120, 140, "plain", "item: Mail server", "code: SMTP", "item: Webhooks", "code: HTTPS")
    sheet.way((world.centre, workers.bottom), (world.centre, world.top))
    sheet.box(30, 420, 170, 140, "watch", "name: Watched by", "item: Flower", "item: RabbitMQ's UI", "item: Prometheus")
    return sheet


def _draw_requests(sheet: Sheet) -> None:
    sheet.way((200, 110), (310, 110))
    sheet.say(255, 99, "note: submit")
    sheet.way((310, 180), (200, 180))
    sheet.say(255, 169, "code: 202")
    sheet.way((200, 250), (310, 250), heads="both")
    sheet.say(255, 239, "note: read")
    sheet.way((460, 110), (570, 110))
    sheet.badge(1, 482, 92, "web")
    sheet.say(499, 97, "note: publish", anchor="start")
    sheet.way((570, 180), (460, 180))
    sheet.badge(2, 482, 162, "web")
    sheet.say(499, 167, "note: confirm", anchor="start")


def _draw_queues(sheet: Sheet) -> None:
    for y, priority in ((80, "high"), (135, "normal"), (190, "low")):
        queue = sheet.box(600, y, 160, 40, "broker", f"code: {priority}_priority", inside=True)
        worker = sheet.box(900, y, 130, 40, "worker", f"code: worker-{priority}", inside=True)
        sheet.way((queue.right, queue.middle), (worker.left, worker.middle))
        sheet.way((585, queue.middle), (queue.left, queue.middle), role="broker", dashed=True)
    held = sheet.box(600, 262, 160, 48, "broker", "item: delays, retries", dashed=True, inside=True)
    sheet.way((600, held.middle), (585, held.middle), (585, 100), role="broker", dashed=True, heads="none")
    sheet.way((880, held.middle), (held.right, held.middle), role="broker", dashed=True)
    sheet.say(830, held.middle - 10, "note: try later")
