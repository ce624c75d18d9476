"""Records over HTTP: text goes in, the index embeds it, and text finds it."""

from __future__ import annotations

import json
from typing import Any

import httpx
import numpy as np
import pytest

from madang.models.providers.bundled import BundledProvider
from madang.workspace import Workspace
from tests.serve.records.conftest import Make, answered, refusal

MINILM = BundledProvider().embedder("minilm")
TEXTS = {"apple": "An apple is a sweet fruit that grows on trees.", "phone": "Apple Inc. makes telephones and computers.",
         "river": "The river floods the valley every spring.", "car": "The garage repairs cars and motorcycles."}
RECORDS = [{"_id": identity, "chunk_text": text, "size": len(text), "tags": ["x", identity]}
           for identity, text in TEXTS.items()]


def upsert(http: httpx.Client, records: list[Any], index: str = "im", namespace: str = "ns") -> httpx.Response:
    return http.post(f"/i/{index}/records/namespaces/{namespace}/upsert", content="\n".join(map(json.dumps, records)),
                     headers={"Content-Type": "application/x-ndjson"})


def search(http: httpx.Client, query: dict[str, Any], index: str = "im", namespace: str = "ns",
           **more: Any) -> httpx.Response:
    return http.post(f"/i/{index}/records/namespaces/{namespace}/search", json={"query": {"top_k": 3, **query}, **more})


@pytest.mark.parametrize("dim", [1024, 384])       # the whole width, or only what is not zero
@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
def test_text_is_found_by_its_meaning(embedding: Make, http: httpx.Client, dim: int, metric: str) -> None:
    embedding(dim=dim, metric=metric)
    made = upsert(http, RECORDS)
    assert (made.status_code, made.content) == (201, b"")
    found = answered(search(http, {"inputs": {"text": "fixing an automobile"}}))
    hits = found["result"]["hits"]
    vectors, asked = MINILM.embed(list(TEXTS.values())), MINILM.embed(["fixing an automobile"])[0]
    expected = np.sum((vectors - asked)**2, axis=1) if metric == "euclidean" else vectors @ asked
    order = np.argsort(expected if metric == "euclidean" else -expected)[:3]
    assert [hit["_id"] for hit in hits] == [list(TEXTS)[place] for place in order]
    assert np.allclose([hit["_score"] for hit in hits], expected[order], atol=2e-3)
    assert hits[0]["fields"] == {"chunk_text": TEXTS["car"], "size": float(len(TEXTS["car"])), "tags": ["x", "car"]}
    assert found["usage"] == {"read_units": 1, "embed_total_tokens": 5}


def test_searches_of_other_kinds(embedding: Make, http: httpx.Client) -> None:
    embedding(dim=384)
    assert upsert(http, [{"id": each["_id"], **{k: v for k, v in each.items() if k != "_id"}} for each in RECORDS]
                  ).status_code == 201
    by_id = answered(search(http, {"id": "car", "top_k": 1}))
    assert [hit["_id"] for hit in by_id["result"]["hits"]] == ["car"]
    assert by_id["usage"] == {"read_units": 1}
    assert answered(search(http, {"id": "nobody"}))["result"]["hits"] == []
    wide = [*map(float, MINILM.embed([TEXTS["river"]])[0]), *[0.0] * 640]
    for vector in ({"values": wide}, {"values": wide[:384]}, wide):
        hits = answered(search(http, {"vector": vector, "top_k": 1}))["result"]["hits"]
        assert (hits[0]["_id"], round(hits[0]["_score"], 2)) == ("river", 1.0)
    assert "does not fit an index of 384" in refusal(search(http, {"vector": {"values": [*wide[:-1], 0.5]}}))
    filtered = answered(search(http, {"inputs": {"text": "car"}, "filter": {"tags": {"$in": ["river"]}}}))
    assert [hit["_id"] for hit in filtered["result"]["hits"]] == ["river"]
    few = answered(search(http, {"inputs": {"text": "car"}, "top_k": 1}, fields=["size"]))["result"]["hits"]
    assert few[0]["fields"] == {"size": float(len(TEXTS["car"]))}
    assert answered(search(http, {"id": "car", "top_k": 1}, fields=["*"])) == by_id      # as clients before 9 ask
    assert answered(search(http, {"inputs": {"text": "x"}}, namespace="empty"))["result"]["hits"] == []


def test_hits_are_ranked_once_more(embedding: Make, http: httpx.Client) -> None:
    embedding()
    upsert(http, RECORDS)
    rerank = {"model": "bge-reranker-v2-m3", "rank_fields": ["chunk_text"]}
    found = answered(search(http, {"inputs": {"text": "sweet fruit"}, "top_k": 4}, fields=["size"],
                            rerank={**rerank, "top_n": 2}))
    hits = found["result"]["hits"]
    assert (len(hits), hits[0]["_id"]) == (2, "apple")
    assert list(hits[0]["fields"]) == ["size"]         # ranked by a field that is not given back
    assert found["usage"]["rerank_units"] == 1
    other = answered(search(http, {"inputs": {"text": "sweet fruit"}, "top_k": 4},
                            rerank={**rerank, "query": "Who makes telephones?"}))["result"]["hits"]
    assert (len(other), other[0]["_id"]) == (4, "phone")
    assert "no text in field 'body'" in refusal(search(http, {"inputs": {"text": "x"}},
                                                       rerank={**rerank, "rank_fields": ["body"]}))
    assert "rerank.query" in refusal(search(http, {"id": "car"}, rerank=rerank))
    assert "does not rerank" in refusal(search(http, {"inputs": {"text": "x"}}, rerank={**rerank, "model": "gpt-4o"}))


