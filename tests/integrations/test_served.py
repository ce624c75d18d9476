"""Stores that other people wrote for Pinecone, unmodified, against our server: by environment variables alone."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_pinecone import PineconeVectorStore
from langchain_tests.integration_tests import VectorStoreIntegrationTests
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)
from llama_index.vector_stores.pinecone import PineconeVectorStore as LlamaPineconeVectorStore
from pinecone import Pinecone, ServerlessSpec

from madang.serve.run import serving
from madang.workspace import Workspace

UPSTREAM = Path(sys.prefix) / "upstream"         # where `make integrations` unpacks what is published with its tests
SPEC = ServerlessSpec(cloud="aws", region="us-east-1")


@pytest.fixture
def client(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pinecone]:
    with serving(workspace) as address:
        monkeypatch.setenv("PINECONE_CONTROLLER_HOST", address)
        monkeypatch.setenv("PINECONE_API_KEY", "any")
        yield Pinecone()


# LangChain

class Casting(DeterministicFakeEmbedding):
    """langchain-pinecone passes on what an embedding gives, and the client's generated models refuse NumPy's floats
    before anything is sent (`test_langchain_pinecone_casts_no_floats`)."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [list(map(float, vector)) for vector in super().embed_documents(texts)]

    def embed_query(self, text: str) -> list[float]:
        return list(map(float, super().embed_query(text)))


class Copying(PineconeVectorStore):
    """langchain-pinecone writes the text into the metadata that the caller gave it
    (`test_langchain_pinecone_changes_the_callers_metadata`)."""

    def add_texts(self, texts: Any, metadatas: Any = None, **kwargs: Any) -> list[str]:
        return super().add_texts(texts, [dict(each) for each in metadatas or []] or None, **kwargs)

    async def aadd_texts(self, texts: Any, metadatas: Any = None, **kwargs: Any) -> list[str]:
        return await super().aadd_texts(texts, [dict(each) for each in metadatas or []] or None, **kwargs)


class TestLangChainPinecone(VectorStoreIntegrationTests):
    has_get_by_ids = False             # langchain-pinecone does not have it

    @staticmethod
    def get_embeddings() -> Casting:
        return Casting(size=6)

    @pytest.fixture
    def vectorstore(self, client: Pinecone) -> PineconeVectorStore:  # type: ignore[override]
        name = f"t-{uuid.uuid4().hex[:12]}"
        client.create_index(name, dimension=6, metric="cosine", spec=SPEC)
        return Copying(index_name=name, embedding=self.get_embeddings())


