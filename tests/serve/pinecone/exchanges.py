"""What the clients send, as recorded of them, with the answers that they accepted; and what our server answers.

`python -m tests.serve.pinecone.exchanges` writes the answers of today to `golden/`, one file for each version.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

GOLDEN = Path(__file__).with_name("golden")
VERSIONS = {"2025-04": "7.3.0", "2025-10": "9.1.0", "2026-07": "10.2.0"}
V = [0.1, 0.2, 0.3]


@dataclass(frozen=True)
class Exchange:
    """One request of a client, and the answer it accepted when the request was recorded (None: a body of nothing)."""

    call: str
    method: str
    path: str
    body: Any = None
    accepted: Any = None
    status: int = 200


def _index(version: str, metric: str = "cosine") -> tuple[dict[str, Any], dict[str, Any]]:
    """How a version asks for an index, and how one is described to it."""
    told: dict[str, Any] = {"name": "idx", "host": "h", "status": {"ready": True, "state": "Ready"},
                            "deletion_protection": "disabled", "tags": {"e": "d"}}
    ready = {"mode": "OnDemand", "status": {"state": "Ready", "current_shards": None, "current_replicas": None}}
    if version == "2026-07":
        schema = {"fields": {"_values": {"type": "dense_vector", "dimension": 3, "metric": metric}}}
        place = {"deployment_type": "managed", "cloud": "aws", "region": "us-east-1"}
        return ({"schema": schema, "name": "idx", "deployment": place, "tags": {"e": "d"}},
                {**told, "schema": schema, "deployment": place, "read_capacity": ready})
    place = {"cloud": "aws", "region": "us-east-1"}
    asked = {"name": "idx", "spec": {"serverless": place}, "dimension": 3, "metric": metric,
             "deletion_protection": "disabled", "vector_type": "dense", "tags": {"e": "d"}}
    newer = {**place, "read_capacity": ready} if version == "2025-10" else place
    return asked, {**told, "dimension": 3, "metric": metric, "vector_type": "dense", "spec": {"serverless": newer}}


def exchanges(version: str) -> Iterator[Exchange]:
    """In an order in which each can be answered."""
    asked, told = _index(version, "dotproduct")
    yield Exchange("create_index", "POST", "/indexes", asked, told, 201)
    yield Exchange("create_index twice", "POST", "/indexes", asked, {"error": {"code": "c", "message": "m"}, "status": 409}, 409)
    yield Exchange("describe_index", "GET", "/indexes/idx", None, told)
    yield Exchange("list_indexes", "GET", "/indexes", None, {"indexes": [told]})
    yield Exchange("describe_index missing", "GET", "/indexes/nope", None, {"error": {"code": "c", "message": "m"}, "status": 404}, 404)
    yield Exchange("configure_index", "PATCH", "/indexes/idx", {"deletion_protection": "enabled", "tags": {"a": "b"}}, told)
    yield Exchange("delete_index protected", "DELETE", "/indexes/idx", None, {"error": {"code": "c", "message": "m"}, "status": 403}, 403)
    yield Exchange("configure_index again", "PATCH", "/indexes/idx", {"deletion_protection": "disabled", "tags": {"a": ""}}, told)
    yield from _data(version)
    yield Exchange("delete_index", "DELETE", "/indexes/idx", None, None, 202)
    yield Exchange("delete_index twice", "DELETE", "/indexes/idx", None, {"error": {"code": "c", "message": "m"}, "status": 404}, 404)


def _data(version: str) -> Iterator[Exchange]:
    usage = {"readUnits": 1}
    match = {"id": "a", "score": 0.9, "values": V, "metadata": {"k": "v"}}
    vector = {"id": "a", "values": V, "metadata": {"k": "v"}, "sparseValues": {"indices": [1], "values": [0.5]}}
    yield Exchange("upsert tuples", "POST", "/vectors/upsert", {"vectors": [
        {"id": "a", "values": V, "metadata": {"k": "v"}, "sparseValues": {"indices": [1], "values": [0.5]}}, {"id": "b", "values": V}],
        "namespace": "ns"}, {"upsertedCount": 2})
    yield Exchange("upsert dict+sparse", "POST", "/vectors/upsert", {"vectors": [
        {"id": "a", "values": V, "sparseValues": {"indices": [1], "values": [0.5]}, "metadata": {"y": 1, "l": ["x"]}}]}, {"upsertedCount": 1})
    yield Exchange("query vector+filter", "POST", "/query", {"topK": 2, "includeValues": True, "includeMetadata": True, "namespace": "ns",
                   "vector": V, "filter": {"k": {"$eq": "v"}}}, {"matches": [match], "namespace": "ns", "usage": usage})
    yield Exchange("query id", "POST", "/query", {"topK": 2, "includeValues": False, "includeMetadata": False, "id": "a"},
                   {"matches": [{**match, "values": [], "metadata": {}}], "namespace": "", "usage": usage})
    yield Exchange("query hybrid sparse", "POST", "/query", {"topK": 2, "includeValues": False, "includeMetadata": False, "vector": V,
                   "sparseVector": {"indices": [1], "values": [0.5]}}, {"matches": [{"id": "a", "score": 1.0, "values": []}],
                                                                       "namespace": "", "usage": usage})
    yield Exchange("query of a wrong dimension", "POST", "/query", {"topK": 2, "vector": [1.0]},
                   {"error": {"code": "c", "message": "m"}, "status": 400}, 400)
    yield Exchange("fetch", "GET", "/vectors/fetch?ids=a&ids=b&ids=nope&namespace=ns", None,
                   {"vectors": {"a": vector}, "namespace": "ns", "usage": usage})
    yield Exchange("update values+md", "POST", "/vectors/update", {"namespace": "ns", "id": "a", "values": V, "sparseValues": {
        "indices": [1], "values": [0.5]}, "setMetadata": {"k": "w"}}, {})
    yield Exchange("update of nothing", "POST", "/vectors/update", {"namespace": "ns", "id": "nope", "setMetadata": {"k": "w"}}, {})
    yield Exchange("list", "GET", "/vectors/list?namespace=ns&prefix=a", None, {"vectors": [{"id": "a"}], "namespace": "ns", "usage": usage})
    yield Exchange("list_paginated", "GET", "/vectors/list?namespace=ns&limit=1", None,
                   {"vectors": [{"id": "a"}], "namespace": "ns", "usage": usage, "pagination": {"next": "t"}})
    yield Exchange("describe_index_stats", "POST", "/describe_index_stats", {}, {
        "namespaces": {"ns": {"vectorCount": 1}}, "dimension": 3, "indexFullness": 0.0, "totalVectorCount": 1, "metric": "cosine",
        "vectorType": "dense"})
    yield Exchange("describe_index_stats filter", "POST", "/describe_index_stats", {"filter": {"k": "w"}}, {
        "namespaces": {"ns": {"vectorCount": 1}}, "dimension": 3, "indexFullness": 0.0, "totalVectorCount": 1, "metric": "cosine",
        "vectorType": "dense"})
    yield Exchange("describe_namespace", "GET", "/namespaces/ns", None, {"name": "ns", "record_count": "1"})
    yield Exchange("list_namespaces", "GET", "/namespaces", None, {"namespaces": [{"name": "ns", "record_count": "1"}], "total_count": 1})
    if version >= "2025-10":
        yield Exchange("fetch_by_metadata", "POST", "/vectors/fetch_by_metadata", {"filter": {"k": {"$eq": "w"}}, "namespace": "ns", "limit": 10},
                       {"vectors": {"a": vector}, "namespace": "ns", "usage": usage})
        yield Exchange("update by filter, tried", "POST", "/vectors/update", {"namespace": "ns", "setMetadata": {"k": "x"}, "filter": {
            "k": {"$eq": "w"}}, "dryRun": True}, {"matchedRecords": 1})
        yield Exchange("update by filter", "POST", "/vectors/update", {"namespace": "ns", "setMetadata": {"k": "x"}, "filter": {
            "k": {"$eq": "w"}}}, {"matchedRecords": 1})
        yield Exchange("create_namespace", "POST", "/namespaces", {"name": "made"}, {"name": "ns", "record_count": "0"})
        yield Exchange("delete_namespace", "DELETE", "/namespaces/made", None, {})
    yield Exchange("delete ids", "POST", "/vectors/delete", {"namespace": "ns", "ids": ["a", "nope"]}, {})
    yield Exchange("delete filter", "POST", "/vectors/delete", {"namespace": "ns", "filter": {"k": {"$in": ["v"]}}}, {})
    yield Exchange("delete_all", "POST", "/vectors/delete", {"namespace": "ns", "deleteAll": True}, {})


def answered(client: httpx.Client, version: str) -> list[dict[str, Any]]:
    """Each exchange of a version, as the server at hand answers it. The workspace must be empty."""
    made = []
    for exchange in exchanges(version):
        plane = "" if exchange.path.startswith("/indexes") else "/i/idx"
        reply = client.request(exchange.method, plane + exchange.path, json=exchange.body,
                               headers={"X-Pinecone-Api-Version": version, "Api-Key": "any"})
        text = reply.text.replace(str(client.base_url).rstrip("/"), "http://server")
        made.append({"call": exchange.call, "status": reply.status_code, "answer": json.loads(text) if text else None})
    return made


def main() -> None:
    import madang
    from madang.serve.run import serving

    for version in VERSIONS:
        with (tempfile.TemporaryDirectory() as directory, madang.open(directory) as workspace, serving(workspace) as address,
              httpx.Client(base_url=address) as client):
            lines = ",\n".join(json.dumps(each, ensure_ascii=False) for each in answered(client, version))
            (GOLDEN / f"{version}.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
