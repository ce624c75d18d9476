"""Collections with a graph index: the same answers, a file that spares building it again, and what happens without it."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from madang.base.errors import InvalidInput
from madang.index import HNSW, NSW, Flat
from madang.store import Database
from madang.store.derived import TOKENS, load
from madang.store.sample import SIZE, QuerySample
from madang.store.view import View

DIM = 24
VECTORS = np.random.default_rng(0).standard_normal((1600, DIM)).astype(np.float32)


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
        collection.upsert(records(0, 1400))
        collection.wait_until_indexed()
        collection.delete([f"r{i}" for i in range(0, 1400, 7)])
        collection.update("r1", values=VECTORS[1550])
        collection.upsert(records(1400, 1520))
    assert str(graph.query(vector=VECTORS[0]).plan).startswith(f"{graph.index}(ef=64) + ")
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
    collection.upsert(records(0, 1300))
    collection.wait_until_indexed()
    before = collection.query(vector=VECTORS[3], top_k=20)
    assert "hnsw(ef=64) + 20 exactly" in str(before.plan)
    collection.delete(["r3", "r4"])
    collection.query(vector=VECTORS[3])
    first.close()
    second = Database(tmp_path)
    collection = second.open("c")
    after = collection.query(vector=VECTORS[3], top_k=20)
    assert ids(after)[:10] == [i for i in ids(before) if i not in ("r3", "r4")][:10]
    assert collection._current._view is not None
    assert collection._current._view.changed == 0
    assert len(collection._current._view.dense.index) == 1278
    collection.upsert([{"id": "r3", "values": VECTORS[3]}])  # what came after the file was written is found, too
    assert ids(collection.query(vector=VECTORS[3]))[0] == "r3"
    second.close()


@pytest.mark.parametrize("harm", ["rows", "graph", "missing", "stale"])
def test_a_graph_that_cannot_be_used_is_built_anew(tmp_path: Path, harm: str) -> None:
    first = Database(tmp_path)
    collection = first.create("c", DIM, index=HNSW(m=8))
    collection.upsert(records(0, 1100))
    collection.wait_until_indexed()
    expected = ids(collection.query(vector=VECTORS[3]))
    first.close()
    directory = tmp_path / "collections" / "c"
    graph = next(directory.glob("index-*.bin"))
    if harm == "stale":  # an older pair comes back after more was written
        shutil.copytree(directory, tmp_path / "old")
        again = Database(tmp_path)
        again.open("c").delete(["r3"])
        again.open("c").upsert(records(1100, 1110))
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
        target = graph if harm == "graph" else directory / "index.view"
        content = bytearray(target.read_bytes())
        content[len(content) // 2 if harm == "graph" else 40] ^= 1
        target.write_bytes(bytes(content))
    second = Database(tmp_path)
    collection = second.open("c")
    tokens = collection._meta(TOKENS[0])
    assert (load(directory, collection._current.embedding, "cosine", tokens) is None) == (harm != "stale")
    found = ids(second.open("c").query(vector=VECTORS[3]))
    assert found[:len(expected) - 1] == expected[:len(expected) - 1]
    second.close()


def test_target_recall_and_audit(database: Database) -> None:
    collection = database.create("c", DIM, index=HNSW(m=4, ef_construction=20))
    collection.upsert(records(0, 60))
    assert "all search is exact" in str(collection.audit())
    collection.upsert(records(60, 1500))
    collection.wait_until_indexed()
    result = collection.query(vector=VECTORS[3], target_recall=0.95)
    assert "hnsw(ef=" in str(result.plan)
    audit = collection.audit(samples=30)
    assert (audit.records, audit.waiting, audit.missing, audit.damaged) == (1500, 92, 0, ())
    assert audit.index is not None
    assert (audit.index.live, audit.index.unreachable) == (1408, 0)
    assert audit.asked == 0                 # one query is too few
    assert "recall@10" in str(audit)
    for i in range(40):
        collection.query(vector=VECTORS[i] + 0.1)
    audit = collection.audit()
    assert audit.asked == 41
    assert "measured with 41 queries that were asked" in str(audit)
    assert "all search is exact" in str(database.create("flat", DIM).audit())


def test_queries_are_kept_once_each_and_can_be_forgotten(tmp_path: Path) -> None:
    database = Database(tmp_path)
    collection = database.create("c", DIM)
    collection.upsert(records(0, 100))
    for i in (*range(35), *range(35)):
        collection.query(vector=VECTORS[i])
    database.close()
    database = Database(tmp_path)
    collection = database.open("c")
    assert collection.audit().asked == 35
    collection.forget_queries()
    assert collection.audit().asked == 0
    assert not list(tmp_path.rglob("queries.bin"))
    sample = QuerySample(tmp_path)
    for i in range(5000):
        sample.offer(np.array([i], dtype=np.float32))
    kept = sample.vectors()[:, 0]
    assert len(set(kept.tolist())) == len(kept) == SIZE
    assert 2000 < kept.mean() < 3000        # even over all, not the first or the last
    database.close()


def test_repair_finds_what_is_wrong_and_mends_it(tmp_path: Path) -> None:
    database = Database(tmp_path)
    collection = database.create("c", DIM, index=HNSW(m=8))
    collection.upsert(records(0, 1500))
    assert collection.wait_until_indexed()
    assert str(collection.repair()) == "nothing to repair"
    database.close()
    database = Database(tmp_path)
    collection = database.open("c")
    collection.query(vector=VECTORS[0])
    graph = next(tmp_path.rglob("index-*.bin"))
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 4
    graph.unlink()
    graph.write_bytes(bytes(content))
    assert collection.audit().damaged == (graph.name,)
    assert collection.repair().rewritten == 1
    assert collection.audit().damaged == ()
    view = collection._current._view
    assert view is not None
    view.dense.index.remove(np.arange(10, 20))      # the index loses records behind the store's back
    assert collection.audit().missing == 10
    assert collection.repair().missing == 10
    assert collection.audit().missing == 0
    assert [ids(collection.query(vector=VECTORS[i]))[0] for i in range(10, 20)] == [f"r{i}" for i in range(10, 20)]
    database.close()


def test_another_index_is_built_in_the_background(tmp_path: Path) -> None:
    database = Database(tmp_path)
    collection = database.create("c", DIM)
    collection.upsert(records(0, 1400))
    before = ids(collection.query(vector=VECTORS[0]))
    collection.set_index(HNSW(m=8, ef_search=200))
    assert ids(collection.query(vector=VECTORS[0])) == before      # whichever answers
    collection.upsert(records(1400, 1500))
    assert collection.wait_until_indexed(60)
    assert str(collection.query(vector=VECTORS[0]).plan).startswith("hnsw(ef=200) + 92 exactly")
    assert ids(collection.query(vector=VECTORS[1450]))[0] == "r1450"
    with pytest.raises(InvalidInput, match="dim 3"):
        collection.set_index(HNSW(dim=3))
    database.close()
    database = Database(tmp_path)
    assert database.open("c").index == "hnsw"
    assert ids(database.open("c").query(vector=VECTORS[0]))[0] == "r0"
    database.open("c").set_index("flat")
    assert database.open("c").wait_until_indexed(60)
    assert str(database.open("c").query(vector=VECTORS[0]).plan).startswith("exact over 1,500")
    database.close()


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


def test_what_is_written_is_found_at_once_while_the_index_is_built(database: Database) -> None:
    """Readers see every acknowledged write, however far the index is; and each answer is of one state."""
    collection = database.create("c", DIM, index=HNSW(m=8))
    failures: list[BaseException] = []
    stop = threading.Event()

    def read() -> None:
        try:
            while not stop.is_set():
                found = collection.query(vector=VECTORS[0], top_k=1, filter={"third": {"$exists": True}}).matches
                # "moving" is replaced again and again: it is always there, and there once
                moving = [m for m in collection.query(vector=MOVING, top_k=2).matches if m.id == "moving"]
                assert not found or found[0].metadata is not None
                assert len(moving) == 1
        except BaseException as error:
            failures.append(error)

    MOVING = VECTORS[1599]  # noqa: N806
    collection.upsert([{"id": "moving", "values": MOVING}])
    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for start in range(0, 1500, 75):
        for again in range(4):
            collection.upsert([{"id": f"{again}-{i}", "values": VECTORS[i]} for i in range(start, start + 75)])
        collection.upsert([{"id": "moving", "values": MOVING}])
        assert collection.query(vector=VECTORS[start + 74], top_k=1).matches[0].score == pytest.approx(1, abs=1e-3)
        assert collection.delete([f"3-{start}"]) == 1
        assert f"3-{start}" not in ids(collection.query(vector=VECTORS[start], top_k=5))
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert collection.wait_until_indexed(60)
    assert collection.stats().records == 1500 * 4 - 20 + 1
    copies = [{f"{n}-{i}" for n in range(3 if i % 75 == 0 else 4)} for i in range(0, 1500, 50)]
    found = [set(ids(collection.query(vector=VECTORS[i], top_k=4))) for i in range(0, 1500, 50)]
    assert all(mine & theirs for mine, theirs in zip(copies, found, strict=True))
    assert sum(len(mine & theirs) for mine, theirs in zip(copies, found, strict=True)) > 0.9 * sum(map(len, copies))


def test_the_same_records_give_the_same_graph_however_they_come(tmp_path: Path) -> None:
    """Blocks are cut by number, not by time."""
    contents = []
    for name, step in (("one", 3100), ("many", 130)):
        database = Database(tmp_path / name)
        collection = database.create("c", DIM, index=HNSW(m=8))
        for start in range(0, 3100, step):
            collection.upsert([{"id": f"r{i}", "values": VECTORS[i % 1600] + i // 1600} for i in range(start, min(3100, start + step))])
            collection.query(vector=VECTORS[0])
            if start == 1300:       # what happens when it happens to be idle
                assert collection.wait_until_indexed(60)
                collection._current.save()
        assert collection.wait_until_indexed(60)
        assert collection._current._view is not None
        collection._current._view.dense.index.save(tmp_path / f"{name}.bin")
        contents.append((tmp_path / f"{name}.bin").read_bytes())
        database.close()
    assert contents[0] == contents[1]


def test_what_the_index_could_not_take_is_not_acknowledged(database: Database) -> None:
    """Else one record would make the whole collection unsearchable."""
    for index in (None, HNSW(precision="float16")):
        collection = database.create("flat" if index is None else "graph", 3, "dot", index=index)
        collection.upsert([{"id": "good", "values": [1, 2, 3]}])
        for values in ([1e25, 0, 0], *([[1e5, 0, 0]] if index else [])):
            with pytest.raises(InvalidInput, match="'bad'"):
                collection.upsert([{"id": "fine", "values": [0, 0, 1]}, {"id": "bad", "values": values}])
            with pytest.raises(InvalidInput):
                collection.update("good", values=values)
        assert ids(collection.query(vector=[1, 2, 3])) == ["good"]
    exact = database.open("flat")
    exact.upsert([{"id": "large", "values": [1e5, 0, 0]}])
    with pytest.raises(InvalidInput, match=r"'large'.*float16"):
        exact.set_index(HNSW(precision="float16"))
    assert exact.index == "flat"


def test_rows_that_came_after_a_snapshot_are_not_in_its_answers(database: Database) -> None:
    """An index goes on growing while a search runs."""
    for index in (None, HNSW(m=8)):
        collection = database.create("flat" if index is None else "graph", DIM, index=index)
        collection.upsert(records(0, 1100))
        assert collection.wait_until_indexed()
        with collection._current.view() as view:
            reading = view.reading("", None)
        collection.upsert([{"id": f"new{i}", "values": VECTORS[5]} for i in range(1000)])
        assert collection.wait_until_indexed()
        assert "new" in ids(collection.query(vector=VECTORS[5], top_k=1))[0] + ids(collection.query(vector=VECTORS[5], top_k=2))[1]
        found = reading.nearest(VECTORS[5], 20)
        assert max(found.slots) < 1100
        assert len(set(found.slots)) == 20
        assert found.slots[0] == 5


def test_an_error_of_the_indexer_is_told_once_and_work_goes_on(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    collection = database.create("c", DIM, index=HNSW(m=8))
    failing = [True]
    original = View.absorb

    def absorb(self: View, *arguments: Any, **more: Any) -> None:
        if failing.pop() if failing else False:
            raise MemoryError("no memory")
        original(self, *arguments, **more)

    monkeypatch.setattr(View, "absorb", absorb)
    collection.upsert(records(0, 1100))
    deadline = time.monotonic() + 20
    while failing and time.monotonic() < deadline:
        collection.query(vector=VECTORS[0])
    assert collection.wait_until_indexed(20)
    assert str(collection.query(vector=VECTORS[0]).plan).startswith("hnsw")
