"""What `email_sending` promises, held against real SMTP servers on the loopback address.

Must not need a network, a broker or Redis.
"""

from __future__ import annotations

import email
import email.policy
import hashlib
import io
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from email.message import EmailMessage
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword
from pydantic import ValidationError

from taskservice.context import MailServer, Receivers, StoredFile
from taskservice.errors import PermanentError, StoredFileNotFound, TaskCancelled, TransientError
from taskservice.handlers.email_sending import MAX_ATTACHMENT_BYTES, EmailParameters, send_email

SENDER = "tasks@service.example.com"
PASSWORD = "correct-horse"


class MemoryFiles:
    """A FileStore in memory."""

    def __init__(self) -> None:
        self._contents: dict[str, bytes] = {}

    def open(self, filename: str) -> BinaryIO:
        return io.BytesIO(self._content(filename))

    def size_bytes(self, filename: str) -> int:
        return len(self._content(filename))

    def local_copy(self, filename: str) -> AbstractContextManager[str]:
        raise NotImplementedError

    def save(self, filename: str, content: BinaryIO) -> StoredFile:
        self._contents[filename] = content.read()
        return self.stat(filename)

    def stat(self, filename: str) -> StoredFile:
        content = self._content(filename)
        return StoredFile(filename, len(content), hashlib.sha256(content).hexdigest(), "application/octet-stream")

    def list(self) -> Iterator[StoredFile]:
        return map(self.stat, sorted(self._contents))

    def delete(self, filename: str) -> None:
        self._content(filename)
        del self._contents[filename]

    def _content(self, filename: str) -> bytes:
        if filename not in self._contents:
            raise StoredFileNotFound(filename)
        return self._contents[filename]


@dataclass
class Context:
    """A TaskContext whose marks outlive an attempt, as those in the record do."""

    mail_server: MailServer
    task_id: str = "3f0c2c1e-0000-4000-8000-000000000001"
    attempt: int = 1
    files: MemoryFiles = field(default_factory=MemoryFiles)
    marks: dict[str, Any] = field(default_factory=dict)
    told: list[tuple[int, int]] = field(default_factory=list)
    is_cancelled: bool = False
    allows_private_webhooks: bool = False

    def progress(self, current: int, total: int, message: str = "") -> None:
        self.told.append((current, total))
        if self.is_cancelled:
            raise TaskCancelled

    def sent_mark(self, key: str) -> Any | None:
        return self.marks.get(key)

    def set_sent_mark(self, key: str, value: Any) -> None:
        self.marks[key] = value

    def webhook_secrets(self, key_id: str | None) -> tuple[str, ...]:
        raise NotImplementedError

    @property
    def receivers(self) -> Receivers:
        raise NotImplementedError


Answer = Callable[[str], str | None]  # None: let the server say yes


