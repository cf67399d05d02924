"""Keys on a real Redis and a real web: made by the command line, in force within seconds, counted, and never logged."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click
import pytest
import redis
import requests
from click.testing import CliRunner

from taskservice.cli.keys import keys as keys_command
from taskservice.cli.webhooks import webhooks as webhooks_command
from taskservice.errors import Unavailable
from taskservice.keys import ApiKey, Scope, make_key
from taskservice.local.ports import choose_port
from taskservice.local.stores import PrivateStore
from taskservice.local.supervisor import Program, Supervisor
from taskservice.local.system import REPOSITORY, LocalSystem
from taskservice.model import RateLimit, now
from taskservice.records.keys import Keys
from taskservice.records.rates import NOTE_AGAIN_S, Meter
from taskservice.records.script import connect
from taskservice.records.webhook_secrets import WebhookSecrets
from tests.conftest import WaitUntil

IN_FORCE_S = 5.0
EVERY_SCOPE = tuple(scope.value for scope in Scope)
READ = frozenset({Scope.READ})
DAY = timedelta(days=1)


# The store


@pytest.fixture
def database(stores: LocalSystem) -> Iterator[redis.Redis]:
    """One that the records of other tests are not in."""
    client = connect(f"{stores.result_backend.rpartition('/')[0]}/9")
    client.flushdb()
    yield client
    client.flushdb()
    client.close()


@pytest.fixture
def away() -> redis.Redis:
    return connect(f"redis://127.0.0.1:{choose_port()}/0")


def test_a_key_is_kept_as_it_was_made(database: redis.Redis) -> None:
    key, text = make_key("ci über", frozenset(Scope), rate=RateLimit.parse("10/s"))

    Keys(database).add(key)
    found = Keys(database).get(key.key_id)

    assert found == key
    assert found is not None
    assert found.has_text(text)
    assert Keys(database).get("0123456789abcdef") is None


def test_nothing_in_the_store_tells_a_key(database: redis.Redis) -> None:
    key, text = make_key("ci", READ)

    Keys(database).add(key)
    kept = [str(database.hgetall(name)) for name in database.keys("api_key:*")]

    assert len(kept) == 1
    assert text.rsplit("_", 1)[1] not in kept[0]


def test_a_revoked_key_stays_known_and_keeps_its_first_time(database: redis.Redis) -> None:
    store = Keys(database)
    first, second = (make_key(name, READ)[0] for name in ("first", "second"))
    store.add(first)
    store.add(second)

    revoked = store.revoke(first.key_id)
    again = store.revoke(first.key_id)

    assert revoked is not None
    assert revoked.is_revoked
    assert again == revoked
    assert [key.is_revoked for key in sorted(store.list(), key=lambda key: key.name)] == [True, False]
    assert store.are_configured()
    assert store.revoke("0123456789abcdef") is None


def test_only_the_webhook_secret_is_rotated(database: redis.Redis) -> None:
    store, secrets = Keys(database), WebhookSecrets(database)
    key, text = make_key("ci", READ)
    store.add(key)

    rotated = secrets.rotate(key.key_id, overlap=DAY)
    found = store.get(key.key_id)

    assert rotated is not None
    assert found is not None
    assert found.webhook_secret == rotated.text != key.webhook_secret
    assert found.has_text(text)
    assert secrets.rotate("0123456789abcdef", overlap=DAY) is None
    assert [one.key_id for one in store.list()] == [key.key_id]


def test_a_key_keeps_its_end_and_tells_its_last_use(database: redis.Redis) -> None:
    store = Keys(database)
    key, _ = make_key("ci", READ, expires_in=DAY)
    store.add(key)
    unused = store.get(key.key_id)

    Meter(database).hit(key.key_id, RateLimit.parse("5/s"))
    used = store.get(key.key_id)

    assert unused == key
    assert used is not None
    assert used.last_used_at is not None
    assert abs(now() - used.last_used_at) < timedelta(seconds=5)
    assert used.expires_at == key.created_at + DAY
    assert store.list() == [used]


def test_the_last_use_is_noted_once_a_minute(database: redis.Redis) -> None:
    clock = Clock()
    meter, rate = Meter(database, clock=clock), RateLimit.parse("100/s")
    uses = []
    for waited_s in (0.0, NOTE_AGAIN_S - 1, 1.0):
        clock.now_s += waited_s
        meter.hit("0123456789abcdef", rate)
        uses.append(database.hget("api_keys_used", "0123456789abcdef"))
        time.sleep(0.01)

    assert uses[0] == uses[1] != uses[2]
    assert Keys(database).get("0123456789abcdef") is None  # a note makes no key


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_a_store_that_is_away_is_said_so(away: redis.Redis) -> None:
    store = Keys(away)

    for ask in (store.list, store.are_configured, lambda: store.get("0123456789abcdef")):
        with pytest.raises(Unavailable):
            ask()


# The rate


def test_a_rate_is_exact_and_shared_by_all_processes(database: redis.Redis) -> None:
    meters = [Meter(database), Meter(database)]
    rate = RateLimit.parse("6/m")

    usages = [meters[number % 2].hit("key", rate) for number in range(8)]
    other = meters[0].hit("other", rate)

    assert [usage and usage.is_allowed for usage in usages] == [True] * 6 + [False] * 2
    assert [usage and usage.remaining for usage in usages] == [5, 4, 3, 2, 1, 0, 0, 0]
    assert all(usage and 1 <= usage.more_in_s <= 60 for usage in usages)
    assert other is not None
    assert other.remaining == 5


def test_who_waits_as_long_as_told_may_go_on(database: redis.Redis) -> None:
    meter, rate = Meter(database), RateLimit.parse("3/s")

    for _ in range(3):
        meter.hit("key", rate)
    refused = meter.hit("key", rate)
    assert refused is not None
    time.sleep(refused.more_in_s)
    allowed = meter.hit("key", rate)

    assert not refused.is_allowed
    assert allowed is not None
    assert allowed.is_allowed


def test_no_double_burst_where_two_windows_meet(database: redis.Redis) -> None:
    meter, rate = Meter(database), RateLimit.parse("20/s")
    meter.hit("key", rate)
    time.sleep(0.9)

    usages = [meter.hit("key", rate) for _ in range(19)]
    time.sleep(0.2)
    usages += [meter.hit("key", rate) for _ in range(20)]

    assert sum(usage is not None and usage.is_allowed for usage in usages) < 19 + 10


def test_counts_do_not_stay_in_the_store(database: redis.Redis) -> None:
    Meter(database).hit("key", RateLimit.parse("3/s"))

    names = database.keys("api_rate:*")

    assert len(names) == 1
    assert 0 < database.ttl(names[0]) <= 2


def test_without_the_store_nothing_is_limited_and_it_is_logged_once(
    away: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    meter = Meter(away)

    usages = [meter.hit("key", RateLimit.parse("1/h")) for _ in range(5)]

    assert usages == [None] * 5
    assert [record.message.split()[0] for record in caplog.records] == ["rate.not_limited"]


# The command line


class CommandLine:
    def __init__(self, url: str) -> None:
        self._environ = {"CELERY_RESULT_BACKEND": url}

    def run(self, *arguments: str, exit_code: int = 0) -> str:
        """What `keys` prints; the exit code must be the one that is expected."""
        return self._run(keys_command, arguments, exit_code)

    def webhooks(self, *arguments: str) -> str:
        return self._run(webhooks_command, arguments, 0)

    def _run(self, command: click.Command, arguments: Sequence[str], exit_code: int) -> str:
        result = CliRunner().invoke(command, arguments, env=self._environ)
        assert result.exit_code == exit_code, result.output
        return result.output if exit_code else result.stdout

    def documents(self, *arguments: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.run(*arguments, "--json").splitlines()]

    def make(self, *scopes: str, rate: str | None = None) -> dict[str, Any]:
        options = [word for scope in scopes or EVERY_SCOPE for word in ("--scope", scope)]
        (document,) = self.documents("create", "test", *options, *(["--rate", rate] if rate else []))
        return document


@pytest.fixture
def command_line(stores: LocalSystem, database: redis.Redis) -> CommandLine:
    return CommandLine(f"{stores.result_backend.rpartition('/')[0]}/9")


def test_create_prints_a_key_that_works_and_nothing_else(command_line: CommandLine, database: redis.Redis) -> None:
    text = command_line.run("create", "ci", "--scope", "submit", "--scope", "read", "--rate", "10/s")

    (key,) = Keys(database).list()

    assert key.has_text(text.removesuffix("\n"))
    assert (key.name, sorted(key.scopes), str(key.rate)) == ("ci", ["read", "submit"], "10/s")


def test_list_shows_no_secret(command_line: CommandLine) -> None:
    made = command_line.make("read")

    shown = command_line.run("list")
    (document,) = command_line.documents("list")

    assert document == {name: value for name, value in made.items() if name not in ("key", "webhook_secret")}
    assert made["key_id"] in shown
    for secret in (made["webhook_secret"], made["key"].rsplit("_", 1)[1]):
        assert secret not in shown + str(document)


@pytest.mark.parametrize("expires_in", ["90d", "24h", "30m", "45s"])
def test_a_key_can_be_made_for_a_time(command_line: CommandLine, database: redis.Redis, expires_in: str) -> None:
    (made,) = command_line.documents("create", "ci", "--scope", "read", "--expires-in", expires_in)
    (listed,) = command_line.documents("list")
    (key,) = Keys(database).list()

    unit = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}[expires_in[-1]]
    assert key.expires_at == key.created_at + timedelta(**{unit: int(expires_in[:-1])})
    assert made["expires_at"] == listed["expires_at"] is not None
    assert (listed["last_used_at"], listed["scopes"], listed["rate"]) == (None, ["read"], None)


def test_rotating_says_how_long_the_former_secret_signs(command_line: CommandLine, database: redis.Redis) -> None:
    made = command_line.make("read")

    (by_default,) = command_line.documents("rotate-webhook-secret", made["key_id"])
    (at_once,) = command_line.documents("rotate-webhook-secret", made["key_id"], "--overlap", "0")

    ends_in = datetime.fromisoformat(by_default["former_until"]) - now()
    assert DAY - timedelta(minutes=1) < ends_in <= DAY
    assert at_once["former_until"] is None
    assert WebhookSecrets(database).of(made["key_id"]) == (at_once["webhook_secret"],)


def test_the_services_own_secret_is_shown_and_rotated(command_line: CommandLine, database: redis.Redis) -> None:
    first, again = command_line.webhooks("secret"), command_line.webhooks("secret")
    second = command_line.webhooks("rotate", "--overlap", "1h")
    document = json.loads(command_line.webhooks("secret", "--json"))

    assert first == again == WebhookSecrets(database).of(None)[1] + "\n"
    assert second == WebhookSecrets(database).of(None)[0] + "\n"
    assert document["webhook_secret"] + "\n" == second
    assert datetime.fromisoformat(document["former_until"]) > now() + timedelta(minutes=59)


def test_revoke_and_rotate_act_on_the_store(command_line: CommandLine, database: redis.Redis) -> None:
    made = command_line.make("read")

    secret = command_line.run("rotate-webhook-secret", made["key_id"]).strip()
    (revoked,) = command_line.documents("revoke", made["key_id"])
    (key,) = Keys(database).list()

    assert secret == key.webhook_secret != made["webhook_secret"]
    assert revoked["revoked_at"]
    assert key.is_revoked


@pytest.mark.parametrize(
    ("arguments", "exit_code", "said"),
    [
        (("create", "ci"), 2, "--scope"),
        (("create", "ci", "--scope", "admin"), 2, "admin"),
        (("create", "ci", "--scope", "read", "--rate", "often"), 2, "10/s"),
        (("create", "", "--scope", "read"), 2, "NAME"),
        (("create", "a\nb", "--scope", "read"), 2, "NAME"),
        (("create", "ci", "--scope", "read", "--expires-in", "0"), 2, "90d"),
        (("create", "ci", "--scope", "read", "--expires-in", "90"), 2, "90d"),
        (("create", "ci", "--scope", "read", "--expires-in", "9999d"), 2, "3660d"),
        (("revoke", "0123456789abcdef"), 3, "0123456789abcdef"),
        (("rotate-webhook-secret", "0123456789abcdef"), 3, "0123456789abcdef"),
        (("rotate-webhook-secret", "0123456789abcdef", "--overlap", "soon"), 2, "24h"),
        (("rotate-webhook-secret", "nonsense"), 3, "nonsense"),
    ],
)
def test_what_cannot_be_done_is_said(
    command_line: CommandLine, database: redis.Redis, arguments: tuple[str, ...], exit_code: int, said: str
) -> None:
    output = command_line.run(*arguments, exit_code=exit_code)

    assert said in output
    assert not Keys(database).are_configured()


def test_a_store_that_is_away_ends_the_command_with_4() -> None:
    output = CommandLine(f"redis://:hidden@127.0.0.1:{choose_port()}/0").run("list", exit_code=4)

    assert "CELERY_RESULT_BACKEND" in output
    assert "hidden" not in output


# The web


class Web:
    """gunicorn with a Redis of its own that can be stopped, and the other tests' broker."""

    def __init__(self, folder: Path, stores: LocalSystem) -> None:
        self.folder = folder
        self.supervisor = Supervisor(folder / "logs", print)
        self.redis = PrivateStore(folder / "redis", choose_port(), embedded=False)
        self.port = choose_port()
        self.environment = stores.environment | {
            "CELERY_RESULT_BACKEND": self.redis.url(0),
            "BIND_ADDRESS": "127.0.0.1",
            "ALLOWED_HOSTS": "",
            "TRUSTED_PROXIES": "0",
            "API_RATE_LIMIT": "6000/m",
            "LOG_LEVEL": "DEBUG",
            "PYTHONUNBUFFERED": "1",
        }
        self.command_line = CommandLine(self.redis.url(0))

    @property
    def store(self) -> redis.Redis:
        return connect(self.redis.url(0))

    def start_redis(self) -> None:
        self.redis.prepare()
        self.supervisor.start(self.redis.program())
        self.redis.wait_until_ready()

    def start(self, wait_until: WaitUntil) -> None:
        command = [sys.executable, "-m", "gunicorn", "app:app", "-b", f"127.0.0.1:{self.port}"]
        self.supervisor.start(Program("web", command, self.environment, REPOSITORY, stop_rank=0, grace_s=35))
        wait_until(self.is_up, 30, "the web answers")

    def is_up(self) -> bool:
        try:
            return self.get("/healthz").ok
        except requests.ConnectionError:
            return False

    def get(self, path: str, text: str | None = None, **headers: str) -> requests.Response:
        return self.call("GET", path, text, headers)

    def submit(self, text: str | None = None, **headers: str) -> requests.Response:
        body = {"task_type": "data_processing", "parameters": {"data": "x"}}
        return self.call("POST", "/api/tasks", text, headers, json=body)

    def call(
        self, method: str, path: str, text: str | None, headers: Mapping[str, str], **options: Any
    ) -> requests.Response:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if text is not None:
            sent["Authorization"] = f"Bearer {text}"
        # One connection a request, so that both processes are asked.
        return requests.request(
            method, f"http://127.0.0.1:{self.port}{path}", headers=sent | {"Connection": "close"}, timeout=10, **options
        )

    def send_raw(self, *lines: str) -> bytes:
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            connection.sendall("".join(f"{line}\r\n" for line in (*lines, "")).encode())
            received = b""
            while chunk := connection.recv(65_536):
                received += chunk
            return received


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory, stores: LocalSystem, wait_until: WaitUntil) -> Iterator[Web]:
    web = Web(tmp_path_factory.mktemp("web"), stores)
    try:
        web.start_redis()
        web.start(wait_until)
        yield web
    finally:
        web.supervisor.stop_all()


