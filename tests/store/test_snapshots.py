from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, multiple, rule

from madang.base.errors import Conflict, Corrupt, InvalidInput, Locked, NotFound
from madang.store import Database, backup, copies, snapshots
from madang.store.schema import FILE_NAME
from tests.store.contents import Contents, contents_of, sequence_of

Versions = dict[str, int]


def _write(directory: Path, version: int, ids: list[str], gone: list[str] = []) -> None:  # noqa: B006
    database = Database(directory.parents[1])
    docs = database.open(directory.name)
    docs.upsert([{"id": i, "values": [version, 1, 2], "metadata": {"v": version}, "document": f"text {version}"}
                 for i in ids])
    if gone:
        docs.delete(ids=gone)
    database.close()


def _versions(directory: Path) -> Versions:
    return {row[1]: json.loads(str(row[2]))["v"] for row in contents_of(directory)}  # type: ignore[misc]


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """The directory of a collection of ten records, closed."""
    database = Database(tmp_path / "ws")
    database.create("docs", 3)
    database.close()
    directory = tmp_path / "ws" / "collections" / "docs"
    _write(directory, 1, [f"r{n}" for n in range(10)])
    return directory


def _files(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in sorted(directory.rglob("*"))
            if path.is_file() and path.name != ".lock"}


class Machine(RuleBasedStateMachine):
    """Writes, snapshots, restores and deletions in any order, beside a dict of dicts."""

    kept = Bundle("kept")

    @initialize()
    def make(self) -> None:
        import tempfile
        self.root = Path(tempfile.mkdtemp())
        database = Database(self.root)
        database.create("docs", 3)
        database.close()
        self.directory = self.root / "collections" / "docs"
        self.live: Versions = {}
        self.snapshots: dict[str, tuple[int, Versions]] = {}
        self.version, self.sequence = 0, 0

    @rule(ids=st.lists(st.sampled_from("abcdef"), min_size=1, unique=True), gone=st.sampled_from(["", "a", "bc"]))
    def write(self, ids: list[str], gone: str) -> None:
        self.version += 1
        _write(self.directory, self.version, ids, list(gone))
        self.live = {key: value for key, value in {**self.live, **dict.fromkeys(ids, self.version)}.items()
                     if key not in gone}
        now = sequence_of(self.directory)
        assert now > self.sequence
        self.sequence = now

    @rule(target=kept, name=st.sampled_from(["one", "two", "three", "마당"]))
    def create(self, name: str) -> object:
        if name in self.snapshots:
            with pytest.raises(Conflict):
                snapshots.create(self.directory, name)
            return multiple()
        made = snapshots.create(self.directory, name)
        assert (made.sequence, made.records) == (self.sequence, len(self.live))
        self.snapshots[name] = self.sequence, dict(self.live)
        return name

    @rule(name=kept)
    def restore(self, name: str) -> None:
        if name not in self.snapshots:
            with pytest.raises(NotFound):
                snapshots.restore(self.directory, name)
            return
        snapshots.restore(self.directory, name)
        self.live = dict(self.snapshots[name][1])
        now = sequence_of(self.directory)
        assert now > self.sequence
        self.sequence = now

    @rule(name=consumes(kept))
    def delete(self, name: str) -> None:
        if self.snapshots.pop(name, None) is not None:
            snapshots.delete(self.directory, name)

    @rule(at=st.integers(0, 40))
    def as_of(self, at: int) -> None:
        early = [(sequence, versions) for sequence, versions in self.snapshots.values() if sequence <= at]
        if not early:
            with pytest.raises(NotFound):
                snapshots.as_of(self.directory, at)
            return
        found = snapshots.as_of(self.directory, at)
        assert _versions(snapshots.path_of(self.directory, found.name)) == max(early, key=lambda one: one[0])[1]

    def teardown(self) -> None:
        if hasattr(self, "root"):
            assert _versions(self.directory) == self.live
            assert snapshots.names(self.directory) == sorted(self.snapshots)
            for name, (_, versions) in self.snapshots.items():
                snapshots.verify(self.directory, name)
                assert _versions(snapshots.path_of(self.directory, name)) == versions
            shutil.rmtree(self.root)


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=15, stateful_step_count=15, deadline=None)


