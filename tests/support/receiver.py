"""A real receiver of webhooks, in threads: keeps what it is sent and answers as it is told.

Must not know who sends.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True, slots=True)
class Answer:
    status: int = 204
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    after_s: float = 0.0  # before the first byte
    drip_s: float = 0.0  # before each byte of the status line


@dataclass(frozen=True, slots=True)
class Received:
    path: str
    headers: dict[str, str]  # names in lower case
    body: str


class Receiver:
    """Gives its answers in order, the last one for ever."""

    def __init__(self, port: int, scheme: str, *answers: Answer) -> None:
        self.received: list[Received] = []
        self.server_names: list[str | None] = []  # as clients asked for in TLS
        self._port = port
        self._scheme = scheme
        self._answers = answers or (Answer(),)

    def url(self, host: str = "127.0.0.1", path: str = "/hook") -> str:
        return f"{self._scheme}://{host}:{self._port}{path}"

    def take(self, received: Received) -> Answer:
        self.received.append(received)
        return self._answers[min(len(self.received), len(self._answers)) - 1]


@contextmanager
def receiving(*answers: Answer, tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """A receiver on a port of its own, while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            headers = {name.lower(): value for name, value in self.headers.items()}
            self._say(receiver.take(Received(self.path, headers, body)))

        do_GET = do_POST  # noqa: N815  what a followed redirect would send

        def _say(self, answer: Answer) -> None:
            stopped.wait(answer.after_s)
            if answer.drip_s:
                self._drip(answer.drip_s)
                return
            self.send_response(answer.status)
            for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.body)

        def _drip(self, drip_s: float) -> None:
            for byte in b"HTTP/1.1 204 No Content\r\n" * 100:
                if stopped.wait(drip_s):
                    return
                self.wfile.write(bytes([byte]))

        def log_message(self, *_: Any) -> None:
            """Nothing: the test reads what was received."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: Any) -> None:
            """Nothing: a client that leaves early, or refuses the certificate, is what some tests are about."""

    stopped = threading.Event()
    server = Server(("127.0.0.1", 0), Handler)
    receiver = Receiver(server.server_port, "https" if tls else "http", *answers)
    if tls is not None:
        tls.sni_callback = lambda _socket, name, _context: receiver.server_names.append(name)
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield receiver
    finally:
        stopped.set()
        server.shutdown()
        thread.join()
        server.server_close()