@dataclass
class Inbox:
    """An aiosmtpd handler: keeps what it accepts, and answers MAIL, RCPT and DATA as it is told."""

    on_mail: Answer = lambda _: None
    on_rcpt: Answer = lambda _: None
    on_data: Answer = lambda _: None
    envelopes: list[Any] = field(default_factory=list)

    async def handle_MAIL(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:  # noqa: N802
        envelope.mail_from = address
        return self.on_mail(address) or "250 OK"

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:  # noqa: N802
        refusal = self.on_rcpt(address)
        if refusal is None:
            envelope.rcpt_tos.append(address)
        return refusal or "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        refusal = self.on_data("")
        if refusal is None:
            self.envelopes.append(envelope)
        return refusal or "250 OK"

    @property
    def recipients(self) -> list[list[str]]:
        return [envelope.rcpt_tos for envelope in self.envelopes]

    def message(self) -> EmailMessage:
        return email.message_from_bytes(self.envelopes[-1].content, policy=email.policy.default)


@contextmanager
def serving(inbox: Inbox, **options: Any) -> Iterator[MailServer]:
    controller = Controller(inbox, hostname="127.0.0.1", port=free_port(), **options)
    controller.start()
    try:
        yield MailServer("127.0.0.1", controller.port, SENDER, timeout_s=5)
    finally:
        controller.stop()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def greeting(line: bytes) -> Iterator[MailServer]:
    """A server that says one line, or nothing at all, to one client and then waits for it to go away."""

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(line)
            while connection.recv(1024):
                pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield MailServer("127.0.0.1", listener.getsockname()[1], SENDER, timeout_s=0.5)
        thread.join(10)


def refusing(refusals: dict[str, str]) -> Answer:
    return refusals.get


def repeatedly(refusal: str, times: int) -> Answer:
    left = [refusal] * times
    return lambda _: left.pop() if left else None


def parameters(**changes: Any) -> EmailParameters:
    return EmailParameters.model_validate({"to": "ada@example.com", "subject": "Hi", "body": "Hello", **changes})


def locations(**members: Any) -> list[tuple[int | str, ...]]:
    with pytest.raises(ValidationError) as caught:
        EmailParameters.model_validate(members)
    return [error["loc"] for error in caught.value.errors()]


def test_a_missing_recipient_is_an_error_at_to() -> None:
    assert locations(subject="Hi", body="Hello") == [("to",)]


def test_a_bad_address_is_an_error_where_it_stands() -> None:
    assert locations(to="ada", subject="Hi", body="Hello") == [("to",)]
    assert locations(to=["ada@example.com", "@"], subject="Hi", body="Hello") == [("to", 1)]
    assert locations(to="ada@example.com", cc=["x"], reply_to="y", subject="Hi", body="") == [("cc", 0), ("reply_to",)]


@pytest.mark.parametrize("to", [[], None, 7, {}, ["ada@example.com"] * 51, [1]])
def test_what_is_not_one_to_fifty_addresses_is_refused(to: Any) -> None:
    assert locations(to=to, subject="Hi", body="Hello")[0][0] == "to"


def test_more_than_a_hundred_recipients_are_refused() -> None:
    lists = {name: [f"{name}{number}@example.com" for number in range(40)] for name in ("to", "cc", "bcc")}

    assert locations(**lists, subject="Hi", body="Hello") == [("to",)]


def test_body_or_html_is_required() -> None:
    assert locations(to="ada@example.com", subject="Hi") == [("body",)]
    assert parameters(body=None, html="<p>Hello</p>").html == "<p>Hello</p>"


def test_unknown_members_are_refused() -> None:
    assert locations(to="ada@example.com", subject="Hi", body="Hello", sender="eve@example.com") == [("sender",)]


@pytest.mark.parametrize("break_", ["\r\n", "\n", "\r", "\0", "\x0b", "\u2028", "\x85"])
@pytest.mark.parametrize("member", ["to", "cc", "bcc", "reply_to", "subject"])
def test_a_header_cannot_be_injected(member: str, break_: str) -> None:
    value = f"ada@example.com{break_}Bcc: eve@example.com"

    assert locations(**{"to": "ada@example.com", "subject": "Hi", "body": "Hello", member: value}) == [(member,)]


@pytest.mark.parametrize("subject", ["", "x" * 999, "tail\n"])
def test_a_subject_is_one_line_of_up_to_998_characters(subject: str) -> None:
    assert locations(to="ada@example.com", subject=subject, body="Hello") == [("subject",)]


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "..", "a\\b", "a\nb", "", "a\0b"])
def test_an_attachment_is_named_without_a_path(name: str) -> None:
    assert locations(to="ada@example.com", subject="Hi", body="Hello", attachments=[name]) == [("attachments", 0)]


def test_parameters_survive_the_message_that_carries_them() -> None:
    original = parameters(to=["ada@example.com"], cc="bob@example.com")

    dumped = original.model_dump(mode="json", exclude_unset=True)

    assert dumped == {"to": ["ada@example.com"], "cc": "bob@example.com", "subject": "Hi", "body": "Hello"}
    assert EmailParameters.model_validate(dumped) == original
    assert EmailParameters.model_json_schema()["required"] == ["to", "subject"]


def test_an_accepted_message_arrives_with_its_headers_and_both_versions() -> None:
    inbox = Inbox()
    with serving(inbox) as server:
        result = send_email(
            parameters(
                subject="Grüße", body="Hé\n.\n.x", html="<p>Hé</p>", cc="bob@example.com", reply_to="r@example.com"
            ),
            Context(server),
        )

    message = inbox.message()
    text, html = message.get_body(("plain",)), message.get_body(("html",))
    assert text is not None
    assert html is not None
    assert (text.get_content(), html.get_content()) == ("Hé\r\n.\r\n.x\r\n", "<p>Hé</p>\r\n")
    assert (message["From"], message["To"], message["Cc"]) == (SENDER, "ada@example.com", "bob@example.com")
    assert (message["Reply-To"], message["Subject"]) == ("r@example.com", "Grüße")
    assert message["Message-ID"] == "<3f0c2c1e-0000-4000-8000-000000000001@service.example.com>"
    assert parsedate_to_datetime(message["Date"]).tzinfo is not None
    assert inbox.envelopes[0].mail_from == SENDER
    assert inbox.envelopes[0].content.isascii()
    assert result == {
        "message_id": message["Message-ID"],
        "accepted": ["ada@example.com", "bob@example.com"],
        "refused": [],
    }


