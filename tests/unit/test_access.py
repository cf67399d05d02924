"""Who may: keys, scopes and rates at the HTTP border, and what a loopback service without keys refuses.

The application here has the service's addresses and none of its views: every one answers 200.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from flask import Flask, Response, jsonify, request
from flask.cli import run_command
from flask.testing import FlaskClient

from taskservice.api import errors, streams
from taskservice.api.access import Door, caller, guard
from taskservice.api.exposure import public_address, require_keys
from taskservice.errors import ConfigurationError
from taskservice.keys import Scope, make_key
from taskservice.model import RateLimit
from taskservice.records.rates import Usage
from tests.support.api import assert_problem
from tests.support.keys import EVERY_SCOPE, MemoryKeys

TASK = "/api/tasks/11111111-2222-4333-8444-555555555555"
FORM = {"content_type": "text/plain", "data": '{"task_type": "data_processing"}'}

RULES = {
    "/": "GET",
    "/healthz": "GET",
    "/readyz": "GET",
    "/openapi.json": "GET",
    "/docs": "GET",
    "/docs/<filename>": "GET",
    "/docs/assets/<path:filename>": "GET",
    "/console/<path:filename>": "GET",
    "/metrics": "GET",
    "/api/tasks": "GET POST",
    "/api/tasks/batch": "POST",
    "/api/tasks/bulk": "POST",
    "/api/tasks/<task_id>": "GET DELETE",
    "/api/tasks/<task_id>/retry": "POST",
    "/api/tasks/<task_id>/run": "POST",
    "/api/tasks/<task_id>/events": "GET",
    "/api/queues": "GET",
    "/api/queues/<name>/pause": "PUT",
    "/api/queues/<name>/purge": "POST",
    "/api/files": "GET POST",
    "/api/files/<path:filename>": "GET DELETE",
    "/api/workers": "GET",
}
NEEDED = {
    ("POST", "/api/tasks"): Scope.SUBMIT,
    ("POST", "/api/tasks/batch"): Scope.SUBMIT,
    ("POST", f"{TASK}/retry"): Scope.SUBMIT,
    ("POST", f"{TASK}/run"): Scope.SUBMIT,
    ("POST", "/api/files"): Scope.SUBMIT,
    ("GET", "/api/tasks"): Scope.READ,
    ("HEAD", "/api/tasks"): Scope.READ,
    ("GET", TASK): Scope.READ,
    ("GET", f"{TASK}/events"): Scope.READ,
    ("GET", "/api/queues"): Scope.READ,
    ("GET", "/api/files"): Scope.READ,
    ("GET", "/api/files/a.csv"): Scope.READ,
    ("GET", "/api/workers"): Scope.READ,
    ("DELETE", TASK): Scope.MANAGE,
    ("POST", "/api/tasks/bulk"): Scope.MANAGE,
    ("PUT", "/api/queues/low_priority/pause"): Scope.MANAGE,
    ("POST", "/api/queues/low_priority/purge"): Scope.MANAGE,
    ("DELETE", "/api/files/a.csv"): Scope.MANAGE,
}
OPEN = [
    *("/", "/console/console.js", "/healthz", "/readyz", "/openapi.json"),
    *("/docs", "/docs/page.js", "/docs/examples.js", "/docs/assets/css/swagger-ui.css"),
]


@dataclass
class MemoryMeter:
    used: dict[str, int] = field(default_factory=dict)
    is_away: bool = False

    def hit(self, key_id: str, rate: RateLimit) -> Usage | None:
        if self.is_away:
            return None
        self.used[key_id] = self.used.get(key_id, 0) + 1
        left = rate.count - self.used[key_id]
        return Usage(left >= 0, max(left, 0), 7)


class Service:
    """An application with the service's addresses behind a door."""

    def __init__(self, *, is_public: bool = False, hosts: frozenset[str] = frozenset(), proxies: int = 0) -> None:
        self.keys = MemoryKeys()
        self.meter = MemoryMeter()
        app = Flask(__name__, static_folder=None)
        errors.answer_problems(app)
        streams.pace_bodies(app)
        rate = RateLimit.parse("100/m")
        guard(app, Door(self.keys, self.meter, rate, is_public, allowed_hosts=hosts, trusted_proxies=proxies))
        for rule, methods in RULES.items():
            app.add_url_rule(rule, endpoint=rule, view_func=_answer, methods=methods.split())
        self.client: FlaskClient = app.test_client()


