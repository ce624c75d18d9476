"""What goes wrong around a store: other processes, full disks, threads, interruptions, read-only files."""

from __future__ import annotations

import os
import sqlite3
import threading
from pathlib import Path
from typing import Any, ClassVar

import pytest

from madang.base.errors import Corrupt, InvalidInput, NotFound
from madang.base.records import Source
from madang.store import Collection, Database, schema
from madang.store.lock import WriterLock


def _vector(identity: str, document: str | None = None) -> dict[str, Any]:
    return {"id": identity, "values": [1, 0, 0], "document": document}


def test_a_handle_of_a_dropped_collection_acknowledges_nothing(tmp_path: Path) -> None:
    ours, theirs = Database(tmp_path), Database(tmp_path)
    handle = ours.create("docs", 3)
    ours.lock.release()
    theirs.drop("docs")
    theirs.create("docs", 3)
    theirs.lock.release()
    with pytest.raises(NotFound, match="was dropped, or restored, by another process"):
        handle.upsert([_vector("lost")])
    with pytest.raises(NotFound, match="was dropped, or restored, by another process"):
        handle.query(vector=[1, 0, 0])
    ours.open("docs").upsert([_vector("kept")])
    assert list(theirs.open("docs").fetch(["kept"])) == ["kept"]
    ours.close()
    theirs.close()


def test_a_full_disk_loses_nothing_that_is_acknowledged_later(docs: Collection) -> None:
    docs.upsert([_vector("a", "first")])
    (pages,) = docs._db.execute("PRAGMA page_count").fetchone()
    docs._db.execute(f"PRAGMA max_page_count = {pages + 20}")
    with pytest.raises(InvalidInput, match="could not be written: database or disk is full; nothing was changed"):
        docs.upsert([_vector(str(n), " ".join(f"zebra{n}x{i}" for i in range(400))) for n in range(50)])
    docs._db.execute("PRAGMA max_page_count = 1000000")
    docs.upsert([_vector("b", "zebra0x1 giraffe")])
    assert [m.id for m in docs.query(text="zebra0x1").matches] == ["b"]
    assert docs.stats().records == 2


def test_threads_of_one_process_share_the_lock_and_the_collections(tmp_path: Path) -> None:
    database = Database(tmp_path)
    names = [f"c{n}" for n in range(4)]
    for name in names:
        database.create(name, 3)
    database.close()
    failures: list[BaseException] = []
    handles: list[Collection] = []
    barrier = threading.Barrier(8)

    def write(number: int) -> None:
        try:
            barrier.wait()
            docs = database.open(names[number % 4])
            handles.append(docs)
            docs.upsert([_vector(f"{number}-{i}", f"word{i}") for i in range(20)])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len({id(handle) for handle in handles}) == 4
    assert all(database.open(name).stats().records == 40 for name in names)
    database.close()


def test_one_lock_object_may_be_taken_by_many_threads(tmp_path: Path) -> None:
    lock = WriterLock(tmp_path)
    failures: list[BaseException] = []

    def take() -> None:
        try:
            lock.acquire()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=take) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    lock.release()


