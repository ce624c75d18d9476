"""The server's half of Pinecone's dialect: what our client writes it reads, what it writes our client reads."""

from __future__ import annotations

import contextlib
import json
from array import array
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from madang.wire import pinecone as client
from madang.wire import pinecone_answers as answers
from madang.wire import pinecone_indexes as indexes
from madang.wire import pinecone_requests as requests
from madang.wire.pinecone import Hit, Index, Malformed, Stats, Vector
from madang.wire.pinecone_indexes import Embed, Plan

ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
spaces = st.text(st.characters(exclude_categories=["Cs"]), max_size=8).filter(lambda name: name != "__default__")
numbers = st.floats(width=32, allow_nan=False, allow_infinity=False)
values = st.lists(numbers, min_size=1, max_size=4)
sparse = st.dictionaries(st.integers(0, 2**32 - 1), numbers, min_size=1, max_size=4).map(
    lambda parts: (list(parts), list(parts.values())))
metadata = st.dictionaries(ids, st.booleans() | st.text(max_size=3) | st.lists(st.text(max_size=3), max_size=2) | numbers,
                           max_size=3)
filters = st.dictionaries(ids, st.fixed_dictionaries({"$eq": st.text(max_size=3)}), min_size=1, max_size=2)
vectors = st.builds(Vector, ids, values, st.none() | sparse, metadata)


def sent(body: Any) -> Any:
    """Over the wire."""
    return json.loads(json.dumps(body))


def same(vector: Vector) -> Vector:
    """With arrays as lists."""
    return Vector(vector.id, list(vector.values), vector.sparse and (list(vector.sparse[0]), list(vector.sparse[1])),
                  vector.metadata)


# Requests


@given(st.lists(vectors, min_size=1, max_size=4), spaces)
def test_upserts(given: list[Vector], namespace: str) -> None:
    (body,) = client.encode_upserts(given, namespace)
    found, space = requests.decode_upserts(json.loads(body), len(body))
    assert ([same(vector) for vector in found], space) == (given, namespace)
    assert all(isinstance(vector.values, array) for vector in found)


@given(st.none() | values, st.none() | sparse, st.none() | ids, st.integers(1, 99), spaces, st.none() | filters,
       st.booleans(), st.booleans())
def test_queries(vector: Any, halves: Any, identity: str | None, top_k: int, space: str, where: Any, with_values: bool,
                 with_metadata: bool) -> None:
    body = sent(client.encode_query(vector, top_k, space, where, with_values, with_metadata, halves, identity))
    if (identity is None) == (vector is None and halves is None):
        with pytest.raises(Malformed, match="id"):
            requests.decode_query(body)
        return
    found = requests.decode_query(body)
    read = found.sparse and (list(found.sparse[0]), list(found.sparse[1]))
    assert (found.vector and list(found.vector), read, found.id, found.top_k, found.namespace, found.filter, found.values,
            found.metadata) == (vector, halves, identity, top_k, space, where, with_values, with_metadata)


@given(ids, spaces, st.none() | values, st.none() | sparse, st.none() | metadata)
def test_updates_of_one(identity: str, space: str, vector: Any, halves: Any, changes: Any) -> None:
    found = requests.decode_update(sent(client.encode_update(identity, space, vector, changes, halves)))
    read = found.sparse and (list(found.sparse[0]), list(found.sparse[1]))
    assert (found.id, found.filter, found.namespace, found.values and list(found.values), read, found.metadata,
            found.dry_run) == (identity, None, space, vector, halves, changes, False)


@given(spaces, filters, metadata, st.booleans())
def test_updates_of_many(space: str, where: Any, changes: Any, dry_run: bool) -> None:
    found = requests.decode_update(sent(client.encode_update(None, space, None, changes, None, where, dry_run)))
    assert found == requests.Update(None, where, space, None, None, changes, dry_run)


@given(spaces, st.none() | st.lists(ids, max_size=3), st.none() | filters)
def test_deletes(space: str, wanted: list[str] | None, where: Any) -> None:
    where = None if wanted is not None else where
    assert requests.decode_delete(sent(client.encode_delete(space, wanted, where))) == requests.Delete(space, wanted, where)


@given(st.lists(ids, min_size=1, max_size=4), spaces)
def test_fetches(wanted: list[str], space: str) -> None:
    asked = parse_qs(urlencode(client.encode_fetch(wanted, space)), keep_blank_values=True)
    assert requests.decode_fetch(asked) == (wanted, space)


@given(spaces, st.integers(1, 100), st.none() | ids, spaces)
def test_listings(prefix: str, limit: int, token: str | None, space: str) -> None:
    asked = parse_qs(urlencode(client.encode_listing(prefix, limit, token, space)), keep_blank_values=True)
    assert requests.decode_listing(asked) == requests.Listing(prefix, limit, token, space)


