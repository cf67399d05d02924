"""API.md, "Files": uploaded files and their names.

Each docstring quotes the clause that the test shows; "…" stands between parts of one.
"""

from __future__ import annotations

import hashlib
import io
import uuid
from urllib.parse import quote

import pytest
from PIL import Image

from tests.conftest import MAX_UPLOAD_BYTES
from tests.contract.client import Client, pointers, problem

TEXT = b"one\ntwo\n"
BAD_NAMES = ["..", "../up.txt", "a/b.txt", "a\\b.txt", "/etc/passwd", "C:\\boot.ini", "a\0b.txt"]


def new_name(suffix: str = ".txt") -> str:
    return f"{uuid.uuid4().hex}{suffix}"


def test_an_upload_is_described(client: Client) -> None:
    """`POST /api/files` (multipart, field `file`) -> 201 `{filename, size_bytes, sha256, mime_type}`"""
    name = new_name()

    answer = client.upload(name, TEXT)

    assert answer.status_code == 201
    assert answer.json() == {
        "filename": name,
        "size_bytes": len(TEXT),
        "sha256": hashlib.sha256(TEXT).hexdigest(),
        "mime_type": "text/plain",
    }
    assert pointers(client.post("/api/files", files={"upload": (name, TEXT)})) != []


def test_files_are_listed(client: Client) -> None:
    """`GET /api/files`"""
    stored = client.upload(new_name(), TEXT).json()

    assert stored in client.document("/api/files")["data"]


def test_a_file_is_downloaded(client: Client) -> None:
    """`GET /api/files/{filename}` (download)"""
    name = new_name(" ü.txt")
    client.upload(name, TEXT)

    answer = client.get(f"/api/files/{quote(name)}")

    assert (answer.status_code, answer.content) == (200, TEXT)
    assert answer.headers["Content-Disposition"].startswith("attachment")
    problem(client.get(f"/api/files/{new_name()}"), 404, "file_not_found")


def test_a_file_is_deleted(client: Client) -> None:
    """`DELETE`."""
    name = new_name()
    client.upload(name, TEXT)

    answer = client.call("DELETE", f"/api/files/{name}")

    assert answer.status_code == 204
    problem(client.get(f"/api/files/{name}"), 404)
    problem(client.call("DELETE", f"/api/files/{name}"), 404)


def test_a_task_s_output_has_such_a_name(client: Client) -> None:
    """A name is one path segment and `output` is such a name"""
    name, output = new_name(), new_name(".gz")
    client.upload(name, TEXT)

    made = client.run(
        {"filename": name, "operation": "compress", "output": output}, task_type="file_processing"
    )["result"]["output"]  # fmt: skip

    assert made["filename"] == output
    assert len(client.get(f"/api/files/{output}").content) == made["size_bytes"]
    for bad in BAD_NAMES[:-1]:
        wish = {"filename": name, "operation": "compress", "output": bad}
        assert pointers(client.submit(wish, task_type="file_processing")) == ["/parameters/output"]


def test_a_name_uploaded_again_is_replaced(client: Client) -> None:
    """uploading a name again replaces it"""
    name = new_name()
    client.upload(name, TEXT)

    answer = client.upload(name, b"other")

    assert answer.status_code == 201
    assert client.get(f"/api/files/{name}").content == b"other"


def test_a_thumbnail_fits_256_pixels_unless_asked(client: Client) -> None:
    """a thumbnail fits 256 px unless asked otherwise"""
    name, picture = new_name(".png"), io.BytesIO()
    Image.new("RGB", (800, 400), "red").save(picture, "png")
    client.upload(name, picture.getvalue())
    wish = {"filename": name, "operation": "thumbnail"}

    made = [client.run(one, task_type="file_processing")["result"] for one in (wish, {**wish, "size_px": 64})]
    sizes = [Image.open(io.BytesIO(client.get(f"/api/files/{one['output']['filename']}").content)).size for one in made]

    assert sizes == [(256, 128), (64, 32)]


def test_files_of_tasks_that_are_not_final_are_kept(client: Client) -> None:
    """files of tasks that are not final are kept."""
    name = new_name()
    client.upload(name, TEXT)
    wish = {"filename": name}

    with client.paused():
        waiting = client.submitted(wish, task_type="file_processing", priority="low")
        client.run(wish, task_type="file_processing")  # another task that needs it ends
        problem(client.call("DELETE", f"/api/files/{name}"), 409, "file_in_use")
    task = client.finished(waiting)

    assert client.call("DELETE", f"/api/files/{name}").status_code == 204
    assert (task["status"], task["result"]["size_bytes"]) == ("succeeded", len(TEXT))


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_leads_elsewhere_is_refused(client: Client, name: str) -> None:
    """In a name `..`, separators, NUL and absolute names are refused with 422."""
    body = (
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="%s"\r\n\r\none\r\n--x--\r\n'
        % name.replace("\\", "\\\\").encode()
    )
    path = f"/api/files/{quote(name, safe='').replace('..', '%2E%2E')}"

    upload = client.post("/api/files", data=body, headers={"Content-Type": "multipart/form-data; boundary=x"})

    assert pointers(upload) == ["/filename"]
    assert pointers(client.get(path)) == ["/filename"]
    assert pointers(client.call("DELETE", path)) == ["/filename"]
    task = client.submit({"filename": name}, task_type="file_processing")
    assert pointers(task) == ["/parameters/filename"]


def test_an_upload_over_the_limit_is_413(client: Client) -> None:
    """Upload limit 413."""
    name = new_name(".bin")

    largest = client.upload(name, b"x" * MAX_UPLOAD_BYTES)
    too_large = client.upload(name, b"x" * (MAX_UPLOAD_BYTES + 1))

    assert largest.status_code == 201
    problem(too_large, 413, "body_too_large")
    problem(client.upload(name, b"x" * 3 * MAX_UPLOAD_BYTES), 413, "body_too_large")
    assert client.call("DELETE", f"/api/files/{name}").status_code == 204