@pytest.fixture
def locked(web: Web, wait_until: WaitUntil) -> Web:
    """The same with a key, known to both processes."""
    web.command_line.make("read")
    wait_until(lambda: all(web.get("/api/task-types").status_code == 401 for _ in range(8)), 10, "all ask for a key")
    return web


def test_a_loopback_service_without_keys_is_open_until_the_first_key(web: Web) -> None:
    before = web.submit()
    stranger = web.submit(Origin="https://evil.example")
    rebound = web.get("/api/task-types", Host="evil.example:5000")
    made = web.command_line.make()
    time.sleep(IN_FORCE_S)
    after = [web.submit().status_code for _ in range(8)]

    assert before.status_code == 202, before.text
    assert (stranger.status_code, stranger.json()["error"]) == (403, "forbidden_origin")
    assert (rebound.status_code, rebound.json()["error"]) == (403, "forbidden_origin")
    assert after == [401] * 8
    assert web.submit(made["key"]).status_code == 202


def test_scopes_are_asked_for(locked: Web) -> None:
    submit, read = locked.command_line.make("submit")["key"], locked.command_line.make("read")["key"]

    accepted = locked.submit(submit)
    path = accepted.json()["links"]["self"]

    assert accepted.status_code == 202
    assert locked.get(path, read).status_code == 200
    assert locked.get(path, submit).status_code == 403
    assert locked.submit(read).json()["scope"] == "submit"
    assert locked.call("DELETE", path, submit, {}).json()["scope"] == "manage"