def test_what_is_left_out_has_a_default() -> None:
    assert requests.decode_listing({}) == requests.Listing("", 100, None, "")
    assert requests.decode_fetch_by_metadata({"filter": {"k": 1}, "namespace": None}) == requests.FetchByMetadata({"k": 1})
    assert requests.decode_fetch_by_metadata({"filter": {"k": 1}, "limit": 7, "paginationToken": "t", "namespace": "n"}) == (
        requests.FetchByMetadata({"k": 1}, "n", 7, "t"))
    assert requests.decode_stats_request(None) is requests.decode_stats_request({"filter": {}}) is None
    assert requests.decode_stats_request({"filter": {"k": 1}}) == {"k": 1}
    assert requests.decode_namespace_request({"name": "n", "schema": {"fields": {}}}) == ("n", {"fields": {}})
    assert requests.decode_query({"vector": [1], "topK": 1, "namespace": "__default__", "filter": {}}) == requests.Query(
        1, array("f", [1.0]))


def test_numbers_of_metadata_are_doubles() -> None:
    found, _ = requests.decode_upserts({"vectors": [{"id": "a", "values": [1], "metadata": {"n": 1, "b": True}}]})
    assert repr(found[0].metadata) == "{'n': 1.0, 'b': True}"


def test_a_request_is_measured_by_its_numbers() -> None:
    """Digits are long and do not count: 1,000 vectors of 384 numbers are 1.5 MB, whatever their text is."""
    long = [{"id": f"{n}", "values": [0.12345678901234567] * 384} for n in range(1000)]
    size = len(json.dumps({"vectors": long}))
    assert size > 7_000_000
    assert len(requests.decode_upserts({"vectors": long}, size)[0]) == 1000
    large = [{"id": f"{n}", "values": [0.5] * 1536} for n in range(400)]
    with pytest.raises(Malformed, match=r"2,4\d\d,\d\d\d bytes.*2,000,000"):
        requests.decode_upserts({"vectors": large}, 10_000_000)


V = {"id": "a", "values": [1.0]}
MALFORMED: list[tuple[Any, Any, str]] = [
    (requests.decode_upserts, [], "body"), (requests.decode_upserts, {}, "vectors"), (requests.decode_upserts, {"vectors": []}, "vectors"),
    (requests.decode_upserts, {"vectors": [V] * 1001}, "1,001"), (requests.decode_upserts, {"vectors": ["a"]}, "vector 0"),
    (requests.decode_upserts, {"vectors": [V, {"values": [1]}]}, "id of vector 1"),
    (requests.decode_upserts, {"vectors": [{"id": "x" * 513}]}, "512"), (requests.decode_upserts, {"vectors": [{"id": 3}]}, "id"),
    (requests.decode_upserts, {"vectors": [{"id": "a", "values": ["1"]}]}, "'a': values"),
    (requests.decode_upserts, {"vectors": [{"id": "a", "values": "1"}]}, "'a': values"),
    (requests.decode_upserts, {"vectors": [{"id": "a", "values": [10**400]}]}, "'a': values"),
    (requests.decode_upserts, {"vectors": [{"id": "a", "metadata": 3}]}, "'a': metadata"),
    (requests.decode_upserts, {"vectors": [{"id": "a", "metadata": {"n": 10**400}}]}, "'a': metadata"),
    (requests.decode_upserts, {"vectors": [V], "namespace": 3}, "namespace"),
    (requests.decode_upserts, {"vectors": [{**V, "sparseValues": {"indices": [1], "values": []}}]}, "sparseValues"),
    (requests.decode_upserts, {"vectors": [{**V, "sparseValues": {"indices": [1, 1], "values": [1, 2]}}]}, "twice"),
    (requests.decode_upserts, {"vectors": [{**V, "sparseValues": {"indices": [-1], "values": [1]}}]}, "indices"),
    (requests.decode_upserts, {"vectors": [{**V, "sparseValues": {"indices": [1.0], "values": [1]}}]}, "indices"),
    (requests.decode_upserts, {"vectors": [{**V, "sparseValues": {"indices": list(range(2049)), "values": [1] * 2049}}]}, "2,048"),
    (requests.decode_query, {"vector": [1]}, "topK"), (requests.decode_query, {"vector": [1], "topK": True}, "topK"),
    (requests.decode_query, {"vector": [1], "topK": "3"}, "topK"), (requests.decode_query, {"topK": 1}, "vector"),
    (requests.decode_query, {"topK": 1, "vector": [1], "filter": [1]}, "filter"),
    (requests.decode_query, {"topK": 1, "vector": [1], "includeValues": "yes"}, "includeValues"),
    (requests.decode_update, {"id": "a", "filter": {"k": 1}}, "id or by filter"), (requests.decode_update, {}, "id or by filter"),
    (requests.decode_update, {"filter": {"k": 1}, "values": [1]}, "metadata only"),
    (requests.decode_delete, {}, "exactly one"), (requests.decode_delete, {"ids": ["a"], "deleteAll": True}, "exactly one"),
    (requests.decode_delete, {"ids": ["a"] * 1001}, "1,000"), (requests.decode_delete, {"ids": "a"}, "ids"),
    (requests.decode_fetch, {}, "1,000"), (requests.decode_fetch, {"ids": ["a"] * 1001}, "1,001"),
    (requests.decode_fetch, {"ids": ["a"], "namespace": ["a", "b"]}, "namespace"),
    (requests.decode_listing, {"limit": ["0"]}, "limit"), (requests.decode_listing, {"limit": ["101"]}, "100"),
    (requests.decode_listing, {"limit": ["x"]}, "limit"), (requests.decode_fetch_by_metadata, {}, "filter"),
    (requests.decode_namespace_request, {"name": ""}, "name"),
    (indexes.decode_create, {"name": "x", "dimension": 3}, "spec"), (indexes.decode_create, {"name": "X", "dimension": 3}, "name"),
    (indexes.decode_create, {"name": "-x"}, "name"), (indexes.decode_create, {"name": "x" * 46}, "45"),
    (indexes.decode_create, {"name": "x", "spec": {}}, "spec"), (indexes.decode_create, {"name": "x", "vector_type": "wide"}, "vector_type"),
    (indexes.decode_create, {"name": "x", "schema": {"fields": {}}}, "fields"),
    (indexes.decode_create, {"name": "x", "schema": {"fields": {"a": {"type": "wide"}}}}, "type"),
    (indexes.decode_create, {"name": "x", "schema": {"fields": {"a": {"type": "dense_vector", "dimension": 20_001}}}}, "20,000"),
    (indexes.decode_create, {"name": "x", "schema": {"fields": {name: {"type": "dense_vector", "dimension": 2} for name in "ab"}}}, "several"),
    (indexes.decode_create_for_model, {"name": "x", "cloud": "c", "region": "r", "embed": {"model": "m"}}, "field_map"),
    (indexes.decode_configure, {"tags": {"a": 1}}, "tag 'a'"), (indexes.decode_configure, {"deletion_protection": "on"}, "deletion_protection"),
    (indexes.decode_configure, {"read_capacity": {"mode": "Fast"}}, "mode"), (indexes.decode_configure, {"deployment": {"replicas": 0}}, "replicas"),
    (answers.decode_token, "%%%", "paginationToken"), (answers.decode_token, "_w", "paginationToken"),
]


