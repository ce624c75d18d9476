"""The data plane over plain HTTP, with NumPy and dictionaries as oracles."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest

from madang.workspace import Workspace
from tests.serve.pinecone.conftest import Made, said

A, B, C = [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.6, 0.8, 0.0]


def upsert(client: httpx.Client, index: str, vectors: list[Any], namespace: str = "") -> int:
    reply = client.post(f"{index}/vectors/upsert", json={"vectors": vectors, "namespace": namespace})
    assert reply.status_code == 200, reply.text
    count: int = reply.json()["upsertedCount"]
    return count


def query(client: httpx.Client, index: str, **body: Any) -> list[dict[str, Any]]:
    reply = client.post(f"{index}/query", json={"topK": 10, **body})
    assert reply.status_code == 200, reply.text
    matches: list[dict[str, Any]] = reply.json()["matches"]
    return matches


def found(matches: list[dict[str, Any]]) -> list[str]:
    return [match["id"] for match in matches]


# Queries


@pytest.mark.parametrize("metric", ["cosine", "dotproduct", "euclidean"])
def test_the_nearest_with_the_scores_of_the_service(pinecone: httpx.Client, made: Made, metric: str) -> None:
    rng = np.random.default_rng(3)
    vectors, asked = rng.normal(size=(400, 8)), rng.normal(size=8)
    index = made(metric, 8)
    assert upsert(pinecone, index, [{"id": f"v{n}", "values": vectors[n].tolist(), "metadata": {"n": n}} for n in range(400)]) == 400
    dots = vectors @ asked
    scores = {"dotproduct": dots, "cosine": dots / np.linalg.norm(vectors, axis=1) / np.linalg.norm(asked),
              "euclidean": ((vectors - asked) ** 2).sum(axis=1)}[metric]
    order = np.argsort(scores if metric == "euclidean" else -scores)
    for where, wanted in ((None, order), ({"n": {"$gte": 300}}, order[order >= 300]), ({}, order)):
        matches = query(pinecone, index, vector=asked.tolist(), **({} if where is None else {"filter": where}))
        assert found(matches) == [f"v{n}" for n in wanted[:10]]
        assert [match["score"] for match in matches] == pytest.approx(scores[wanted[:10]].tolist(), rel=1e-4)
    assert len(query(pinecone, index, vector=asked.tolist(), topK=10_000)) == 400


def test_the_score_of_what_is_equal_is_zero_and_not_minus_zero(pinecone: httpx.Client, made: Made) -> None:
    index = made("euclidean")
    upsert(pinecone, index, [{"id": "a", "values": A}])
    assert '"score":0.0' in pinecone.post(f"{index}/query", json={"vector": A, "topK": 1}).text


def test_what_an_answer_holds(pinecone: httpx.Client, made: Made) -> None:
    index = made("dotproduct")
    upsert(pinecone, index, [{"id": "a", "values": A, "metadata": {"n": 1, "s": "x", "b": True, "l": ["p", "q"]},
                              "sparseValues": {"indices": [7, 2], "values": [0.1, -2]}}, {"id": "b", "values": B}])
    assert query(pinecone, index, vector=A, topK=1) == [{"id": "a", "score": 1.0, "values": []}]
    text = pinecone.post(f"{index}/query", json={"vector": A, "topK": 2, "includeMetadata": True, "includeValues": True}).text
    assert '"metadata":{"n":1.0,"s":"x","b":true,"l":["p","q"]}' in text
    assert '"values":[1.0,0.0,0.0],"sparseValues":{"indices":[2,7],"values":[-2.0,0.1]}' in text
    assert '{"id":"b","score":0.0,"values":[0.0,1.0,0.0]}' in text


def test_by_id(pinecone: httpx.Client, made: Made) -> None:
    index = made()
    upsert(pinecone, index, [{"id": "a", "values": A}, {"id": "b", "values": B}, {"id": "c", "values": C}], "ns")
    assert found(query(pinecone, index, id="b", namespace="ns")) == ["b", "c", "a"]
    assert query(pinecone, index, id="nobody", namespace="ns") == []
    assert query(pinecone, index, id="b") == []


def test_dense_and_sparse_are_added_up_exactly(pinecone: httpx.Client, made: Made) -> None:
    rng = np.random.default_rng(5)
    vectors, asked = rng.normal(size=(300, 6)), rng.normal(size=6)
    halves = [dict(zip(rng.choice(20, 3, replace=False).tolist(), rng.normal(size=3).tolist(), strict=True)) for _ in range(300)]
    index = made("dotproduct", 6)
    upsert(pinecone, index, [{"id": f"v{n}", "values": vectors[n].tolist(), "metadata": {"even": n % 2 == 0},
                              **({"sparseValues": {"indices": list(halves[n]), "values": list(halves[n].values())}} if n % 4 else {})}
                             for n in range(300)])
    sparse = {3: 2.0, 11: -1.5}
    sums = vectors @ asked + [sum(halves[n].get(place, 0) * value for place, value in sparse.items()) if n % 4 else 0 for n in range(300)]
    for where in (None, {"even": True}):
        wanted = [n for n in np.argsort(-sums) if where is None or n % 2 == 0][:20]
        matches = query(pinecone, index, vector=asked.tolist(), sparseVector={"indices": list(sparse), "values": list(sparse.values())},
                        topK=20, **({} if where is None else {"filter": where}))
        assert found(matches) == [f"v{n}" for n in wanted]
        assert [match["score"] for match in matches] == pytest.approx(sums[wanted].tolist(), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize(("body", "words"), [
    ({"vector": [1.0]}, "dimension 1"), ({"vector": A, "topK": 0}, "topK"), ({"vector": A, "topK": 10_001}, "10,000"), ({"vector": A, "topK": "3"}, "topK"),
    ({"vector": A, "filter": {"k": {"$like": "x"}}}, "$like"), ({"vector": A, "filter": {"k": None}}, "filter"), ({"vector": A, "id": "a"}, "not by both"),
    ({}, "vector"), ({"vector": ["1", "2", "3"]}, "vector"), ({"vector": [1e300, 0, 0]}, "infinity"), ({"vector": {"a": 1}}, "vector"),
    ({"sparseVector": {"indices": [1], "values": [1.0]}}, "dense"), ({"vector": A, "namespace": 3}, "namespace"),
    ({"vector": A, "sparseVector": {"indices": [1], "values": [1.0]}}, "dotproduct"), ({"vector": A, "namespace": "x" * 513}, "512")])
def test_a_bad_query_is_refused(pinecone: httpx.Client, made: Made, body: dict[str, Any], words: str) -> None:
    index = made()
    assert words in said(pinecone.post(f"{index}/query", json={"topK": 1, **body}), 400)


# Writing


def test_an_upsert_is_all_or_nothing(pinecone: httpx.Client, made: Made) -> None:
    index = made()
    good = {"id": "good", "values": A}
    for bad, words in (({"id": "bad", "values": [1.0]}, "'bad'"), ({"id": "bad"}, "'bad'"), ({"id": "bad", "values": [0, 0, 0]}, "zero"),
                       ({"id": "bad", "values": A, "metadata": {"k": None}}, "null"), ({"id": "bad", "values": A, "metadata": {"k": {}}}, "'k'"),
                       ({"id": "bad", "values": A, "metadata": {"k": [1]}}, "'k'"), ({"id": "bad", "values": A, "metadata": {"k": "x" * 41_000}}, "40,960"),
                       ({"id": "bad", "values": A, "sparseValues": {"indices": [1], "values": [1]}}, "dotproduct"), ({"id": "", "values": A}, "id"),
                       ({"id": "x" * 513, "values": A}, "512")):
        assert words in said(pinecone.post(f"{index}/vectors/upsert", json={"vectors": [good, bad]}), 400)
    assert "1,001" in said(pinecone.post(f"{index}/vectors/upsert", json={"vectors": [{"id": f"{n}", "values": A} for n in range(1001)]}), 400)
    assert pinecone.post(f"{index}/describe_index_stats", json={}).json()["totalVectorCount"] == 0


def test_an_upsert_replaces(pinecone: httpx.Client, made: Made) -> None:
    index = made()
    upsert(pinecone, index, [{"id": "a", "values": A, "metadata": {"old": 1}}])
    assert upsert(pinecone, index, [{"id": "a", "values": B, "metadata": {"new": 2}}, {"id": "a", "values": C, "metadata": {"new": 3}}]) == 2
    assert pinecone.get(f"{index}/vectors/fetch", params={"ids": "a"}).json()["vectors"] == {
        "a": {"id": "a", "values": C, "metadata": {"new": 3.0}}}


def test_a_namespace_has_two_names(pinecone: httpx.Client, made: Made) -> None:
    index = made()
    upsert(pinecone, index, [{"id": "a", "values": A}])
    upsert(pinecone, index, [{"id": "b", "values": B}], "__default__")
    for space in ({}, {"namespace": ""}, {"namespace": "__default__"}, {"namespace": None}):
        assert sorted(found(query(pinecone, index, vector=A, **space))) == ["a", "b"]
    fetched = pinecone.get(f"{index}/vectors/fetch", params={"ids": ["a", "b"], "namespace": "__default__"}).json()
    assert sorted(fetched["vectors"]) == ["a", "b"]


def test_updates(pinecone: httpx.Client, made: Made) -> None:
    index = made("dotproduct")
    upsert(pinecone, index, [{"id": "a", "values": A, "metadata": {"k": "v", "n": 1}, "sparseValues": {"indices": [1], "values": [1]}}])

    def after(**body: Any) -> Any:
        reply = pinecone.post(f"{index}/vectors/update", json={"id": "a", **body})
        assert (reply.status_code, reply.json()) == (200, {})
        return pinecone.get(f"{index}/vectors/fetch", params={"ids": "a"}).json()["vectors"]["a"]

    assert after(setMetadata={"k": "w", "l": ["x"]})["metadata"] == {"k": "w", "n": 1.0, "l": ["x"]}
    assert after(values=B)["values"] == B
    assert after(sparseValues={"indices": [4], "values": [2]})["sparseValues"] == {"indices": [4], "values": [2.0]}
    whole = after(values=C, setMetadata={"n": 2})
    assert whole == {"id": "a", "values": C, "sparseValues": {"indices": [4], "values": [2.0]},
                     "metadata": {"k": "w", "n": 2.0, "l": ["x"]}}
    for bad in ({"values": [1.0]}, {"setMetadata": {"k": None}}, {}, {"filter": {"k": 1}}):
        said(pinecone.post(f"{index}/vectors/update", json={"id": "a", **bad}), 400)
    assert pinecone.post(f"{index}/vectors/update", json={"id": "nobody", "values": A}).json() == {}
    assert found(query(pinecone, index, vector=A)) == ["a"]


def test_updates_by_filter(pinecone: httpx.Client, made: Made) -> None:
    index = made()
    upsert(pinecone, index, [{"id": f"v{n}", "values": C, "metadata": {"n": n, "kept": "x"}} for n in range(20)], "ns")
    body = {"filter": {"n": {"$lt": 5}}, "setMetadata": {"few": True}, "namespace": "ns"}
    assert pinecone.post(f"{index}/vectors/update", json={**body, "dryRun": True}).json() == {"matchedRecords": 5}
    assert query(pinecone, index, vector=A, filter={"few": True}, namespace="ns") == []
    assert pinecone.post(f"{index}/vectors/update", json=body).json() == {"matchedRecords": 5}
    matches = query(pinecone, index, vector=A, filter={"few": True, "kept": "x"}, namespace="ns", topK=20)
    assert sorted(found(matches)) == [f"v{n}" for n in range(5)]
    assert pinecone.post(f"{index}/vectors/update", json={**body, "namespace": "nowhere"}).json() == {"matchedRecords": 0}


def test_deletes(pinecone: httpx.Client, made: Made) -> None:
    index = made()
    for space in ("", "ns"):
        upsert(pinecone, index, [{"id": f"v{n}", "values": C, "metadata": {"n": n}} for n in range(6)], space)

    def left(space: str) -> list[str]:
        return sorted(found(query(pinecone, index, vector=A, namespace=space)))

    for body in ({"ids": ["v0", "nobody"]}, {"filter": {"n": {"$in": [1, 2]}}}):
        assert pinecone.post(f"{index}/vectors/delete", json={"namespace": "ns", **body}).json() == {}
    assert left("ns") == ["v3", "v4", "v5"]
    assert len(left("")) == 6
    pinecone.post(f"{index}/vectors/delete", json={"deleteAll": True})
    assert (left(""), left("ns")) == ([], ["v3", "v4", "v5"])
    assert pinecone.post(f"{index}/vectors/delete", json={"deleteAll": True, "namespace": "nowhere"}).status_code == 200
    for body in ({}, {"ids": ["v3"], "deleteAll": True}, {"filter": {"$bad": 1}}, {"ids": ["v3"] * 1001}):
        said(pinecone.post(f"{index}/vectors/delete", json={"namespace": "ns", **body}), 400)
    assert left("ns") == ["v3", "v4", "v5"]


# Reading


def test_fetching(pinecone: httpx.Client, made: Made) -> None:
    index = made(dim=2)
    ids = ["a/b?c#d", "100%", "white space", "마당", "a+b", "x" * 512]
    upsert(pinecone, index, [{"id": identity, "values": [1.5, -2]} for identity in ids])
    fetched = pinecone.get(f"{index}/vectors/fetch", params={"ids": [*ids, "nobody"]}).json()["vectors"]
    assert fetched == {identity: {"id": identity, "values": [1.5, -2.0]} for identity in ids}
    many = [f"n{n}" for n in range(1000)]
    upsert(pinecone, index, [{"id": identity, "values": [1, 2]} for identity in many])
    assert len(pinecone.get(f"{index}/vectors/fetch", params={"ids": many}).json()["vectors"]) == 1000
    assert "1,001" in said(pinecone.get(f"{index}/vectors/fetch", params={"ids": [*many, "a"]}), 400)
    said(pinecone.get(f"{index}/vectors/fetch"), 400)


def pages(client: httpx.Client, method: str, url: str, asked: dict[str, Any]) -> list[list[str]]:
    """Every page of a listing, as ids."""
    seen: list[list[str]] = []
    token: dict[str, str] = {}
    while True:
        sent: Any = {"params": {**asked, **token}} if method == "GET" else {"json": {**asked, **token}}
        answer = client.request(method, url, **sent).json()
        seen.append([vector if isinstance(vector, str) else vector["id"] for vector in answer["vectors"]])
        if "pagination" not in answer:
            return seen
        token = {"paginationToken": answer["pagination"]["next"]}


def test_listing(pinecone: httpx.Client, made: Made) -> None:
    index = made()
    ids = sorted([f"doc{n:02}" for n in range(25)] + ["doc/1", "마당", "다른 것", "doc%"])
    upsert(pinecone, index, [{"id": identity, "values": A} for identity in ids], "ns")
    for limit in (7, 100):
        listed = pages(pinecone, "GET", f"{index}/vectors/list", {"namespace": "ns", "limit": limit})
        assert [identity for page in listed for identity in page] == ids
        assert all(len(page) == limit for page in listed[:-1])
    assert pages(pinecone, "GET", f"{index}/vectors/list", {"namespace": "ns", "prefix": "doc1", "limit": 4}) == [
        ["doc10", "doc11", "doc12", "doc13"], ["doc14", "doc15", "doc16", "doc17"], ["doc18", "doc19"]]
    assert pages(pinecone, "GET", f"{index}/vectors/list", {"prefix": "doc"}) == [[]]
    for bad in ({"limit": 0}, {"limit": 101}, {"limit": "x"}, {"limit": -1}, {"paginationToken": "%"}):
        said(pinecone.get(f"{index}/vectors/list", params=bad), 400)


def test_fetching_by_metadata(pinecone: httpx.Client, made: Made) -> None:
    index = made("dotproduct")
    upsert(pinecone, index, [{"id": f"v{n:02}", "values": A, "metadata": {"n": n % 3}, "sparseValues": {"indices": [n], "values": [1]}}
                             for n in range(30)])
    wanted = [f"v{n:02}" for n in range(30) if n % 3 == 1]
    listed = pages(pinecone, "POST", f"{index}/vectors/fetch_by_metadata", {"filter": {"n": 1}, "limit": 4})
    assert [sorted(page) for page in listed] == [wanted[:4], wanted[4:8], wanted[8:]]
    vector = pinecone.post(f"{index}/vectors/fetch_by_metadata", json={"filter": {"n": 1}, "limit": 1}).json()["vectors"]
    assert vector == {"v01": {"id": "v01", "values": A, "sparseValues": {"indices": [1], "values": [1.0]}, "metadata": {"n": 1.0}}}
    assert pinecone.post(f"{index}/vectors/fetch_by_metadata", json={"filter": {"n": 9}}).json()["vectors"] == {}
    for bad in ({}, {"filter": {"n": 1}, "limit": 0}, {"filter": {"n": {"$x": 1}}}, {"filter": {"n": 1}, "paginationToken": "%"}):
        said(pinecone.post(f"{index}/vectors/fetch_by_metadata", json=bad), 400)


# Sparse vectors only


def test_an_index_of_sparse_vectors(pinecone: httpx.Client, made: Made, served: tuple[Workspace, str]) -> None:
    index = made("dotproduct", None, vector_type="sparse")
    described = pinecone.get(f"/indexes/{index[3:]}").json()
    assert (described["vector_type"], described["metric"], "dimension" in described) == ("sparse", "dotproduct", False)
    vectors = [{"id": f"s{n}", "sparseValues": {"indices": [n, n + 1], "values": [1.0, n]}, "metadata": {"n": n}} for n in range(10)]
    assert upsert(pinecone, index, vectors) == 10
    matches = query(pinecone, index, sparseVector={"indices": [3, 4], "values": [2.0, 1.0]}, includeValues=True, includeMetadata=True)
    assert [(match["id"], match["score"]) for match in matches] == [("s3", 5.0), ("s2", 4.0), ("s4", 1.0)]
    assert matches[0] == {"id": "s3", "score": 5.0, "values": [], "sparseValues": {"indices": [3, 4], "values": [1.0, 3.0]},
                          "metadata": {"n": 3.0}}
    assert found(query(pinecone, index, id="s3")) == ["s3", "s4", "s2"]
    assert pinecone.get(f"{index}/vectors/fetch", params={"ids": "s1"}).json()["vectors"] == {
        "s1": {"id": "s1", "values": [], "sparseValues": {"indices": [1, 2], "values": [1.0, 1.0]}, "metadata": {"n": 1.0}}}
    pinecone.post(f"{index}/vectors/update", json={"id": "s1", "sparseValues": {"indices": [50], "values": [1]}})
    assert found(query(pinecone, index, sparseVector={"indices": [50], "values": [1.0]})) == ["s1"]
    stats = pinecone.post(f"{index}/describe_index_stats", json={}).json()
    assert (stats["vectorType"], stats["totalVectorCount"], "dimension" in stats) == ("sparse", 10, False)
    for method, body in (("/query", {"vector": [1.0], "topK": 1}), ("/vectors/upsert", {"vectors": [{"id": "a", "values": [1.0]}]}),
                         ("/vectors/upsert", {"vectors": [{"id": "a"}]}), ("/vectors/update", {"id": "s1", "values": [1.0]})):
        assert "sparse" in said(pinecone.post(f"{index}{method}", json=body), 400)
    assert served[0].collection(index[3:]).dim == 1


# Several at once


def test_every_acknowledged_write_is_read(pinecone: httpx.Client, made: Made, served: tuple[Workspace, str]) -> None:
    index = made()

    def work(number: int) -> list[int]:
        seen = []
        with httpx.Client(base_url=served[1], timeout=60) as client:
            for n in range(8):
                upsert(client, index, [{"id": f"t{number}-{n}", "values": C, "metadata": {"t": number}}])
                seen.append(len(query(client, index, vector=A, filter={"t": number}, topK=100)))
        return seen

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4))) == [list(range(1, 9))] * 4