def test_a_snapshot_is_found_by_name_sequence_and_time(docs: Path) -> None:
    first = snapshots.create(docs, "first")
    _write(docs, 2, ["r1"])
    second = snapshots.create(docs, "second")
    assert snapshots.listing(docs) == [first, second]
    assert snapshots.as_of(docs, "first") == first
    assert snapshots.as_of(docs, second.sequence - 1) == first
    assert snapshots.as_of(docs, str(second.sequence + 5)) == second
    assert snapshots.as_of(docs, datetime.fromisoformat(second.created_at)) == second
    assert snapshots.as_of(docs, datetime.fromisoformat(second.created_at) - timedelta(microseconds=1)) == first
    assert snapshots.as_of(docs, datetime.now(UTC).replace(tzinfo=None)) == second   # UTC where it does not say
    for when in (first.sequence - 1, "2020-01-01", "1999-12-31T23:59:59+09:00"):
        with pytest.raises(NotFound, match=r"from .* or before.*The oldest is 'first'"):
            snapshots.as_of(docs, when)
    with pytest.raises(NotFound, match="There are: first, second"):
        snapshots.as_of(docs, "third")
    with pytest.raises(InvalidInput):
        snapshots.as_of(docs, True)


@pytest.mark.parametrize("name", ["", "..", ".new-1", "a/b", "a" * 64, "x."])
def test_bad_names_are_refused(docs: Path, name: str) -> None:
    for work in (snapshots.create, snapshots.restore, snapshots.delete, snapshots.info):
        with pytest.raises(InvalidInput):
            work(docs, name)
    assert snapshots.names(docs) == []


def test_derived_files_are_linked_and_come_back(docs: Path) -> None:
    (docs / "index-1.bin").write_bytes(b"old index")
    (docs / "index.view").write_bytes(b"old view")
    (docs / ".half.tmp").write_bytes(b"being written")
    snapshots.create(docs, "kept")
    kept = snapshots.path_of(docs, "kept")
    assert sorted(path.name for path in kept.iterdir()) == ["index-1.bin", "index.view", "info.json", FILE_NAME]
    assert (kept / "index-1.bin").stat().st_ino == (docs / "index-1.bin").stat().st_ino
    assert (kept / FILE_NAME).stat().st_ino != (docs / FILE_NAME).stat().st_ino
    (docs / "index-1.bin").unlink()
    (docs / "index-2.bin").write_bytes(b"new index")
    copies_of_view = docs / ".view"
    copies_of_view.write_bytes(b"new view")
    copies_of_view.replace(docs / "index.view")
    snapshots.restore(docs, "kept")
    assert {path.name: path.read_bytes() for path in docs.glob("index*")} == \
        {"index-1.bin": b"old index", "index.view": b"old view"}


