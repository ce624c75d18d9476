"""The collection against a dict, its public behaviour, and what it refuses."""

from __future__ import annotations

import math
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from madang.base.errors import Conflict, Corrupt, InvalidInput, NotFound
from madang.base.records import Record, Source, SparseVector
from madang.store import Collection, Database, Fusion, filters
from madang.text.analyzer import analyzer_for, default_analyzer

IDS = st.sampled_from(["a", "b", "c", "ㄱ", "id with space"])
SPACES = st.sampled_from(["", "other"])
VECTORS = st.tuples(*[st.floats(-2, 2, width=32)] * 3)
METADATA = st.dictionaries(st.sampled_from(["year", "tag"]), st.sampled_from([1, 2, "x", True]), max_size=2)


class AgainstADict(RuleBasedStateMachine):
    """Every operation on a collection and on a dict; they must agree, also after reopening."""

    @initialize()
    def start(self) -> None:
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.database = Database(Path(self.folder.name))
        self.docs = self.database.create("docs", 3, "euclidean")
        self.model: dict[tuple[str, str], tuple[tuple[float, ...], dict[str, Any]]] = {}

    @rule(space=SPACES, batch=st.lists(st.tuples(IDS, VECTORS, METADATA), max_size=4))
    def upsert(self, space: str, batch: list[Any]) -> None:
        self.docs.upsert([{"id": i, "values": list(v), "metadata": m} for i, v, m in batch], namespace=space)
        self.model.update({(space, i): (v, m) for i, v, m in batch})

    @rule(space=SPACES, identity=IDS, metadata=METADATA)
    def update(self, space: str, identity: str, metadata: dict[str, Any]) -> None:
        if (space, identity) not in self.model:
            with pytest.raises(NotFound):
                self.docs.update(identity, set_metadata=metadata, namespace=space)
            return
        self.docs.update(identity, set_metadata=metadata, namespace=space)
        values, before = self.model[space, identity]
        self.model[space, identity] = (values, {**before, **metadata})

    @rule(space=SPACES, metadata=METADATA, tree=st.sampled_from([{}, {"year": {"$gte": 1}}, {"tag": {"$ne": "x"}}]))
    def by_filter(self, space: str, metadata: dict[str, Any], tree: dict[str, Any]) -> None:
        matching = [key for key, (_, m) in self.model.items() if key[0] == space and filters.parse(tree).matches(m)]
        assert self.docs.list_ids(namespace=space, filter=tree).ids == sorted(identity for _, identity in matching)
        assert self.docs.count(tree, space) == len(matching)
        assert self.docs.update(filter=tree, set_metadata=metadata, namespace=space) == len(matching)
        for key in matching:
            self.model[key] = (self.model[key][0], {**self.model[key][1], **metadata})

    @rule(space=SPACES, ids=st.lists(IDS, max_size=3, unique=True))
    def delete(self, space: str, ids: list[str]) -> None:
        gone = [self.model.pop((space, i), None) for i in ids]
        assert self.docs.delete(ids=ids, namespace=space) == sum(each is not None for each in gone)

    @rule(space=SPACES)
    def delete_by_filter(self, space: str) -> None:
        gone = [key for key, (_, m) in self.model.items() if key[0] == space and filters.parse({"year": 1}).matches(m)]
        for key in gone:
            del self.model[key]
        assert self.docs.delete(filter={"year": 1}, namespace=space) == len(gone)

    @rule(space=SPACES)
    def delete_all(self, space: str) -> None:
        gone = [key for key in self.model if key[0] == space]
        for key in gone:
            del self.model[key]
        assert self.docs.delete(delete_all=True, namespace=space) == len(gone)

    @rule()
    def reopen(self) -> None:
        self.database.close()
        self.database = Database(Path(self.folder.name))
        self.docs = self.database.open("docs")

    @rule(space=SPACES, query=VECTORS, tree=st.sampled_from([None, {"year": {"$gte": 1}}, {"tag": {"$ne": "x"}}]))
    def query(self, space: str, query: tuple[float, ...], tree: dict[str, Any] | None) -> None:
        parsed = filters.parse(tree or {})
        expected = {i: -sum((a - b) ** 2 for a, b in zip(query, v, strict=True))
                    for (s, i), (v, m) in self.model.items() if s == space and parsed.matches(m)}
        result = self.docs.query(vector=list(query), top_k=10, namespace=space, filter=tree)
        assert {m.id for m in result.matches} == set(expected)
        assert [m.score for m in result.matches] == pytest.approx(sorted(expected.values(), reverse=True), abs=1e-4)
        assert result.plan.candidates == len(expected)

    @invariant()
    def same_content(self) -> None:
        if not hasattr(self, "docs"):
            return
        for space in ("", "other"):
            expected = {i: v for (s, i), v in self.model.items() if s == space}
            assert self.docs.list_ids(namespace=space).ids == sorted(expected)
            found = self.docs.fetch(list(expected), namespace=space)
            assert {i: (tuple(r.values.tolist()), r.metadata) for i, r in found.items()} == expected  # type: ignore[union-attr]
        assert self.docs.stats().records == len(self.model)

    def teardown(self) -> None:
        if hasattr(self, "database"):
            self.database.close()
            self.folder.cleanup()


