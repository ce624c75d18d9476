"""`Reader`: what was written comes back, or `Corrupt` says which part of it is damaged."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from madang.base.errors import Corrupt
from madang.base.records import Record, Source, SparseVector
from madang.store import checksums, schema
from madang.store.reading import Reader
from madang.store.writing import Writer
from madang.text.analyzer import default_analyzer

DIM = 8
META = {"dim": DIM, "metric": "dot", "index": {"kind": "flat"}, "embedder": None, "sequence": 0, "next_row": 1}


def record(number: int) -> Record:
    """Of every third a sparse vector, of every second a document, and some of those with a context."""
    values = np.random.default_rng(number).standard_normal(DIM).astype(np.float32)
    sparse = SparseVector([number, number + 7], [0.5, float(number)]) if number % 3 == 0 else None
    document = f"word{number} 연차 " + "and other text " * (number % 9) if number % 2 == 0 else None
    return Record(f"r{number:03d}", values, sparse, {"n": number, "name": f"name {number}"}, document,
                  f"title {number}" if number % 5 == 0 else None)


def fill(path: Path, count: int = 120) -> None:
    """Records of two namespaces and of two sources, some of them replaced and deleted."""
    schema.create(path, META)
    connection, _ = schema.open_existing(path)
    with closing(connection):
        connection.execute("BEGIN IMMEDIATE")
        writer = Writer(connection, default_analyzer())
        writer.insert([record(n) for n in range(count)], "")
        writer.insert([record(n) for n in range(0, count, 4)], "other")
        writer.insert([record(n) for n in range(0, 30, 2)], "")
        writer.delete_ids([f"r{n:03d}" for n in range(40, 50)], "")
        for uri in ("one", "two"):
            chunks = [Record(f"{uri}{n}", record(n).values, document=f"chunk{n}") for n in range(5)]
            writer.replace_source(Source(uri, "hash", f"text of {uri} " * 20, pages=(0, 9)), chunks, "")
        connection.execute("COMMIT")


def plain(record: Record | None) -> Any:
    """A record as something that can be compared."""
    assert record is not None
    sparse = None if record.sparse is None else (list(record.sparse.indices), list(record.sparse.values))
    return (record.id, np.asarray(record.values).tolist(), sparse, record.metadata, record.document, record.context)


def everything(path: Path) -> Any:
    """All that a reader can be asked."""
    connection, meta = schema.open_existing(path)
    with closing(connection):
        reader = Reader(connection, path)
        reader.check()
        blocks = [(b.rows.tolist(), b.namespaces, b.ids, b.metadata, b.vectors.tolist()) for b in reader.records()
                  if b.vectors is not None]
        ids = {space: reader.ids("", "", 1000, space) for space in ("", "other")}
        records = [(plain(found[0]), found[1]) for space in ids for identity in ids[space]
                   if (found := reader.record(identity, space)) is not None]
        rows = [row for block in blocks for row in block[0]]
        vectors = reader.vectors(rows)[1].tolist()
        matches = [(row, m, d, v.tolist()) for row, (m, d, v, _) in reader.matches(rows, True, True).items()
                   if v is not None]
        postings = reader.postings()
        words = [part.tolist() for part in (postings.rows, postings.starts, postings.term_ids, postings.weights)]
        terms = reader.terms([f"word{n}" for n in range(0, 120, 2)])
        gone = reader.tombstones(0)
        sources = [reader.source(uri, "") for uri in ("one", "two")]
        return (meta, blocks, ids, records, vectors, matches, words, terms, list(reader.documents()),
                None if gone is None else gone.tolist(), sources)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    fill(tmp_path / schema.FILE_NAME)
    return tmp_path / schema.FILE_NAME


def test_what_was_written_comes_back(path: Path) -> None:
    _, blocks, ids, records, vectors, matches, _, terms, documents, gone, sources = everything(path)
    expected = [record(n) for n in range(120) if n not in range(40, 50)]
    found = {stored[0]: (stored, source) for stored, source in records[:len(ids[""])]}
    assert [found[r.id] for r in expected] == [(plain(r), None) for r in expected]
    assert ids["other"] == [f"r{n:03d}" for n in range(0, 120, 4)]
    assert {found[f"one{n}"][1] for n in range(5)} == {1}
    assert vectors == [v for block in blocks for v in block[4]]
    assert [(row, values) for row, _, _, values in matches] == list(zip(blocks[0][0], vectors, strict=True))
    assert len(terms) == 60
    assert len(documents) == 60 - 5 + 30 + 10
    assert gone is not None
    assert len(gone) == 15 + 10
    assert [source.text for source in sources] == ["text of one " * 20, "text of two " * 20]


@pytest.mark.parametrize("change", [
    "UPDATE records SET id = 'r100x' WHERE id = 'r100' AND namespace = ''",
    "UPDATE records SET namespace = 'others' WHERE id = 'r100' AND namespace = 'other'",
    "UPDATE records SET metadata = replace(metadata, 'name 101', 'name 102')",
    "UPDATE records SET metadata = CAST('x' AS BLOB) WHERE id = 'r101'",
    "UPDATE records SET document = 'another' WHERE id = 'r100'",
    "UPDATE records SET document = NULL WHERE id = 'r100'",
    "UPDATE records SET context = NULL WHERE id = 'r100'",
    "UPDATE records SET source = 2 WHERE source = 1",
    "UPDATE records SET checksum = checksum + 1 WHERE id = 'r101'",
    "UPDATE records SET row = 5000 WHERE id = 'r101'",
    "UPDATE vectors SET data = (SELECT data FROM vectors WHERE row = 102) WHERE row = 101",
    "UPDATE vectors SET data = 'text' WHERE row = 101",
    "DELETE FROM vectors WHERE row = 101",
    "DELETE FROM sparse WHERE row = 100",
    "UPDATE sparse SET indices = data WHERE row = 100",
    "INSERT INTO sparse SELECT 102, indices, data FROM sparse WHERE row = 100",
    "DELETE FROM postings WHERE row = 101",
    "UPDATE postings SET weights = CAST(weights || x'00' AS BLOB) WHERE row = 101",
    "UPDATE terms SET term_id = term_id + 100000 WHERE term = 'word100'",
    "UPDATE sources SET text = x'00' WHERE uri = 'one'",
    "UPDATE sources SET title = 'another' WHERE uri = 'one'",
    "UPDATE meta SET value = '\"coSine\"' WHERE key = 'metric'",
    "UPDATE meta SET value = '9' WHERE key = 'dim'",
    "DELETE FROM meta WHERE key = 'dim'",
    "DROP INDEX records_by_source",
])
def test_each_change_is_told_with_a_remedy(path: Path, change: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(change)
        assert connection.total_changes or change.startswith("DROP")
    with pytest.raises(Corrupt, match=r"is damaged\. .* madang collection salvage "):
        everything(path)


def test_the_same_under_another_row_is_another_sum() -> None:
    head = (1, "", "a", None, 2, None, None, "{}")
    assert checksums.of_heads([head]) != checksums.of_heads([(2, *head[1:])])
    assert checksums.of(b"data", 1) != checksums.of(b"data", 2)
    assert checksums.of_many([b"data"] * 300, range(300)) == [checksums.of(b"data", row) for row in range(300)]
    assert len({checksums.of_text(1, *text) for text in (("ab", ""), ("a", "b"), ("ab", None), (None, "ab"))}) == 4


def test_a_damaged_record_is_named(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE vectors SET data = zeroblob(32) WHERE row = 101")
    with pytest.raises(Corrupt, match=r"the vector of record 'r100' \(row 101\) is damaged"):
        everything(path)


@pytest.mark.parametrize("change", ["DELETE FROM tombstones WHERE n = 3", "UPDATE tombstones SET row = 9 WHERE n = 3",
                                    "DELETE FROM tombstones WHERE n = (SELECT MAX(n) FROM tombstones)"])
def test_deletions_that_cannot_be_followed_are_not_guessed(path: Path, change: str) -> None:
    connection, _ = schema.open_existing(path)
    with closing(connection):
        reader = Reader(connection, path)
        connection.execute(change)
        assert reader.tombstones(1) is None
        assert reader.tombstones(reader.last_tombstone()) is not None


def test_forgotten_tombstones_are_not_needed_by_who_saw_them(path: Path) -> None:
    connection, _ = schema.open_existing(path)
    with closing(connection):
        reader = Reader(connection, path)
        every = reader.tombstones(0)
        assert every is not None
        schema.forget_tombstones(connection, 7)
        assert reader.tombstones(6) is None
        later = reader.tombstones(7)
        assert later is not None
        assert later.tolist() == every[7:].tolist()
        schema.forget_tombstones(connection, reader.last_tombstone())
        Writer(connection, default_analyzer()).delete_ids(["r001"], "")
        assert reader.last_tombstone() == len(every) + 1
        last = reader.tombstones(len(every))
        assert last is not None
        assert len(last) == 1


def _flips(content: bytes, count: int, seed: int) -> Iterator[tuple[int, bytes]]:
    generator = random.Random(seed)
    for _ in range(count):
        at = generator.randrange(len(content))
        yield at, content[:at] + bytes([content[at] ^ 1 << generator.randrange(8)]) + content[at + 1:]


def _unless_told(path: Path) -> Any:
    """What `Collection` would see: SQLite's own errors are explained there."""
    try:
        return everything(path)
    except Corrupt:
        return None
    except sqlite3.Error as error:
        explained = schema.explained(path, error)
        if isinstance(explained, Corrupt):
            return None
        raise explained from error