def _answer(**_: str) -> Response:
    key = caller()
    return jsonify(name=key.name if key else None, peer=request.remote_addr, scheme=request.scheme)


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.mark.parametrize(("method", "path"), NEEDED)
def test_each_address_asks_for_its_scope(service: Service, method: str, path: str) -> None:
    needed = NEEDED[method, path]
    fitting = service.keys.make(needed)
    others = service.keys.make(*(EVERY_SCOPE - {needed}))

    allowed = service.client.open(path, method=method, headers=bearer(fitting))
    refused = service.client.open(path, method=method, headers=bearer(others))

    assert allowed.status_code == 200
    assert refused.status_code == 403
    assert f'scope="{needed}"' in refused.headers["WWW-Authenticate"]


def test_every_address_of_the_api_was_tried() -> None:
    adapter = Service().client.application.url_map.bind("localhost")
    tried = {(method, str(adapter.match(path, method)[0])) for method, path in NEEDED if method != "HEAD"}
    served = {(method, rule) for rule, methods in RULES.items() for method in methods.split() if "/api/" in rule}

    assert tried == served


def test_a_refusal_names_the_missing_scope(service: Service) -> None:
    text = service.keys.make(Scope.READ)

    document = assert_problem(service.client.post("/api/tasks", headers=bearer(text)), 403, "scope_missing")

    assert document["scope"] == "submit"
    assert "submit" in document["detail"]


def test_an_address_that_nobody_listed_asks_for_manage() -> None:
    service = Service()
    service.client.application.add_url_rule("/api/new", view_func=_answer, methods=["POST"])
    text = service.keys.make(Scope.SUBMIT, Scope.READ)

    response = service.client.post("/api/new", headers=bearer(text))

    assert assert_problem(response, 403, "scope_missing")["scope"] == "manage"


def test_no_key_is_401_and_says_how(service: Service) -> None:
    service.keys.make()

    response = service.client.get("/api/tasks")

    assert_problem(response, 401, "key_missing")
    assert response.headers["WWW-Authenticate"].startswith("Bearer ")


@pytest.mark.parametrize("path", OPEN)
@pytest.mark.parametrize("is_public", [False, True])
def test_health_and_docs_need_no_key(path: str, is_public: bool) -> None:
    service = Service(is_public=is_public)
    service.keys.make()

    assert service.client.get(path).status_code == 200


@pytest.mark.parametrize("path", ["/api/nothing", "/nothing", "/healthz/..;/api/tasks", "//api/tasks"])
def test_a_stranger_learns_nothing_about_other_addresses(service: Service, path: str) -> None:
    service.keys.make()

    assert service.client.get(path).status_code == 401


def test_a_key_finds_out_what_does_not_exist(service: Service) -> None:
    text = service.keys.make(Scope.READ)

    assert_problem(service.client.get("/api/nothing", headers=bearer(text)), 404, "not_found")
    assert_problem(service.client.put("/api/tasks", headers=bearer(text)), 405, "method_not_allowed")


def test_both_headers_carry_a_key(service: Service) -> None:
    text = service.keys.make()

    answers = [
        service.client.get("/api/tasks", headers=headers).status_code
        for headers in (bearer(text), {"Authorization": f"bearer  {text} "}, {"X-API-Key": text},
                        bearer(text) | {"X-API-Key": text}, {"Authorization": "Basic eDp5", "X-API-Key": text})
    ]  # fmt: skip

    assert answers == [200] * 5


def test_two_different_keys_are_none(service: Service) -> None:
    headers = bearer(service.keys.make()) | {"X-API-Key": service.keys.make()}

    assert_problem(service.client.get("/api/tasks", headers=headers), 401, "key_invalid")


@pytest.mark.parametrize("damage", [lambda text: text[:-1] + ("0" if text[-1] != "0" else "1"), lambda text: text + "0",
                                    lambda text: text.upper(), lambda text: "", lambda text: "é" * 85,
                                    lambda text: f"{text},{text}"])  # fmt: skip
@pytest.mark.parametrize("header", ["Authorization", "X-API-Key"])
def test_a_wrong_key_is_401(service: Service, damage: object, header: str) -> None:
    assert callable(damage)
    wrong = damage(service.keys.make())
    headers = {header: f"Bearer {wrong}" if header == "Authorization" else wrong}

    response = service.client.get("/api/tasks", headers=headers)

    assert_problem(response, 401, "key_invalid")
    assert 'error="invalid_token"' in response.headers["WWW-Authenticate"]
    assert "RateLimit" not in response.headers


def test_a_revoked_key_reads_like_an_unknown_one(service: Service) -> None:
    revoked = service.keys.make()
    service.keys.revoke_all()
    unknown = make_key("unknown", EVERY_SCOPE)[1]

    answers = [service.client.get("/api/tasks", headers=bearer(text)).get_json() for text in (revoked, unknown)]
    for answer in answers:
        del answer["request_id"]

    assert answers[0]["status"] == 401
    assert answers[0] == answers[1]


