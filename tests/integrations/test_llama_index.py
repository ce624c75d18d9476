"""The LlamaIndex store: in the shape of that library's own tests of vector stores, and against its store in memory."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core import (
    Document,
    MockEmbedding,
    Settings,
    StorageContext,
    VectorStoreIndex,
    load_index_from_storage,
)
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.schema import (
    BaseNode,
    ImageNode,
    IndexNode,
    MediaResource,
    MetadataMode,
    Node,
    NodeRelationship,
    RelatedNodeInfo,
    TextNode,
)
from llama_index.core.vector_stores import SimpleVectorStore
from llama_index.core.vector_stores.types import (
    ExactMatchFilter,
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)
from llama_index.core.vector_stores.utils import build_metadata_filter_fn

import madang
from madang.base.errors import InvalidInput
from madang.integrations.llama_index import MadangEmbedding, MadangVectorStore
from madang.integrations.llama_index.filters import compiled
from madang.integrations.llama_index.nodes import as_node, as_record
from madang.integrations.metadata import packed
from madang.store import filters as language
from madang.workspace import Workspace


def node(identity: str, text: str, embedding: list[float], document: str, **metadata: Any) -> TextNode:
    return TextNode(id_=identity, text=text, embedding=embedding, metadata=metadata,
                    relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=document)})


def nodes() -> list[TextNode]:
    return [node("a", "lorem ipsum dolor", [1.0, 0.0], "test-0", author="Stephen King", theme="Friendship", rank=1, tags=["x", "y"]),
            node("b", "the savings bank", [0.0, 1.0], "test-1", director="Francis Ford Coppola", theme="Mafia", rank=2.5, tags=["y"]),
            node("c", "the river bank", [1.0, 1.0], "test-2", director="Christopher Nolan", rank=3, numbers=[1, 2], empty=[]),
            node("d", "cats and dogs", [-1.0, 0.2], "test-2", when="2026-11-25T10:00:00", deep={"er": "in"}, none=None)]


@pytest.fixture
def store(workspace: Workspace) -> MadangVectorStore:
    store = MadangVectorStore(workspace=workspace)
    assert store.add(nodes()) == list("abcd")
    return store


def found(store: MadangVectorStore, *filters: MetadataFilter | MetadataFilters, condition: str = "and") -> str:
    query = VectorStoreQuery(query_embedding=[1.0, 0.1], similarity_top_k=10,
                             filters=MetadataFilters(filters=list(filters), condition=FilterCondition(condition)))
    return "".join(sorted(store.query(query).ids or []))


def asks(key: str, operator: str, value: Any = None) -> MetadataFilter:
    return MetadataFilter(key=key, operator=FilterOperator(operator), value=value)


# Queries

def test_class() -> None:
    assert "BasePydanticVectorStore" in [base.__name__ for base in MadangVectorStore.__mro__]
    assert MadangVectorStore.class_name() == "MadangVectorStore"


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
@pytest.mark.parametrize("index", [None, "hnsw"])
def test_scores_are_those_of_an_exact_search(workspace: Workspace, metric: str, index: str | None) -> None:
    chance = random.Random(3)
    many = [TextNode(id_=str(n), text=f"text {n}", embedding=[chance.gauss(0, 1) for _ in range(8)]) for n in range(300)]
    ours, judge = MadangVectorStore(workspace=workspace, metric=metric, index=index), SimpleVectorStore()
    for each in (ours, judge):
        each.add(many)
    query = VectorStoreQuery(query_embedding=[chance.gauss(0, 1) for _ in range(8)], similarity_top_k=20)
    result = ours.query(query)
    assert result.similarities == sorted(result.similarities or [], reverse=True)
    assert [found.get_content() for found in result.nodes or []] == [f"text {name}" for name in result.ids or []]
    if metric == "cosine":
        expected = judge.query(query)
        assert result.ids == expected.ids
        assert result.similarities == pytest.approx(expected.similarities, abs=1e-5)


def test_modes(store: MadangVectorStore) -> None:
    def ids(mode: str, **arguments: Any) -> list[str]:
        given = {"query_embedding": [1.0, 0.1], "query_str": "the savings bank", "similarity_top_k": 10, **arguments}
        return list(store.query(VectorStoreQuery(mode=VectorStoreQueryMode(mode), **given)).ids or [])

    assert ids("default") == ["a", "c", "b", "d"]
    for mode in ("sparse", "text_search"):
        assert ids(mode) == ["b", "c"]
    for mode in ("hybrid", "semantic_hybrid"):
        assert ids(mode, alpha=1.0) == ids("default")
        assert ids(mode, alpha=0.0) == ids("sparse")
        assert ids(mode, alpha=0.05)[0] == "b"
        assert ids(mode, alpha=0.95)[0] == "a"
        assert len(ids(mode, hybrid_top_k=2)) == 2
    with pytest.raises(InvalidInput, match="alpha"):
        ids("hybrid", alpha=1.5)
    with pytest.raises(InvalidInput, match="'svm'"):
        ids("svm")
    with pytest.raises(InvalidInput, match="needs query_str"):
        ids("hybrid", query_str=None)
    with pytest.raises(InvalidInput, match="needs query_embedding"):
        ids("default", query_embedding=None)


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.8, 1.0, None])
def test_mmr_is_llama_indexs(workspace: Workspace, threshold: float | None) -> None:
    chance = random.Random(4)
    many = [TextNode(id_=str(n), text="t", embedding=[chance.gauss(0, 1) for _ in range(6)]) for n in range(40)]
    ours, judge = MadangVectorStore(workspace=workspace), SimpleVectorStore()
    for each in (ours, judge):
        each.add(many)
    query = VectorStoreQuery(query_embedding=[1.0] * 6, similarity_top_k=5, mode=VectorStoreQueryMode.MMR)
    expected = judge.query(query, mmr_threshold=threshold)
    result = ours.query(query, mmr_threshold=threshold, mmr_prefetch_k=40)
    if threshold != 0.0:               # nothing counts but unlikeness: the first is anybody's
        assert result.ids == expected.ids
        assert result.similarities == pytest.approx(expected.similarities, abs=1e-4)
    assert len(result.nodes or []) == 5
    assert not MadangVectorStore(collection="none", workspace=workspace).query(query).ids


# Filters

def test_filters(store: MadangVectorStore) -> None:
    assert found(store, ExactMatchFilter(key="author", value="Stephen King")) == "a"
    assert found(store, asks("rank", ">", 1)) == "bc"
    assert found(store, asks("rank", "<=", 2.5)) == "ab"
    assert found(store, asks("theme", "!=", "Mafia")) == "acd"
    assert found(store, asks("theme", "in", ["Mafia", "Friendship"])) == "ab"
    assert found(store, asks("theme", "nin", ["Mafia"])) == "acd"
    assert found(store, asks("tags", "contains", "y")) == "ab"
    assert found(store, asks("numbers", "contains", 2)) == "c"
    assert found(store, asks("tags", "all", ["x", "y"])) == "a"
    assert found(store, asks("tags", "any", ["x", "z"])) == "a"
    assert found(store, asks("empty", "is_empty")) == "abcd"
    assert found(store, asks("tags", "is_empty")) == "cd"
    assert found(store, asks("director", "text_match", "Nolan")) == "c"
    assert found(store, asks("director", "text_match_insensitive", "FORD")) == "b"
    assert found(store, asks("director", "text_match", "nobody")) == ""
    assert found(store, asks("when", ">", "2026-11-25T09:00:00")) == "d"
    assert found(store, asks("deep.er", "==", "in")) == "d"
    assert found(store, asks("author", "==", None)) == "bcd"
    assert found(store, asks("doc_id", "==", "test-2")) == "cd"
    assert found(store) == "abcd"


def test_filters_within_filters(store: MadangVectorStore) -> None:
    banks = MetadataFilters(filters=[asks("rank", "==", 2.5), asks("rank", "==", 3)], condition=FilterCondition.OR)
    assert found(store, banks, asks("theme", "==", "Mafia")) == "b"
    assert found(store, banks, asks("author", "==", "Stephen King"), condition="or") == "abc"
    assert found(store, banks, asks("author", "==", "Stephen King"), condition="not") == "d"
    assert found(store, MetadataFilters(filters=[banks], condition=FilterCondition.NOT), asks("rank", ">", 0)) == "a"


@pytest.mark.parametrize(("key", "operator", "value"), [
    ("rank", ">", "abc"), ("rank", ">", [1]), ("rank", "in", 1), ("rank", "any", "x"), ("rank", "text_match", 5)])
def test_operators_refuse_what_they_cannot_take(store: MadangVectorStore, key: str, operator: str, value: Any) -> None:
    with pytest.raises(InvalidInput, match=f"filter on '{key}'"):
        found(store, asks(key, operator, value))


SCALARS = st.one_of(st.integers(-2, 2), st.sampled_from(["", "a", "b", "ab"]))
ROWS = st.dictionaries(st.sampled_from(["k", "m"]), SCALARS | st.none() | st.lists(st.sampled_from(["a", "b"]), max_size=2)
                       | st.lists(st.integers(0, 2), max_size=2), max_size=2)
ONE = st.one_of(
    st.tuples(st.sampled_from(["==", "!="]), SCALARS), st.tuples(st.sampled_from(["in", "nin"]), st.lists(st.integers(-2, 2), max_size=3)),
    st.tuples(st.sampled_from(["in", "nin"]), st.lists(st.sampled_from(["a", "b"]), max_size=2)),
    st.tuples(st.just("is_empty"), st.none()))
MANY = st.lists(st.tuples(st.sampled_from(["k", "m"]), ONE), min_size=1, max_size=3)


@given(ROWS, MANY, st.sampled_from(list(FilterCondition)))
def test_filters_mean_what_llama_index_says(row: dict[str, Any], parts: list[Any], condition: FilterCondition) -> None:
    filters = MetadataFilters(filters=[asks(key, *what) for key, what in parts], condition=condition)
    expected = build_metadata_filter_fn(lambda _: row, filters)("any")
    assert language.parse(compiled(filters, lambda key: [])).matches(packed(row)) is expected


# Adding, getting, deleting

def test_nodes_come_back_whole(store: MadangVectorStore) -> None:
    relations: Any = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id="doc", metadata={"a": 1}),
                      NodeRelationship.NEXT: RelatedNodeInfo(node_id="next"), NodeRelationship.CHILD: [RelatedNodeInfo(node_id="x")]}
    given: list[BaseNode] = [
        TextNode(id_="1", text="한글 text", embedding=[0.5, 0.25], relationships=relations, excluded_llm_metadata_keys=["a"],
                 metadata={"a": {"b": [1, None, {"c": 2.5}]}, "when": datetime(2026, 11, 25)}, start_char_idx=3, end_char_idx=9,
                 text_template="{content}", metadata_separator="; ", mimetype="text/markdown"),
        TextNode(id_="2", text="", embedding=[0.5, 0.25]),
        IndexNode(id_="3", text="index", index_id="other", embedding=[0.5, 0.25]),
        ImageNode(id_="4", text="caption", image="aGVsbG8=", image_mimetype="image/png", embedding=[0.5, 0.25]),
        Node(id_="5", text_resource=MediaResource(text="words", mimetype="text/plain"), embedding=[0.5, 0.25]),
        Node(id_="6", image_resource=MediaResource(data=b"aGVsbG8=", mimetype="image/png"), embedding=[0.5, 0.25]),
    ]
    store.add(given)
    back = store.get_nodes([each.node_id for each in given])
    assert [type(each) for each in back] == [type(each) for each in given]
    for ours, theirs in zip(back, given, strict=True):
        assert ours.model_dump() == theirs.model_dump()
        assert ours.hash == theirs.hash or theirs.node_id == "6"      # LlamaIndex writes no bytes: they stay in its docstore
        assert as_node(as_record(theirs)).model_dump() == theirs.model_dump()
    with pytest.raises(InvalidInput, match="has no embedding"):
        store.add([TextNode(text="x")])


def test_getting_and_deleting(store: MadangVectorStore) -> None:
    def there() -> str:
        return "".join(each.node_id for each in store.get_nodes())

    mafia = MetadataFilters(filters=[asks("theme", "==", "Mafia")])
    assert [each.node_id for each in store.get_nodes(["c", "nobody", "a"])] == ["c", "a"]
    assert [each.node_id for each in store.get_nodes(["a", "b"], mafia)] == ["b"]
    query = VectorStoreQuery(query_embedding=[1.0, 0.1], similarity_top_k=10)
    query.node_ids, query.doc_ids = ["a", "c", "d"], ["test-2", "test-1"]
    assert set(store.query(query).ids or []) == {"c", "d"}
    store.delete_nodes()
    store.delete_nodes(["a", "c"], mafia)
    assert there() == "abcd"
    store.delete("test-2")
    assert there() == "ab"
    store.delete_nodes(filters=mafia)
    assert there() == "a"
    store.delete_nodes(["a", "nobody"])
    assert there() == ""
    store.add(nodes())
    store.delete_nodes([])
    assert store.get_nodes([]) == []
    assert there() == "abcd"
    store.clear()
    assert there() == ""


def test_an_empty_store(workspace: Workspace) -> None:
    store = MadangVectorStore.from_params(collection="later", workspace=workspace)
    assert store.client is None
    assert store.get_nodes() == []
    assert store.add([]) == []
    store.delete("x")
    store.clear()
    store.delete_nodes(["x"])
    assert store.query(VectorStoreQuery(query_embedding=[1.0], similarity_top_k=3)).ids == []
    assert workspace.collections() == []


async def test_in_an_event_loop(workspace: Workspace) -> None:
    store = MadangVectorStore(workspace=workspace)
    await asyncio.gather(*(store.async_add([each]) for each in nodes()))
    assert len(await store.aget_nodes()) == 4
    query = VectorStoreQuery(query_embedding=[1.0, 0.1], similarity_top_k=1)
    assert (await store.aquery(query)).ids == ["a"]
    await store.adelete("test-0")
    await store.adelete_nodes(["b"])
    assert {each.node_id for each in await store.aget_nodes()} == {"c", "d"}
    await store.aclear()
    assert await store.aget_nodes() == []


# As a part of LlamaIndex

@pytest.fixture
def _no_model() -> Iterator[None]:
    Settings.llm, Settings.embed_model = None, MockEmbedding(embed_dim=3)
    yield
    Settings.llm = Settings.embed_model = None


@pytest.mark.usefixtures("_no_model")
def test_an_index_over_it(tmp_path: Path) -> None:
    texts = ["Everybody has fifteen days of annual leave.", "The office opens at nine.", "Receipts are kept for five years."]
    documents = [Document(text=text, id_=f"doc-{n}", metadata={"n": n}) for n, text in enumerate(texts)]
    with madang.open(tmp_path / "ws") as workspace:
        store = MadangVectorStore(workspace=workspace)
        embedding = MadangEmbedding(workspace=workspace)
        index = VectorStoreIndex.from_documents(documents, StorageContext.from_defaults(vector_store=store),
                                                embed_model=embedding, transformations=[SentenceSplitter()])
        answer = index.as_retriever(similarity_top_k=1).retrieve("How many vacation days are there?")
        assert answer[0].text == texts[0]
        assert answer[0].metadata == {"n": 0}
        index.delete_ref_doc("doc-0")
        index.update_ref_doc(Document(text="The office opens at ten.", id_="doc-1"))
        index.storage_context.persist(str(tmp_path / "kept"))
    again = MadangVectorStore(workspace=tmp_path / "ws")       # opened by itself, after a restart
    loaded = load_index_from_storage(StorageContext.from_defaults(vector_store=again, persist_dir=str(tmp_path / "kept")),
                                     embed_model=MadangEmbedding("bundled/minilm", tmp_path / "ws"))
    found = loaded.as_retriever(similarity_top_k=5, vector_store_query_mode="hybrid", alpha=0.3).retrieve("office ten")
    assert found[0].node.get_content(MetadataMode.NONE) == "The office opens at ten."
    assert len(found) == 2
    again.close()


def test_documents_that_the_workspace_ingested(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "handbook.md").write_text("# Leave\n\nEverybody has fifteen days of leave.\n")
    workspace.ingest(tmp_path / "handbook.md", "docs")
    embedding = MadangEmbedding(workspace=workspace)
    index = VectorStoreIndex.from_vector_store(MadangVectorStore("docs", workspace), embed_model=embedding)
    assert "fifteen days" in index.as_retriever(similarity_top_k=1).retrieve("leave")[0].text


async def test_the_embedding_is_the_workspaces(workspace: Workspace) -> None:
    embedding = MadangEmbedding(workspace=workspace)
    expected = workspace.models.embedder("bundled/minilm").embed(["one", "two"]).tolist()
    assert embedding.get_text_embedding_batch(["one", "two"]) == expected
    assert await embedding.aget_text_embedding_batch(["one", "two"]) == expected
    assert embedding.get_text_embedding("one") == pytest.approx(expected[0], abs=1e-6)
    assert await embedding.aget_query_embedding("one") == embedding.get_query_embedding("one")
    assert embedding.model_name == "bundled/minilm"
