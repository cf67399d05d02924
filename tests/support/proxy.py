"""A balancer that ends TLS in front of a service on this machine, as a lab or a cloud puts one there.

Must not know the service: it passes on what it gets, and says with X-Forwarded-* whom it speaks for.
"""

from __future__ import annotations

import http.client
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "upgrade"}
CHUNK_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Balancer:
    """Where it listens, and the certificate that proves it."""

    url: str
    certificate: str


@contextmanager
def balancer(service_port: int, folder: Path) -> Iterator[Balancer]:
    """Ends TLS with a certificate of its own and passes requests on to 127.0.0.1:service_port."""
    certificate, key = _make_certificate(folder)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    handler = type("Handler", (_Handler,), {"service_port": service_port})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield Balancer(f"https://localhost:{server.server_port}", str(certificate))
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    """One request in, the same one out; the answer as it comes, so that streams stream."""

    service_port: int

    def do_GET(self) -> None:
        self._pass_on()

    do_POST = do_DELETE = do_PUT = do_GET  # noqa: N815  the library's names

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        service = http.client.HTTPConnection("127.0.0.1", self.service_port, timeout=40)
        try:
            service.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self._headers_for_the_service():
                service.putheader(name, value)
            service.endheaders(body)
            self._answer(service.getresponse())
        finally:
            service.close()

    def _headers_for_the_service(self) -> Iterator[tuple[str, str]]:
        told = {"x-forwarded-for", "x-forwarded-proto"}
        yield from (pair for pair in self.headers.items() if pair[0].lower() not in _HOP_BY_HOP | told)
        before = self.headers.get("X-Forwarded-For")
        yield "X-Forwarded-For", f"{before}, {self.client_address[0]}" if before else self.client_address[0]
        yield "X-Forwarded-Proto", "https"

    def _answer(self, answer: http.client.HTTPResponse) -> None:
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.headers.items():
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        with suppress(ConnectionError, ssl.SSLError):  # a visitor who has left
            while chunk := answer.read1(CHUNK_BYTES):
                self.wfile.write(chunk)


def _make_certificate(folder: Path) -> tuple[Path, Path]:
    certificate, key = folder / "balancer.pem", folder / "balancer.key"
    request = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command = ["openssl", *request, *name, "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    return certificate, key
