"""LangChain's own suite for vector stores, and what it does not ask for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings
from langchain_core.vectorstores import InMemoryVectorStore, VectorStore
from langchain_tests.integration_tests import VectorStoreIntegrationTests

import madang
from madang.base.errors import InvalidInput
from madang.integrations.langchain import MadangEmbeddings, MadangVectorStore
from madang.store import Fusion
from madang.workspace import Workspace


class TestConformance(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, tmp_path: Path) -> Iterator[VectorStore]:  # type: ignore[override]
        store = MadangVectorStore(self.get_embeddings(), workspace=tmp_path / "ws")
        yield store
        store.close()


class TestConformanceOfAGraph(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, workspace: Workspace) -> VectorStore:  # type: ignore[override]
        return MadangVectorStore(self.get_embeddings(), workspace=workspace, namespace="other", index=madang.HNSW(),
                                 metric="euclidean")


class Letters(Embeddings):
    """A vector of letter counts: what is nearest can be told by hand."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [[float(text.lower().count(letter)) + 0.01 for letter in "abcdefghijklmnopqrstuvwxyz"] for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]


TEXTS = ["a cat", "a dog", "the river bank", "the savings bank", "cats and dogs"]


@pytest.fixture
def store(workspace: Workspace) -> MadangVectorStore:
    return MadangVectorStore.from_texts(TEXTS, Letters(), [{"n": n, "tags": ["x", str(n)]} for n in range(5)],
                                        ids=list("abcde"), workspace=workspace)


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
def test_scores_and_order_are_those_of_an_exact_search(workspace: Workspace, metric: str) -> None:
    embedding = DeterministicFakeEmbedding(size=32)
    store = MadangVectorStore(embedding, workspace=workspace, collection=metric, metric=metric)
    judge = InMemoryVectorStore(embedding)
    for each in (store, judge):
        each.add_texts([f"text {n}" for n in range(50)], ids=[str(n) for n in range(50)])
    ours = store.similarity_search_with_score("text 7", k=50)
    assert [score for _, score in ours] == sorted((score for _, score in ours), reverse=True)
    if metric == "cosine":
        theirs = judge.similarity_search_with_score("text 7", k=50)
        assert [document.id for document, _ in ours] == [document.id for document, _ in theirs]
        assert [score for _, score in ours] == pytest.approx([score for _, score in theirs], abs=1e-5)
        found = [document.id for document in store.max_marginal_relevance_search("text 7", k=5, fetch_k=50)]
        assert found == [document.id for document in judge.max_marginal_relevance_search("text 7", k=5, fetch_k=50)]
    relevance = [score for _, score in store.similarity_search_with_relevance_scores("text 7", k=50)] \
        if metric != "dot" else [0.5]
    assert all(0 <= score <= 1 for score in relevance)
    assert relevance == sorted(relevance, reverse=True)


def test_filters_are_pinecones(store: MadangVectorStore) -> None:
    def found(filter: dict[str, Any]) -> set[str | None]:  # noqa: A002
        return {document.id for document in store.similarity_search("a", k=10, filter=filter)}

    assert found({"n": {"$gte": 3}}) == {"d", "e"}
    assert found({"tags": "1"}) == {"b"}
    assert found({"$or": [{"n": 0}, {"tags": {"$in": ["4"]}}]}) == {"a", "e"}
    assert found({"tags": {"$nin": ["x"]}}) == set()
    with pytest.raises(InvalidInput, match="unknown operator"):
        found({"n": {"$near": 3}})
    assert store.delete(filter={"n": {"$lt": 3}})
    assert found({}) == {"d", "e"}
    assert store.delete()
    assert found({}) == set()


def test_words_find_what_vectors_do_not(store: MadangVectorStore) -> None:
    assert {document.id for document in store.similarity_search("savings", k=2, mode="bm25")} == {"d"}
    hybrid = store.similarity_search_with_score("savings bank", k=5, mode="hybrid")
    assert hybrid[0][0].id == "d"
    assert {document.id for document, _ in hybrid} == set("abcde")
    with pytest.raises(InvalidInput, match="mode 'fuzzy'"):
        store.similarity_search("x", mode="fuzzy")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="mode 'fuzzy'"):
        MadangVectorStore(Letters(), mode="fuzzy")  # type: ignore[arg-type]


