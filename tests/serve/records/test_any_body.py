"""Bodies of all kinds: whatever is asked, it is answered or refused; the server never fails."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import madang
from madang.serve.run import serving

TEXT = {"type": "string", "full_text_search": {}}
FIELDS = {"v": {"type": "dense_vector", "dimension": 2, "metric": "cosine"}, "s": {"type": "sparse_vector"}, "t": TEXT, "u": TEXT}
EMBED = {"model": "multilingual-e5-large", "field_map": {"text": "t"}, "dimension": 1024}
WORDS = ["t", "u", "v", "s", "_id", "a", "x", "", "*", "가", "\ud800", "\x00", "t:a^2 AND NOT b", "$eq", "$match_all", "$and",
         "dense_vector", "text", "query_string", "sparse_vector", "embed", "bge-reranker-v2-m3", "multilingual-e5-large"]
LEAF = (st.none() | st.booleans() | st.integers(-3, 5) | st.floats() | st.sampled_from(WORDS)
        | st.sampled_from([2**70, -1e308, 1e-320]))
VALUE = st.recursive(LEAF, lambda part: st.lists(part, max_size=3) | st.dictionaries(st.sampled_from(WORDS), part, max_size=3),
                     max_leaves=6)
VECTOR = st.lists(st.floats(-2, 2), min_size=2, max_size=2) | VALUE
SPARSE = st.fixed_dictionaries({"indices": st.just([1, 5]) | VALUE, "values": st.just([1.0, 2.0]) | VALUE}) | VALUE
NAMES = st.lists(st.sampled_from(WORDS), max_size=3) | VALUE
WHERE = st.dictionaries(st.sampled_from(["a", "t", "v", "$and", "$or", "_spans"]), st.lists(
    st.dictionaries(st.sampled_from(["a", "t"]), VALUE, max_size=2), max_size=2) | st.dictionaries(st.sampled_from(
        ["$eq", "$in", "$gte", "$exists", "$match_all", "$match_phrase", "$no"]), VALUE, max_size=2) | VALUE, max_size=2) | VALUE
CLAUSE = st.fixed_dictionaries({"type": st.sampled_from(WORDS[-7:])}, optional={
    "field": st.sampled_from(WORDS), "fields": NAMES, "query": st.sampled_from(WORDS) | VALUE, "values": VECTOR,
    "sparse_values": SPARSE}) | VALUE
DOCUMENT = st.fixed_dictionaries({"_id": st.sampled_from(WORDS) | VALUE}, optional={
    "v": VECTOR, "s": SPARSE, "t": st.sampled_from(WORDS) | VALUE, "a": VALUE, "_spans": VALUE, "_remove_fields": NAMES}) | VALUE
RERANK = st.fixed_dictionaries({"model": st.sampled_from(WORDS), "rank_fields": NAMES}, optional={
    "top_n": VALUE, "query": VALUE}) | VALUE
QUERY = st.fixed_dictionaries({"top_k": st.just(3) | VALUE}, optional={
    "inputs": st.just({"text": "a"}) | VALUE, "vector": VECTOR | st.dictionaries(st.sampled_from(
        ["values", "sparse_indices", "sparse_values"]), VECTOR, max_size=3), "id": st.sampled_from(WORDS) | VALUE,
    "filter": WHERE, "match_terms": st.dictionaries(st.sampled_from(["terms", "strategy"]), VALUE, max_size=2)}) | VALUE
DOCS = "/i/doc/namespaces/ns/documents"
BODIES: dict[str, Any] = {
    f"{DOCS}/upsert": st.fixed_dictionaries({"documents": st.lists(DOCUMENT, max_size=3) | VALUE}),
    f"{DOCS}/search": st.fixed_dictionaries({"score_by": st.lists(CLAUSE, max_size=2) | VALUE, "top_k": st.just(2) | VALUE},
                                            optional={"filter": WHERE, "include_fields": NAMES}),
    f"{DOCS}/fetch": st.fixed_dictionaries({}, optional={"ids": NAMES, "filter": WHERE, "limit": VALUE, "include_fields": NAMES,
                                                         "pagination_token": VALUE}),
    f"{DOCS}/list": st.fixed_dictionaries({}, optional={"prefix": VALUE, "limit": VALUE, "pagination_token": VALUE}),
    f"{DOCS}/update": st.fixed_dictionaries({}, optional={"documents": st.lists(DOCUMENT, max_size=2), "filter": WHERE,
                                                          "set_fields": VALUE, "remove_fields": NAMES}),
    f"{DOCS}/delete": st.fixed_dictionaries({}, optional={"ids": NAMES, "filter": WHERE, "delete_all": VALUE}),
    "/i/rec/records/namespaces/ns/search": st.fixed_dictionaries({"query": QUERY}, optional={"fields": NAMES, "rerank": RERANK}),
    "/i/rec/records/namespaces/ns/upsert": DOCUMENT,
    "/embed": st.fixed_dictionaries({"model": st.sampled_from(WORDS), "inputs": NAMES}, optional={
        "parameters": st.dictionaries(st.sampled_from(["input_type", "truncate", "dimension"]), VALUE, max_size=2)}),
    "/rerank": st.fixed_dictionaries({"model": st.sampled_from(WORDS), "query": VALUE, "documents": NAMES | st.lists(
        DOCUMENT, max_size=2)}, optional={"rank_fields": NAMES, "top_n": VALUE, "return_documents": VALUE}),
}


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with madang.open(Path(tmp_path_factory.mktemp("any")) / "ws") as ws, serving(ws) as address:
        ws.create_collection("doc", 2).set_attributes({"pinecone.fields": FIELDS})
        ws.create_collection("rec", 384).set_attributes({"pinecone.embed": EMBED})
        with httpx.Client(base_url=address, timeout=60) as client:
            yield client


@pytest.mark.parametrize("path", BODIES)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_nothing_is_a_defect(http: httpx.Client, path: str, data: st.DataObject) -> None:
    body = data.draw(BODIES[path] | VALUE)
    found = http.post(path, content=json.dumps(body).encode("utf-8", "surrogatepass"))
    assert found.status_code < 500, (body, found.text)
    if found.status_code >= 400:
        assert found.json()["error"]["message"]