def test_an_interrupted_query_leaves_no_half_view(docs: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    docs.query(vector=[1, 0, 0])
    docs.upsert([_vector(str(n)) for n in range(5)])
    monkeypatch.setattr(docs._current._view, "_absorb_postings", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        docs.query(vector=[1, 0, 0])
    assert {m.id for m in docs.query(vector=[1, 0, 0]).matches} == {str(n) for n in range(5)}


def test_chunks_deleted_by_hand_are_done_again(docs: Collection) -> None:
    from madang.base.records import Record

    docs.replace_sources([(Source("f", "hash", "text"), [Record(str(n), [1, 0, 0]) for n in range(3)])])  # type: ignore[arg-type]
    assert docs.sources()["f"].content_hash == "hash"
    docs.update("1", set_metadata={"seen": True})
    assert (docs.sources()["f"].content_hash, docs.sources()["f"].chunks) == ("hash", 3)
    docs.delete(ids=["1"])
    assert (docs.sources()["f"].content_hash, docs.sources()["f"].chunks) == ("", 2)


@pytest.mark.parametrize("call", [
    lambda d: d.upsert([{"id": "\ud800", "values": [1, 2, 3]}]),
    lambda d: d.upsert([{"id": "a", "values": [1, 2, 3]}], namespace="\udcff"),
    lambda d: d.upsert([{"id": "a", "values": [1, 2, 3], "metadata": {"k": "\ud800"}}]),
    lambda d: d.upsert([{"id": "a", "values": [1, 2, 3], "metadata": {"\ud800": 1}}]),
    lambda d: d.upsert([{"id": "a", "values": [1, 2, 3], "metadata": {"k": ["\ud800"]}}]),
    lambda d: d.upsert([{"id": "a", "values": [1, 2, 3], "metadata": {"k": 10**400}}]),
    lambda d: d.fetch(["x\udcff"]),
    lambda d: d.delete(ids=["x\udcff"]),
    lambda d: d.delete(filter={"n": 10**400}),
    lambda d: d.query(text="\udcff"),
    lambda d: d.list_ids(prefix="\udcff"),
])
def test_what_cannot_be_stored_is_refused(docs: Collection, call: Any) -> None:
    with pytest.raises(InvalidInput):
        call(docs)


def test_a_closed_collection_says_so(database: Database) -> None:
    docs = database.create("docs", 3)
    docs.close()
    for call in (lambda: docs.fetch(["a"]), lambda: docs.upsert([_vector("a")]), docs.stats):
        with pytest.raises(InvalidInput, match="'docs' is closed"):
            call()


def test_a_read_only_workspace_can_be_read(tmp_path: Path) -> None:
    database = Database(tmp_path)
    database.create("docs", 3).upsert([_vector("a", "word")])
    database.close()
    for path in [*tmp_path.rglob("*"), tmp_path]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    for parent in list(tmp_path.parents)[:2]:  # pytest's own folders are root's alone
        parent.chmod(0o755)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        reading = Database(tmp_path)
        docs = reading.open("docs")
        assert [m.id for m in docs.query(text="word").matches] == ["a"]
        with pytest.raises(InvalidInput, match="cannot be written to"):
            docs.upsert([_vector("b")])
        with pytest.raises(InvalidInput, match="cannot be written to"):
            reading.create("other", 3)
        reading.close()
    finally:
        os.seteuid(user)
        for path in [tmp_path, *tmp_path.rglob("*")]:
            path.chmod(0o755)


def test_a_damaged_collection_can_be_dropped(tmp_path: Path) -> None:
    database = Database(tmp_path)
    database.create("docs", 3)
    database.close()
    (tmp_path / "collections" / "docs" / "records.db").write_bytes(b"x" * 5000)
    with pytest.raises(Corrupt, match="madang collection salvage docs, or drop the collection"):
        database.open("docs")
    database.drop("docs")
    assert database.names() == []
    database.close()


class _Watched(sqlite3.Connection):
    still_open: ClassVar[set[int]] = set()

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.still_open.add(id(self))

    def close(self) -> None:
        super().close()
        self.still_open.discard(id(self))


@pytest.mark.parametrize("content", [b"x" * 5000, b""])
def test_a_file_that_cannot_be_opened_is_not_kept_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                       content: bytes) -> None:
    """Else it is closed when it is forgotten, and SQLite takes a log of that name along."""
    plain = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **options: plain(*args, **options, factory=_Watched))
    path = tmp_path / schema.FILE_NAME
    path.write_bytes(content)
    with pytest.raises(Corrupt) as kept:
        schema.open_existing(path)
    assert not _Watched.still_open
    path.unlink()
    with pytest.raises(TypeError) as kept:
        schema.create(path, {"dim": 3, "metric": object()})
    assert kept
    assert not _Watched.still_open