@pytest.mark.parametrize("is_public", [False, True])
def test_when_all_keys_are_revoked_the_door_stays_closed(is_public: bool) -> None:
    service = Service(is_public=is_public)
    service.keys.make()
    service.keys.revoke_all()

    assert_problem(service.client.get("/api/tasks"), 401, "key_missing")


def test_a_public_service_whose_store_lost_all_keys_is_closed() -> None:
    service = Service(is_public=True)

    assert_problem(service.client.get("/api/tasks"), 401, "key_missing")


def test_without_keys_a_loopback_service_is_open_and_has_no_rate(service: Service) -> None:
    answers = [service.client.post("/api/tasks") for _ in range(200)]

    assert {answer.status_code for answer in answers} == {200}
    assert "RateLimit" not in answers[-1].headers
    assert service.meter.used == {}


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:5000", "LOCALHOST:5000", "localhost.", "127.0.0.1:5000", "127.1.2.3", "[::1]:5000"]
)
def test_without_keys_loopback_names_are_answered(service: Service, host: str) -> None:
    assert service.client.get("/api/tasks", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:5000", "localhost.evil.example", "127.0.0.1.evil.example", "192.168.1.5:5000",
     "localhost@evil.example", "[", "0.0.0.0:5000", ""],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_without_keys_a_rebound_name_is_refused(service: Service, host: str, method: str) -> None:
    response = service.client.open("/api/tasks", method=method, headers={"Host": host})

    assert_problem(response, 403, "forbidden_origin")


def test_without_keys_further_hosts_can_be_named() -> None:
    service = Service(hosts=frozenset({"web"}))

    assert service.client.get("/api/tasks", headers={"Host": "Web:5000"}).status_code == 200
    assert service.client.get("/api/tasks", headers={"Host": "web.evil.example"}).status_code == 403


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "http://localhost:3000", "http://127.0.0.1", "null", "", "http://127.0.0.1:5000.evil",
     "file://", "http://localhost:5000@evil.example"],
)  # fmt: skip
def test_without_keys_a_page_of_another_site_submits_nothing(service: Service, origin: str) -> None:
    headers = {"Host": "localhost:5000", "Origin": origin}

    response = service.client.open("/api/tasks", method="POST", headers=headers, **FORM)  # type: ignore[arg-type]

    assert_problem(response, 403, "forbidden_origin")


def test_without_keys_our_own_page_works() -> None:
    service = Service(hosts=frozenset({"tasks.example"}))

    answers = [
        service.client.post("/api/tasks", headers={"Host": host, "Origin": origin}).status_code
        for host, origin in (
            ("localhost:5000", "http://localhost:5000"),
            ("127.0.0.1:5000", "http://127.0.0.1:5000"),
            ("tasks.example", "https://tasks.example"),  # behind a balancer that ends TLS
            ("127.0.0.1:5000", "https://tasks.example"),  # and one that also names us otherwise
        )
    ]

    assert answers == [200] * 4


def test_with_a_key_any_name_and_origin_will_do(service: Service) -> None:
    headers = bearer(service.keys.make()) | {"Host": "tasks.example", "Origin": "https://other.example"}

    assert service.client.post("/api/tasks", headers=headers).status_code == 200


def test_the_rate_is_told_with_every_answer(service: Service) -> None:
    text = service.keys.make(Scope.READ, rate=RateLimit.parse("5/s"))

    answer = service.client.get("/api/tasks", headers=bearer(text))
    refused = service.client.post("/api/tasks", headers=bearer(text))

    assert answer.headers["RateLimit-Policy"] == '"key";q=5;w=1'
    assert answer.headers["RateLimit"] == '"key";r=4;t=7'
    assert refused.headers["RateLimit"] == '"key";r=3;t=7'