def test_a_revoked_key_is_refused_by_every_process_within_5_s(locked: Web) -> None:
    made = locked.command_line.make("read")
    used = {locked.get("/api/task-types", made["key"]).status_code for _ in range(8)}

    locked.command_line.run("revoke", made["key_id"])
    time.sleep(IN_FORCE_S)

    assert used == {200}
    assert {locked.get("/api/task-types", made["key"]).status_code for _ in range(8)} == {401}


def test_a_key_is_refused_from_the_moment_it_expires(locked: Web, wait_until: WaitUntil) -> None:
    (made,) = locked.command_line.documents("create", "short", "--scope", "read", "--expires-in", "6s")
    before = {locked.get("/api/task-types", made["key"]).status_code for _ in range(8)}
    expires_at = datetime.fromisoformat(made["expires_at"])

    time.sleep(max(0.0, (expires_at - now()).total_seconds()))
    after = [locked.get("/api/task-types", made["key"]) for _ in range(8)]

    assert before == {200}
    assert {answer.status_code for answer in after} == {401}
    assert {answer.json()["error"] for answer in after} == {"key_invalid"}


def test_an_event_stream_ends_with_its_key(locked: Web, wait_until: WaitUntil) -> None:
    made, other = locked.command_line.make("read"), locked.command_line.make("submit")["key"]
    headers = {"Authorization": f"Bearer {made['key']}"}
    heard: list[str] = []
    with requests.get(f"http://127.0.0.1:{locked.port}/api/events", headers=headers, stream=True, timeout=30) as stream:
        listening = threading.Thread(target=lambda: heard.extend(stream.iter_lines(decode_unicode=True)))
        listening.start()
        before = locked.submit(other).json()["task_id"]
        wait_until(lambda: before in "".join(heard), 10, "the stream tells of tasks")

        locked.command_line.run("revoke", made["key_id"])
        time.sleep(IN_FORCE_S)
        after = locked.submit(other).json()["task_id"]
        listening.join(10)

    assert not listening.is_alive()
    assert after not in "".join(heard)


