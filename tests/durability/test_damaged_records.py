"""`records.db` rots: it is told, or nothing of it can be seen. Never another answer, never a foreign error."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from madang.base.errors import Corrupt
from madang.store import Database
from tests.durability.operations import DIM, vector_of

IDS = [f"r{number}" for number in range(150)]


@pytest.fixture
def records(tmp_path: Path) -> Path:
    """The file of a collection `docs`."""
    database = Database(tmp_path)
    database.create("docs", DIM).upsert([
        {"id": identity, "values": vector_of(identity, 0), "metadata": {"n": number, "name": f"name {number}"},
         "document": f"word{number} and plenty of other text"} for number, identity in enumerate(IDS)])
    database.close()
    return tmp_path / "collections" / "docs" / "records.db"


def _seen(records: Path) -> Any:
    """All that can be asked, of a database opened anew."""
    database = Database(records.parents[2])
    try:
        docs = database.open("docs")
        near = [docs.query(vector=vector_of("asked", n), top_k=5).matches for n in range(4)]
        words = [docs.query(text=f"word{n} text", top_k=5).matches for n in range(0, len(IDS), 30)]
        stored = [(r.id, list(r.values), r.metadata, r.document) for r in docs.fetch(IDS).values()]
        return near, words, stored, docs.list_ids(limit=1000), docs.stats().namespaces
    finally:
        database.close()


def _check(records: Path, damages: Iterator[tuple[str, bytes]]) -> None:
    expected, wrong, told = _seen(records), [], 0
    for what, content in damages:
        for log in records.parent.glob("records.db-*"):
            log.unlink()
        records.write_bytes(content)
        try:
            if _seen(records) != expected:
                wrong.append(f"{what}: another answer")
        except Corrupt as error:
            told += bool(error.remedy)
        except Exception as error:
            wrong.append(f"{what}: {type(error).__name__}: {error}")
    assert not wrong
    assert told


def test_a_flipped_bit_is_told(records: Path) -> None:
    content, generator = records.read_bytes(), random.Random(5)
    places = [generator.randrange(len(content)) for _ in range(120)]
    _check(records, ((f"bit of byte {at}", content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1:])
                     for at in places))


def test_a_truncated_file_is_told(records: Path) -> None:
    content, generator = records.read_bytes(), random.Random(6)
    sizes = [*(generator.randrange(1, len(content)) for _ in range(40)),
             *(len(content) - generator.randrange(1, 5000) for _ in range(20))]
    _check(records, ((f"cut to {size} bytes", content[:size]) for size in sizes))


def test_the_wrong_file_is_told(records: Path) -> None:
    other = records.with_name("other.db")
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE other(x)")
    connection.close()
    _check(records, iter([("of another program", other.read_bytes()), ("text", b"no database " * 1000)]))
