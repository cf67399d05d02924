"""Files that tasks made are deleted with their records: no other file is, and none that a task still needs."""

from __future__ import annotations

import io
import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from taskservice.files import UPLOAD_PREFIX, FsspecFileStore
from taskservice.local.system import LocalSystem
from taskservice.model import Priority, Submission, now
from taskservice.records import Attempts, Records
from taskservice.records.files_in_use import FilesInUse
from taskservice.records.made_files import MadeFile, MadeFiles
from taskservice.worker.noted_files import NotedFiles
from taskservice.worker.tidier import TIDY_S, UPLOAD_S, Tidier
from tests.conftest import WaitUntil
from tests.support.service import Service


class World:
    """A worker's file store and records, whose retention is over as soon as a task has ended."""

    def __init__(self, client: redis.Redis, folder: Path) -> None:
        client.flushdb()
        self.client = client
        self.folder = folder
        self.records = Records(client, retention_s=0)
        self.attempts = Attempts(client, retention_s=0)
        self.made_files = MadeFiles(client)
        self.files = FsspecFileStore(str(folder), max_upload_bytes=1000)
        self.files_in_use = FilesInUse(client)
        self.tidier = Tidier(self.made_files, self.files_in_use, self.files)

    def accept(self, **parameters: object) -> Submission:
        moment = now()
        submission = Submission(str(uuid.uuid4()), "file_processing", Priority.LOW, parameters, moment, moment, 1)
        self.records.accept(submission)
        return submission

    def run(self, submission: Submission, *outputs: str, succeeds: bool = True) -> None:
        """What a worker does: claim, save what the handler makes, end."""
        self.attempts.claim(submission, attempt=1, worker="low@test", delivery="d")
        files = NotedFiles(self.files, lambda made: self.made_files.note(submission.task_id, made))
        for output in outputs:
            files.save(output, io.BytesIO(b"made"))
        if succeeds:
            self.attempts.succeed(submission, delivery="d", attempt=1, result={})
        else:
            self.attempts.stop(submission.task_id, delivery="d")

    def upload(self, filename: str) -> None:
        self.files.save(filename, io.BytesIO(b"made"))  # the same content: who wrote it is what counts

    def forget(self) -> None:
        time.sleep(0.002)
        assert self.attempts.forget()

    def left(self, pattern: str = "*") -> list[str]:
        return sorted(path.name for path in self.folder.glob(pattern))


@pytest.fixture
def world(stores: LocalSystem, tmp_path: Path) -> World:
    return World(Records.connect(stores.result_backend, retention_s=0).client, tmp_path)


@pytest.mark.parametrize("succeeds", [True, False])
def test_what_a_task_made_is_deleted_with_its_record_and_nothing_is_left_in_redis(world: World, succeeds: bool) -> None:
    world.upload("source.txt")
    world.run(world.accept(filename="source.txt"), "ü b.png", "b.zip", succeeds=succeeds)
    kept = (world.tidier.delete_unneeded(), world.left())
    world.forget()
    deleted = world.tidier.delete_unneeded()

    assert kept == (0, ["b.zip", "source.txt", "ü b.png"])
    assert (deleted, world.left()) == (2, ["source.txt"])
    assert not list(world.client.scan_iter("made_files:*"))
    assert not world.client.exists("unneeded_files")