def test_the_list_tells_when_a_key_was_used(locked: Web) -> None:
    made = locked.command_line.make("read")
    locked.get("/api/task-types", made["key"])

    listed = {one["key_id"]: one for one in locked.command_line.documents("list")}

    assert now() - datetime.fromisoformat(listed[made["key_id"]]["last_used_at"]) < timedelta(seconds=5)


def test_a_rate_holds_over_both_processes(locked: Web) -> None:
    text = locked.command_line.make("read", rate="5/m")["key"]

    answers = [locked.get("/api/task-types", text) for _ in range(8)]

    assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 3
    assert answers[0].headers["RateLimit-Policy"] == '"key";q=5;w=60'
    assert re.fullmatch(r'"key";r=4;t=\d+', answers[0].headers["RateLimit"])
    assert answers[-1].json()["error"] == "rate_limited"
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 60


def test_a_key_s_text_is_in_no_log_and_in_no_answer(locked: Web) -> None:
    text = locked.command_line.make("read")["key"]
    wrong = text[:-1] + ("0" if text[-1] != "0" else "1")

    locked.get("/api/task-types", text)
    locked.get("/api/task-types", wrong)
    locked.submit(text)
    locked.get("/api/tasks?limit=x", text)
    malformed = [
        locked.send_raw("GET / HTTP/1.1", "Host: localhost", *lines)
        for lines in (
            (f"Authorization Bearer {text}",),
            (f"Authorization : Bearer {text}",),
            (f"X-API-Key: {text}\x00",),
            (f"X-API-Key: {text}", f" {text}"),
            (f"Content-Length: {text}",),
        )
    ]
    logs = b"".join(path.read_bytes() for path in sorted((locked.folder / "logs").iterdir()))

    assert all(answer.startswith(b"HTTP/1.1 400") for answer in malformed)
    assert b"Invalid request from" in logs  # gunicorn did say something
    for secret in (text, wrong):
        assert secret.rsplit("_", 1)[1][:-1].encode() not in logs + b"".join(malformed)


