"""What deleted records leave behind goes, too: from the file of records, and from the index."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from madang.index import HNSW
from madang.store import Collection, Database, schema

N, DIM = 6000, 32
VECTORS = np.random.default_rng(4).standard_normal((N, DIM), dtype=np.float32)


def fill(database: Database, index: HNSW | None) -> Collection:
    made = database.create("docs", DIM, index=index)
    made.upsert([{"id": f"r{n}", "values": VECTORS[n], "metadata": {"n": n}, "document": f"word{n % 7}"}
                 for n in range(N)])
    made.wait_until_indexed()
    return made


def check(docs: Collection, first: int) -> None:
    """Only those from `first` on are there, and each way of asking finds them."""
    assert docs.stats().records == N - first
    assert {match.id for match in docs.query(vector=VECTORS[0], top_k=N, target_recall=1.0).matches} == {
        f"r{n}" for n in range(first, N)}
    assert docs.query(vector=VECTORS[N - 1], top_k=1).matches[0].id == f"r{N - 1}"
    assert docs.query(vector=VECTORS[0], top_k=N, filter={"n": {"$lt": first + 20}}).plan.candidates == 20
    assert len(docs.query(text="word3", top_k=N).matches) == sum(n % 7 == 3 for n in range(first, N))
    record = docs.fetch([f"r{first}"])[f"r{first}"]
    assert record.values is not None
    assert (record.values == VECTORS[first]).all()


@pytest.mark.parametrize("index", [None, HNSW(m=4, ef_construction=16)], ids=["flat", "hnsw"])
def test_a_closed_collection_takes_the_room_of_what_is_left(tmp_path: Path, index: HNSW | None) -> None:
    file = tmp_path / "collections" / "docs" / schema.FILE_NAME
    first = N - 1000
    database = Database(tmp_path)
    docs = fill(database, index)
    database.close()
    full = file.stat().st_size
    database = Database(tmp_path)
    docs = database.open("docs")
    docs.query(vector=VECTORS[0])
    docs.delete(filter={"n": {"$lt": first}})
    check(docs, first)
    database.close()
    assert file.stat().st_size < full * 0.35      # a sixth, and the tombstones
    database = Database(tmp_path)
    check(database.open("docs"), first)
    database.close()


@pytest.mark.parametrize("index", [None, HNSW(m=4, ef_construction=16)], ids=["flat", "hnsw"])
def test_the_index_is_made_anew_when_most_of_it_is_dead(tmp_path: Path, index: HNSW | None) -> None:
    database, reader = Database(tmp_path), Database(tmp_path)
    docs = fill(database, index)
    other = reader.open("docs")
    check(other, 0)
    first = N - 500
    docs.delete(filter={"n": {"$lt": first}})
    check(docs, first)
    check(other, first)
    docs.wait_until_indexed()
    with docs._current.view() as view:
        assert len(view.rows) == 500
    check(docs, first)
    check(other, first)
    docs.upsert([{"id": "r0", "values": VECTORS[0]}])
    for each in (docs, other):
        assert each.query(vector=VECTORS[0], top_k=1).matches[0].id == "r0"
    docs.delete(["r0"])
    database.close()
    reader.close()
    database = Database(tmp_path)
    check(database.open("docs"), first)
    database.close()


def test_the_file_is_written_anew_only_where_that_is_worth_it(tmp_path: Path) -> None:
    database = Database(tmp_path)
    docs = fill(database, None)
    path = docs._path
    connection = schema.connect(path)
    try:
        docs.delete([f"r{n}" for n in range(700)])
        assert not schema.compact(connection, path)         # few
        docs.delete([f"r{n}" for n in range(700, 1500)])
        connection.execute("BEGIN")
        before = connection.execute("SELECT COUNT(*) FROM records").fetchone()
        beside = schema.connect(path)
        assert schema.compact(beside, path)                 # beside a reader, who sees what it saw
        assert not schema.compact(beside, path)             # just done
        assert connection.execute("SELECT COUNT(*) FROM records").fetchone() == before
        connection.execute("COMMIT")
        beside.close()
        check(docs, 1500)
    finally:
        connection.close()
    database.close()