TestAgainstADict = AgainstADict.TestCase
TestAgainstADict.settings = hypothesis_settings(max_examples=25, stateful_step_count=20, deadline=None)


def test_hybrid_finds_by_meaning_by_words_and_by_both(docs: Collection) -> None:
    docs.upsert([
        {"id": "near", "values": [1, 0, 0], "document": "nothing in common"},
        {"id": "words", "values": [0, 0, 1], "document": "the tax declaration of 2024"},
        {"id": "both", "values": [0.9, 0.1, 0], "document": "tax declaration"},
    ])
    assert [m.id for m in docs.query(vector=[1, 0, 0], top_k=2).matches] == ["near", "both"]
    lexical = docs.query(text="tax declarations", top_k=3)
    assert {m.id for m in lexical.matches} == {"words", "both"}
    assert lexical.plan.lexical == "bm25"
    both = docs.query(vector=[1, 0, 0], text="tax declarations", top_k=3, include_document=True)
    assert both.matches[0].id == "both"
    assert both.matches[0].document == "tax declaration"
    assert "rrf(k=60" in str(both.plan)
    only_words = docs.query(vector=[1, 0, 0], text="tax", fusion=Fusion(dense=0))
    assert {m.id for m in only_words.matches} == {"words", "both"}


def test_context_is_searched_but_not_returned(docs: Collection) -> None:
    docs.upsert([Record("a", np.ones(3, np.float32), document="15 days", context="Vacation")])
    (match,) = docs.query(text="vacation", include_document=True).matches
    assert match.document == "15 days"


def test_replacing_a_document_changes_its_words(docs: Collection) -> None:
    docs.upsert([{"id": "a", "values": [1, 0, 0], "document": "apples"}])
    assert docs.query(text="apples").matches
    docs.upsert([{"id": "a", "values": [1, 0, 0], "document": "pears"}])
    assert not docs.query(text="apples").matches
    assert docs.query(text="pears").matches


def test_arrays_lists_values_and_sparse_round_trip(docs: Collection) -> None:
    docs.upsert([Record("a", np.array([1, 2, 3], np.float32), SparseVector([5, 2], [0.5, 0.25])),
                 {"id": "b", "values": np.array([1, 2, 3]), "sparse": {"indices": [1], "values": [1.0]}}])
    found = docs.fetch(["b", "a", "missing"])
    assert list(found) == ["b", "a"]
    assert found["a"].sparse == SparseVector([2, 5], [0.25, 0.5])
    values = docs.query(vector=[1, 2, 3], include_values=True).matches[0].values
    assert values is not None
    assert values.tolist() == [1, 2, 3]


def test_sources_are_replaced_whole(docs: Collection) -> None:
    def records(*ids: str) -> list[Record]:
        return [Record(i, np.ones(3, np.float32), metadata={"source": "f"}, document=i) for i in ids]

    docs.replace_sources([(Source("f", "h1", "가나다 text"), records("1", "2"))])
    assert docs.sources()["f"].chunks == 2
    docs.replace_sources([(Source("f", "h2", "new", pages=(0, 2)), records("3"))])
    assert docs.list_ids().ids == ["3"]
    source = docs.source("f")
    assert source is not None
    assert (source.text, source.content_hash, source.pages) == ("new", "h2", (0, 2))
    assert docs.remove_sources(["f", "unknown"]) == 1
    assert docs.stats().records == 0
    assert docs.source("f") is None


