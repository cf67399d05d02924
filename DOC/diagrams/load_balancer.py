"""The fields of the lab's load balancer form, drawn, and what each of three balancers leads to."""

from __future__ import annotations

from DOC.diagrams.drawing import Sheet

DESCRIPTION = (
    "The form of the lab's load balancer has two fields, the IP of eth0 and a port, and a button that creates it. "
    "Three are made: for port 5000, the API; 5555, Flower; and 15672, RabbitMQ's management UI. Each has an https "
    "address of its own and passes requests on as plain http."
)
BALANCERS = (("5000", "web", "API, console, /docs"), ("5555", "watch", "Flower"), ("15672", "broker", "RabbitMQ's UI"))


def draw() -> Sheet:
    sheet = Sheet("Three load balancers", DESCRIPTION, width=1080, height=480)
    sheet.say(176, 52, "heading: The form, three times")
    sheet.box(30, 80, 292, 330, "plain", "name: Load Balancer", top=True)
    for y, label, value in ((150, "Enter IP", "10.62.14.83"), (234, "Enter Port", "5000")):
        sheet.say(54, y, f"note: {label}", anchor="start")
        sheet.box(54, y + 10, 244, 42, "plain", f"code: {value}", inside=True)
    sheet.say(54, 312, "note: then 5555, then 15672", anchor="start")
    sheet.box(196, 342, 102, 42, "web", "item: Create")
    sheet.say(176, 444, "note: A drawing: words may differ.")
    sheet.say(530, 52, "heading: What you get")
    sheet.box(770, 80, 280, 330, "plain", "name: The lab's machine", top=True)
    sheet.say(910, 52, "heading: What it leads to")
    for index, (port, role, what) in enumerate(BALANCERS):
        y = 126 + index * 92
        address = sheet.box(400, y, 260, 72, "plain", "code: https://…-lb-….lab…", "note: an address of its own")
        service = sheet.box(790, y, 240, 72, role, f"item: {what}", f"code: 10.62.14.83:{port}")
        sheet.way((address.right, address.middle), (service.left, service.middle))
        sheet.say(720, address.middle - 10, "note: http")
    return sheet
