"""The file store: what a safe name is, and that a file is stored whole or not at all, on a disk and elsewhere."""

from __future__ import annotations

import hashlib
import io
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskservice.context import FileStore
from taskservice.errors import ConfigurationError, InvalidFileName, StoredFileNotFound, UploadTooLarge
from taskservice.file_kinds import guess_mime_type
from taskservice.file_names import check_filename
from taskservice.files import UPLOAD_PREFIX, FsspecFileStore


@pytest.fixture(params=["directory", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FsspecFileStore]:
    url = str(tmp_path / "made" / "later") if request.param == "directory" else f"memory://{uuid.uuid4().hex}"
    store = FsspecFileStore(url, max_upload_bytes=1000)
    yield store
    for stored in list(store.list()):
        store.delete(stored.filename)


class _BreaksOff(io.BytesIO):
    """An upload whose connection ends early."""

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() > 0:
            raise ConnectionResetError
        return super().read(10)


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        ".",
        "..",
        ".hidden",
        ".upload-1",
        "a/b",
        "/etc/passwd",
        "..\\x",
        "C:x",
        "a\0b",
        "a\nb",
        "a\x7fb",
        "a\u2028b",
        "\ud800",
        "x" * 201,
        "ä" * 101,
        "NUL",
        "con.txt",
        "Lpt1 .a",
        "COM¹",
    ],
)
def test_unsafe_name_is_refused_at_its_pointer(name: str) -> None:
    with pytest.raises(InvalidFileName) as refused:
        check_filename(name, "/parameters/filename")

    assert refused.value.errors[0].pointer == "/parameters/filename"


@pytest.mark.parametrize("name", ["a", "report 2.csv", "ünï.txt", "x" * 200, "console.txt", "a..b", "日本.pdf"])
def test_safe_name_is_kept(name: str) -> None:
    assert check_filename(name) == name


def test_name_is_normalised_to_nfc() -> None:
    assert check_filename("u\u0308.txt") == "\u00fc.txt"


def test_saved_file_is_described_and_read_back(store: FileStore) -> None:
    content = b"a,b\n1,2\n"

    stored = store.save("table.csv", io.BytesIO(content))

    assert stored.size_bytes == store.size_bytes("table.csv") == len(content)
    assert stored.sha256 == hashlib.sha256(content).hexdigest()
    assert stored.mime_type == "text/csv"
    assert store.stat("table.csv") == stored
    with store.open("table.csv") as reader:
        assert reader.read() == content
        assert reader.seek(2) == 2


def test_both_spellings_of_a_name_are_one_file(store: FileStore) -> None:
    store.save("u\u0308.txt", io.BytesIO(b"x"))

    assert store.size_bytes("\u00fc.txt") == 1


def test_saving_a_name_again_replaces_it(store: FileStore) -> None:
    store.save("a.txt", io.BytesIO(b"first"))
    store.stat("a.txt")

    replaced = store.save("a.txt", io.BytesIO(b"other"))

    assert store.stat("a.txt") == replaced
    assert [file.filename for file in store.list()] == ["a.txt"]


def test_file_of_exactly_the_limit_is_accepted(store: FileStore) -> None:
    assert store.save("a", io.BytesIO(b"x" * 1000)).size_bytes == 1000


@pytest.mark.parametrize(
    ("content", "error"),
    [(io.BytesIO(b"x" * 1001), UploadTooLarge), (_BreaksOff(b"x" * 100), ConnectionResetError)],
)
def test_failed_upload_leaves_the_old_file_and_nothing_else(
    store: FsspecFileStore, content: io.BytesIO, error: type[Exception]
) -> None:
    store.save("a.txt", io.BytesIO(b"old"))
    content.seek(0)

    with pytest.raises(error):
        store.save("a.txt", content)

    with store.open("a.txt") as reader:
        assert reader.read() == b"old"
    assert len(store._fs.ls(store._root, detail=False)) == 1


def test_list_is_sorted_and_skips_dotfiles(tmp_path: Path) -> None:
    store = FsspecFileStore(str(tmp_path), max_upload_bytes=10)
    (tmp_path / ".upload-unfinished").write_bytes(b"x")
    (tmp_path / "directory").mkdir()
    for name in ("b", "a"):
        store.save(name, io.BytesIO(b"x"))

    assert [file.filename for file in store.list()] == ["a", "b"]


def test_empty_store_lists_nothing(store: FileStore) -> None:
    assert list(store.list()) == []


