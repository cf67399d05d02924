"""One attempt of a delivery against a real receiver: what is sent, to which address, and what each answer means."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from tasks import get_retry_delay
from taskservice.context import WEBHOOK_ANSWERS, FileStore, MailServer
from taskservice.errors import ConfigurationError, PermanentError, TaskError, TransientError
from taskservice.handlers import load_task_types
from taskservice.handlers.webhook_delivery import deliver
from taskservice.handlers.webhook_delivery.addresses import Resolve
from taskservice.handlers.webhook_delivery.connection import BODY_PATIENCE_S, TIMEOUT_S, Sender
from taskservice.handlers.webhook_delivery.lookup import MAX_HANGING
from taskservice.handlers.webhook_delivery.parameters import DeliveryParameters
from taskservice.keys import make_webhook_secret
from taskservice.local.ports import choose_port
from taskservice.settings import load_settings
from tests.support.receiver import Answer, receiving
from tests.support.waiting import wait_until

SECRET = make_webhook_secret()
BODY = '{"type":"task.succeeded"}'
NAME = "hooks.example"


@dataclass
class Pace:
    """Receivers of which none is slow, unless it is said so."""

    is_slow: bool = False
    noted: list[tuple[str, float, bool]] = field(default_factory=list)

    def may_ask(self, host: str) -> bool:
        return not self.is_slow

    def note(self, host: str, *, took_s: float, has_answered: bool) -> None:
        self.noted.append((host, took_s, has_answered))


@dataclass
class Context:
    """A TaskContext with secrets."""

    secrets: tuple[str, ...] = (SECRET,)
    task_id: str = "3f0c2c1e-0000-4000-8000-000000000001"
    attempt: int = 1
    allows_private_webhooks: bool = True
    marks: dict[str, Any] = field(default_factory=dict)
    receivers: Pace = field(default_factory=Pace)

    @property
    def files(self) -> FileStore:
        raise NotImplementedError

    @property
    def mail_server(self) -> MailServer:
        raise NotImplementedError

    def progress(self, current: int, total: int, message: str = "") -> None:
        raise NotImplementedError

    def sent_mark(self, key: str) -> Any | None:
        return self.marks.get(key)

    def set_sent_mark(self, key: str, value: Any) -> None:
        self.marks[key] = value

    def webhook_secrets(self, key_id: str | None) -> tuple[str, ...]:
        return self.secrets if key_id in (None, "known") else ()


def parameters(url: str, **changes: Any) -> DeliveryParameters:
    return DeliveryParameters(**{"url": url, "webhook_id": "id-1", "body": BODY, **changes})


def resolving(*addresses: str) -> Resolve:
    return lambda _host, _port: addresses


def sender(*addresses: str, **changes: Any) -> Sender:
    return Sender(**{"allow_private": True, "resolve": resolving(*(addresses or ("127.0.0.1",))), **changes})


def failure(url: str, how: Sender, ctx: Context | None = None, **changes: Any) -> TaskError:
    with pytest.raises(TaskError) as caught:
        deliver(parameters(url, **changes), ctx or Context(), how)
    return caught.value


def test_a_webhook_is_posted_as_it_was_signed() -> None:
    with receiving(Answer(200, body=b"x" * 100_000)) as receiver:
        result = deliver(parameters(receiver.url(NAME, "/a?b=c")), Context(), sender())

    (received,) = receiver.received
    assert result == {"status_code": 200}
    assert received.path == "/a?b=c"
    assert received.headers["host"] == receiver.url(NAME, "").removeprefix("http://")
    assert received.headers["content-type"] == "application/json"
    assert received.headers["webhook-id"] == "id-1"
    assert Webhook(SECRET).verify(received.body, received.headers) == {"type": "task.succeeded"}


def test_while_a_secret_rotates_both_are_trusted() -> None:
    former = make_webhook_secret()
    with receiving() as receiver:
        deliver(parameters(receiver.url()), Context(secrets=(SECRET, former)), sender())

    (received,) = receiver.received
    assert Webhook(SECRET).verify(received.body, received.headers)
    assert Webhook(former).verify(received.body, received.headers)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_any_2xx_is_success(status: int) -> None:
    with receiving(Answer(status)) as receiver:
        assert deliver(parameters(receiver.url()), Context(), sender()) == {"status_code": status}


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503])
def test_another_answer_is_worth_another_attempt(status: int) -> None:
    ctx = Context(attempt=2)
    with receiving(Answer(status)) as receiver:
        error = failure(receiver.url(), sender(), ctx)

    assert isinstance(error, TransientError)
    assert (error.code, str(status) in error.message) == ("webhook_rejected", True)
    assert ctx.marks[WEBHOOK_ANSWERS] == {"2": status}


def test_gone_is_permanent() -> None:
    with receiving(Answer(410)) as receiver:
        error = failure(receiver.url(), sender())

    assert isinstance(error, PermanentError)
    assert error.code == "webhook_rejected"


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_refused_and_not_followed(status: int) -> None:
    with receiving() as elsewhere, receiving(Answer(status, {"Location": elsewhere.url()})) as receiver:
        error = failure(receiver.url(), sender())

    assert isinstance(error, PermanentError)
    assert error.code == "webhook_rejected"
    assert elsewhere.received == []


@pytest.mark.parametrize("answer", [Answer(after_s=5), Answer(drip_s=0.1)], ids=["silent", "dripping"])
def test_a_slow_receiver_is_given_up_at_one_moment(answer: Answer) -> None:
    began = time.monotonic()
    with receiving(answer) as receiver:
        error = failure(receiver.url(), sender(timeout_s=0.5))
        took_s = time.monotonic() - began

    assert isinstance(error, TransientError)
    assert error.code == "webhook_unreachable"
    assert 0.4 < took_s < 2


def test_a_body_that_never_ends_does_not_undo_an_answer() -> None:
    with receiving(Answer(200, {"Content-Length": "1000"}, b"x")) as receiver:
        assert deliver(parameters(receiver.url()), Context(), sender(timeout_s=0.5)) == {"status_code": 200}


def test_a_body_that_drips_is_not_waited_for_as_long_as_an_answer() -> None:
    began = time.monotonic()
    with tarpit(head=b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n") as url:
        result = deliver(parameters(url), Context(), sender())

    assert result == {"status_code": 200}
    assert time.monotonic() - began < BODY_PATIENCE_S + 1 < TIMEOUT_S


def test_headers_without_end_are_not_kept() -> None:
    began = time.monotonic()
    head = b"HTTP/1.1 200 OK\r\n" + (b"X: " + b"x" * 60_000 + b"\r\n") * 90
    with tarpit(head=head) as url:
        result = deliver(parameters(url), Context(), sender())

    assert result == {"status_code": 200}
    assert time.monotonic() - began < BODY_PATIENCE_S  # it ended at 64 KiB, not when the sender was silent


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_receiver_that_never_says_a_word_is_given_up_at_one_moment(scheme: str) -> None:
    began = time.monotonic()
    with tarpit(scheme=scheme, drip=b"\x16\x03\x03\x40\x00" + b"\x02" * 100) as url:
        error = failure(url, sender(timeout_s=0.6))

    assert error.code == "webhook_unreachable"
    assert 0.5 < time.monotonic() - began < 2


def test_a_name_server_that_hangs_is_given_up_at_the_same_moment() -> None:
    answered = threading.Event()

    def hanging(_host: str, _port: int) -> Sequence[str]:
        answered.wait(10)
        return ["127.0.0.1"]

    began = time.monotonic()
    error = failure("http://hooks.example/", sender(resolve=hanging, timeout_s=0.5))
    took_s = time.monotonic() - began
    answered.set()

    assert isinstance(error, TransientError)
    assert error.code == "webhook_unreachable"
    assert 0.4 < took_s < 2


def test_look_ups_that_hang_do_not_pile_up() -> None:
    answered = threading.Event()

    def hanging(_host: str, _port: int) -> Sequence[str]:
        answered.wait(10)
        return []

    for _ in range(MAX_HANGING):
        failure("http://hooks.example/", sender(resolve=hanging, timeout_s=0.01))
    began = time.monotonic()
    error = failure("http://hooks.example/", sender(timeout_s=5))
    took_s = time.monotonic() - began
    answered.set()
    wait_until(lambda: not any(one.name == "look-up" for one in threading.enumerate()), 5, "the look-ups ended")

    assert error.code == "webhook_unreachable"
    assert took_s < 1
    assert failure("http://hooks.example/", sender(resolve=lambda *_: [])).code == "webhook_unreachable"


def test_the_look_up_and_the_answer_have_one_time_together() -> None:
    def slow(_host: str, _port: int) -> Sequence[str]:
        time.sleep(0.6)
        return ["127.0.0.1"]

    began = time.monotonic()
    with receiving(Answer(after_s=5)) as receiver:
        failure(receiver.url(NAME), sender(resolve=slow, timeout_s=1))
        took_s = time.monotonic() - began

    assert 0.9 < took_s < 1.5


@contextmanager
def tarpit(*, head: bytes = b"", drip: bytes = b"x" * 1000, scheme: str = "http") -> Iterator[str]:
    """A receiver that accepts, says the head, then a byte at a time for ever."""
    stopped = threading.Event()

    def hold() -> None:
        connection, _ = listener.accept()
        with connection, suppress(OSError):
            connection.recv(65_536)
            connection.sendall(head)
            for byte in drip * 100:
                if stopped.wait(0.1):
                    return
                connection.sendall(bytes([byte]))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=hold)
        thread.start()
        try:
            yield f"{scheme}://127.0.0.1:{listener.getsockname()[1]}/hook"
        finally:
            stopped.set()
            thread.join()


# The host's pace


def test_a_slow_host_is_not_asked_out_of_turn() -> None:
    with receiving() as receiver:
        error = failure(receiver.url(), sender(), Context(receivers=Pace(is_slow=True)))

    assert isinstance(error, TransientError)
    assert (error.code, receiver.received) == ("webhook_held_back", [])


def test_what_each_attempt_took_is_noted() -> None:
    ctx = Context()
    with receiving(Answer(500, after_s=0.3)) as receiver:
        failure(receiver.url(NAME), sender(), ctx)
    failure(f"http://127.0.0.1:{choose_port()}/", sender(), ctx)

    (first, took_s, was_answered), (second, at_once_s, was_refused) = ctx.receivers.noted
    assert (first, was_answered, second, was_refused) == (NAME, True, "127.0.0.1", False)
    assert 0.3 <= took_s < 2
    assert at_once_s < 0.3


def test_a_receiver_that_is_not_there_is_worth_another_attempt() -> None:
    error = failure(f"http://127.0.0.1:{choose_port()}/", sender())

    assert isinstance(error, TransientError)
    assert error.code == "webhook_unreachable"


def test_a_name_that_cannot_be_resolved_is_worth_another_attempt() -> None:
    def unresolvable(_host: str, _port: int) -> Sequence[str]:
        raise OSError("no such name")

    error = failure("http://hooks.example/", sender(resolve=unresolvable))

    assert isinstance(error, TransientError)
    assert error.code == "webhook_unreachable"


def test_the_next_address_is_tried_when_one_does_not_accept() -> None:
    with receiving() as receiver:
        deliver(parameters(receiver.url(NAME)), Context(), sender("127.9.9.9", "127.0.0.1"))

    assert len(receiver.received) == 1


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["8.8.8.8", "127.0.0.1"], ["::ffff:127.0.0.1"]])
def test_a_public_name_with_an_address_that_is_not_is_refused_unsent(addresses: list[str]) -> None:
    with receiving() as receiver:
        url = receiver.url(NAME).replace("http:", "https:")
        error = failure(url, sender(*addresses, allow_private=False))

    assert isinstance(error, PermanentError)
    assert (error.code, receiver.received) == ("webhook_forbidden", [])
    assert not any(address in error.message for address in addresses)


def test_the_address_is_checked_again_at_each_attempt(trusted: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """A name that is rebound between two attempts; what is public is decided by the resolver's answer alone."""
    answers: Iterator[list[str]] = iter([[], ["127.0.0.1"]])

    def rebound(_host: str, _port: int) -> Sequence[str]:
        return next(answers)

    with receiving(tls=trusted[1]) as receiver:
        how = sender(resolve=rebound, allow_private=False, tls=trusted[0])
        codes = [failure(receiver.url(NAME), how).code for _ in range(2)]

    assert codes == ["webhook_unreachable", "webhook_forbidden"]
    assert receiver.received == []


