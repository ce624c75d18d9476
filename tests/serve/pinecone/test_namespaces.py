"""Namespaces and counts over plain HTTP."""

from __future__ import annotations

import httpx

from tests.serve.pinecone.conftest import Made, said

A = [1.0, 0.0, 0.0]


def fill(client: httpx.Client, index: str, counts: dict[str, int]) -> None:
    for space, count in counts.items():
        reply = client.post(f"{index}/vectors/upsert", json={"namespace": space, "vectors": [
            {"id": f"v{n}", "values": A, "metadata": {"n": n}} for n in range(count)]})
        assert reply.status_code == 200


def test_counts(pinecone: httpx.Client, made: Made) -> None:
    index = made("euclidean")
    fill(pinecone, index, {"": 3, "ns": 5, "마당": 1})
    stats = {"dimension": 3, "indexFullness": 0.0, "metric": "euclidean", "vectorType": "dense"}
    assert pinecone.post(f"{index}/describe_index_stats", json={}).json() == {
        **stats, "totalVectorCount": 9, "namespaces": {"__default__": {"vectorCount": 3}, "ns": {"vectorCount": 5}, "마당": {"vectorCount": 1}}}
    assert pinecone.get(f"{index}/describe_index_stats").json()["totalVectorCount"] == 9
    some = pinecone.post(f"{index}/describe_index_stats", json={"filter": {"n": {"$gte": 1}}}).json()
    assert {name: entry["vectorCount"] for name, entry in some["namespaces"].items()} == {"__default__": 2, "ns": 4, "마당": 0}
    assert some["totalVectorCount"] == 6
    said(pinecone.post(f"{index}/describe_index_stats", json={"filter": {"n": {"$x": 1}}}), 400)


def test_a_namespace_is_made_and_goes(pinecone: httpx.Client, made: Made) -> None:
    index = made()
    schema = {"fields": {"genre": {"filterable": True}}}
    kept = {"name": "made", "record_count": 0, "schema": schema, "indexed_fields": {"fields": ["genre"]}}
    assert pinecone.post(f"{index}/namespaces", json={"name": "made", "schema": schema}).json() == kept
    assert pinecone.get(f"{index}/namespaces/made").json() == kept
    assert "exists" in said(pinecone.post(f"{index}/namespaces", json={"name": "made"}), 409)
    fill(pinecone, index, {"made": 4, "a/b c%": 2, "": 1})
    assert pinecone.get(f"{index}/namespaces/made").json()["record_count"] == 4
    assert pinecone.get(f"{index}/namespaces/a%2Fb%20c%25").json() == {"name": "a/b c%", "record_count": 2}
    assert pinecone.get(f"{index}/namespaces/__default__").json() == {"name": "__default__", "record_count": 1}
    pinecone.post(f"{index}/vectors/delete", json={"namespace": "made", "deleteAll": True})
    assert pinecone.get(f"{index}/namespaces/made").json()["record_count"] == 0        # it was made, so it stays
    for name in ("made", "a%2Fb%20c%25", "__default__"):
        assert pinecone.delete(f"{index}/namespaces/{name}").json() == {}
        said(pinecone.delete(f"{index}/namespaces/{name}"), 404)
        said(pinecone.get(f"{index}/namespaces/{name}"), 404)
    assert pinecone.get(f"{index}/namespaces").json() == {"namespaces": [], "total_count": 0}
    for bad in ({}, {"name": ""}, {"name": 3}, {"name": "x" * 513}, {"name": "x", "schema": 3}):
        said(pinecone.post(f"{index}/namespaces", json=bad), 400)


def test_a_listing(pinecone: httpx.Client, made: Made) -> None:
    index = made()
    names = sorted(f"n{n}" for n in range(12))
    fill(pinecone, index, dict.fromkeys([*names, "", "other"], 1))
    seen, token = [], {}
    while True:
        answer = pinecone.get(f"{index}/namespaces", params={"limit": 5, **token}).json()
        assert answer["total_count"] == 14
        seen.append([entry["name"] for entry in answer["namespaces"]])
        if "pagination" not in answer:
            break
        token = {"paginationToken": answer["pagination"]["next"]}
    assert seen == [["__default__", *names[:4]], names[4:9], [*names[9:], "other"]]
    some = pinecone.get(f"{index}/namespaces", params={"prefix": "n1"}).json()
    assert ([entry["name"] for entry in some["namespaces"]], some["total_count"]) == (["n1", "n10", "n11"], 3)
    assert [entry["name"] for entry in pinecone.get(f"{index}/namespaces", params={"prefix": "__"}).json()["namespaces"]] == ["__default__"]
    said(pinecone.get(f"{index}/namespaces", params={"limit": 101}), 400)
