"""s3:// for the file store: fsspec's interface over botocore. Credentials and region come from AWS's own chain.

Must not know which names are safe or what a file is for.
"""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from typing import Any, cast

import botocore.session  # type: ignore[import-untyped]
from botocore.config import Config  # type: ignore[import-untyped]
from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]
from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

_VERSION = "version"  # of a moved object: S3's own times are whole seconds
_MISSING = ("404", "NoSuchKey")
_CONNECTIONS = 50  # of one process; the web's greenlets share them
_CONNECT_TIMEOUT_S = 3
_READ_TIMEOUT_S = 60  # a copy answers when it is done


class BucketFileSystem(AbstractFileSystem):  # type: ignore[misc]
    """Objects of S3 or of what speaks like it. Paths are `bucket/key`; there are no directories to make.

    Not s3fs: its thread with an event loop becomes a greenlet under gevent, and then it refuses every call.
    """

    protocol = "s3"
    cachable = False  # fsspec would keep one for every greenlet; what is worth keeping is the client

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """Raises OSError when the bucket does not answer."""
        bucket, prefix = _split(f"{self._strip_protocol(path).rstrip('/')}/")
        pages = _client(os.getpid()).get_paginator("list_objects_v2")
        with _as_os_errors(path):
            found = [
                {"name": f"{bucket}/{item['Key']}", "size": item["Size"], "type": "file"}
                for page in pages.paginate(Bucket=bucket, Prefix=prefix, Delimiter="/")
                for item in page.get("Contents", ())
            ]
        return found if detail else [item["name"] for item in found]

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Raises FileNotFoundError. `version` is another one after each move here, of the same content too."""
        path = self._strip_protocol(path)
        bucket, key = _split(path)
        with _as_os_errors(path):
            head = _client(os.getpid()).head_object(Bucket=bucket, Key=key)
        return {
            "name": path,
            "size": head["ContentLength"],
            "type": "file",
            "ETag": head["ETag"],
            "LastModified": head["LastModified"],
            "version": head["Metadata"].get(_VERSION, ""),
        }

    def modified(self, path: str) -> datetime:
        """In whole seconds, UTC. Raises FileNotFoundError."""
        return cast(datetime, self.info(path)["LastModified"])

    def rm_file(self, path: str) -> None:
        bucket, key = _split(self._strip_protocol(path))
        with _as_os_errors(path):
            _client(os.getpid()).delete_object(Bucket=bucket, Key=key)

    def mv(self, path1: str, path2: str, **_: Any) -> None:
        """Readers see the old object or the new one; objects of up to 5 GiB."""
        bucket, key = _split(self._strip_protocol(path1))
        new_bucket, new_key = _split(self._strip_protocol(path2))
        with _as_os_errors(path1):
            _client(os.getpid()).copy_object(
                Bucket=new_bucket,
                Key=new_key,
                CopySource={"Bucket": bucket, "Key": key},
                MetadataDirective="REPLACE",
                Metadata={_VERSION: uuid.uuid4().hex},
            )
        self.rm_file(path1)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Nothing: a key needs no directory."""

    def _open(self, path: str, mode: str = "rb", block_size: int | None = None, **options: Any) -> _Object:
        return _Object(self, path, mode, block_size or _Object.DEFAULT_BLOCK_SIZE, **options)


class _Object(AbstractBufferedFile):  # type: ignore[misc]
    """One object, read in ranges or written in parts of 5 MiB, the least that S3 takes."""

    _upload_id: str | None = None

    def _fetch_range(self, start: int, end: int) -> bytes:
        """Of the content that was there when it was opened. Raises OSError when it was replaced meanwhile."""
        bucket, key = _split(self.path)
        etag = self.details["ETag"]
        with _as_os_errors(self.path):
            answer = _client(os.getpid()).get_object(
                Bucket=bucket, Key=key, Range=f"bytes={start}-{end - 1}", IfMatch=etag
            )
            content: bytes = answer["Body"].read()
        return content

    def _initiate_upload(self) -> None:
        self._parts: list[dict[str, Any]] = []
        if self.tell() < self.blocksize:  # all there is: one request will do
            return
        bucket, key = _split(self.path)
        with _as_os_errors(self.path):
            self._upload_id = _client(os.getpid()).create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]

    def _upload_chunk(self, final: bool = False) -> bool:
        content = self.buffer.getvalue()
        bucket, key = _split(self.path)
        client = _client(os.getpid())
        with _as_os_errors(self.path):
            if self._upload_id is None:
                client.put_object(Bucket=bucket, Key=key, Body=content)
                return True
            upload = {"Bucket": bucket, "Key": key, "UploadId": self._upload_id}
            if content:
                number = len(self._parts) + 1
                part = client.upload_part(**upload, PartNumber=number, Body=content)
                self._parts.append({"PartNumber": number, "ETag": part["ETag"]})
            if final:
                client.complete_multipart_upload(**upload, MultipartUpload={"Parts": self._parts})
        return True


def _split(path: str) -> tuple[str, str]:
    bucket, _, key = path.partition("/")
    return bucket, key


@cache
def _client(process_id: int) -> Any:
    """One per process, safe to share: connections must not be used on both sides of a fork."""
    config = Config(
        connect_timeout=_CONNECT_TIMEOUT_S,
        read_timeout=_READ_TIMEOUT_S,
        max_pool_connections=_CONNECTIONS,
        retries={"mode": "standard", "total_max_attempts": 3},
    )
    return botocore.session.get_session().create_client("s3", config=config)


@contextmanager
def _as_os_errors(path: str) -> Iterator[None]:
    """What botocore raises, as a file system would; the names it would tell stay in the chain."""
    try:
        yield
    except ClientError as error:
        code = str(error.response["Error"]["Code"])
        if code in _MISSING:
            raise FileNotFoundError(errno.ENOENT, "no such object", path) from error
        raise OSError(errno.EIO, f"S3 answers {code}") from error
    except BotoCoreError as error:
        raise OSError(errno.EIO, f"S3 cannot be used ({type(error).__name__})") from error