@pytest.mark.parametrize("url", ["http://example.com/", "https://user@example.com/", "https://[fe80::1]/"])
def test_a_forbidden_url_is_refused_before_anybody_is_asked(url: str) -> None:
    def unasked(_host: str, _port: int) -> Sequence[str]:
        pytest.fail("the name was resolved")

    error = failure(url, sender(resolve=unasked, allow_private=False))

    assert isinstance(error, PermanentError)
    assert error.code == "webhook_forbidden"


def test_without_a_secret_nothing_is_sent() -> None:
    with receiving() as receiver:
        error = failure(receiver.url(), sender(), key_id="unknown")

    assert isinstance(error, PermanentError)
    assert receiver.received == []


# Encrypted


@pytest.fixture(scope="module")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A client's context that trusts a new certificate for NAME, and the server's context with it."""
    directory = tmp_path_factory.mktemp("certificate")
    path, key = directory / "certificate.pem", directory / "key.pem"
    make_certificate(path, key)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path, key)
    return ssl.create_default_context(cafile=str(path)), server


def make_certificate(path: Path, key: Path) -> None:
    command = f"openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=test -addext subjectAltName=DNS:{NAME}"
    usage = ["-addext", "keyUsage=digitalSignature,keyEncipherment,keyCertSign"]
    subprocess.run([*command.split(), *usage, "-keyout", key, "-out", path], check=True, capture_output=True)


def test_the_certificate_must_be_the_names_although_the_address_is_connected_to(
    trusted: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    client, server = trusted
    with receiving(tls=server) as receiver:
        result = deliver(parameters(receiver.url(NAME)), Context(), sender(tls=client))
        other = failure(receiver.url("other.example"), sender(tls=client))

    assert result == {"status_code": 204}
    assert receiver.server_names == [NAME, "other.example"]
    assert len(receiver.received) == 1
    assert isinstance(other, TransientError)
    assert other.code == "webhook_unreachable"


def test_an_untrusted_certificate_is_refused(trusted: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    with receiving(tls=trusted[1]) as receiver:
        error = failure(receiver.url(NAME), sender())

    assert (error.code, receiver.received) == ("webhook_unreachable", [])


# The type


def test_clients_do_not_see_the_type_and_workers_do() -> None:
    kind = load_task_types(with_internal=True)["webhook_delivery"]

    assert "webhook_delivery" not in load_task_types()
    assert kind.is_internal
    assert (kind.max_retries, kind.max_retry_delay_s) == (14, 3600)


def test_a_delivery_is_tried_for_hours_with_waits_of_up_to_one() -> None:
    kind = load_task_types(with_internal=True)["webhook_delivery"]

    waits_s = [get_retry_delay(retries, kind.max_retry_delay_s) for retries in range(kind.max_retries)]

    assert waits_s == [*(2**retries for retries in range(12)), 3600, 3600]


# The setting for development


def test_private_targets_are_refused_by_default() -> None:
    assert not load_settings({}).webhooks_allow_http
    assert load_settings({"WEBHOOKS_ALLOW_HTTP": "1"}).webhooks_allow_http


def test_private_targets_are_allowed_only_where_nobody_else_reaches_the_service() -> None:
    with pytest.raises(ConfigurationError, match="WEBHOOKS_ALLOW_HTTP=1"):
        load_settings({"WEBHOOKS_ALLOW_HTTP": "1", "BIND_ADDRESS": "0.0.0.0"})