def test_a_message_of_html_alone_is_sent_as_html() -> None:
    inbox = Inbox()
    with serving(inbox) as server:
        send_email(parameters(body=None, html="<p>Hi</p>"), Context(server))

    assert inbox.message().get_content_type() == "text/html"


def test_bcc_is_in_the_envelope_only() -> None:
    inbox = Inbox()
    with serving(inbox) as server:
        send_email(parameters(bcc=["eve@example.com", "ada@example.com"]), Context(server))

    assert inbox.recipients == [["ada@example.com", "eve@example.com"]]
    assert b"eve@example.com" not in inbox.envelopes[0].content


def test_attachments_arrive_byte_for_byte_with_name_and_type() -> None:
    inbox = Inbox()
    contents = {
        "räport.csv": b"a,b\r\n1,2\n.\n",
        "x.png": bytes(range(256)) * 40,
        "m.eml": b"To: x\n\ny",
        "t.tar.gz": b"\0",
        "long " * 30 + ".txt": b"",
    }
    with serving(inbox) as server:
        ctx = Context(server)
        for name, content in contents.items():
            ctx.files.save(name, io.BytesIO(content))
        send_email(parameters(attachments=list(contents)), ctx)

    parts = list(inbox.message().iter_attachments())
    assert {part.get_filename(): part.get_payload(decode=True) for part in parts} == contents
    assert [part.get_content_type() for part in parts] == [
        "text/csv",
        "image/png",
        "application/octet-stream",
        "application/octet-stream",
        "text/plain",
    ]


def test_a_missing_attachment_fails_for_good_and_sends_nothing() -> None:
    inbox = Inbox()
    with serving(inbox) as server, pytest.raises(PermanentError) as caught:
        send_email(parameters(attachments=["gone.txt"]), Context(server))

    assert caught.value.code == "file_not_found"
    assert inbox.envelopes == []


def test_attachments_of_more_than_ten_mebibytes_together_are_too_large() -> None:
    ctx = Context(MailServer("127.0.0.1", 1, SENDER))
    ctx.files.save("a", io.BytesIO(bytes(MAX_ATTACHMENT_BYTES)))
    ctx.files.save("b", io.BytesIO(b"x"))

    with pytest.raises(PermanentError) as caught:
        send_email(parameters(attachments=["a", "b"]), ctx)

    assert caught.value.code == "file_too_large"


@pytest.mark.parametrize("step", ["on_mail", "on_rcpt", "on_data"])
def test_a_4xx_answer_at_any_step_is_worth_another_attempt(step: str) -> None:
    inbox = Inbox(**{step: repeatedly("451 4.3.0 busy", 3)})  # type: ignore[arg-type]
    with serving(inbox) as server:
        ctx = Context(server)
        for _ in range(3):
            with pytest.raises(TransientError, match=r"451 4\.3\.0 busy") as caught:
                send_email(parameters(), ctx)
            assert caught.value.code == "smtp_unavailable"

        result = send_email(parameters(), ctx)

    assert result["accepted"] == ["ada@example.com"]
    assert inbox.recipients == [["ada@example.com"]]


@pytest.mark.parametrize("step", ["on_mail", "on_rcpt", "on_data"])
def test_a_5xx_answer_at_any_step_is_final(step: str) -> None:
    inbox = Inbox(**{step: lambda _: "550 5.1.1 no"})  # type: ignore[arg-type]
    with serving(inbox) as server, pytest.raises(PermanentError, match=r"550 5\.1\.1 no") as caught:
        send_email(parameters(), Context(server))

    assert caught.value.code == "smtp_refused"


@pytest.mark.parametrize(
    ("line", "error"), [(b"421 4.3.2 closing\r\n", TransientError), (b"554 5.7.1 not you\r\n", PermanentError)]
)
def test_the_greeting_decides_like_any_answer(line: bytes, error: type[Exception]) -> None:
    with greeting(line) as server, pytest.raises(error, match=line[4:].decode().strip()):
        send_email(parameters(), Context(server))


