"""`salvage`: what survives is exactly as it was, what does not is told, and the damaged file stays as it is."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from madang.base.errors import Conflict, Corrupt, NotFound
from madang.store import Database, schema
from madang.store.reading import Reader
from madang.store.salvage import Salvaged, salvage
from tests.store.test_reading import META, fill, plain

Records = dict[tuple[str, str], Any]


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """The directory of a collection."""
    (tmp_path / "docs").mkdir()
    fill(tmp_path / "docs" / schema.FILE_NAME, 600)
    return tmp_path / "docs"


def records_in(directory: Path) -> Records:
    """Every record of a collection that is whole, by namespace and id, with the uri of its source."""
    connection, _ = schema.open_existing(directory / schema.FILE_NAME)
    with closing(connection):
        reader = Reader(connection, directory / schema.FILE_NAME)
        reader.check()
        uris: dict[Any, str] = dict(connection.execute("SELECT source, uri FROM sources"))
        found = {}
        for space in ("", "other"):
            for identity in reader.ids("", "", 10_000, space):
                stored = reader.record(identity, space)
                assert stored is not None
                found[space, identity] = (plain(stored[0]), uris.get(stored[1]))
        return found


def damage(directory: Path, at: int, data: bytes) -> None:
    content = bytearray((directory / schema.FILE_NAME).read_bytes())
    content[at:at + len(data)] = data
    (directory / schema.FILE_NAME).write_bytes(content)


def rescued(docs: Path, expected: Records) -> tuple[Salvaged, Records]:
    """Salvage, and check what holds whatever was damaged."""
    before = {path.name: path.read_bytes() for path in docs.iterdir()}
    into = docs.with_name("rescued")
    done = salvage(docs, into)
    assert {path.name: path.read_bytes() for path in docs.iterdir()} == before
    assert [path.name for path in into.iterdir()] == [schema.FILE_NAME]
    found = records_in(into)
    assert done.records == len(found)
    assert {key: value[0] for key, value in found.items()}.items() <= {k: v[0] for k, v in expected.items()}.items()
    assert set(done.lost) <= expected.keys() - found.keys()
    assert len(done.lost) + done.lost_unnamed >= len(expected) - len(found)
    return done, found


def page_of(docs: Path, table: str, kind: str = "leaf") -> tuple[int, int]:
    """Where some page of a table begins, and its size."""
    with closing(sqlite3.connect(docs / schema.FILE_NAME)) as connection:
        (size,) = connection.execute("PRAGMA page_size").fetchone()
        pages = [number for (number,) in connection.execute(
            "SELECT pageno FROM dbstat WHERE name = ? AND pagetype = ? ORDER BY pageno", (table, kind))]
    return (pages[len(pages) // 2] - 1) * size, size


def test_of_a_file_that_is_whole_nothing_is_lost(docs: Path) -> None:
    expected = records_in(docs)
    done, found = rescued(docs, expected)
    assert found == expected
    assert (done.sources, done.lost, done.lost_unnamed, done.lost_sources, done.assumed) == (2, [], 0, [], {})
    assert str(done).startswith(f"{len(expected)} records and 2 sources copied; 0 damaged")
    connection, meta = schema.open_existing(docs.with_name("rescued") / schema.FILE_NAME)
    with closing(connection):
        assert {key: meta[key] for key in ("dim", "metric", "index")} == {k: META[k] for k in ("dim", "metric", "index")}
        assert dict(connection.execute("SELECT uri, content_hash FROM sources")) == {"one": "hash", "two": "hash"}


@pytest.mark.parametrize("table", ["records", "vectors", "sparse", "postings", "terms", "sqlite_autoindex_records_1"])
def test_a_page_costs_no_more_than_its_rows(docs: Path, table: str) -> None:
    expected = records_in(docs)
    at, size = page_of(docs, table)
    damage(docs, at, bytes([0xAA]) * size)
    done, found = rescued(docs, expected)
    if table in ("records", "vectors", "sparse"):
        assert 0.6 * len(expected) < len(found) < len(expected)
        assert set(done.lost) == expected.keys() - found.keys()  # the index of ids still names them
        assert done.lost_unnamed == 0
    else:  # made anew
        assert found == expected


@pytest.mark.parametrize(("part", "other", "identity"), [(b"name 301", b"name 999", "r301"),
                                                         (b"word302", b"word999", "r302")])
def test_a_changed_value_costs_its_record(docs: Path, part: bytes, other: bytes, identity: str) -> None:
    expected = records_in(docs)
    content = (docs / schema.FILE_NAME).read_bytes()
    at = content.rindex(part) if content.count(part) == 1 else content.index(part + b" ")
    damage(docs, at, other)
    done, found = rescued(docs, expected)
    assert expected.keys() - found.keys() == {("", identity)} == set(done.lost)
    with closing(sqlite3.connect(docs.with_name("rescued") / schema.FILE_NAME)) as connection:
        assert connection.execute("SELECT DISTINCT content_hash FROM sources").fetchall() == [("",)]  # to be done again


@pytest.mark.parametrize("length", [16, 100, 3000, 8192])
def test_the_first_page_is_not_needed(docs: Path, length: int) -> None:
    expected = records_in(docs)
    damage(docs, 0, bytes([0x55]) * length)
    _, found = rescued(docs, expected)
    assert found == expected


def test_a_log_is_read_too(docs: Path) -> None:
    connection, _ = schema.open_existing(docs / schema.FILE_NAME)
    connection.execute("DELETE FROM records WHERE id = 'r100'")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.execute("DELETE FROM records WHERE id = 'r101'")
    copy = docs.with_name("copy")
    copy.mkdir()
    for name in (schema.FILE_NAME, f"{schema.FILE_NAME}-wal"):  # as a crash would leave it
        (copy / name).write_bytes((docs / name).read_bytes())
    connection.close()
    salvage(copy, copy.with_name("rescued"))
    assert not {("", "r100"), ("", "r101")} & records_in(copy.with_name("rescued")).keys()


def test_settings_that_cannot_be_read_are_assumed_and_told(docs: Path) -> None:
    expected = records_in(docs)
    content = (docs / schema.FILE_NAME).read_bytes()
    damage(docs, content.index(b'metric"dot"'), b'metric"dox"')
    done, found = rescued(docs, expected)
    assert done.assumed == {"metric": "cosine"}
    assert "metric could not be read, 'cosine' is assumed" in str(done)
    assert found == expected


def test_a_source_that_is_lost_leaves_its_records(docs: Path) -> None:
    expected = records_in(docs)
    with closing(sqlite3.connect(docs / schema.FILE_NAME, isolation_level=None)) as connection:
        connection.execute("UPDATE sources SET text = x'00' WHERE uri = 'one'")
    done, found = rescued(docs, expected)
    assert done.lost_sources == [("", "one")]
    assert done.sources == 1
    assert found["", "one3"][1] is None
    assert found["", "two3"] == expected["", "two3"]


def test_a_file_of_format_1_becomes_one_of_this(docs: Path) -> None:
    expected = records_in(docs)
    with closing(sqlite3.connect(docs / schema.FILE_NAME, isolation_level=None)) as connection:
        for table in ("meta", "records", "terms", "postings", "tombstones", "sources"):
            connection.execute(f"ALTER TABLE {table} DROP COLUMN checksum")
        for column in ("vector_sum", "sparse_sum", "text_sum"):
            connection.execute(f"ALTER TABLE records DROP COLUMN {column}")
        connection.execute("UPDATE meta SET value = '1' WHERE key = 'format'")
    with pytest.raises(Corrupt, match=r"has format 1; .* madang collection salvage docs"):
        schema.open_existing(docs / schema.FILE_NAME)
    _, found = rescued(docs, expected)
    assert found == expected


@pytest.mark.parametrize("content", [b"", b"text" * 5000, bytes(100_000)])
def test_of_nothing_nothing_comes(docs: Path, content: bytes) -> None:
    (docs / schema.FILE_NAME).write_bytes(content)
    with pytest.raises(Corrupt, match="nothing can be read"):
        salvage(docs, docs.with_name("rescued"))
    assert [path.name for path in docs.parent.iterdir()] == ["docs"]


@pytest.mark.parametrize(("seed", "count"), [(3, 25), pytest.param(4, 600, marks=pytest.mark.soak)])
def test_random_damage(docs: Path, seed: int, count: int) -> None:
    generator, expected, content = random.Random(seed), records_in(docs), (docs / schema.FILE_NAME).read_bytes()
    kept = 0
    for number in range(count):
        (docs / schema.FILE_NAME).write_bytes(content)
        for _ in range(generator.choice([1, 1, 5])):
            length = generator.choice([1, 4, 500, 8192])
            damage(docs, generator.randrange(len(content) - length), generator.randbytes(length))
        if generator.random() < 0.2:
            left = (docs / schema.FILE_NAME).read_bytes()[:generator.randrange(len(content))]
            (docs / schema.FILE_NAME).write_bytes(left)
        round_ = docs.with_name(f"round{number}")
        try:
            done = salvage(docs, round_)
        except Corrupt:
            continue
        found = records_in(round_)
        assert {key: value[0] for key, value in found.items()}.items() <= {k: v[0] for k, v in expected.items()}.items()
        assert done.records == len(found)
        kept += len(found) > 0.5 * len(expected)
    assert kept > count // 2


def test_through_the_database(database: Database) -> None:
    docs = database.create("docs", 3)
    docs.upsert([{"id": "a", "values": [1, 0, 0], "document": "words of a"}, {"id": "b", "values": [0, 1, 0]}])
    done = database.salvage("docs")
    assert (done.records, done.lost) == (2, [])
    assert [match.id for match in database.open("docs-salvaged").query(text="words").matches] == ["a"]
    assert database.names() == ["docs", "docs-salvaged"]
    with pytest.raises(Conflict, match="'docs-salvaged' exists already"):
        database.salvage("docs")
    with pytest.raises(NotFound):
        database.salvage("other")
    database.salvage("docs", "third")
    assert sorted(database.open("third").fetch(["a", "b"])) == ["a", "b"]