@pytest.mark.parametrize(("seed", "count"), [(1, 150), pytest.param(2, 5000, marks=pytest.mark.soak)])
def test_a_flipped_bit_gives_no_other_answer(path: Path, seed: int, count: int) -> None:
    expected, content, told = everything(path), path.read_bytes(), 0
    unguarded = slice(0, -2)  # deletions are read anew; of a source, the content hash is not covered
    for at, damaged in _flips(content, count, seed):
        for log in path.parent.glob(f"{schema.FILE_NAME}-*"):
            log.unlink()
        path.write_bytes(damaged)
        found = _unless_told(path)
        if found is None:
            told += 1
            continue
        assert found[unguarded] == expected[unguarded], f"byte {at}"
        assert found[-2] in (expected[-2], None), f"byte {at}"
    assert told > count // 5


@pytest.mark.parametrize("dim", [1, 3, 128, 256, 384, 768, 1024, 1536, 3072, 20_000])
def test_vectors_fill_their_pages(tmp_path: Path, dim: int) -> None:
    path = tmp_path / schema.FILE_NAME
    schema.create(path, {**META, "dim": dim})
    count = max(40, 2_000_000 // (4 * dim))
    connection, _ = schema.open_existing(path)
    with closing(connection):
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO vectors(row, data) VALUES(?, ?)", ((n, bytes(4 * dim)) for n in range(count)))
        connection.execute("COMMIT")
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        (page,) = connection.execute("PRAGMA page_size").fetchone()
    if dim >= 128:
        assert 4 * dim * count > 0.72 * (pages - 20) * page


def test_a_bulk_load_leaves_no_large_log(tmp_path: Path) -> None:
    path = tmp_path / schema.FILE_NAME
    schema.create(path, META)
    log = path.with_name(f"{schema.FILE_NAME}-wal")
    connection, _ = schema.open_existing(path)
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO vectors(row, data) VALUES(?, ?)", ((n, bytes(100_000)) for n in range(600)))
    connection.execute("COMMIT")
    connection.execute("DELETE FROM vectors WHERE row = 0")
    assert log.stat().st_size < 24 << 20
    other, _ = schema.open_existing(path)  # another reader, so that closing does not remove the log anyhow
    schema.close(connection)
    assert log.stat().st_size == 0
    other.close()