def test_a_refused_recipient_does_not_keep_the_others_from_theirs() -> None:
    inbox = Inbox(on_rcpt=refusing({"bob@example.com": "550 5.1.1 no such user"}))
    with serving(inbox) as server:
        result = send_email(parameters(to=["ada@example.com", "bob@example.com"]), Context(server))

    assert inbox.recipients == [["ada@example.com"]]
    assert result["accepted"] == ["ada@example.com"]
    assert result["refused"] == [{"address": "bob@example.com", "code": 550, "message": "5.1.1 no such user"}]


def test_all_refused_is_final_only_without_a_4xx_among_them() -> None:
    to = ["ada@example.com", "bob@example.com"]
    refusals = {"ada@example.com": "550 unknown", "bob@example.com": "551 moved"}
    with serving(Inbox(on_rcpt=refusing(refusals))) as server, pytest.raises(PermanentError) as final:
        send_email(parameters(to=to), Context(server))
    refusals["bob@example.com"] = "450 later"
    with serving(Inbox(on_rcpt=refusing(refusals))) as server, pytest.raises(TransientError):
        send_email(parameters(to=to), Context(server))

    assert "ada@example.com: 550 unknown" in final.value.message
    assert "bob@example.com: 551 moved" in final.value.message


def test_a_recipient_put_off_is_tried_again_without_sending_to_the_others_twice() -> None:
    refusals = {"bob@example.com": "450 4.2.1 greylisted", "cy@example.com": "550 5.1.1 unknown"}
    inbox = Inbox(on_rcpt=refusing(refusals))
    sent = parameters(to=["bob@example.com", "ada@example.com", "cy@example.com"])
    with serving(inbox) as server:
        ctx = Context(server)
        with pytest.raises(TransientError, match=r"bob@example\.com: 450"):
            send_email(sent, ctx)
        with pytest.raises(TransientError):
            send_email(sent, ctx)
        refusals.clear()
        result = send_email(sent, ctx)

    assert inbox.recipients == [["ada@example.com"], ["bob@example.com"]]
    assert result["accepted"] == ["bob@example.com", "ada@example.com"]
    assert result["refused"] == [{"address": "cy@example.com", "code": 550, "message": "5.1.1 unknown"}]
    assert len({email.message_from_bytes(envelope.content)["Message-ID"] for envelope in inbox.envelopes}) == 1


def test_a_recipient_put_off_and_then_refused_leaves_the_task_succeeded() -> None:
    refusals = {"bob@example.com": "450 later"}
    inbox = Inbox(on_rcpt=refusing(refusals))
    sent = parameters(to=["ada@example.com", "bob@example.com"])
    with serving(inbox) as server:
        ctx = Context(server)
        with pytest.raises(TransientError):
            send_email(sent, ctx)
        refusals["bob@example.com"] = "550 gone"
        result = send_email(sent, ctx)

    assert (result["accepted"], [refusal["code"] for refusal in result["refused"]]) == (["ada@example.com"], [550])


def test_what_an_earlier_attempt_delivered_is_not_sent_again() -> None:
    inbox = Inbox()
    with serving(inbox) as server:
        ctx = Context(server)
        first = send_email(parameters(), ctx)

    again = send_email(parameters(), ctx)  # the server is gone by now

    assert again == first
    assert len(inbox.envelopes) == 1


def test_a_task_that_is_cancelled_has_sent_nothing_and_one_that_has_sent_is_not_cancelled() -> None:
    inbox = Inbox()
    sent = parameters(to=["ada@example.com", "bob@example.com"])
    with serving(inbox) as server:
        ctx = Context(server, is_cancelled=True)
        with pytest.raises(TaskCancelled):
            send_email(sent, ctx)
        ctx.is_cancelled = False
        send_email(sent, ctx)
    ctx.is_cancelled = True

    again = send_email(sent, ctx)

    assert inbox.recipients == [sent.recipients]
    assert again["accepted"] == sent.recipients
    assert ctx.told == [(1, 2), (1, 2), (2, 2)]