@pytest.mark.parametrize("number", range(len(MALFORMED)))
def test_what_is_not_the_protocol_is_named(number: int) -> None:
    decode, body, words = MALFORMED[number]
    with pytest.raises(Malformed) as caught:
        decode(body)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


_json = st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
                     lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([
                         "vectors", "id", "values", "sparseValues", "indices", "metadata", "namespace", "vector", "topK", "filter",
                         "sparseVector", "ids", "deleteAll", "setMetadata", "dryRun", "limit", "name", "spec", "serverless", "pod",
                         "schema", "fields", "type", "embed", "model", "field_map", "text", "tags", "dimension", "metric", "mode",
                         "read_capacity", "deployment", "deletion_protection", "dedicated", "manual"]), inner, max_size=5), max_leaves=15)
READ = [requests.decode_upserts, requests.decode_query, requests.decode_update, requests.decode_delete,
        requests.decode_fetch_by_metadata, requests.decode_stats_request, requests.decode_namespace_request, indexes.decode_create,
        indexes.decode_create_for_model, indexes.decode_configure]


@given(_json, st.dictionaries(st.sampled_from(["x", "dimension", "name"]), st.just("a"), max_size=2))
def test_whatever_comes_is_decoded_or_malformed(payload: Any, more: dict[str, Any]) -> None:
    for decode in READ:
        with contextlib.suppress(Malformed):
            decode({**payload, **more} if isinstance(payload, dict) else payload)


# Answers


@given(st.lists(st.builds(Hit, ids, numbers, st.lists(numbers, max_size=3), metadata, st.none() | sparse), max_size=3), spaces)
def test_matches(hits: list[Hit], space: str) -> None:
    found = sent(answers.encode_matches([answers.encode_match(hit.id, hit.score, hit.values, hit.metadata, hit.sparse)
                                         for hit in hits], space))
    assert client.decode_matches(found) == hits
    assert found["namespace"] == space


@given(st.dictionaries(ids, vectors, max_size=3), spaces, st.none() | ids)
def test_fetched(found: dict[str, Vector], space: str, cursor: str | None) -> None:
    wanted = {name: Vector(name, vector.values, vector.sparse, vector.metadata) for name, vector in found.items()}
    token = None if cursor is None else answers.encode_token(cursor)
    answer = sent(answers.encode_fetched(wanted.values(), space, token))
    assert client.decode_fetched(answer) == wanted
    assert client.decode_ids({**answer, "vectors": []})[1] == token


