"""The data plane over gRPC, with the client's own transport."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from pinecone import Pinecone

from madang.base.errors import InvalidInput
from madang.serve.access import Identity, NotAllowed
from madang.serve.pinecone_grpc import listening
from madang.serve.pinecone_messages import MESSAGES
from madang.workspace import Workspace

A, B, C = [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.6, 0.8, 0.0]


@pytest.fixture
def address(workspace: Workspace) -> Iterator[str]:
    workspace.create_collection("vectors", dim=3, metric="dot")
    with listening(workspace, "vectors") as address:
        yield address


@pytest.fixture
def index(address: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("PINECONE_GRPC_SCHEME", "http")
    with Pinecone(api_key="any", host="http://127.0.0.1:9") as client, client.index(host=f"http://{address}", grpc=True) as index:
        yield index


def test_the_client_over_grpc(index: Any, workspace: Workspace) -> None:
    sparse = {"indices": [1, 5], "values": [0.5, 2.0]}
    assert index.upsert(vectors=[{"id": "a", "values": A, "metadata": {"k": "v", "n": 1, "l": ["x"]}}, {"id": "b", "values": B},
                                 {"id": "c", "values": C, "sparse_values": sparse}], namespace="ns").upserted_count == 3
    found = index.query(vector=A, top_k=2, namespace="ns", include_metadata=True, include_values=True)
    assert [(match.id, round(match.score, 5)) for match in found.matches] == [("a", 1.0), ("c", 0.6)]
    assert (list(found.matches[0].values), dict(found.matches[0].metadata)) == (A, {"k": "v", "n": 1.0, "l": ["x"]})
    hybrid = index.query(vector=A, sparse_vector={"indices": [5], "values": [3.0]}, top_k=1, namespace="ns", filter={"k": {"$exists": False}})
    assert [(match.id, round(match.score, 5)) for match in hybrid.matches] == [("c", 6.6)]
    assert [match.id for match in index.query(id="b", top_k=1, namespace="ns").matches] == ["b"]
    fetched = index.fetch(ids=["a", "c", "nobody"], namespace="ns").vectors
    assert (sorted(fetched), list(fetched["c"].sparse_values.indices)) == (["a", "c"], [1, 5])
    index.update(id="a", set_metadata={"k": "w"}, namespace="ns")
    assert sorted(index.fetch_by_metadata(filter={"k": "w"}, namespace="ns").vectors) == ["a"]
    assert index.update(filter={"k": "w"}, set_metadata={"x": 1}, namespace="ns", dry_run=True).matched_records == 1
    assert [entry.id for entry in index.list_paginated(namespace="ns", limit=2).vectors] == ["a", "b"]
    stats = index.describe_index_stats()
    assert (stats.dimension, stats.total_vector_count, stats.namespaces["ns"].vector_count) == (3, 3, 3)
    index.delete(ids=["a"], namespace="ns")
    assert workspace.collection("vectors").list_ids(namespace="ns").ids == ["b", "c"]


def test_refusals_arrive_in_words(index: Any) -> None:
    with pytest.raises(Exception, match="dimension 1"):
        index.query(vector=[1.0], top_k=1)
    with pytest.raises(Exception, match=r"\$like"):
        index.query(vector=A, top_k=1, filter={"k": {"$like": "x"}})


def call(address: str, call: str, asked: str, told: str, key: str = "", /, **fields: Any) -> Any:
    """One call, without a client."""
    with grpc.insecure_channel(address) as channel:
        method = channel.unary_unary(f"/VectorService/{call}", MESSAGES[asked].SerializeToString, MESSAGES[told].FromString)
        return method(MESSAGES[asked](**fields), metadata=[("api-key", key)] if key else None, timeout=30)


def test_namespaces(address: str) -> None:
    assert call(address, "CreateNamespace", "CreateNamespaceRequest", "NamespaceDescription", name="made").name == "made"
    assert call(address, "DescribeNamespace", "DescribeNamespaceRequest", "NamespaceDescription", namespace="made").record_count == 0
    listed = call(address, "ListNamespaces", "ListNamespacesRequest", "ListNamespacesResponse")
    assert ([entry.name for entry in listed.namespaces], listed.total_count) == (["made"], 1)
    call(address, "DeleteNamespace", "DeleteNamespaceRequest", "DeleteResponse", namespace="made")
    with pytest.raises(grpc.RpcError) as caught:
        call(address, "DescribeNamespace", "DescribeNamespaceRequest", "NamespaceDescription", namespace="made")
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def test_who_may_call(workspace: Workspace) -> None:
    workspace.create_collection("guarded", dim=1)

    def identify(key: str) -> Identity:
        if key != "reading":
            raise NotAllowed("this key is not known.", known=False)
        return Identity("read")

    with listening(workspace, "guarded", identify=identify) as address:
        assert call(address, "Query", "QueryRequest", "QueryResponse", "reading", vector=[1.0], top_k=1).matches == []
        for key, name, code in (("", "Delete", grpc.StatusCode.UNAUTHENTICATED), ("reading", "Delete", grpc.StatusCode.PERMISSION_DENIED)):
            with pytest.raises(grpc.RpcError) as caught:
                call(address, name, "DeleteRequest", "DeleteResponse", key, ids=["a"])
            assert caught.value.code() == code
        with pytest.raises(InvalidInput, match="cannot listen"), listening(workspace, "guarded", port=int(address.split(":")[1])):
            pass