def test_copies_are_made_where_links_are_impossible(docs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    (docs / "index-1.bin").write_bytes(b"old index")
    monkeypatch.setattr(os, "link", refused)
    snapshots.create(docs, "kept")
    assert (snapshots.path_of(docs, "kept") / "index-1.bin").read_bytes() == b"old index"


def test_derived_files_replaced_meanwhile_are_taken_again(docs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (docs / "index-1.bin").write_bytes(b"1")
    (docs / "index.view").write_bytes(b"of 1")
    link, done = os.link, []

    def replace_then_link(source: Path, target: Path) -> None:
        link(source, target)
        if not done:
            done.append(True)
            (docs / "index-1.bin").unlink()
            (docs / "index-2.bin").write_bytes(b"2")
            (docs / "index.view").unlink()
            (docs / "index.view").write_bytes(b"of 2")

    monkeypatch.setattr(os, "link", replace_then_link)
    snapshots.create(docs, "kept")
    found = {path.name: path.read_bytes() for path in snapshots.path_of(docs, "kept").glob("index*")}
    assert found == {"index-2.bin": b"2", "index.view": b"of 2"}


def test_a_snapshot_amid_writes_is_the_state_after_one_commit(docs: Path) -> None:
    database, states, stop = Database(docs.parents[1]), {}, threading.Event()
    collection = database.open("docs")

    def write() -> None:
        version = 1
        while not stop.is_set():
            version += 1
            collection.upsert([{"id": f"r{n}", "values": [version, n, 1], "metadata": {"v": version}}
                               for n in range(10)])
            states[collection.stats().sequence] = version

    writer = threading.Thread(target=write)
    writer.start()
    try:
        made = [snapshots.create(docs, f"s{n}") for n in range(12)]
    finally:
        stop.set()
        writer.join()
        database.close()
    assert len({one.sequence for one in made}) > 3
    states.setdefault(1, 1)
    for one in made:
        assert set(_versions(snapshots.path_of(docs, one.name)).values()) == {states[one.sequence]}
        snapshots.verify(docs, one.name)


def test_progress_goes_up_to_all(docs: Path) -> None:
    seen: list[tuple[int, int]] = []
    made = snapshots.create(docs, "kept", lambda done, total: seen.append((done, total)))
    assert seen[-1] == (made.size_bytes, made.size_bytes)
    seen.clear()
    snapshots.restore(docs, "kept", lambda done, total: seen.append((done, total)))
    assert seen[-1] == (made.size_bytes, made.size_bytes)
    assert seen == sorted(seen)


def test_opening_a_snapshot_changes_nothing(docs: Path) -> None:
    snapshots.create(docs, "kept")
    before = _files(snapshots.path_of(docs, "kept"))
    contents_of(snapshots.path_of(docs, "kept"))
    assert _files(snapshots.path_of(docs, "kept")) == before


def _damages(content: bytes, count: int, seed: int) -> Iterator[bytes]:
    generator = random.Random(seed)
    for at in [0, len(content) - 1, *(generator.randrange(len(content)) for _ in range(count))]:
        yield content[:at] + bytes([content[at] ^ 1 << generator.randrange(8)]) + content[at + 1:]
    for size in [0, 1, len(content) - 1, *(generator.randrange(len(content)) for _ in range(count // 2))]:
        yield content[:size]
    yield content + b"\0"


def test_a_damaged_snapshot_is_refused_and_nothing_changes(docs: Path) -> None:
    snapshots.create(docs, "kept")
    _write(docs, 2, ["r1"])
    live = (docs / FILE_NAME).read_bytes()
    for name in (FILE_NAME, "info.json"):
        path = snapshots.path_of(docs, "kept") / name
        whole = path.read_bytes()
        for damaged in _damages(whole, 40, seed=3):
            path.chmod(0o644)
            path.write_bytes(damaged)
            with pytest.raises(Corrupt, match="snapshot 'kept'"):
                snapshots.restore(docs, "kept")
            with pytest.raises(Corrupt, match="snapshot 'kept'"):
                snapshots.verify(docs, "kept")
            assert (docs / FILE_NAME).read_bytes() == live
            assert sorted(found.name for found in docs.iterdir()) == ["changes", FILE_NAME, "snapshots"]
        path.unlink()
        with pytest.raises(Corrupt):
            snapshots.restore(docs, "kept")
        path.write_bytes(whole)
    snapshots.restore(docs, "kept")
    assert set(_versions(docs).values()) == {1}


def test_damaged_records_are_not_kept_but_can_be_replaced(docs: Path) -> None:
    snapshots.create(docs, "kept")
    whole = (docs / FILE_NAME).read_bytes()
    for damaged in (b"no database " * 1000, whole[:100], whole[:len(whole) // 2], b"",
                    whole[:100] + bytes(4000) + whole[4100:]):
        (docs / FILE_NAME).write_bytes(damaged)
        with pytest.raises(Corrupt):
            snapshots.create(docs, "worthless")
        assert snapshots.names(docs) == ["kept"]
        snapshots.restore(docs, "kept")
        assert set(_versions(docs).values()) == {1}
    (docs / FILE_NAME).unlink()
    with pytest.raises(NotFound):
        snapshots.create(docs, "worthless")
    snapshots.restore(docs, "kept")
    assert set(_versions(docs).values()) == {1}


def test_a_process_that_has_it_open_sees_another_file_and_harms_nothing(docs: Path) -> None:
    snapshots.create(docs, "kept")
    _write(docs, 2, ["r1"])
    reader, stale = Database(docs.parents[1]), sqlite3.connect(docs / FILE_NAME)
    old = reader.open("docs")
    assert stale.execute("SELECT COUNT(*) FROM records").fetchone() == (10,)
    snapshots.restore(docs, "kept")
    assert old.dropped
    assert reader.open("docs").fetch(["r1"])["r1"].metadata == {"v": 1}
    # What is written now lies in the new file's log, which the old connection must neither read nor remove.
    writer = Database(docs.parents[1])
    writer.open("docs").upsert([{"id": "r1", "values": [3, 1, 2], "metadata": {"v": 3}}])
    assert stale.execute("SELECT metadata FROM records WHERE id = 'r1'").fetchone() == ('{"v": 2}',)
    stale.close()
    assert reader.open("docs").fetch(["r1"])["r1"].metadata == {"v": 3}
    reader.close()
    writer.close()
    assert _versions(docs)["r1"] == 3


def test_restore_waits_for_no_reader_for_ever(docs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "_PATIENCE_S", 0.1)
    snapshots.create(docs, "kept")
    with closing(sqlite3.connect(docs / FILE_NAME, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT COUNT(*) FROM records").fetchone()
        _write(docs, 2, ["r1"])
        with pytest.raises(Locked, match="nothing was changed"):
            snapshots.restore(docs, "kept")
        assert reader.execute("SELECT metadata FROM records WHERE id = 'r1'").fetchone() == ('{"v": 1}',)
        reader.execute("COMMIT")
    assert _versions(docs)["r1"] == 2
    snapshots.restore(docs, "kept")
    assert _versions(docs)["r1"] == 1


def test_a_full_disk_leaves_no_half_snapshot(docs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(copies, "sync", full)
    with pytest.raises(InvalidInput, match="Free some space"):
        snapshots.create(docs, "kept")
    assert snapshots.names(docs) == []


# Ended in the middle

@pytest.mark.parametrize("runs", ["first", pytest.param("every", marks=pytest.mark.soak)])
@pytest.mark.timeout(600)
def test_ended_at_any_line_the_old_or_the_new_is_whole(root: Path, tmp_path: Path, runs: str) -> None:
    done = subprocess.run([sys.executable, "-m", "tests.store.crashing", str(tmp_path), runs], cwd=root,
                          capture_output=True, text=True)
    *faults, last = done.stdout.splitlines() or [""]
    assert (faults, done.stderr, done.returncode) == ([], "", 0)
    assert int(last) > 150


_ENDLESS = """
import itertools, sys
from pathlib import Path
from madang.store import snapshots
directory = Path(sys.argv[1])
print("ready", flush=True)
for n in itertools.count():
    snapshots.restore(directory, "ab"[n % 2])
    snapshots.create(directory, f"s{n}")
    if n:
        snapshots.delete(directory, f"s{n - 1}")
"""


def test_killed_at_any_moment_the_old_or_the_new_is_whole(docs: Path) -> None:
    generator = random.Random(4)
    many = [f"m{n}" for n in range(3000)]
    whole: dict[str, Contents] = {}
    for version, name in enumerate("ab", start=1):
        _write(docs, version, many)
        snapshots.create(docs, name)
        whole[name] = contents_of(docs)
    for _ in range(12):
        child = subprocess.Popen([sys.executable, "-c", _ENDLESS, str(docs)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        with child.stdout:
            assert child.stdout.readline() == "ready\n"
            with pytest.raises(subprocess.TimeoutExpired):
                child.wait(generator.random() * 0.3)
            child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
        assert contents_of(docs) in whole.values()
        for name in snapshots.names(docs):
            snapshots.verify(docs, name)
            assert contents_of(snapshots.path_of(docs, name)) in whole.values()
            if name.startswith("s"):
                snapshots.delete(docs, name)
    snapshots.restore(docs, "a")
    assert contents_of(docs) == whole["a"]
    assert sorted(path.name for path in (docs / "snapshots").iterdir()) == [".lock", "a", "b"]


# Backups

def test_a_backup_comes_back_under_any_name(docs: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    made = backup.create(docs, tmp_path / "kept.zip", progress=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert seen[-1] == (2 * made.size_bytes, 2 * made.size_bytes)
    assert backup.info(tmp_path / "kept.zip") == made
    with pytest.raises(Conflict):
        backup.create(docs, tmp_path / "kept.zip")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept.zip", "ws"]
    other = docs.with_name("other")
    assert backup.restore(tmp_path / "kept.zip", other) == made
    assert contents_of(other) == contents_of(docs)
    database = Database(docs.parents[1])
    assert database.names() == ["docs", "other"]
    found = database.open("other").query(text="text", vector=[1, 1, 2], top_k=3)
    assert len(found.matches) == 3
    database.close()


def test_a_backup_replaces_only_when_told_to(docs: Path, tmp_path: Path) -> None:
    backup.create(docs, tmp_path / "kept.zip")
    before = contents_of(docs)
    _write(docs, 2, ["r1"], ["r2"])
    changed, sequence = contents_of(docs), sequence_of(docs)
    with pytest.raises(Conflict):
        backup.restore(tmp_path / "kept.zip", docs)
    assert contents_of(docs) == changed
    backup.restore(tmp_path / "kept.zip", docs, replace=True)
    assert contents_of(docs) == before
    assert sequence_of(docs) == sequence + 1
    backup.create(docs, tmp_path / "kept.zip", overwrite=True)
    assert backup.info(tmp_path / "kept.zip").sequence == sequence + 1


def test_a_damaged_backup_is_refused_and_nothing_changes(docs: Path, tmp_path: Path) -> None:
    path, other = tmp_path / "kept.zip", docs.with_name("other")
    backup.create(docs, path)
    whole, expected = path.read_bytes(), contents_of(docs)
    with path.open("rb") as file:
        at = file.read().index(b"SQLite format 3")
    before, refused = _files(docs), 0
    for number, damaged in enumerate(_damages(whole, 150, seed=5)):
        path.write_bytes(damaged)
        try:
            backup.restore(path, other)
        except Corrupt as error:
            refused_rightly = "nothing was changed" in str(error)
            refused += refused_rightly
            with pytest.raises(Corrupt):
                backup.restore(path, docs, replace=True)
            assert not other.exists(), number
            assert _files(docs) == before
        else:  # a bit of the archive that means nothing, such as a date
            assert contents_of(other) == expected
            shutil.rmtree(other)
    assert refused > 200
    for place in range(at, at + 60000, 997):  # nothing within the records goes unnoticed
        if place < len(whole) - 1000:
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1:])
            with pytest.raises(Corrupt):
                backup.restore(path, other)
    assert sorted(found.name for found in docs.parent.iterdir()) == ["docs"]


def test_what_is_no_backup_is_refused(docs: Path, tmp_path: Path) -> None:
    import zipfile
    with pytest.raises(NotFound):
        backup.restore(tmp_path / "missing.zip", docs.with_name("other"))
    with zipfile.ZipFile(tmp_path / "foreign.zip", "w") as pack:
        pack.writestr("letter.txt", "hello")
    for path in (tmp_path / "foreign.zip", docs / FILE_NAME):
        with pytest.raises(Corrupt, match="is no backup"):
            backup.restore(path, docs.with_name("other"))
    with pytest.raises(NotFound):
        backup.create(tmp_path, tmp_path / "none.zip")
    with pytest.raises(InvalidInput):
        backup.create(docs, tmp_path / "no such folder" / "b.zip")