WRITERS: dict[str, Callable[[World], None]] = {
    "another task": lambda world: world.run(world.accept(filename="b.txt"), "a.png"),
    "an upload": lambda world: world.upload("a.png"),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_file_that_was_written_again_is_not_deleted_for_the_first(world: World, writer: str) -> None:
    world.run(world.accept(filename="a.txt"), "a.png")
    time.sleep(0.02)  # a file system's clock is coarse
    second = Attempts(world.client, retention_s=60)
    world.attempts, first = second, world.attempts
    WRITERS[writer](world)
    world.attempts = first
    world.forget()

    assert world.tidier.delete_unneeded() == 0
    assert world.left() == ["a.png"]
    assert not world.client.exists("unneeded_files")


def test_a_file_is_noted_before_it_has_its_name(world: World) -> None:
    noted: list[tuple[str, bool]] = []

    def note(version: str) -> None:
        noted.append((version, bool(world.left("a.png"))))

    world.files.save("a.png", io.BytesIO(b"made"), note=note)

    assert noted == [(world.files.version("a.png"), False)]


@pytest.mark.parametrize(("stands_there", "left"), [("its own", []), ("an upload", ["a.png"])])
def test_a_worker_that_died_between_note_and_name_leaves_what_is_not_its_own(
    world: World, stands_there: str, left: list[str]
) -> None:
    task = world.accept(filename="a.txt")
    world.run(task, "a.png", succeeds=False)
    if stands_there == "an upload":
        time.sleep(0.02)  # a file system's clock is coarse
        world.upload("a.png")
    world.made_files.note(task.task_id, MadeFile("a.png", "a version that never had its name"))
    world.forget()
    world.tidier.delete_unneeded()

    assert world.left() == left
    assert world.made_files.unneeded() == []


@pytest.mark.parametrize("parameters", [{"filename": "a.png"}, {"attachments": [{"file": "a.png"}]}])
def test_a_file_that_an_unfinished_task_names_stays_as_long(world: World, parameters: dict[str, object]) -> None:
    world.run(world.accept(filename="a.txt"), "a.png", "b.png")
    needs_it = world.accept(**parameters)
    world.forget()
    while_needed = (world.tidier.delete_unneeded(), world.left())
    world.records.cancel(needs_it.task_id)
    at_once = world.tidier.delete_unneeded()
    world.client.zunionstore("unneeded_files", {"unneeded_files": 0})  # as if the wait were over
    later = world.tidier.delete_unneeded()

    assert while_needed == (1, ["a.png"])
    assert (at_once, later, world.left()) == (0, 1, [])


class SlowFilesInUse(FilesInUse):
    """Asking takes so long that a client writes the file meanwhile."""

    def __init__(self, world: World) -> None:
        super().__init__(world.client)
        self._world = world

    def user_of(self, filename: str) -> str | None:
        self._world.upload(filename)
        return super().user_of(filename)


def test_a_file_that_is_uploaded_while_its_users_are_looked_for_stays(world: World) -> None:
    world.run(world.accept(filename="a.txt"), "a.png")
    world.forget()

    deleted = Tidier(world.made_files, SlowFilesInUse(world), world.files).delete_unneeded()

    assert (deleted, world.left(), world.tidier.delete_unneeded()) == (0, ["a.png"], 0)


def test_a_file_that_a_client_deleted_first_is_no_loss(world: World) -> None:
    world.run(world.accept(filename="a.txt"), "a.png")
    world.files.delete("a.png")
    world.forget()

    assert world.tidier.delete_unneeded() == 0
    assert not world.client.exists("unneeded_files")


class AwayFiles:
    """A file store that does not answer."""

    def version(self, filename: str) -> str:
        raise OSError(filename)

    def delete(self, filename: str) -> None:
        raise OSError(filename)

    def remove_unfinished(self, *, older_than_s: float) -> int:
        raise OSError(older_than_s)


def test_a_file_store_that_is_away_blocks_nothing_and_is_asked_again(world: World) -> None:
    world.run(world.accept(filename="a.txt"), "a.png", "b.png")
    world.forget()
    with pytest.raises(OSError, match=r"a\.png|b\.png"):
        Tidier(world.made_files, world.files_in_use, AwayFiles()).delete_unneeded()
    at_once = world.tidier.delete_unneeded()
    world.client.zunionstore("unneeded_files", {"unneeded_files": 0})

    assert at_once == 0
    assert world.tidier.delete_unneeded() == 2
    assert world.left() == []


def test_uploads_that_died_are_removed_after_a_day(world: World) -> None:
    world.upload("a.txt")
    for name, age_s in ((f"{UPLOAD_PREFIX}old", UPLOAD_S + 60), (f"{UPLOAD_PREFIX}new", UPLOAD_S - 60)):
        path = world.folder / name
        path.write_bytes(b"half")
        os.utime(path, (time.time() - age_s,) * 2)
    old = time.time() - 2 * UPLOAD_S
    os.utime(world.folder / "a.txt", (old, old))

    assert world.tidier.remove_leftovers() == 1
    assert world.left() == [f"{UPLOAD_PREFIX}new", "a.txt"]


def test_one_of_all_workers_has_the_turn(world: World) -> None:
    turns = [world.made_files.is_my_turn("leftovers", every_s=60) for _ in range(3)]

    assert turns == [True, False, False]


def test_the_workers_tidy_by_themselves(service: Service, wait_until: WaitUntil) -> None:
    """Real processes: an upload, a task that makes a file of it, and its retention, which is ended at once."""
    stem = uuid.uuid4().hex
    upload = {"file": (f"{stem}.txt", b"words " * 100)}

    def files() -> list[str]:
        names = [str(one["filename"]) for one in service.call("GET", "/api/files")["data"]]
        return [name for name in names if name.startswith(stem)]

    service.call("POST", "/api/files", status=201, files=upload)
    parameters = {"filename": f"{stem}.txt", "operation": "compress"}
    task_id = service.submit(parameters, task_type="file_processing")
    wait_until(lambda: service.is_final(task_id), 20, "the task made its file")
    made = files()
    with Records.connect(service.system.result_backend, retention_s=60).client as client:
        client.zadd("expiring", {task_id: 1})
    wait_until(lambda: len(files()) < len(made), TIDY_S + 30, "the workers deleted what it made")

    assert len(made) == 2
    assert files() == [f"{stem}.txt"]
    service.call("GET", f"/api/tasks/{task_id}", status=404)