def test_updating_a_record_keeps_it_with_its_source(docs: Collection) -> None:
    docs.replace_sources([(Source("f", "h", "text"), [Record("1", np.ones(3, np.float32))])])
    docs.update("1", set_metadata={"seen": True})
    docs.remove_sources(["f"])
    assert docs.stats().records == 0


def test_pages_of_ids(docs: Collection) -> None:
    docs.upsert([{"id": f"x{n:02d}", "values": [1, 0, 0]} for n in range(7)] + [{"id": "y", "values": [1, 0, 0]}])
    seen: list[str] = []
    cursor = None
    while True:
        page = docs.list_ids(prefix="x", limit=3, cursor=cursor)
        seen += page.ids
        cursor = page.cursor
        if cursor is None:
            break
    assert seen == [f"x{n:02d}" for n in range(7)]
    assert docs.list_ids(prefix="%").ids == []


@pytest.mark.parametrize(("call", "words"), [
    (lambda d: d.upsert([{"id": "a", "values": [1, 2]}]), "has dimension 2, but the collection has 3"),
    (lambda d: d.upsert([{"id": "a", "values": [1, float("nan"), 2]}]), "NaN or infinity"),
    (lambda d: d.upsert([{"id": "a", "values": "abc"}]), "must be 3 numbers"),
    (lambda d: d.upsert([{"id": "a"}]), "has no values"),
    (lambda d: d.upsert([{"id": "", "values": [1, 2, 3]}]), "record id must be text"),
    (lambda d: d.upsert([{"id": 7, "values": [1, 2, 3]}]), "record id must be text"),
    (lambda d: d.upsert([{"id": "x" * 513, "values": [1, 2, 3]}]), "record id must be text"),
    (lambda d: d.upsert([{"id": "a", "values": [1, 2, 3], "vector": 1}]), "unknown field 'vector'"),
    (lambda d: d.upsert([{"id": "a", "values": [1, 2, 3], "metadata": {"k": None}}]), "value of 'k'"),
    (lambda d: d.upsert([{"id": "a", "values": [1, 2, 3], "metadata": {"$k": 1}}]), "key '$k'"),
    (lambda d: d.upsert([{"id": "a", "values": [1, 2, 3], "metadata": {"k": {"nested": 1}}}]), "value of 'k'"),
    (lambda d: d.upsert([{"id": "a", "values": [1, 2, 3], "metadata": {"k": "x" * 50_000}}]), "at most 40,960"),
    (lambda d: d.upsert([{"id": "a", "values": [1, 2, 3], "document": "\ud800"}]), "lone surrogate"),
    (lambda d: d.upsert([{"id": "a", "values": [1, 2, 3], "sparse": {"indices": [1, 1], "values": [1, 2]}}]),
     "distinct whole numbers"),
    (lambda d: d.upsert([{"id": f"r{n}", "values": [1, 2, math.nan if n == 300 else 3]} for n in range(600)]),
     "record 'r300': values contains NaN"),
    (lambda d: d.upsert([{"id": "a", "values": [1, 2, math.inf]}, {"id": "a", "values": [1, 2, 3]}]),
     "record 'a': values contains NaN or infinity"),
    (lambda d: d.upsert([{"id": "a", "values": [1, 2, 3], "extra": 1, "another": 1}]), "unknown field 'another'"),
    (lambda d: d.upsert([{"id": "a", "values": [1, 2, 3], "metadata": {"k": ["x", 1]}}]), "record 'a': metadata: value"),
    (lambda d: d.upsert({"id": "a"}), "must be a list of records"),
    (lambda d: d.upsert(["a"]), "must be a Record or a dict"),
    (lambda d: d.query(), "needs a vector, a text, a sparse"),
    (lambda d: d.query(vector=[1, 2]), "has dimension 2"),
    (lambda d: d.query(vector=[1, 2, 3], top_k=0), "top_k must be a whole number"),
    (lambda d: d.query(vector=[1, 2, 3], top_k=10_001), "top_k must be a whole number"),
    (lambda d: d.query(vector=[1, 2, 3], target_recall=2), "target_recall"),
    (lambda d: d.query(vector=[1, 2, 3], filter={"a": {"$x": 1}}), "unknown operator"),
    (lambda d: d.query(vector=[1, 2, 3], namespace=None), "namespace must be text"),
    (lambda d: d.fetch("abc"), "must be a list of ids"),
    (lambda d: d.delete(), "exactly one of"),
    (lambda d: d.delete(ids=["a"], delete_all=True), "exactly one of"),
    (lambda d: d.update("a"), "changes nothing"),
    (lambda d: d.list_ids(limit=0), "limit must be"),
])
def test_refused_in_one_line_and_nothing_changes(docs: Collection, call: Any, words: str) -> None:
    docs.upsert([{"id": "kept", "values": [1, 0, 0]}])
    before = docs.stats()
    with pytest.raises((InvalidInput, NotFound)) as caught:
        call(docs)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert docs.stats() == before