class RudeInbox(Inbox):
    """Accepts a message and then ends the session with an error."""

    async def handle_QUIT(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        return "421 4.3.0 go away"


def test_how_the_session_ends_does_not_undo_a_delivery() -> None:
    with serving(RudeInbox()) as server:
        result = send_email(parameters(), Context(server))

    assert result["accepted"] == ["ada@example.com"]


def test_a_server_that_is_down_is_worth_another_attempt() -> None:
    with pytest.raises(TransientError, match="refused the connection") as caught:
        send_email(parameters(), Context(MailServer("127.0.0.1", free_port(), SENDER)))

    assert caught.value.code == "smtp_unavailable"
    assert "127.0.0.1" not in caught.value.message


def test_a_server_that_hangs_is_given_up_in_time() -> None:
    with greeting(b"") as server, pytest.raises(TransientError, match=r"did not answer within 0\.5 s"):
        send_email(parameters(), Context(server))


def login(username: str, password: str) -> Callable[..., AuthResult]:
    def authenticate(server: Any, session: Any, envelope: Any, mechanism: str, data: LoginPassword) -> AuthResult:
        fits = (data.login, data.password) == (username.encode(), password.encode())
        return AuthResult(
            success=fits, handled=fits, message=None if fits else f"535 5.7.8 bad: {data.password.decode()}"
        )

    return authenticate


@pytest.mark.filterwarnings(
    "ignore:Requiring AUTH while not requiring TLS"
)  # aiosmtpd's, of the server under this test
def test_the_right_login_is_let_in_and_a_wrong_one_is_final_and_not_repeated() -> None:
    inbox = Inbox()
    options = {"authenticator": login("tasks", PASSWORD), "auth_required": True, "auth_require_tls": False}
    with serving(inbox, **options) as server:
        with pytest.raises(PermanentError) as nobody:
            send_email(parameters(), Context(server))
        with pytest.raises(PermanentError, match="535") as wrong:
            send_email(parameters(), Context(replace(server, username="tasks", password="wrong-horse")))
        send_email(parameters(), Context(replace(server, username="tasks", password=PASSWORD)))

    assert nobody.value.code == wrong.value.code == "smtp_refused"
    assert "wrong-horse" not in wrong.value.message
    assert len(inbox.envelopes) == 1


def test_a_login_the_server_does_not_offer_or_cannot_carry_is_final() -> None:
    with serving(Inbox()) as server, pytest.raises(PermanentError, match="does not offer the login"):
        send_email(parameters(), Context(replace(server, username="tasks", password=PASSWORD)))
    options = {"authenticator": login("tasks", PASSWORD), "auth_require_tls": False}
    with serving(Inbox(), **options) as server, pytest.raises(PermanentError, match="must be in ASCII"):
        send_email(parameters(), Context(replace(server, username="tasks", password="pässword")))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    """A self-signed certificate for 127.0.0.1, and a server's context with it."""
    directory = tmp_path_factory.mktemp("certificate")
    path, key = directory / "certificate.pem", directory / "key.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=test -addext subjectAltName=IP:127.0.0.1"
    usage = ["-addext", "keyUsage=digitalSignature,keyEncipherment,keyCertSign"]
    subprocess.run([*command.split(), *usage, "-keyout", key, "-out", path], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path, key)
    return path, context


@pytest.mark.parametrize(("security", "option"), [("starttls", "tls_context"), ("tls", "ssl_context")])
def test_an_encrypted_server_must_be_trusted(
    security: str, option: str, certificate: tuple[Path, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = Inbox()
    path, context = certificate
    with serving(inbox, **{option: context}) as plain:
        server = replace(plain, security=security)
        with pytest.raises(TransientError, match="certificate is not trusted: self-signed certificate") as caught:
            send_email(parameters(), Context(server))
        refused = len(inbox.envelopes) == 0
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        send_email(parameters(), Context(server))

    assert refused
    assert caught.value.code == "smtp_unavailable"
    assert inbox.recipients == [["ada@example.com"]]


def test_a_message_is_never_sent_in_clear_where_starttls_is_required() -> None:
    inbox = Inbox()
    with serving(inbox) as server, pytest.raises(TransientError, match="does not offer STARTTLS"):
        send_email(parameters(), Context(replace(server, security="starttls")))

    assert inbox.envelopes == []


def test_an_address_beyond_ascii_needs_a_server_that_takes_it() -> None:
    inbox = Inbox()
    sent = parameters(to=["søren@example.com", "ada@bücher.example.com"])
    with (
        serving(Inbox(), enable_SMTPUTF8=False) as server,
        pytest.raises(PermanentError, match="only addresses in ASCII"),
    ):
        send_email(sent, Context(server))
    with serving(inbox) as server:
        result = send_email(sent, Context(server))

    assert result["accepted"] == ["søren@example.com", "ada@xn--bcher-kva.example.com"]
    assert "søren@example.com" in inbox.envelopes[0].content.decode()