@pytest.mark.parametrize("fusion", [None, Fusion(method="weighted"), Fusion(20, 2.0, 0.5)])
def test_relevance_of_hybrid_search_is_from_zero_to_one(workspace: Workspace, fusion: Fusion | None) -> None:
    store = MadangVectorStore.from_texts(TEXTS, Letters(), workspace=workspace, mode="hybrid", fusion=fusion)
    scores = [score for _, score in store.similarity_search_with_relevance_scores("the savings bank", k=5)]
    assert scores[0] == pytest.approx(1.0, abs=0.02)
    assert all(0 <= score <= 1 for score in scores)
    with pytest.raises(InvalidInput, match="BM25"):
        MadangVectorStore(Letters(), workspace=workspace, mode="bm25").similarity_search_with_relevance_scores("bank")


def test_metadata_comes_back_as_it_was(store: MadangVectorStore) -> None:
    metadata = {"none": None, "deep": {"list": [1, 2.5, None, {"x": "y"}], "empty": {}}, "when": datetime(2026, 11, 25),
                "true": True, "one": 1, "float": 1.0, "texts": ["a"], "nothing": [], "large": 2**80}
    store.add_documents([Document("text", id="m", metadata=metadata)])
    kept = store.get_by_ids(["m"])[0].metadata
    assert kept == metadata
    assert [type(kept[key]) for key in ("true", "one", "float")] == [bool, int, float]
    assert store.similarity_search("a", filter={"deep.list": {"$exists": False}, "one": 1})[0].id == "m"


def test_refusals_write_nothing(store: MadangVectorStore) -> None:
    for arguments, message in (({"ids": ["x"]}, "ids are 1, but there are 2 texts"),
                               ({"metadatas": [{}]}, "metadatas are 1, but there are 2 texts"),
                               ({"metadatas": [{}, {"x": object()}]}, "'x' cannot be kept as JSON"),
                               ({"metadatas": [{}, {"$x": 1}]}, "key '\\$x' is not allowed"),
                               ({"ids": ["fine", "\0"]}, "record id")):
        with pytest.raises(InvalidInput, match=message):
            store.add_texts(["one", "two"], **arguments)  # type: ignore[arg-type]
    assert {document.id for document in store.similarity_search("a", k=100)} == set("abcde")
    assert store.add_texts([]) == []


def test_without_an_embedding_the_workspace_has_one(workspace: Workspace, tmp_path: Path) -> None:
    store = MadangVectorStore.from_texts(["the annual leave is 15 days", "the office opens at nine"],
                                         workspace=workspace, collection="own")
    assert store.similarity_search("vacation days", k=1)[0].page_content == "the annual leave is 15 days"
    assert workspace.search("vacation days", "own", top_k=1)[0].text == "the annual leave is 15 days"
    assert isinstance(store.embeddings, MadangEmbeddings)
    (tmp_path / "handbook.md").write_text("# Leave\n\nEverybody has fifteen days of leave.\n")
    workspace.ingest(tmp_path / "handbook.md", "docs")
    read = MadangVectorStore(workspace=workspace, collection="docs", mode="hybrid")
    found = read.as_retriever(search_kwargs={"k": 1}).invoke("days of leave")[0]
    assert "fifteen days" in found.page_content
    assert found.metadata["heading"] == "Leave"
    workspace.create_collection("strange", 3)
    with pytest.raises(InvalidInput, match="holds vectors of your own"):
        MadangVectorStore(workspace=workspace, collection="strange").similarity_search("x")


def test_stores_share_a_workspace_that_they_name(tmp_path: Path) -> None:
    first = MadangVectorStore(Letters(), workspace=tmp_path / "ws", collection="one")
    (tmp_path / "link").symlink_to(tmp_path / "ws")
    second = MadangVectorStore(Letters(), workspace=str(tmp_path / "link"), collection="two")
    assert first.similarity_search("nothing there yet") == []
    first.add_texts(["a"], ids=["1"])
    second.add_texts(["b"], ids=["2"])
    first.close()
    assert second.get_by_ids(["2"])[0].page_content == "b"
    assert first.get_by_ids(["1", "2"])[0].id == "1"        # opens it again
    second.close()
    first.close()
    with madang.open(tmp_path / "ws") as ws:                # nobody holds it any more
        ws.collection("one").delete(ids=["1"])


def test_many_threads_at_once(store: MadangVectorStore) -> None:
    async def work() -> list[list[Document]]:
        await asyncio.gather(*(store.aadd_texts([f"text {n}"], ids=[f"t{n}"]) for n in range(20)))
        return await asyncio.gather(*(store.asimilarity_search(f"text {n}", k=100) for n in range(20)))

    for found in asyncio.run(work()):
        assert {document.id for document in found} == {*"abcde", *(f"t{n}" for n in range(20))}
