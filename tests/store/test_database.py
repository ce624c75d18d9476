from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from madang.base.errors import Conflict, InvalidInput, Locked, NotFound
from madang.index import Flat
from madang.store import Database


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
from madang.store import Database
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
