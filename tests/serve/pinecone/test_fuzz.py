"""Whatever is sent, the answer is one of the protocol: never a defect of the server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from inspect import isawaitable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from madang.base.errors import MadangError
from madang.serve.access import Identity
from madang.serve.http import Reply, Request
from madang.serve.pinecone import Pinecone
from madang.serve.work import Work
from madang.workspace import Workspace

PATHS = [("POST", "/query"), ("POST", "/vectors/upsert"), ("POST", "/vectors/update"), ("POST", "/vectors/delete"),
         ("POST", "/vectors/fetch_by_metadata"), ("POST", "/describe_index_stats"), ("POST", "/namespaces"),
         ("GET", "/vectors/fetch"), ("GET", "/vectors/list"), ("GET", "/namespaces"), ("GET", "/namespaces/a%00"),
         ("DELETE", "/namespaces/x")]
words = st.sampled_from(["a", "b", "ns", "__default__", "", "x" * 513, "\0", "마당", "k"])
numbers = st.sampled_from([0, 1, -1, 2, 0.5, 1e300, -0.0, 10_000, 10_001, 2**32, 2**63, 10**400])
vectors = st.lists(numbers, max_size=3) | words | st.none()
halves = st.fixed_dictionaries({}, optional={"indices": st.lists(numbers, max_size=3) | words, "values": vectors}) | st.none() | numbers
filters = st.recursive(st.none() | words | numbers | st.booleans() | st.lists(words | numbers, max_size=2), lambda inner: st.dictionaries(
    st.sampled_from(["$eq", "$ne", "$in", "$gt", "$and", "$or", "$exists", "k", "", "$x"]), inner, max_size=2) | st.lists(inner, max_size=2))
metadata = st.dictionaries(words | st.just("$k"), words | numbers | st.none() | st.lists(words, max_size=2) | st.booleans(), max_size=2) | words
entries = st.fixed_dictionaries({}, optional={"id": words | numbers, "values": vectors, "sparseValues": halves, "metadata": metadata})
bodies = st.fixed_dictionaries({}, optional={
    "vectors": st.lists(entries, max_size=3) | words, "namespace": words | numbers | st.none(), "topK": numbers | words, "vector": vectors,
    "sparseVector": halves, "id": words | numbers, "filter": filters, "includeValues": st.booleans() | words, "ids": st.lists(words) | words,
    "includeMetadata": st.booleans(), "deleteAll": st.booleans(), "setMetadata": metadata, "values": vectors, "sparseValues": halves,
    "limit": numbers, "paginationToken": words, "name": words | numbers, "schema": metadata, "dryRun": st.booleans()})
queries = st.sampled_from([b"", b"ids=a", b"ids=%00&namespace=%FF", b"limit=3&prefix=%ED%A0%80", b"limit=99999999999999999999",
                           b"paginationToken=_w", b"paginationToken=%00", b"namespace=a&namespace=b", b"limit=%C2%B2", b"%"])


@pytest.fixture(scope="module")
def dialect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pinecone]:
    with Workspace(tmp_path_factory.mktemp("fuzz") / "ws") as workspace:
        workspace.create_collection("dense", dim=3, metric="dot")
        workspace.create_collection("angles", dim=2)
        workspace.create_collection("sparse", dim=1, metric="dot", attributes={"pinecone.vector_type": "sparse"})
        work = Work()
        yield Pinecone(workspace, work)
        work.close()


async def answered(dialect: Pinecone, method: str, path: str, query: bytes, body: bytes) -> Reply:
    """As the door answers, but for what is a defect: that is raised."""
    handler, parts = dialect.find(method, path) or (None, {})
    assert handler is not None
    try:
        made = handler(Request(method, path, {}, query, body, Identity(), "http://h", parts))
        return await made if isawaitable(made) else made
    except MadangError as error:
        return dialect.refused(error, {})


@given(st.sampled_from(PATHS), st.sampled_from(["dense", "angles", "sparse", "nope", "%00", "a%2Fb", "x" * 300]), queries, bodies)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_the_data_plane(dialect: Pinecone, where: tuple[str, str], index: str, query: bytes, body: dict[str, Any]) -> None:
    reply = asyncio.run(answered(dialect, where[0], f"/i/{index}{where[1]}", query, json.dumps(body).encode()))
    assert reply.status in (200, 400, 404, 409), reply.body


schema = st.dictionaries(words, st.fixed_dictionaries({}, optional={
    "type": st.sampled_from(["dense_vector", "sparse_vector", "string", "x"]) | numbers, "dimension": numbers, "metric": words | st.just("cosine"),
    "embed": st.fixed_dictionaries({}, optional={"model": words, "dimension": numbers})}) | words, max_size=2)
plans = st.fixed_dictionaries({}, optional={
    "name": st.sampled_from(["dense", "new", "Bad_", "x" * 46]) | words | numbers, "dimension": numbers, "metric": st.sampled_from(["cosine", "x", 3, None]),
    "vector_type": st.sampled_from(["dense", "sparse", 3, None]), "tags": st.dictionaries(words, words | numbers, max_size=2) | words,
    "spec": st.sampled_from([{"serverless": {"cloud": "aws", "region": "r"}}, {"pod": {"environment": "e", "replicas": 0}}, {"byoc": {}}, {}, 3, None,
                             {"serverless": {"cloud": 3}}, {"serverless": {}, "pod": {}}]),
    "deletion_protection": st.sampled_from(["enabled", "disabled", 3]), "embed": st.fixed_dictionaries({}, optional={
        "model": words | st.just("bundled/static"), "field_map": st.dictionaries(st.just("text"), words | numbers), "dimension": numbers}) | words,
    "schema": st.fixed_dictionaries({"fields": schema | words}) | words, "cloud": words, "region": words | numbers,
    "read_capacity": st.fixed_dictionaries({}, optional={"mode": words | st.just("Dedicated"), "dedicated": words | schema}) | words,
    "deployment": st.fixed_dictionaries({}, optional={"replicas": numbers, "pod_type": words | numbers, "cloud": words | numbers}) | words})


@given(st.sampled_from([("POST", "/indexes"), ("POST", "/indexes/create-for-model"), ("PATCH", "/indexes/dense"), ("PATCH", "/indexes/%00"),
                        ("DELETE", "/indexes/new"), ("GET", "/indexes/new"), ("GET", "/indexes"), ("GET", "/backups/x")]),
       plans, st.sampled_from([b"", b"2025-10", b"2026-07", b"\xff"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_the_control_plane(dialect: Pinecone, where: tuple[str, str], body: dict[str, Any], version: bytes) -> None:
    async def run() -> list[Reply]:
        first = await answered(dialect, *where, b"", json.dumps(body).encode())
        listed = [await answered(dialect, "GET", path, b"", b"") for path in ("/indexes", "/indexes/dense")]
        return [first, *listed]

    for reply in asyncio.run(run()):
        assert reply.status in (200, 201, 202, 400, 403, 404, 409, 501), reply.body