def test_unknown_file_is_not_found(store: FileStore) -> None:
    for access in (store.open, store.size_bytes, store.stat, store.delete):
        with pytest.raises(StoredFileNotFound):
            access("nothing.txt")
    with pytest.raises(StoredFileNotFound), store.local_copy("nothing.txt"):
        pass


def test_unsafe_name_is_refused_by_every_access(store: FileStore) -> None:
    for access in (store.open, store.size_bytes, store.stat, store.delete):
        with pytest.raises(InvalidFileName):
            access("../a")
    with pytest.raises(InvalidFileName):
        store.save("../a", io.BytesIO())


def test_a_file_that_is_written_again_has_another_version(store: FsspecFileStore) -> None:
    store.save("a.txt", io.BytesIO(b"same"))
    first = store.version("a.txt")
    unchanged = store.version("a.txt")
    time.sleep(0.02)  # a file system's clock is coarse
    store.save("a.txt", io.BytesIO(b"same"))

    assert unchanged == first
    assert store.version("a.txt") != first
    with pytest.raises(StoredFileNotFound):
        store.version("b.txt")


def test_an_upload_that_never_ended_is_removed_when_it_is_old(store: FsspecFileStore) -> None:
    unfinished = f"{store._root}/{UPLOAD_PREFIX}1"
    store.save("a.txt", io.BytesIO(b"whole"))
    store._fs.pipe_file(unfinished, b"half")
    too_young = store.remove_unfinished(older_than_s=60)
    time.sleep(0.02)

    assert (too_young, store.remove_unfinished(older_than_s=0.01)) == (0, 1)
    assert not store._fs.exists(unfinished)
    assert [file.filename for file in store.list()] == ["a.txt"]


def test_deleted_file_is_gone(store: FileStore) -> None:
    store.save("a", io.BytesIO(b"x"))

    store.delete("a")

    assert list(store.list()) == []
    with pytest.raises(StoredFileNotFound):
        store.stat("a")


def test_symbolic_link_is_neither_followed_nor_listed(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_bytes(b"secret")
    directory = tmp_path / "files"
    directory.mkdir()
    (directory / "link.txt").symlink_to(secret)
    store = FsspecFileStore(str(directory), max_upload_bytes=100)

    assert list(store.list()) == []
    for access in (store.open, store.stat, store.size_bytes, store.delete):
        with pytest.raises(StoredFileNotFound):
            access("link.txt")
    store.save("link.txt", io.BytesIO(b"new"))

    assert secret.read_bytes() == b"secret"
    assert (directory / "link.txt").read_bytes() == b"new"


def test_local_copy_has_the_content(store: FileStore) -> None:
    store.save("a.csv", io.BytesIO(b"x"))

    with store.local_copy("a.csv") as path:
        content, suffix = Path(path).read_bytes(), Path(path).suffix

    assert (content, suffix) == (b"x", ".csv")


def test_local_copy_of_a_remote_file_is_gone_afterwards() -> None:
    store = FsspecFileStore(f"memory://{uuid.uuid4().hex}", max_upload_bytes=10)
    store.save("a", io.BytesIO(b"x"))

    with store.local_copy("a") as path:
        pass

    assert not Path(path).exists()


def test_file_changed_behind_the_store_gets_another_checksum(tmp_path: Path) -> None:
    store = FsspecFileStore(str(tmp_path), max_upload_bytes=10)
    first = store.save("a", io.BytesIO(b"1"))
    store.stat("a")

    (tmp_path / "a").write_bytes(b"22")

    assert store.stat("a").sha256 != first.sha256


@pytest.mark.parametrize(
    ("filename", "head", "mime_type"),
    [
        ("a.txt", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "image/png"),
        ("a.png", b"just words", "text/plain"),
        ("a.csv", b"name\nJos\xe9\n", "text/csv"),
        ("a.txt", b"\0\1\2", "application/octet-stream"),
        ("a", b"words", "text/plain"),
        ("a", b"", "text/plain"),
        ("a.json", b"{}", "application/json"),
        ("a.ndjson", b"{}\n", "application/x-ndjson"),
        ("a", b"PAR1\0", "application/vnd.apache.parquet"),
        ("a.svg", b"<svg/>", "image/svg+xml"),
        ("a", "ä".encode() * 4096 + b"\xc3", "text/plain"),
    ],
)
def test_mime_type_comes_from_content_before_name(filename: str, head: bytes, mime_type: str) -> None:
    assert guess_mime_type(filename, head) == mime_type


def test_unknown_kind_of_url_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match="FILES_URL"):
        FsspecFileStore("nosuch://bucket", max_upload_bytes=1)