def test_one_bad_record_refuses_the_whole_call(docs: Collection) -> None:
    with pytest.raises(InvalidInput):
        docs.upsert([{"id": "good", "values": [1, 2, 3]}, {"id": "bad", "values": [1]}])
    assert docs.stats().records == 0


def test_a_failed_write_leaves_no_half_vocabulary(docs: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Terms of a rolled-back write must not be taken for stored ones by the next."""
    docs.upsert([{"id": "a", "values": [1, 0, 0], "document": "first"}])
    writer = docs._writer
    assert writer is not None
    original = writer.index_text

    def fail(texts: Any) -> None:
        original(texts)
        raise RuntimeError("disk full")

    monkeypatch.setattr(writer, "index_text", fail)
    with pytest.raises(RuntimeError):
        docs.upsert([{"id": "b", "values": [1, 0, 0], "document": "second word"}])
    docs.upsert([{"id": "c", "values": [1, 0, 0], "document": "second other"}])
    assert [m.id for m in docs.query(text="second").matches] == ["c"]


def test_another_process_sees_writes_deletes_and_reanalysis(tmp_path: Path) -> None:
    writer, reader = Database(tmp_path), Database(tmp_path)
    docs = writer.create("docs", 3)
    seen = reader.open("docs")
    docs.upsert([{"id": str(n), "values": [1, n, 0], "document": f"word{n}"} for n in range(5)])
    assert len(seen.query(vector=[1, 0, 0]).matches) == 5
    docs.delete(ids=["0"])
    docs.upsert([{"id": "1", "values": [0, 0, 1], "document": "changed"}])
    assert {m.id for m in seen.query(vector=[1, 0, 0]).matches} == {"1", "2", "3", "4"}
    assert [m.id for m in seen.query(text="changed").matches] == ["1"]
    docs.reanalyze()
    assert [m.id for m in seen.query(text="word3").matches] == ["3"]
    reader.close()
    writer.close()


def test_threads_read_while_one_writes(docs: Collection) -> None:
    failures: list[BaseException] = []
    stop = threading.Event()

    def read() -> None:
        try:
            while not stop.is_set():
                result = docs.query(vector=[1, 0, 0], text="word", top_k=50)
                assert len({m.id for m in result.matches}) == len(result.matches)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for n in range(40):
        docs.upsert([{"id": f"{n}-{i}", "values": [1, n, i], "document": "word"} for i in range(5)])
        docs.delete(ids=[f"{n - 2}-1"])
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert docs.stats().records == 40 * 5 - 38


def test_the_collection_keeps_the_analyzer_it_was_made_with(database: Database) -> None:
    """Installing the ko extra must not strand a workspace made without it."""
    docs = database.create("old", 3)
    bigram = next(part for part in _bigram_signatures() if analyzer_for(part).signature == part)
    with docs._write():
        from madang.store import schema

        schema.put_meta(docs._db, "analyzer", bigram)
    docs._analyzer = docs._writer = None
    docs.upsert([{"id": "a", "values": [1, 0, 0], "document": "연차는 15일입니다"}])
    assert docs.analyzer.signature == bigram
    assert [m.id for m in docs.query(text="연차").matches] == ["a"]
    assert docs.reanalyze() == 1
    assert docs.stats().analyzer == default_analyzer().signature
    assert [m.id for m in docs.query(text="연차").matches] == ["a"]


def _bigram_signatures() -> list[str]:
    current = default_analyzer().signature.split("|")
    return ["|".join([*current[:-1], "ko:bigram"])]


def test_an_unknown_analyzer_is_refused_with_the_command(docs: Collection) -> None:
    docs.upsert([{"id": "a", "values": [1, 0, 0], "document": "words"}])
    with docs._write():
        from madang.store import schema

        schema.put_meta(docs._db, "analyzer", "someone-elses:9")
    docs._analyzer = docs._writer = None
    with pytest.raises(Conflict, match="madang collection reanalyze docs"):
        docs.query(text="x")
    assert docs.query(vector=[1, 0, 0]).matches


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    database = Database(tmp_path)
    database.create("docs", 3)
    database.close()
    path = tmp_path / "collections" / "docs" / "records.db"
    path.write_bytes(b"not a database at all, but long enough to be read as one" * 20)
    for leftover in path.parent.glob("records.db-*"):
        leftover.unlink()
    database = Database(tmp_path)
    with pytest.raises(Corrupt, match=r"records\.db cannot be opened"):
        database.open("docs")
    database.close()


# Sparse vectors

def test_sparse_vectors_are_found_by_their_inner_product(docs: Collection) -> None:
    docs.upsert([{"id": "a", "values": [1, 0, 0], "sparse": {"indices": [7, 4_000_000_000], "values": [1.0, 2.0]}, "metadata": {"n": 1}},
                 {"id": "b", "values": [0, 1, 0], "sparse": {"indices": [7], "values": [3.0]}, "document": "seven"},
                 {"id": "c", "values": [0, 0, 1]}])
    result = docs.query(sparse={"indices": [7], "values": [2.0]})
    assert [(m.id, m.score) for m in result.matches] == [("b", 6.0), ("a", 2.0)]
    assert str(result.plan).startswith("sparse over 3")
    assert [m.id for m in docs.query(sparse={"indices": [7], "values": [1.0]}, filter={"n": 1}).matches] == ["a"]
    assert docs.query(sparse={"indices": [8], "values": [1.0]}).matches == []
    docs.delete(ids=["b"])
    assert [m.id for m in docs.query(sparse={"indices": [7], "values": [1.0]}).matches] == ["a"]


def test_three_rankings_in_one_call(docs: Collection) -> None:
    docs.upsert([{"id": "a", "values": [1, 0, 0], "sparse": {"indices": [1], "values": [1.0]}, "document": "stone"},
                 {"id": "b", "values": [0.9, 0.1, 0], "sparse": {"indices": [1], "values": [5.0]}, "document": "stone stone"},
                 {"id": "c", "values": [0, 0, 1]}])
    result = docs.query(vector=[1, 0, 0], text="stone", sparse={"indices": [1], "values": [1.0]}, top_k=2)
    assert [m.id for m in result.matches] == ["b", "a"]
    assert result.matches[0].score == pytest.approx(1 / 62 + 1 / 61 + 1 / 61)
    assert "rrf(k=60, dense=1, lexical=1, sparse=1)" in str(result.plan)
    weighted = docs.query(vector=[1, 0, 0], sparse={"indices": [1], "values": [1.0]}, fusion=Fusion(method="weighted", sparse=0.001))
    assert [m.id for m in weighted.matches] == ["a", "b", "c"]
    assert "weighted" in str(weighted.plan)
    with pytest.raises(InvalidInput, match="needs a vector, a text, a sparse vector"):
        docs.query()
    with pytest.raises(InvalidInput, match="sparse"):
        docs.query(sparse={"indices": [1]})


def test_an_update_by_filter_leaves_records_with_their_documents(docs: Collection) -> None:
    """Records of several documents, and of none, change in one call; words still find them, and re-ingesting replaces."""
    for name in "ab":
        docs.replace_sources([(Source(f"file:///{name}", "hash", "text"), [
            Record(f"{name}{n}", np.ones(docs.dim, dtype=np.float32), None, {"n": n}, f"word{n} of {name}") for n in range(3)])])
    docs.upsert([{"id": "mine", "values": [1.0] * docs.dim, "metadata": {"n": 1}}])
    assert docs.update(filter={"n": {"$gte": 1}}, set_metadata={"seen": True}) == 5
    assert {uri: info.chunks for uri, info in docs.sources().items()} == {"file:///a": 3, "file:///b": 3}
    assert {info.content_hash for info in docs.sources().values()} == {"hash"}
    assert [match.id for match in docs.query(text="word1", filter={"seen": True}, top_k=9).matches] == ["a1", "b1"]
    docs.replace_sources([(Source("file:///a", "new", "text"), [])])
    assert docs.list_ids(filter={"seen": True}).ids == ["b1", "b2", "mine"]
