"""File names that lead elsewhere, links in the store, and mails with more in them than they say."""

from __future__ import annotations

import http.client
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import requests

from tests.conftest import WaitUntil
from tests.support.service import Service

pytestmark = pytest.mark.usefixtures("unharmed")

SECRET = "only for this machine"
UNSAFE = [
    "..", "../x", "../../etc/passwd", "/etc/passwd", "a/../../b", "a/b", "a\\b", "..\\x", "\\\\host\\share", "C:x",
    "c:\\x",
    "nul", "CON", "com1.txt", "LPT9.csv", "aux .txt", ".hidden", ".upload-x", "a\x00b", "a\nb", "a\x1bb", "a\x7fb",
    "\u2028", "x" * 201, "\u00e9" * 101, " ",
]  # fmt: skip


@pytest.fixture
def links(store: Path, tmp_path: Path) -> Iterator[Path]:
    """The file that links in the store lead to: `link.txt`, `table.csv`, and a directory as `folder`."""
    secret = tmp_path / "secret.txt"
    secret.write_text(SECRET)
    made = [store / "link.txt", store / "table.csv", store / "folder"]
    for link in made:
        link.symlink_to(tmp_path if link.name == "folder" else secret)
    yield secret
    for link in made:
        link.unlink(missing_ok=True)


@pytest.mark.parametrize("name", UNSAFE, ids=ascii)
def test_an_unsafe_name_is_422_wherever_it_is_given(target: Service, store: Path, name: str) -> None:
    before = sorted(store.parent.rglob("*.*"))
    parameters = [
        ("file_processing", {"filename": name}),
        ("file_processing", {"filename": "a.txt", "operation": "compress", "output": name}),
        ("data_processing", {"file": name}),
        ("email_sending", {"to": "a@example.com", "subject": "s", "body": "b", "attachments": [name]}),
    ]

    for task_type, given in parameters:
        body = {"task_type": task_type, "parameters": given}
        target.call("POST", "/api/tasks", status=422, json=body)
    upload = raw(target, "POST", "/api/files", multipart(name), content_type="multipart/form-data; boundary=b")
    answers = {raw(target, method, f"/api/files/{quote(name, safe='')}") for method in ("GET", "DELETE")}

    assert upload in (400, 422)
    assert answers <= {308, 404, 405, 422}  # 308: of two slashes to one, where the answer is 422
    assert [path for path in sorted(store.parent.rglob("*.*")) if path not in before and "logs" not in str(path)] == []


@pytest.mark.parametrize("path", ["../../etc/passwd", "..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/etc/passwd", "....//x"])
def test_no_address_leaves_the_store(target: Service, path: str) -> None:
    assert raw(target, "GET", f"/api/files/{path}") in (404, 422)
    assert raw(target, "GET", f"/docs/assets/{path}") == 404
    assert raw(target, "GET", f"/console/{path}") == 404


def test_both_spellings_of_a_name_are_one_file(target: Service) -> None:
    composed, decomposed = (unicodedata.normalize(form, "caf\u00e9.txt") for form in ("NFC", "NFD"))

    stored = target.call("POST", "/api/files", status=201, files={"file": (decomposed, b"x")})

    assert stored["filename"] == composed
    assert raw(target, "GET", f"/api/files/{quote(decomposed)}") == 200
    assert raw(target, "DELETE", f"/api/files/{quote(composed)}") == 204


def test_a_link_in_the_store_leads_nowhere(target: Service, links: Path, wait_until: WaitUntil) -> None:
    listed = {file["filename"] for file in target.call("GET", "/api/files")["data"]}
    tasks = [
        target.submit({"filename": "link.txt", "operation": "extract_text"}, task_type="file_processing"),
        target.submit({"file": "table.csv"}, task_type="data_processing"),
        target.submit(
            {"to": "a@example.com", "subject": "s", "body": "b", "attachments": ["link.txt"]}, task_type="email_sending"
        ),
    ]
    wait_until(lambda: target.are_final(tasks), 30, "the tasks end")

    assert not listed & {"link.txt", "table.csv", "folder"}
    for name in ("link.txt", "folder", "folder%2fsecret.txt"):
        assert raw(target, "GET", f"/api/files/{name}") in (404, 422)
    assert [target.task(task_id)["error"]["code"] for task_id in tasks] == ["file_not_found"] * 3


def test_an_upload_replaces_a_link_and_does_not_follow_it(target: Service, links: Path) -> None:
    target.call("POST", "/api/files", status=201, files={"file": ("link.txt", b"mine")})

    assert links.read_text() == SECRET
    assert requests.get(f"{target.system.url}/api/files/link.txt", timeout=10).content == b"mine"


BREAKS = ("\r\n", "\n", "\r", "\u2028", "\x85", "\x0b", "\x00")
MAIL = {"to": "ada@example.com", "subject": "Hello", "body": "Hi"}
BAD_MAILS = [
    *({"subject": f"Hello{line}Bcc: eve@example.com"} for line in BREAKS),
    *({member: f"ada@example.com{line}Bcc: eve@example.com"} for member in ("to", "reply_to") for line in BREAKS),
    *({member: [f"a@example.com{line}"]} for member in ("to", "cc", "bcc") for line in BREAKS),
    *({"attachments": [f"a.txt{line}X: y"]} for line in BREAKS),
    {"to": []}, {"to": [f"a{number}@example.com" for number in range(51)]}, {"to": "ada@example.com, eve@example.com"},
    {"to": "ada@example.com; eve@example.com"}, {"to": "<ada@example.com> SIZE=1"}, {"to": "@"}, {"to": "ada@"},
    {"to": "x" * 300 + "@example.com"}, {"to": ["ada@example.com", 7]}, {"to": {"a": "b"}}, {"to": "-oQ/tmp@"},
    {"subject": "x" * 999}, {"from": "boss@example.com"}, {"headers": {"X": "y"}},
]  # fmt: skip


@pytest.mark.parametrize("members", BAD_MAILS, ids=lambda members: ascii(members)[:60])
def test_a_mail_holds_no_more_than_it_says(target: Service, members: dict[str, object]) -> None:
    body = {"task_type": "email_sending", "parameters": MAIL | members}

    problem = target.call("POST", "/api/tasks", status=422, json=body)

    assert all(error["pointer"].startswith("/parameters/") for error in problem["errors"])


def multipart(name: str) -> bytes:
    quoted = name.replace("\\", "\\\\").encode()
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="%s"\r\n\r\n' % quoted
    return head + b"x\r\n--b--\r\n"


def raw(target: Service, method: str, path: str, body: bytes | None = None, *, content_type: str | None = None) -> int:
    """The status; the path goes out as it is written."""
    connection = http.client.HTTPConnection("127.0.0.1", target.system.web_port, timeout=10)
    connection.request(method, path, body, {"Content-Type": content_type} if content_type else {})
    answer = connection.getresponse()
    assert SECRET.encode() not in answer.read()
    connection.close()
    return answer.status