def test_a_sparse_model_finds_words(workspace: Workspace, embedding: Make, http: httpx.Client) -> None:
    embedding("sp", 1, "dot", "pinecone-sparse-english-v0").set_attributes({"pinecone.vector_type": "sparse"})
    assert upsert(http, [*RECORDS, {"_id": "ko", "chunk_text": "강이 봄마다 계곡을 덮친다."}], "sp").status_code == 201
    hits = answered(search(http, {"inputs": {"text": "apples and telephones"}}, "sp"))["result"]["hits"]
    assert [hit["_id"] for hit in hits][:2] == ["phone", "apple"]
    assert answered(search(http, {"inputs": {"text": "계곡"}}, "sp"))["result"]["hits"][0]["_id"] == "ko"
    for terms, strategy, ids in ((["apple", "tree"], "all", {"apple"}), (["apple", "tree"], "any", {"apple", "phone"}),
                                 (["pear"], "all", set())):
        found = answered(search(http, {"inputs": {"text": "apple"}, "match_terms": {
            "terms": terms, "strategy": strategy}}, "sp"))
        assert {hit["_id"] for hit in found["result"]["hits"]} == ids
    few = answered(search(http, {"inputs": {"text": "apple"}, "top_k": 1, "match_terms": {
        "terms": ["apple"], "strategy": "any"}}, "sp"))["result"]["hits"]
    assert len(few) == 1
    assert answered(search(http, {"id": "river", "top_k": 1}, "sp"))["result"]["hits"][0]["_id"] == "river"
    embedding()
    assert "model is sparse" in refusal(search(http, {"inputs": {"text": "x"}, "match_terms": {"terms": ["x"]}}))


@pytest.mark.parametrize(("body", "said"), [
    (b"", "1 to 96 records"),
    (b"\n\n", "1 to 96 records"),
    (b'{"_id": "a", "chunk_text": "x"}\n{', "line 2 is not JSON"),
    (b"[]", "line 1 is no JSON object"),
    (b'{"chunk_text": "x"}', "line 1: _id must be text"),
    (b'{"_id": "a"}', "record 'a' has no text in field 'chunk_text'"),
    (b'{"_id": "a", "chunk_text": 3}', "no text in field"),
    (b'{"_id": "a", "chunk_text": "x", "n": null}', "n"),
    (b'{"_id": "a", "chunk_text": "x", "n": {"deep": 1}}', "n"),
    (b"\n".join(b'{"_id": "%d", "chunk_text": "x"}' % i for i in range(97)), "not 97"),
    (b'{"_id": "a", "chunk_text": "%s"}' % (b"x" * 50_000), "40"),
    (b"\xff", "line 1 is not JSON"),
])
def test_nothing_is_written_of_a_bad_upsert(embedding: Make, http: httpx.Client, body: bytes, said: str) -> None:
    made = embedding(dim=384)
    assert said in refusal(http.post("/i/im/records/namespaces/ns/upsert", content=body))
    assert made.stats().records == 0


@pytest.mark.parametrize(("query", "said"), [
    ({}, "exactly one of"), ({"inputs": {"text": "x"}, "id": "a"}, "exactly one of"), ({"inputs": {}}, "text must be"),
    ({"inputs": {"text": "x"}, "top_k": 0}, "top_k"), ({"inputs": {"text": "x"}, "filter": {"a": {"$no": 1}}}, "$no"),
    ({"vector": {}}, "needs values"), ({"vector": {"sparse_indices": [1]}}, "both or none"),
    ({"vector": {"values": [1.0]}}, "dimension"), ({"id": ""}, "query.id"),
])
def test_a_bad_search_is_named(embedding: Make, http: httpx.Client, query: dict[str, Any], said: str) -> None:
    embedding(dim=384)
    assert said in refusal(search(http, query))


def test_indexes_that_do_not_embed_or_are_not_there(workspace: Workspace, http: httpx.Client) -> None:
    workspace.create_collection("plain", 3)
    assert "does not embed" in refusal(upsert(http, RECORDS, "plain"))
    assert "does not embed" in refusal(search(http, {"inputs": {"text": "x"}}, "plain"))
    assert answered(search(http, {"vector": {"values": [1, 0, 0]}}, "plain"))["result"]["hits"] == []
    assert "index 'nope' was not found" in refusal(upsert(http, RECORDS, "nope"), 404)


def test_vectors_of_two_models_do_not_meet(workspace: Workspace, embedding: Make, http: httpx.Client) -> None:
    embedding()
    assert upsert(http, RECORDS).status_code == 201
    workspace.settings.aliases["multilingual-e5-large"] = "bundled/static"
    for found in (upsert(http, RECORDS), search(http, {"inputs": {"text": "x"}})):
        assert "was embedded with bundled/minilm@" in refusal(found, 409)


def test_default_and_other_namespaces(workspace: Workspace, embedding: Make, http: httpx.Client) -> None:
    made = embedding(dim=384)
    for namespace in ("__default__", "a%20b", "%EA%B3%B5%EA%B0%84"):
        assert upsert(http, RECORDS[:1], namespace=namespace).status_code == 201
    assert set(made.stats().namespaces) == {"", "a b", "공간"}