class Recorded:
    """An index that answers nothing: what reaches it was not changed by a server."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def upsert(self, **arguments: Any) -> None:
        self.calls.append(arguments)


def test_langchain_pinecone_casts_no_floats(client: Pinecone) -> None:
    client.create_index("floats", dimension=6, metric="cosine", spec=SPEC)
    with pytest.raises(TypeError, match="float64"):
        client.Index("floats").upsert([("a", list(np.ones(6)), {})])
    store = PineconeVectorStore(index_name="floats", embedding=DeterministicFakeEmbedding(size=6))
    with pytest.raises(TypeError, match="float64"):
        store.add_texts(["text"])
    assert client.Index("floats").describe_index_stats()["total_vector_count"] == 0


def test_langchain_pinecone_changes_the_callers_metadata() -> None:
    document = Document("text", metadata={"id": 1})
    store = PineconeVectorStore(index=_index(), embedding=Casting(size=6))
    store.add_documents([document], async_req=False)
    assert document.metadata == {"id": 1, "text": "text"}


def _index() -> Any:
    index = Recorded()
    index.config = type("Config", (), {"host": "http://127.0.0.1:9", "api_key": "any"})()  # type: ignore[attr-defined]
    return index


# Haystack

def test_pinecone_haystacks_own_tests(client: Pinecone) -> None:
    """All of them, with waiting times of 0. The two that are left out ask for an int where Pinecone gives a float: its
    own documentation says so ("an int written for an arbitrary field may come back as a numerically equal float")."""
    tests = next(UPSTREAM.glob("pinecone_haystack-*/tests"))
    left_out = ["--deselect=test_document_store.py::TestDocumentStore::test_get_metadata_field_unique_values_preserves_type",
                "--deselect=test_document_store_async.py::TestDocumentStoreAsync::"
                "test_get_metadata_field_unique_values_preserves_type_async"]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir", str(tests), str(tests), "-q", "-p", "no:randomly",
         "-p", "no:cacheprovider", "-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=function",
         "--disable-socket", "--allow-unix-socket", "--allow-hosts=127.0.0.1", *left_out],
        env=dict(os.environ), capture_output=True, text=True, timeout=280, check=False)
    assert run.returncode == 0, run.stdout[-5000:] + run.stderr[-2000:]
    assert "2 deselected" in run.stdout
    assert int(run.stdout.rpartition(" passed")[0].split()[-1]) > 150, run.stdout[-300:]


# LlamaIndex

WORDS = ["one", "two", "three", "seven", "words"]


def _node(identity: str, text: str, embedding: list[float], document: str, **metadata: Any) -> TextNode:
    return TextNode(id_=identity, text=text, embedding=embedding, metadata=metadata,
                    relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=document)})


@pytest.fixture
def llama(client: Pinecone) -> LlamaPineconeVectorStore:
    client.create_index("llama", dimension=3, metric="dotproduct", spec=SPEC)
    store = LlamaPineconeVectorStore(pinecone_index=client.Index("llama"), add_sparse_vector=True, namespace="here",
                                     tokenizer=lambda texts: [[WORDS.index(word) for word in text.split() if word in WORDS]
                                                              for text in texts])
    added = store.add([_node("a", "one two", [1.0, 0.0, 0.0], "doc-1", year=2020, kind="x"),
                       _node("b", "three", [0.0, 1.0, 0.0], "doc-1", year=2021, kind="y"),
                       _node("c", "seven words", [0.9, 0.1, 0.0], "doc-2", year=2022, kind="x")])
    assert added == ["doc-1#a", "doc-1#b", "doc-2#c"]
    return store


def test_llama_indexs_pinecone_store(llama: LlamaPineconeVectorStore) -> None:
    def found(filters: MetadataFilters | None = None, **arguments: Any) -> list[str]:
        query = VectorStoreQuery(query_embedding=[1.0, 0.0, 0.0], similarity_top_k=3, filters=filters, **arguments)
        return [each.node_id for each in llama.query(query).nodes or []]

    def one(key: str, operator: FilterOperator, value: Any) -> MetadataFilter:
        return MetadataFilter(key=key, operator=operator, value=value)

    kind = one("kind", FilterOperator.EQ, "x")
    late = one("year", FilterOperator.GTE, 2021)
    assert found() == ["a", "c", "b"]
    assert found(MetadataFilters(filters=[kind, late])) == ["c"]
    assert found(MetadataFilters(filters=[kind, late], condition=FilterCondition.OR)) == ["a", "c", "b"]
    assert found(MetadataFilters(filters=[one("year", FilterOperator.IN, [2020, 2021])])) == ["a", "b"]
    assert found(query_str="three", mode=VectorStoreQueryMode.HYBRID, alpha=0.1)[0] == "b"
    assert found(query_str="three", mode=VectorStoreQueryMode.SPARSE)[0] == "b"
    got = llama.get_nodes(filters=MetadataFilters(filters=[kind]), include_values=True)
    assert {each.node_id: each.metadata["year"] for each in got} == {"a": 2020, "c": 2022}
    assert next(each for each in got if each.node_id == "c").embedding == pytest.approx([0.9, 0.1, 0.0])
    llama.delete("doc-2")
    assert found() == ["a", "b"]
    llama.delete_nodes(["doc-1#a"])
    assert found() == ["b"]
    llama.clear()
    assert found() == []
