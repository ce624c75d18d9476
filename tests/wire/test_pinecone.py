"""Pinecone's dialect, against requests recorded from its own clients and answers those accepted."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from madang.wire import pinecone as wire
from madang.wire.pinecone import Hit, Index, Malformed, Stats, Vector

V = [0.1, 0.2, 0.3]

# What the client 9.1.0 sent, with the namespace that it leaves out where it is the default one.
RECORDED: list[tuple[Any, Any]] = [
    (json.loads(wire.encode_upserts([Vector("a", V, None, {"k": "v"}), Vector("b", V)], "ns")[0]),
     {"vectors": [{"id": "a", "values": V, "metadata": {"k": "v"}}, {"id": "b", "values": V}], "namespace": "ns"}),
    (wire.encode_vector(Vector("a", V, ([1], [0.5]), {"y": 1, "l": ["x"]})),
     {"id": "a", "values": V, "sparseValues": {"indices": [1], "values": [0.5]}, "metadata": {"y": 1, "l": ["x"]}}),
    (wire.encode_query(V, 2, "ns", {"k": {"$eq": "v"}}, include_values=True),
     {"topK": 2, "includeValues": True, "includeMetadata": True, "namespace": "ns", "vector": V,
      "filter": {"k": {"$eq": "v"}}}),
    (wire.encode_query(V, 2, "n1", include_metadata=False),
     {"topK": 2, "includeValues": False, "includeMetadata": False, "namespace": "n1", "vector": V}),
    (wire.encode_update("a", "ns", V, {"k": "w"}), {"namespace": "ns", "id": "a", "values": V, "setMetadata": {"k": "w"}}),
    (wire.encode_update("a", "ns", None, {"k": "w"}), {"namespace": "ns", "id": "a", "setMetadata": {"k": "w"}}),
    (wire.encode_update("a", "ns", V), {"namespace": "ns", "id": "a", "values": V}),
    (wire.encode_delete("ns", ["a"]), {"namespace": "ns", "ids": ["a"]}),
    (wire.encode_delete("ns", where={"k": {"$in": ["v"]}}), {"namespace": "ns", "filter": {"k": {"$in": ["v"]}}}),
    (wire.encode_delete("ns"), {"namespace": "ns", "deleteAll": True}),
    (wire.encode_index("idx", 3, "cosine", "aws", "us-east-1"),
     {"name": "idx", "metric": "cosine", "vector_type": "dense", "deletion_protection": "disabled", "dimension": 3,
      "spec": {"serverless": {"cloud": "aws", "region": "us-east-1"}}}),
]


@pytest.mark.parametrize("number", range(len(RECORDED)))
def test_requests_are_those_of_their_client(number: int) -> None:
    ours, theirs = RECORDED[number]
    assert ours == theirs


def test_no_ids_are_not_everything() -> None:
    """An empty list must never turn into deleteAll."""
    assert wire.encode_delete("ns", []) == {"namespace": "ns", "ids": []}


@given(st.lists(st.builds(Vector, st.text("ab", min_size=1, max_size=9), st.lists(st.floats(0, 1), max_size=3))),
       st.integers(1, 9), st.integers(60, 400))
def test_upserts_are_cut_without_loss(vectors: list[Vector], count: int, size_bytes: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wire, "UPSERT_VECTORS", count)
        patch.setattr(wire, "UPSERT_BYTES", size_bytes)
        bodies = wire.encode_upserts(vectors, "마당")
    parts = [json.loads(body) for body in bodies]
    assert [item for part in parts for item in part["vectors"]] == [wire.encode_vector(each) for each in vectors]
    assert {part["namespace"] for part in parts} <= {"마당"}
    assert all(1 <= len(part["vectors"]) <= count for part in parts)
    assert all(len(body) <= size_bytes or len(part["vectors"]) == 1 for body, part in zip(bodies, parts, strict=True))
    for body, after in zip(bodies, parts[1:], strict=False):       # none is cut earlier than it must be
        full = len(json.loads(body)["vectors"]) == count
        assert full or len(body) + 1 + len(wire.to_bytes(after["vectors"][0])) > size_bytes


def test_answers_that_their_clients_accept() -> None:
    answer = {"vectors": {"a": {"id": "a", "values": V, "metadata": {"k": "v"},
                                "sparseValues": {"indices": [1], "values": [0.5]}}, "b": {"id": "b", "values": []}},
              "namespace": "ns", "usage": {"readUnits": 1}}
    assert wire.decode_fetched(answer) == {"a": Vector("a", V, ([1], [0.5]), {"k": "v"}), "b": Vector("b", [], None, {})}
    assert wire.decode_fetched({}) == {}
    assert wire.decode_matches({"matches": [{"id": "a", "score": 0.9, "values": V, "metadata": {"k": "v"}}, {"id": "b"}],
                                "namespace": "ns"}) == [Hit("a", 0.9, V, {"k": "v"}), Hit("b", 0.0, [], {})]
    page = {"vectors": [{"id": "a"}], "namespace": "ns", "usage": {"readUnits": 1}}
    assert wire.decode_ids(page) == (["a"], None)
    assert wire.decode_ids({**page, "pagination": {"next": "t"}}) == (["a"], "t")
    assert wire.decode_ids({**page, "pagination": {"next": None}}) == (["a"], None)
    assert wire.decode_ids({**page, "pagination": {"next": ""}}) == (["a"], None)
    stats = {"namespaces": {"ns": {"vectorCount": 1}, "__default__": {"vectorCount": 2}, "": {"vectorCount": 3}},
             "dimension": 3, "indexFullness": 0.0, "totalVectorCount": 6, "metric": "dotproduct", "vectorType": "dense"}
    assert wire.decode_stats(stats) == Stats(3, "dot", {"ns": 1, "": 5})
    assert wire.decode_stats({}) == Stats(0, "", {})


STATUS = {"ready": True, "state": "Ready"}


@pytest.mark.parametrize("answer", [
    {"name": "idx", "host": "h", "status": STATUS, "dimension": 3, "metric": "cosine", "vector_type": "dense",
     "spec": {"serverless": {"cloud": "aws", "region": "us-east-1"}}},
    {"name": "idx", "host": "h", "status": STATUS, "tags": None,
     "schema": {"fields": {"title": {"type": "string"}, "_values": {"type": "dense_vector", "dimension": 3,
                                                                   "metric": "cosine"}}}}])
def test_an_index_in_both_descriptions(answer: Any) -> None:
    assert wire.decode_index(answer) == Index("idx", "h", 3, "cosine", True)
    assert not wire.decode_index({**answer, "status": {"ready": False}}).ready


def test_an_index_of_sparse_vectors_has_no_dimension() -> None:
    sparse = {"name": "sp", "host": "h", "status": STATUS, "schema": {"fields": {"_sparse_values": {"type": "sparse_vector"}}}}
    assert wire.decode_index(sparse) == Index("sp", "h", 0, "", True)


_json = st.recursive(st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=3),
                     lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
                         st.sampled_from(["vectors", "matches", "id", "score", "values", "metadata", "namespaces", "dimension",
                                          "sparseValues", "indices", "pagination", "next", "host", "name", "schema",
                                          "fields", "vectorCount", "status", "x"]), inner, max_size=4), max_leaves=12)


@given(_json)
def test_whatever_comes_is_decoded_or_malformed(payload: Any) -> None:
    for decode in (wire.decode_fetched, wire.decode_matches, wire.decode_ids, wire.decode_stats, wire.decode_index):
        with contextlib.suppress(Malformed):
            decode(payload)


@pytest.mark.parametrize(("body", "said"), [
    ('{"error":{"code":"NOT_FOUND","message":"Resource x not found"},"status":404}', "Resource x not found"),
    ('{"message":"Vector dimension 2\\ndoes not match","code":3,"details":[]}', "Vector dimension 2 does not match"),
    ('{"detail":"no"}', "no"), ('{"error":"Forbidden"}', "Forbidden"), ("Invalid API Key", "Invalid API Key"),
    ("", ""), ("[1]", "[1]"), ('{"x":1}', '{"x":1}'), ("\x1b[31mred", "[31mred")])
def test_failures(body: str, said: str) -> None:
    assert wire.decode_failure(body) == said


def test_a_long_failure_is_cut() -> None:
    assert len(wire.decode_failure("x" * 10_000)) == 400
