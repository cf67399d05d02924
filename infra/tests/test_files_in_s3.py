"""FILES_URL=s3://…: web and workers share one bucket, over TLS, through the service's own HTTP interface.

Must not need AWS: the bucket is a mock's, on this machine.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
import requests

from tests import service
from tests.bucket import NAME, Bucket, private_bucket
from tests.machines import wait_until
from tests.pages import ROOT
from tests.service import running_service

_REASON = service.reason_to_skip()
pytestmark = pytest.mark.skipif(bool(_REASON), reason=_REASON)

MEBIBYTE = 2**20
LIMIT_BYTES = 12 * MEBIBYTE  # more than two of the parts in which a large file is sent


@dataclass(frozen=True, slots=True)
class Service:
    url: str
    bucket: Bucket

    def upload(self, filename: str, content: bytes) -> requests.Response:
        return requests.post(f"{self.url}/api/files", files={"file": (filename, content)}, timeout=60)

    def download(self, filename: str) -> requests.Response:
        return requests.get(f"{self.url}/api/files/{filename}", timeout=60)

    def names(self) -> list[str]:
        answer = requests.get(f"{self.url}/api/files", timeout=60).json()
        return [file["filename"] for file in answer["data"]]

    def run(self, task_type: str, parameters: dict[str, Any]) -> dict[str, Any]:
        """The task when it has ended."""
        body: dict[str, Any] = {"task_type": task_type, "parameters": parameters}
        task_id = requests.post(f"{self.url}/api/tasks", json=body, timeout=15).json()["task_id"]
        ended: dict[str, Any] = {}

        def has_ended() -> bool:
            ended.update(requests.get(f"{self.url}/api/tasks/{task_id}?wait=10", timeout=15).json())
            return ended["status"] in ("succeeded", "failed")

        wait_until(60, has_ended)
        return ended


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    directory = tmp_path_factory.mktemp("service")
    with private_bucket(tmp_path_factory.mktemp("bucket")) as bucket:
        settings = {"FILES_URL": f"s3://{NAME}/files", "MAX_UPLOAD_BYTES": str(LIMIT_BYTES)}
        with running_service(directory, bucket.environment | settings) as url:
            yield Service(url, bucket)


def test_an_upload_is_one_object_of_the_bucket(shared: Service) -> None:
    answer = shared.upload("one two.txt", b"one two\n")

    assert answer.status_code == 201
    assert answer.json()["sha256"] == hashlib.sha256(b"one two\n").hexdigest()
    assert "files/one two.txt" in shared.bucket.object_keys()
    assert not [key for key in shared.bucket.object_keys() if key.startswith("files/.upload-")]


def test_a_file_is_listed_downloaded_replaced_and_deleted(shared: Service) -> None:
    shared.upload("changing.txt", b"first")
    first = shared.download("changing.txt")
    shared.upload("changing.txt", b"second, and longer")
    second = shared.download("changing.txt")
    listed = shared.names()
    deleted = requests.delete(f"{shared.url}/api/files/changing.txt", timeout=15)

    assert (first.content, second.content) == (b"first", b"second, and longer")
    assert "changing.txt" in listed
    assert deleted.status_code == 204
    assert shared.download("changing.txt").status_code == 404
    assert "changing.txt" not in shared.names()


@pytest.mark.parametrize("size_bytes", [0, 5 * MEBIBYTE, 11 * MEBIBYTE])
def test_files_of_no_one_and_many_parts_come_back_whole(shared: Service, size_bytes: int) -> None:
    content = bytes(range(256)) * (size_bytes // 256)

    stored = shared.upload("large.bin", content)

    assert stored.status_code == 201, stored.text
    assert shared.download("large.bin").content == content


def test_an_upload_over_the_limit_leaves_nothing(shared: Service) -> None:
    answer = shared.upload("too-large.bin", b"x" * (LIMIT_BYTES + 1))

    assert answer.status_code == 413
    assert not [key for key in shared.bucket.object_keys() if "too-large" in key or ".upload-" in key]


def test_a_worker_reads_what_the_web_stored_and_the_web_what_a_worker_made(shared: Service) -> None:
    shared.upload("lines.txt", b"one\ntwo\n" * 100)

    read = shared.run("file_processing", {"filename": "lines.txt"})
    made = shared.run("file_processing", {"filename": "lines.txt", "operation": "compress"})

    assert read["status"] == "succeeded", read["error"]
    assert read["result"]["lines"] == 200
    output = made["result"]["output"]
    assert shared.download(output["filename"]).status_code == 200
    assert f"files/{output['filename']}" in shared.bucket.object_keys()


def test_sql_reads_a_table_from_the_bucket(shared: Service) -> None:
    shared.upload("cities.csv", b"city,people\nDhaka,10\nKhulna,3\n")

    task = shared.run("data_processing", {"file": "cities.csv", "query": "select sum(people) as n from data"})

    assert task["status"] == "succeeded", task["error"]
    assert task["result"]["rows"] == [[13]]


def test_a_file_that_is_written_again_has_another_version_and_broken_uploads_are_removed(shared: Service) -> None:
    environment = os.environ | shared.bucket.environment

    result = subprocess.run(
        [service.PYTHON, "-c", _WRITE_TWICE, f"s3://{NAME}/versions"],
        cwd=ROOT, env=environment, capture_output=True, text=True,
    )  # fmt: skip

    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["differ", "removed", "1"]


_WRITE_TWICE = """
import io, sys
from taskservice.files import FsspecFileStore
store = FsspecFileStore(sys.argv[1], max_upload_bytes=100)
versions = []
for _ in range(2):
    store.save("same.txt", io.BytesIO(b"same"))
    versions.append(store.version("same.txt"))
print("differ" if len(set(versions)) == 2 else "same")
with store._fs.open(store._path(".upload-broken"), "wb") as target:
    target.write(b"half")
print("removed", store.remove_unfinished(older_than_s=-2))
assert [file.filename for file in store.list()] == ["same.txt"]
"""


def test_many_at_once_do_not_disturb_each_other(shared: Service) -> None:
    def there_and_back(number: int) -> bool:
        content = f"file {number}".encode()
        return (
            shared.upload(f"many-{number}.txt", content).status_code == 201
            and shared.download(f"many-{number}.txt").content == content
        )

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(there_and_back, range(40)))


def test_a_bucket_that_is_gone_is_an_error_without_names(shared: Service) -> None:
    keys = shared.bucket.object_keys()
    shared.bucket.client.delete_objects(Bucket=NAME, Delete={"Objects": [{"Key": key} for key in keys]})
    shared.bucket.client.delete_bucket(Bucket=NAME)

    answer = shared.upload("nowhere.txt", b"x")

    assert answer.status_code == 500
    assert NAME not in answer.text
