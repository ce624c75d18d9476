from __future__ import annotations

import errno
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from madang.base.errors import Conflict, InvalidInput, Locked, NotFound
from madang.index import Flat
from madang.store import Collection, Database, schema
from madang.store import database as database_module


def test_create_open_list_drop(database: Database) -> None:
    assert database.names() == []
    docs = database.create("docs", 4, "dot", Flat(dim=4, metric="dot"))
    assert database.open("docs") is docs
    database.create("휴가-규정", 2)
    assert database.names() == ["docs", "휴가-규정"]
    with pytest.raises(Conflict, match="exists already"):
        database.create("docs", 4)
    database.drop("docs")
    assert database.names() == ["휴가-규정"]
    with pytest.raises(NotFound, match=r"There are: 휴가-규정\."):
        database.open("docs")
    with pytest.raises(NotFound):
        database.drop("docs")


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", ".hidden", "x" * 64, "a b", "a\0", "-a", "trailing."])
def test_names_that_could_leave_the_directory_are_refused(database: Database, name: str) -> None:
    with pytest.raises(InvalidInput, match="is not allowed"):
        database.create(name, 3)
    with pytest.raises(InvalidInput, match="is not allowed"):
        database.open(name)


@pytest.mark.parametrize(("dim", "metric", "index", "words"), [
    (0, "cosine", None, "dim must be"), (20_001, "cosine", None, "dim must be"), (True, "cosine", None, "dim must be"),
    (3, "manhattan", None, "metric 'manhattan'"), (3, "cosine", "ivfpq", "index 'ivfpq'"),
])
def test_settings_are_checked(database: Database, dim: int, metric: str, index: str | None, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        database.create("x", dim, metric, index)
    assert database.names() == []


def test_a_decomposed_name_is_the_same_collection(database: Database) -> None:
    import unicodedata

    docs = database.create("규정", 3)
    assert database.open(unicodedata.normalize("NFD", "규정")) is docs


HOLD = """
import sys
from pathlib import Path
from madang.store import Collection, Database
database = Database(Path(sys.argv[1]))
database.create("held", 3)
print("ready", flush=True)
sys.stdin.read()
"""


def test_the_lock_names_its_holder_and_dies_with_it(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "ready\n"
        database = Database(tmp_path)
        held = database.open("held")
        with pytest.raises(Locked, match=f"process {holder.pid}, since 20"):
            held.upsert([{"id": "a", "values": [1, 2, 3]}])
        with pytest.raises(Locked):
            database.create("other", 3)
        assert held.query(vector=[1, 2, 3]).matches == []  # reading works meanwhile
    finally:
        holder.kill()
        holder.communicate()
    held.upsert([{"id": "a", "values": [1, 2, 3]}])  # a killed holder leaves no lock behind
    database.close()
    assert not (tmp_path / "writer.json").exists()


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(("place", "name", "error", "words"), [
    (schema, "create", FULL, r"No space left on device; nothing was changed\. Free some space"),
    (schema, "create", PermissionError(errno.EACCES, "Permission denied"), r"Permission denied; .* Check its permissions"),
    (schema, "create", sqlite3.OperationalError("database or disk is full"), "nothing was changed. Free some space"),
    (Collection, "__init__", InvalidInput("no room to open it; nothing was changed."), "no room to open it"),
])
def test_a_collection_that_could_not_be_made_is_not_there(database: Database, tmp_path: Path,
                                                          monkeypatch: pytest.MonkeyPatch, place: Any, name: str,
                                                          error: Exception, words: str) -> None:
    def fail(*_: Any) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(place, name, fail)
        with pytest.raises(InvalidInput, match=words):
            database.create("docs", 3)
    assert database.names() == []
    assert list((tmp_path / "collections").iterdir()) == []
    assert database.create("docs", 3).stats().records == 0


def test_a_collection_whose_name_could_not_be_synced_is_not_there(database: Database,
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    failures = iter([FULL])  # of the first sync; taking the name away again is one too

    def sync(path: Path) -> None:
        for failure in failures:
            raise failure

    monkeypatch.setattr(database_module, "_sync_directory", sync)
    with pytest.raises(InvalidInput, match="nothing was changed"):
        database.create("docs", 3)
    assert database.names() == []


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInput, match=r"workspace .* cannot be made: (File exists|Not a directory)"):
        Database(tmp_path / "file" / "ws")


def test_who_holds_the_lock_is_only_for_information(tmp_path: Path) -> None:
    (tmp_path / "writer.json").mkdir()  # it cannot be written
    database = Database(tmp_path)
    database.create("docs", 3).upsert([{"id": "a", "values": [1, 0, 0]}])
    database.open("docs").delete(ids=["a"])
    other = Database(tmp_path)
    with pytest.raises(Locked, match="process unknown"):
        other.drop("docs")
    database.drop("docs")
    database.close()
    other.create("docs", 3)
    other.close()


def test_attributes_are_kept_with_a_collection(tmp_path: Path) -> None:
    database = Database(tmp_path)
    collection = database.create("c", 2, attributes={"tags": {"a": "b"}, "protected": True})
    assert collection.attributes == {"tags": {"a": "b"}, "protected": True}
    assert collection.set_attributes({"protected": None, "n": 1}) == {"tags": {"a": "b"}, "n": 1}
    database.close()
    database = Database(tmp_path)
    assert database.open("c").attributes == {"tags": {"a": "b"}, "n": 1}
    for wrong in ({"x": float("nan")}, {"x": object()}, {"x": "y" * 300_000}):
        with pytest.raises(InvalidInput, match="attributes"):
            database.open("c").set_attributes(wrong)
    assert database.open("c").attributes == {"tags": {"a": "b"}, "n": 1}
    database.close()