def test_over_the_rate_is_429_and_says_when_to_come_back(service: Service) -> None:
    text = service.keys.make(rate=RateLimit.parse("2/m"))
    other = service.keys.make()

    answers = [service.client.get("/api/tasks", headers=bearer(text)) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert_problem(answers[-1], 429, "rate_limited")
    assert answers[-1].headers["Retry-After"] == "7"
    assert service.client.get("/api/tasks", headers=bearer(other)).status_code == 200


def test_a_key_without_a_rate_has_the_service_s(service: Service) -> None:
    answer = service.client.get("/api/tasks", headers=bearer(service.keys.make()))

    assert answer.headers["RateLimit-Policy"] == '"key";q=100;w=60'


def test_when_nothing_can_be_counted_nothing_is_limited(service: Service) -> None:
    text = service.keys.make(rate=RateLimit.parse("1/h"))
    service.meter.is_away = True

    answers = [service.client.get("/api/tasks", headers=bearer(text)) for _ in range(3)]

    assert {answer.status_code for answer in answers} == {200}
    assert "RateLimit" not in answers[-1].headers


def test_without_the_store_nobody_is_judged(service: Service) -> None:
    text = service.keys.make()
    service.keys.is_away = True

    read = assert_problem(service.client.get("/api/tasks", headers=bearer(text)), 503, "store_unavailable")
    submitted = assert_problem(service.client.post("/api/tasks", headers=bearer(text)), 503, "store_unavailable")

    assert "outcome" not in read
    assert submitted["outcome"] == "refused"


@pytest.mark.parametrize("method", ["TRACE", "DELETE"])
def test_a_method_that_an_open_address_lacks_is_405_without_a_key_and_401_elsewhere(
    service: Service, method: str
) -> None:
    service.keys.make()

    assert_problem(service.client.open("/healthz", method=method), 405, "method_not_allowed")
    assert service.client.open("/api/task-types", method=method).status_code == 401


@pytest.mark.parametrize("path", OPEN)
def test_what_is_open_asks_the_store_nothing(service: Service, path: str) -> None:
    service.keys.is_away = True

    assert service.client.get(path).status_code == 200
    assert service.keys.asked == 0


@pytest.mark.parametrize(
    ("is_public", "proxies", "headers", "status"),
    [
        (False, 0, {}, 200),
        (False, 0, {"Host": "web:5000"}, 200),  # a Prometheus in the next container
        (False, 0, {"X-Forwarded-For": "203.0.113.5"}, 401),  # a proxy on this machine that nobody mentioned
        (False, 1, {}, 401),
        (True, 0, {}, 401),
    ],
)
def test_metrics_need_a_key_unless_the_service_is_local(
    is_public: bool, proxies: int, headers: Mapping[str, str], status: int
) -> None:
    service = Service(is_public=is_public, proxies=proxies)
    text = service.keys.make(Scope.READ)

    assert service.client.get("/metrics", headers=headers).status_code == status
    assert service.client.get("/metrics", headers={**headers, **bearer(text)}).status_code == 200


def test_proxy_headers_are_believed_only_from_the_proxies_that_were_named() -> None:
    headers = {"X-Forwarded-For": "198.51.100.1, 203.0.113.5", "X-Forwarded-Proto": "https"}

    answers = [Service(proxies=count).client.get("/", headers=headers).get_json() for count in (0, 1, 2)]

    assert [(answer["peer"], answer["scheme"]) for answer in answers] == [
        ("127.0.0.1", "http"),
        ("203.0.113.5", "https"),
        ("198.51.100.1", "http"),  # the second proxy did not say https
    ]


def test_a_view_learns_whose_key_it_was(service: Service) -> None:
    guest = service.client.get("/api/tasks").get_json()
    text = service.keys.make()

    assert guest["name"] is None
    assert service.client.get("/api/tasks", headers=bearer(text)).get_json()["name"] == "test"


def test_a_large_body_without_a_key_is_answered(service: Service) -> None:
    service.keys.make()

    response = service.client.post("/api/tasks", data=b"x" * 2**20)

    assert_problem(response, 401, "key_missing")


def test_a_public_service_starts_with_a_key() -> None:
    keys = MemoryKeys()
    keys.make()

    require_keys(keys, "0.0.0.0", patience_s=0)

    assert keys.asked == 1


def test_a_public_service_does_not_start_without_a_key() -> None:
    with pytest.raises(ConfigurationError, match=r"BIND_ADDRESS.*'0\.0\.0\.0'.*keys create"):
        require_keys(MemoryKeys(), "0.0.0.0", patience_s=0)


def test_a_public_service_does_not_start_without_its_store() -> None:
    with pytest.raises(ConfigurationError, match=r"BIND_ADDRESS.*'::'.*store did not answer"):
        require_keys(MemoryKeys(is_away=True), "::", patience_s=0.1)


@pytest.mark.parametrize(
    ("bind_address", "command", "address"),
    [
        ("127.0.0.1", [], None),
        ("localhost", ["--host", "::1"], None),
        ("::1", [], None),
        ("0.0.0.0", [], "0.0.0.0"),
        ("::", ["--host", "127.0.0.1"], "::"),
        ("127.0.0.1", ["--host", "0.0.0.0"], "0.0.0.0"),
        ("127.0.0.1", ["--host", "tasks.example"], "tasks.example"),
    ],
)
def test_the_wider_of_setting_and_command_counts(bind_address: str, command: list[str], address: str | None) -> None:
    with run_command.make_context("run", list(command)):
        assert public_address(bind_address) == address
    assert public_address(bind_address) == (bind_address if bind_address in ("0.0.0.0", "::") else None)
