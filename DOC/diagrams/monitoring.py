"""What shows how it goes, and where each of them has it from."""

from __future__ import annotations

from DOC.diagrams.drawing import Sheet

DESCRIPTION = (
    "Workers send task events to RabbitMQ and keep records, counters and signs of life in Redis. RabbitMQ's "
    "management UI on port 15672 shows its queues; Flower on port 5555 shows Celery's events. The web on port 5000 "
    "answers from Redis and RabbitMQ: the console, the metrics for Prometheus with alerts and Grafana, numbers and "
    "lists for scripts, and health for a balancer and Docker."
)
VIEWS = (
    ("code: /", "note: the console", "Browser, with a key"),
    ("code: /metrics", "note: for Prometheus", "Prometheus, Grafana"),
    ("code: /api/stats /api/workers", "code: /api/queues /api/events", "Scripts, command line"),
    ("code: /healthz", "code: /readyz", "Balancer, Docker"),
)


def draw() -> Sheet:
    sheet = Sheet("Monitoring", DESCRIPTION, width=1080, height=750)
    for x, heading in ((130, "Where it is"), (545, "What shows it"), (950, "Who looks")):
        sheet.say(x, 50, f"heading: {heading}")
    broker = sheet.box(30, 80, 200, 180, "broker", "name: RabbitMQ", "note: queues, consumers,", "note: task events")
    workers = sheet.box(30, 330, 200, 90, "worker", "name: Workers")
    store = sheet.box(30, 490, 200, 230, "store", "name: Redis", "note: records, counters,", "note: signs of life")
    sheet.way((130, workers.top), (130, broker.bottom))
    sheet.say(144, 300, "note: events", anchor="start")
    sheet.way((130, workers.bottom), (130, store.top))
    sheet.say(144, 460, "note: each transition", anchor="start")
    ui = sheet.box(400, 80, 290, 66, "broker", "name: Management UI", "note: port 15672")
    flower = sheet.box(400, 166, 290, 66, "watch", "name: Flower", "note: port 5555")
    web = sheet.box(400, 310, 290, 410, "web", "name: Web", "note: port 5000", top=True)
    you = sheet.box(850, 80, 200, 152, "plain", "name: Browser", "note: with the logins", "note: of .env")
    for box in (ui, flower):
        sheet.way((broker.right, box.middle), (box.left, box.middle))
        sheet.way((box.right, box.middle), (you.left, box.middle))
    sheet.way((broker.right, 240), (315, 240), (315, 350), (web.left, 350))
    sheet.say(327, 338, "note: depth", anchor="start")
    sheet.way((store.right, 605), (web.left, 605))
    for index, (*lines, reader) in enumerate(VIEWS):
        view = sheet.box(415, 376 + index * 83, 260, 66, "web", *lines, inside=True)
        who = sheet.box(850, view.y, 200, 66, "plain", f"item: {reader}")
        sheet.way((view.right, view.middle), (who.left, who.middle))
    return sheet
