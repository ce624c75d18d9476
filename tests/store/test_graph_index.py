"""Collections with a graph index: the same answers, a file that spares building it again, and what happens without it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from madang.base.errors import InvalidInput
from madang.index import HNSW, NSW, Flat
from madang.store import Database
from madang.store.derived import load

DIM = 24
VECTORS = np.random.default_rng(0).standard_normal((600, DIM)).astype(np.float32)


def records(first: int, last: int) -> list[dict[str, Any]]:
    return [{"id": f"r{i}", "values": VECTORS[i], "metadata": {"third": i % 3}} for i in range(first, last)]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(tmp_path)
    yield made
    made.close()


def ids(result: Any) -> list[str]:
    return [match.id for match in result.matches]


@pytest.mark.parametrize("index", [HNSW(m=8), "hnsw", HNSW, NSW(m=8), HNSW(quantization=None)])
def test_it_finds_what_exact_search_finds(database: Database, index: Any) -> None:
    graph, flat = database.create("graph", DIM, index=index), database.create("flat", DIM, index=Flat())
    for collection in (graph, flat):
        collection.upsert(records(0, 500))
        collection.delete([f"r{i}" for i in range(0, 500, 7)])
        collection.update("r1", values=VECTORS[550])
        collection.upsert(records(500, 520))
    assert graph.index in ("hnsw", "nsw")
    assert graph.stats().index == graph.index
    shared = 0
    for i in range(40):
        mine, true = graph.query(vector=VECTORS[i], top_k=10), flat.query(vector=VECTORS[i], top_k=10)
        shared += len(set(ids(mine)) & set(ids(true)))
        assert all(match.score == pytest.approx(next(t.score for t in true.matches if t.id == match.id), abs=2e-4)
                   for match in mine.matches if match.id in ids(true))  # vectors rounded to half precision
    assert shared >= 380
    for i in range(20):  # few pass: all of them are compared
        wanted = {"third": {"$eq": 1}}
        mine, true = graph.query(vector=VECTORS[i], filter=wanted), flat.query(vector=VECTORS[i], filter=wanted)
        assert ids(mine) == ids(true)
        assert "compared" in str(mine.plan)


def test_its_graph_is_read_back_and_not_built_again(tmp_path: Path) -> None:
    first = Database(tmp_path)
    collection = first.create("c", DIM, index=HNSW(m=8))
    collection.upsert(records(0, 300))
    before = collection.query(vector=VECTORS[3], top_k=20)
    collection.delete(["r3", "r4"])
    collection.query(vector=VECTORS[3])
    first.close()
    second = Database(tmp_path)
    collection = second.open("c")
    after = collection.query(vector=VECTORS[3], top_k=20)
    assert ids(after)[:10] == [i for i in ids(before) if i not in ("r3", "r4")][:10]
    assert collection._view.changed == 0
    collection.upsert([{"id": "r3", "values": VECTORS[3]}])  # what came after the file was written is found, too
    assert ids(collection.query(vector=VECTORS[3]))[0] == "r3"
    second.close()


@pytest.mark.parametrize("harm", ["rows", "graph", "missing", "stale"])
def test_a_graph_that_cannot_be_used_is_built_anew(tmp_path: Path, harm: str) -> None:
    first = Database(tmp_path)
    collection = first.create("c", DIM, index=HNSW(m=8))
    collection.upsert(records(0, 200))
    expected = ids(collection.query(vector=VECTORS[3]))
    first.close()
    directory = tmp_path / "collections" / "c"
    graph = next(directory.glob("index-*.bin"))
    if harm == "stale":  # an older pair comes back after more was written
        shutil.copytree(directory, tmp_path / "old")
        again = Database(tmp_path)
        again.open("c").delete(["r3"])
        again.open("c").upsert(records(200, 210))
        again.open("c").query(vector=VECTORS[3])
        again.close()
        for old in [*directory.glob("index*")]:
            old.unlink()
        for old in (tmp_path / "old").glob("index*"):
            shutil.copy(old, directory / old.name)
        expected = [i for i in expected if i != "r3"]
    elif harm == "missing":
        graph.unlink()
    else:
        target = graph if harm == "graph" else directory / "index.rows"
        content = bytearray(target.read_bytes())
        content[len(content) // 2 if harm == "graph" else 40] ^= 1
        target.write_bytes(bytes(content))
    assert (load(directory, collection._spec) is None) == (harm != "stale")
    second = Database(tmp_path)
    found = ids(second.open("c").query(vector=VECTORS[3]))
    assert found[:len(expected) - 1] == expected[:len(expected) - 1]
    second.close()


def test_target_recall_and_audit(database: Database) -> None:
    collection = database.create("c", DIM, index=HNSW(m=4, ef_construction=20))
    collection.upsert(records(0, 600))
    result = collection.query(vector=VECTORS[3], target_recall=0.95)
    assert "hnsw(ef=" in str(result.plan)
    audit = collection.audit(samples=30)
    assert audit.live == 600
    assert audit.unreachable == 0
    assert "recall@10" in str(audit)
    with pytest.raises(InvalidInput, match="exactly"):
        database.create("flat", DIM).audit()


@pytest.mark.parametrize(("index", "words"), [
    (HNSW(dim=3), "dim 3"), (HNSW(metric="dot"), "metric 'dot'"), (object(), "unknown"),
])
def test_an_index_that_does_not_fit_is_refused(database: Database, index: Any, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        database.create("c", DIM, index=index)
    filled = HNSW()
    filled.add(VECTORS[:3])
    with pytest.raises(InvalidInput, match="holds vectors"):
        database.create("c", DIM, index=filled)
