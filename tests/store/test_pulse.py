"""The number that tells readers of a commit: what is acknowledged is seen at once, and what is not, soon."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from madang.base.errors import NotFound
from madang.store import Database
from madang.store.pulse import FILE_NAME, Pulse

QUERY = [1.0, 0.0]
WRITER = """
import sys
from pathlib import Path
from madang.store import Database
collection = Database(Path(sys.argv[1])).open("c")
for line in sys.stdin:
    collection.upsert([{"id": line.strip(), "values": [1.0, 0.0]}])
    print("done", flush=True)
"""


def found(collection: object) -> set[str]:
    return {match.id for match in collection.query(vector=QUERY, top_k=100).matches}  # type: ignore[attr-defined]


def test_another_process_is_heard_at_once(tmp_path: Path) -> None:
    reader = Database(tmp_path).create("c", 2)
    mine = Database(tmp_path)
    mine.lock.release()
    reader._lock.release()  # type: ignore[union-attr]
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True)
    assert writer.stdin is not None
    assert writer.stdout is not None
    try:
        for number in range(30):
            writer.stdin.write(f"r{number}\n")
            writer.stdin.flush()
            assert writer.stdout.readline() == "done\n"
            assert found(reader) == {f"r{i}" for i in range(number + 1)}
            assert len(found(reader)) == number + 1     # by the number alone
    finally:
        writer.stdin.close()
        writer.wait()
        writer.stdout.close()
        reader.close()


def test_a_commit_nobody_told_of_is_seen_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the writer is killed between the commit and the number."""
    database = Database(tmp_path)
    reader, writer = database.create("c", 2), Database(tmp_path).open("c")
    assert found(reader) == set()
    database.lock.release()
    monkeypatch.setattr(Pulse, "beat", lambda self: None)
    writer.upsert([{"id": "a", "values": QUERY}])
    until = time.monotonic() + 30
    while not found(reader) and time.monotonic() < until:
        time.sleep(0.02)
    assert found(reader) == {"a"}
    writer.close()
    database.close()


def test_who_may_not_write_is_heard_all_the_same(tmp_path: Path) -> None:
    pulse = Pulse(tmp_path)
    before = pulse.read()
    assert before is not None
    os.chmod(tmp_path / FILE_NAME, stat.S_IRUSR)
    other = Pulse(tmp_path)
    assert other.read() == before
    pulse.beat()
    assert other.read() == pulse.read() != before
    pulse.close()
    other.close()
    assert pulse.read() is None


def test_without_the_file_the_truth_is_asked(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).mkdir()
    pulse = Pulse(tmp_path)
    pulse.beat()
    assert pulse.read() is None
    pulse.close()


def test_a_dropped_collection_is_missed_at_once(tmp_path: Path) -> None:
    database, other = Database(tmp_path), Database(tmp_path)
    held = database.create("c", 2)
    held.upsert([{"id": "a", "values": QUERY}])
    database.lock.release()
    assert found(held) == {"a"}
    other.drop("c")
    other.lock.release()
    with pytest.raises(NotFound, match="was dropped"):
        held.query(vector=np.array(QUERY))
    database.close()


def test_a_number_alone_is_not_the_truth(tmp_path: Path) -> None:
    """It is raised by a commit of nothing: then there is nothing new."""
    collection = Database(tmp_path).create("c", 2)
    collection.upsert([{"id": "a", "values": QUERY}])
    assert found(collection) == {"a"}
    assert collection._pulse is not None
    collection._pulse.beat()
    assert found(collection) == {"a"}
    with sqlite3.connect(tmp_path / "collections" / "c" / "records.db") as connection:
        assert connection.execute("SELECT count(*) FROM records").fetchone() == (1,)
    connection.close()
    collection.close()