@given(st.lists(ids, max_size=3), spaces, st.none() | ids)
def test_ids(found: list[str], space: str, cursor: str | None) -> None:
    page, token = client.decode_ids(sent(answers.encode_ids(found, space, None if cursor is None else answers.encode_token(cursor))))
    assert (page, None if token is None else answers.decode_token(token)) == (found, cursor)


@given(st.integers(1, 9), st.sampled_from(["cosine", "dot", "euclidean"]), st.dictionaries(spaces, st.integers(0, 9), max_size=3))
def test_stats(dim: int, metric: str, counts: dict[str, int]) -> None:
    answer = sent(answers.encode_stats(Stats(dim, metric, counts)))
    assert client.decode_stats(answer) == Stats(dim, metric, counts)
    assert answer["totalVectorCount"] == sum(counts.values())


@given(st.text("abc마당!?", min_size=1, max_size=9), st.integers(400, 599))
def test_failures(message: str, status: int) -> None:
    assert client.decode_failure(json.dumps(answers.encode_failure(status, message))) == message


def test_namespaces() -> None:
    assert answers.encode_namespace("", 3) == {"name": "__default__", "record_count": 3}
    schema = {"fields": {"genre": {"filterable": True}}}
    made = answers.encode_namespace("n", 0, schema)
    assert made == {"name": "n", "record_count": 0, "schema": schema, "indexed_fields": {"fields": ["genre"]}}
    assert answers.encode_namespaces([made], 5, "t") == {"namespaces": [made], "total_count": 5, "pagination": {"next": "t"}}


# Indexes

names = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,9}[a-z0-9])?", fullmatch=True)
metrics = st.sampled_from(["cosine", "dot", "euclidean"])
tags = st.dictionaries(st.text("ab", min_size=1, max_size=3), st.text("xy", max_size=3), max_size=3)
plans = st.builds(Plan, names, st.integers(1, 20_000), metrics, tags, st.booleans())


@given(names, st.integers(1, 20_000), metrics)
def test_what_our_client_creates(name: str, dim: int, metric: str) -> None:
    body = sent(client.encode_index(name, dim, metric, "aws", "us-east-1"))
    assert indexes.decode_create(body) == Plan(name, dim, metric)


@given(plans, st.sampled_from(indexes.VERSIONS))
def test_descriptions(plan: Plan, version: str) -> None:
    answer = sent(indexes.encode_index(plan, "http://h/i/x", version))
    assert client.decode_index(answer) == Index(plan.name, "http://h/i/x", plan.dim or 0, plan.metric, True)
    asked = {key: value for key, value in answer.items() if key not in ("host", "status", "read_capacity")}
    assert replace(indexes.decode_create(asked), read_capacity=None) == (plan if version < "2026-07" else Plan(
        plan.name, plan.dim, plan.metric, plan.tags, plan.protected, fields=answer["schema"]["fields"]))
    assert sent(indexes.encode_indexes([answer])) == {"indexes": [answer]}


@given(st.builds(Embed, st.text("m/", min_size=1, max_size=3), st.fixed_dictionaries({"text": st.text("ab", min_size=1)}),
                 st.none() | st.integers(1, 9), st.none() | metrics, tags, tags))
def test_embed_configurations(embed: Embed) -> None:
    assert indexes.decode_embed(sent(indexes.encode_embed(embed))) == embed
    body = {"name": "x", "cloud": "aws", "region": "us-east-1", "embed": indexes.encode_embed(embed)}
    assert indexes.decode_create_for_model(sent(body)) == Plan("x", embed.dim, embed.metric or "cosine", embed=embed)


@given(tags, st.sampled_from(["enabled", "disabled", None]))
def test_changes(changed: dict[str, str], protection: str | None) -> None:
    found = indexes.decode_configure({"tags": changed, "deletion_protection": protection})
    assert found == indexes.Changes(changed, None if protection is None else protection == "enabled")
    assert indexes.decode_configure({"spec": {"pod": {"replicas": 2, "pod_type": "p1.x2"}}}).deployment == {
        "replicas": 2, "pod_type": "p1.x2"}


@pytest.mark.parametrize(("header", "version"), [
    ("", "2025-04"), ("2024-07", "2025-04"), ("2025-04", "2025-04"), ("2025-07", "2025-04"), ("2025-10", "2025-10"),
    ("2026-04", "2025-10"), ("2026-07", "2026-07"), ("2027-01", "2026-07"), ("unstable", "2026-07")])
def test_versions(header: str, version: str) -> None:
    assert indexes.version_of(header) == version