def test_known_keys_work_without_the_store_and_unknown_ones_wait(locked: Web, wait_until: WaitUntil) -> None:
    known, unknown = locked.command_line.make("read")["key"], make_key("unknown", READ)[1]
    for _ in range(40):  # so that both web processes know it
        locked.get("/api/task-types", known)

    program = locked.supervisor.stop("redis")
    try:
        time.sleep(IN_FORCE_S)  # so that nothing is fresh
        began = time.monotonic()
        answers = {locked.get("/api/task-types", known).status_code for _ in range(8)}
        took_s = time.monotonic() - began
        refused = locked.get("/api/task-types", unknown)
        health = locked.get("/healthz")
    finally:
        locked.supervisor.start(program)
    locked.redis.wait_until_ready()
    wait_until(lambda: locked.get("/api/task-types", unknown).status_code == 401, 10, "unknown keys are judged again")

    assert answers == {200}
    assert took_s < 8
    assert (refused.status_code, refused.json()["error"]) == (503, "store_unavailable")
    assert "Retry-After" in refused.headers
    assert health.status_code == 200


# Start


def start_publicly(web: Web, *command: str, seconds: float) -> str | None:
    """What it said before it ended by itself with a failure; None if it was still there after so many seconds."""
    environment = web.environment | {"BIND_ADDRESS": "127.0.0.1" if "--host" in command else "0.0.0.0"}
    started = subprocess.Popen(
        [sys.executable, "-m", *command], env=environment, cwd=REPOSITORY, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        said, _ = started.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        started.terminate()
        started.communicate(timeout=40)
    assert started.returncode != 0
    return said


WAYS_TO_START = {
    "gunicorn": ("gunicorn", "app:app", "-b", "127.0.0.1:{port}"),
    "flask": ("flask", "--app", "app.py", "run", "--port", "{port}"),
    "flask --host": ("flask", "--app", "app.py", "run", "--host", "0.0.0.0", "--port", "{port}"),
}


@pytest.mark.parametrize("way", WAYS_TO_START)
def test_every_way_of_starting_publicly_needs_a_key(web: Web, way: str) -> None:
    command = [word.format(port=choose_port()) for word in WAYS_TO_START[way]]
    web.store.flushdb()
    refused = start_publicly(web, *command, seconds=30)

    Keys(web.store).add(_some_key())
    accepted = start_publicly(web, *command, seconds=6)

    assert refused is not None
    assert "BIND_ADDRESS or --host is '0.0.0.0'" in refused
    assert "keys create" in refused
    assert accepted is None


def test_gunicorn_listens_no_wider_than_what_is_published(web: Web) -> None:
    """`-b 0.0.0.0` would open to everybody what BIND_ADDRESS says is for this machine alone."""
    command = [sys.executable, "-m", "gunicorn", "app:app", "-b", f"0.0.0.0:{choose_port()}"]

    ended = subprocess.run(
        command, cwd=REPOSITORY, env=web.environment | {"BIND_ADDRESS": "127.0.0.1"}, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip

    assert ended.returncode != 0
    assert "gunicorn -b '0.0.0.0' is wider than BIND_ADDRESS='127.0.0.1'" in ended.stderr


def _some_key() -> ApiKey:
    return make_key("some", READ)[0]
