"""Haystack's own suites for document stores, and what they do not ask for."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from haystack import Document, Pipeline
from haystack.dataclasses import ByteStream, SparseEmbedding
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.document_stores.types import DuplicatePolicy, FilterPolicy
from haystack.errors import FilterError
from haystack.testing import document_store as suite
from haystack.testing import document_store_async as async_suite
from haystack.utils.filters import document_matches_filter
from hypothesis import assume, given
from hypothesis import strategies as st

import madang
from madang.base.errors import InvalidInput
from madang.integrations.haystack import (
    MadangBM25Retriever,
    MadangDocumentEmbedder,
    MadangDocumentStore,
    MadangEmbeddingRetriever,
    MadangHybridRetriever,
    MadangTextEmbedder,
)
from madang.integrations.haystack.documents import as_document, as_record
from madang.integrations.haystack.filters import compiled
from madang.store import Fusion, filters
from madang.workspace import Workspace

OVERWRITE = DuplicatePolicy.OVERWRITE


def same(received: list[Document], expected: list[Document]) -> None:
    """In any order (ours is that of ids), and embeddings in 32 bits."""
    def told(document: Document) -> dict[str, Any]:
        return {**document.to_dict(flatten=False), "embedding": None}

    one, other = (sorted(documents, key=lambda document: document.id) for documents in (received, expected))
    assert list(map(told, one)) == list(map(told, other))
    for ours, theirs in zip(one, other, strict=True):
        assert (ours.embedding is None) is (theirs.embedding is None)
        if ours.embedding is not None:
            assert ours.embedding == pytest.approx(theirs.embedding, rel=1e-6)


class Conformance(
    suite.DocumentStoreBaseExtendedTests, suite.CountDocumentsByFilterTest, suite.CountUniqueMetadataByFilterTest,
    suite.GetMetadataFieldsInfoTest, suite.GetMetadataFieldMinMaxTest, suite.GetMetadataFieldUniqueValuesTest,
    async_suite.CountDocumentsAsyncTest, async_suite.WriteDocumentsAsyncTest, async_suite.DeleteDocumentsAsyncTest,
    async_suite.FilterDocumentsAsyncTest, async_suite.DeleteAllAsyncTest, async_suite.DeleteByFilterAsyncTest,
    async_suite.UpdateByFilterAsyncTest, async_suite.CountDocumentsByFilterAsyncTest,
    async_suite.CountUniqueMetadataByFilterAsyncTest, async_suite.GetMetadataFieldsInfoAsyncTest,
    async_suite.GetMetadataFieldMinMaxAsyncTest, async_suite.GetMetadataFieldUniqueValuesAsyncTest,
):
    @staticmethod
    def assert_documents_are_equal(received: list[Document], expected: list[Document]) -> None:
        same(received, expected)

    def test_write_documents(self, document_store: MadangDocumentStore) -> None:
        """Without a policy, as with FAIL."""
        document = Document(content="test doc")
        assert document_store.write_documents([document]) == 1
        with pytest.raises(DuplicateDocumentError):
            document_store.write_documents([document])
        same(document_store.filter_documents(), [document])

    async def test_write_documents_async(self, document_store: MadangDocumentStore) -> None:
        document = Document(content="test doc")
        assert await document_store.write_documents_async([document]) == 1
        with pytest.raises(DuplicateDocumentError):
            await document_store.write_documents_async([document])


class TestConformance(Conformance):
    @pytest.fixture
    def document_store(self, tmp_path: Path) -> Iterator[MadangDocumentStore]:  # type: ignore[override]
        store = MadangDocumentStore(workspace=tmp_path / "ws")
        yield store
        store.close()


class TestConformanceOfAGraphInANamespace(Conformance):
    @pytest.fixture
    def document_store(self, workspace: Workspace) -> MadangDocumentStore:  # type: ignore[override]
        return MadangDocumentStore(workspace=workspace, namespace="other", index=madang.HNSW(), metric="dot")


@pytest.fixture
def store(workspace: Workspace) -> MadangDocumentStore:
    return MadangDocumentStore(workspace=workspace, embedding_dim=4)


# Filters against Haystack's own evaluation of them

ZONES = st.sampled_from([None, UTC, timezone(timedelta(hours=9))])
DATES = st.datetimes(datetime(2026, 1, 1), datetime(2026, 1, 2), timezones=ZONES).map(lambda at: at.replace(microsecond=0))
SCALARS = st.one_of(st.none(), st.integers(-2, 2), st.sampled_from(["", "a", "b", "a, b", "2026-01-01", "2026-01-01T00:00:00"]),
                    st.floats(-2, 2).filter(lambda x: not x.is_integer()), DATES.map(datetime.isoformat), DATES)
VALUES = st.one_of(SCALARS, st.lists(st.sampled_from(["a", "b"]), max_size=2), st.lists(st.integers(0, 1), max_size=2),
                   st.dictionaries(st.sampled_from(["x"]), SCALARS, max_size=1))
META = st.dictionaries(st.sampled_from(["a", "b"]), VALUES, max_size=2)
FIELDS = st.sampled_from(["meta.a", "meta.b", "a", "meta.a.x", "meta.c", "a.x", "id"])
COMPARISONS = st.one_of(
    st.fixed_dictionaries({"field": FIELDS, "operator": st.sampled_from(["==", "!="]), "value": VALUES}),
    st.fixed_dictionaries({"field": FIELDS, "operator": st.sampled_from([">", ">=", "<", "<="]),
                           "value": st.one_of(st.none(), st.integers(-2, 2), DATES, DATES.map(datetime.isoformat))}),
    st.fixed_dictionaries({"field": FIELDS, "operator": st.sampled_from(["in", "not in"]), "value": st.lists(VALUES, max_size=3)}))
FILTERS = st.recursive(COMPARISONS, lambda inner: st.fixed_dictionaries(
    {"operator": st.sampled_from(["AND", "OR", "NOT"]), "conditions": st.lists(inner, max_size=3)}), max_leaves=6)


@given(META, FILTERS)
def test_filters_mean_what_haystack_says(meta: dict[str, Any], given_filters: dict[str, Any]) -> None:
    document = Document(id="a", meta=meta)
    try:
        expected = document_matches_filter(given_filters, document)
    except (FilterError, TypeError, ValueError, OverflowError):     # a number compared with a date, and the like
        assume(False)
    # Where `all` and `any` stop early, Haystack does not see that the rest does not compare; nor does ours have an answer.
    assume(_compares(given_filters, document))
    assert filters.parse(compiled(given_filters)).matches(as_record(document, 1).metadata) is expected


def _compares(node: dict[str, Any], document: Document) -> bool:
    if "field" not in node:
        return all(_compares(part, document) for part in node["conditions"])
    try:
        document_matches_filter(node, document)
    except (FilterError, TypeError, ValueError, OverflowError):
        return False
    return True


@pytest.mark.parametrize("broken", [
    "name", {"operator": "XOR", "conditions": []}, {"operator": "AND", "conditions": "all"},
    {"operator": "AND", "conditions": ["x"]}, {"field": "", "operator": "==", "value": 1},
    {"field": "meta.a", "operator": "~", "value": 1}, {"field": "content", "operator": "==", "value": "x"},
    {"field": "embedding", "operator": "==", "value": None}, {"field": "meta.a", "operator": ">", "value": True},
    {"field": "meta.a", "operator": "==", "value": object()}, {"field": "meta.a", "operator": "in", "value": [object()]}])
def test_broken_filters_are_filter_errors(store: MadangDocumentStore, broken: Any) -> None:
    for call in (store.filter_documents, store.count_documents_by_filter, store.delete_by_filter):
        with pytest.raises(FilterError):
            call(broken)


def test_filters_nested_too_deeply_are_filter_errors(store: MadangDocumentStore) -> None:
    for deep in (40, 100_000):
        node: dict[str, Any] = {"field": "meta.a", "operator": "==", "value": 1}
        for level in range(deep):
            node = {"operator": ("AND", "OR")[level % 2], "conditions": [node, {"field": "id", "operator": "==", "value": "x"}]}
        with pytest.raises(FilterError, match="nested"):
            store.filter_documents(node)


# Documents

def test_documents_come_back_whole(store: MadangDocumentStore) -> None:
    documents = [
        Document(id="bare"), Document(id="empty", content=""),
        Document(id="text", content="words", embedding=[1.0, 2.0, 3.0, 4.0], score=0.5, meta={"a": {"b": [1, None]}}),
        Document(id="blob", blob=ByteStream(b"\x00\xff" * 100, {"name": "x"}, "image/png"), meta={"when": datetime(2026, 1, 1)}),
        Document(id="sparse", sparse_embedding=SparseEmbedding([1, 7], [0.5, 0.25])),
    ]
    assert store.write_documents(documents) == 5
    same(store.filter_documents(), documents)
    for document in documents:
        same([as_document(as_record(document, 4))], [document])
    same(store.filter_documents({"field": "id", "operator": "in", "value": ["bare", "blob", "none"]}), [documents[0], documents[3]])


def test_an_embedding_of_another_width_is_refused(store: MadangDocumentStore) -> None:
    store.write_documents([Document(content="no embedding")])
    with pytest.raises(InvalidInput, match="dimension 3"):
        store.write_documents([Document(content="x", embedding=[1.0, 2.0, 3.0])])
    with pytest.raises(InvalidInput, match="at most 40,960"):
        store.write_documents([Document(blob=ByteStream(bytes(50_000)))])
    assert store.count_documents() == 1


def test_duplicates_within_one_call(store: MadangDocumentStore) -> None:
    twice = [Document(id="1", content="first"), Document(id="1", content="second")]
    with pytest.raises(DuplicateDocumentError):
        store.write_documents(twice, DuplicatePolicy.FAIL)
    assert store.count_documents() == 0
    assert store.write_documents(twice, DuplicatePolicy.SKIP) == 1
    assert store.filter_documents()[0].content == "first"
    store.write_documents(twice, OVERWRITE)
    assert store.filter_documents()[0].content == "second"


def test_deleting_all_spares_other_namespaces(workspace: Workspace) -> None:
    one, other = (MadangDocumentStore(workspace=workspace, namespace=name) for name in ("one", "other"))
    for each in (one, other):
        each.write_documents([Document(id="1", content="text")])
    one.delete_all_documents()
    assert (one.count_documents(), other.count_documents()) == (0, 1)


# Searching

def corpus() -> list[Document]:
    chance = random.Random(5)
    words = ["river", "bank", "savings", "boat", "loan", "fish", "rate", "stone"]
    return [Document(id=f"{n:02}", content=" ".join(chance.choices(words, k=6)), meta={"n": n},
                     embedding=[chance.gauss(0, 1) for _ in range(4)] if n % 4 else None) for n in range(40)]


def test_retrievers_find_what_haystacks_own_store_finds(store: MadangDocumentStore) -> None:
    judge = InMemoryDocumentStore(embedding_similarity_function="cosine")
    documents = corpus()
    for each in (store, judge):
        each.write_documents(documents)
    below: dict[str, Any] = {"field": "meta.n", "operator": "<", "value": 30}
    query = [0.3, -0.2, 0.9, 0.1]
    found = MadangEmbeddingRetriever(document_store=store, filters=below, top_k=50).run(query)["documents"]
    theirs = judge.embedding_retrieval(query, filters=below, top_k=50)
    assert [document.id for document in found] == [document.id for document in theirs]
    assert [document.score for document in found] == pytest.approx([document.score for document in theirs], abs=1e-5)
    assert {document.embedding for document in found} == {None}
    words = MadangBM25Retriever(document_store=store, top_k=50).run("savings loan", filters=below)["documents"]
    with_words = {document.id for document in documents if document.meta["n"] < 30 and {"savings", "loan"} & set(str(document.content).split())}
    assert {document.id for document in words} == with_words
    hybrid = MadangHybridRetriever(document_store=store, filters=below, top_k=50, fusion=Fusion(dense=0.5)).run("savings loan", query)
    assert {document.id for document in hybrid["documents"]} >= with_words | {document.id for document in found}
    assert all(document.score for document in hybrid["documents"])


def test_embeddings_are_returned_where_asked_for(workspace: Workspace) -> None:
    store = MadangDocumentStore(workspace=workspace, return_embedding=True)
    store.write_documents([Document(content="x", embedding=[0.5, 0.25])])
    assert store.search(query_embedding=[1.0, 0.0])[0].embedding == [0.5, 0.25]
    assert MadangDocumentStore(workspace=workspace, collection="nothing").search(query="x") == []
    for wrong in (0, 10_001, True, "5"):
        with pytest.raises(InvalidInput, match="top_k"):
            store.search(query="x", top_k=wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="query_embedding, query, or both"):
        store.search()


def test_filter_policies(store: MadangDocumentStore) -> None:
    store.write_documents(corpus())
    low, high = ({"field": "meta.n", "operator": operator, "value": 20} for operator in ("<", ">"))
    odd = {"field": "meta.n", "operator": "in", "value": [1, 3, 21]}
    replaced = MadangBM25Retriever(document_store=store, filters=low, top_k=50).run("bank river", filters=high)
    assert all(document.meta["n"] > 20 for document in replaced["documents"])
    both = {"operator": "AND", "conditions": [low]}
    merged = MadangEmbeddingRetriever(document_store=store, filters=both, top_k=50, filter_policy=FilterPolicy.MERGE)
    found = merged.run([1.0, 0.0, 0.0, 0.0], filters={"operator": "AND", "conditions": [odd]})["documents"]
    assert {document.meta["n"] for document in found} == {1, 3}


async def test_retrievers_in_an_event_loop(store: MadangDocumentStore) -> None:
    await store.write_documents_async(corpus())
    vector = [1.0, 0.0, 0.0, 0.0]
    assert (await MadangBM25Retriever(document_store=store).run_async("savings"))["documents"]
    assert (await MadangEmbeddingRetriever(document_store=store, top_k=3).run_async(vector))["documents"] == \
        MadangEmbeddingRetriever(document_store=store).run(vector, top_k=3)["documents"]
    assert (await MadangHybridRetriever(document_store=store).run_async("savings", vector))["documents"]


def test_a_pipeline_is_written_and_read(tmp_path: Path) -> None:
    store = MadangDocumentStore(collection="kept", workspace=tmp_path / "ws", namespace="a", embedding_dim=4,
                                metric="euclidean", index=madang.HNSW(m=8), return_embedding=True)
    pipeline = Pipeline()
    pipeline.add_component("words", MadangBM25Retriever(document_store=store, top_k=3))
    pipeline.add_component("near", MadangEmbeddingRetriever(document_store=store, filter_policy="merge"))
    pipeline.add_component("both", MadangHybridRetriever(document_store=store, fusion=Fusion(method="weighted")))
    text = pipeline.dumps()
    read = Pipeline.loads(text, allowed_modules=["madang.integrations.haystack.*"])
    assert read.dumps() == text
    store.write_documents(corpus())
    vector = [0.0, 1.0, 0.0, 0.0]
    asked = {"words": {"query": "boat"}, "near": {"query_embedding": vector}, "both": {"query": "boat", "query_embedding": vector}}
    assert read.run(asked) == pipeline.run(asked)
    again = read.get_component("words").document_store
    assert again.to_dict() == store.to_dict()
    for each in ("words", "near", "both"):
        read.get_component(each).document_store.close()
    store.close()
    with pytest.raises(InvalidInput, match="MadangDocumentStore"):
        MadangBM25Retriever(document_store=InMemoryDocumentStore())  # type: ignore[arg-type]


def test_the_embedder_is_the_workspaces(workspace: Workspace) -> None:
    store = MadangDocumentStore(workspace=workspace)
    given = [Document(content="Everybody has fifteen days of annual leave.", meta={"title": "Leave"}),
             Document(content="The office opens at nine.", meta={"title": None}), Document(meta={"title": "Empty"})]
    embedder = MadangDocumentEmbedder(workspace=workspace, meta_fields_to_embed=["title"], embedding_separator=": ")
    documents = embedder.run(given)["documents"]
    assert {document.embedding for document in given} == {None}
    expected = workspace.models.embedder("bundled/minilm").embed(
        ["Leave: Everybody has fifteen days of annual leave.", "The office opens at nine.", "Empty: "])
    assert [document.embedding for document in documents] == expected.tolist()
    assert embedder.run([]) == {"documents": []}
    store.write_documents(documents)
    pipeline = Pipeline()
    pipeline.add_component("embed", MadangTextEmbedder(workspace=workspace, model="bundled/minilm"))
    pipeline.add_component("retrieve", MadangEmbeddingRetriever(document_store=store, top_k=1))
    pipeline.connect("embed.embedding", "retrieve.query_embedding")
    found = pipeline.run({"embed": {"text": "vacation days"}})["retrieve"]["documents"]
    assert found[0].content == "Everybody has fifteen days of annual leave."
    for each in (embedder, MadangTextEmbedder(workspace=workspace, model="bundled/static")):
        assert type(each).from_dict(each.to_dict()).to_dict() == each.to_dict()
    with pytest.raises(InvalidInput, match="MadangDocumentEmbedder"):
        pipeline.get_component("embed").run(given)
    with pytest.raises(InvalidInput, match="list of Document"):
        embedder.run("text")  # type: ignore[arg-type]
