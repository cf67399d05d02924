"""A bucket over TLS, as AWS serves it, in a mock of S3 on this machine.

Must not know who uses it.
"""

from __future__ import annotations

import datetime
import ipaddress
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

REGION = "ap-southeast-1"
NAME = "files-of-the-test"


@dataclass(frozen=True, slots=True)
class Bucket:
    """`environment` is what a process needs to reach it."""

    environment: dict[str, str]
    client: Any

    def object_keys(self) -> list[str]:
        answer = self.client.list_objects_v2(Bucket=NAME)
        return [item["Key"] for item in answer.get("Contents", [])]


@contextmanager
def private_bucket(directory: Path) -> Iterator[Bucket]:
    certificate, key = _write_certificate(directory)
    server = make_server(
        "127.0.0.1",
        0,
        DomainDispatcherApplication(create_backend_app),
        threaded=True,
        ssl_context=(str(certificate), str(key)),
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield _make_bucket(f"https://127.0.0.1:{server.server_port}", certificate)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _make_bucket(endpoint: str, certificate: Path) -> Bucket:
    environment = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_CA_BUNDLE": str(certificate),
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
    }
    client = boto3.client(
        "s3",
        region_name=REGION,
        endpoint_url=endpoint,
        verify=str(certificate),
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )
    client.create_bucket(Bucket=NAME, CreateBucketConfiguration={"LocationConstraint": REGION})
    return Bucket(environment, client)


def _write_certificate(directory: Path) -> tuple[Path, Path]:
    """Signed by itself, for 127.0.0.1 and a day."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "the test's S3")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = directory / "certificate.pem", directory / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths
