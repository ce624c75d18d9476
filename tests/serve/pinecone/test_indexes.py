"""The control plane over plain HTTP."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from madang.serve.access import Identity, NotAllowed
from madang.serve.http import Request
from madang.serve.pinecone import Pinecone
from madang.serve.work import Work
from madang.workspace import Workspace
from tests.serve.pinecone.conftest import Made, said

SPEC = {"serverless": {"cloud": "aws", "region": "us-east-1"}}
NEWEST = {"X-Pinecone-Api-Version": "2026-07"}


def test_what_is_made_is_a_collection_with_a_graph(served: tuple[Workspace, str], pinecone: httpx.Client) -> None:
    for metric, ours in (("cosine", "cosine"), ("dotproduct", "dot"), ("euclidean", "euclidean")):
        reply = pinecone.post("/indexes", json={"name": f"made-{ours}", "dimension": 4, "metric": metric, "spec": SPEC})
        assert reply.status_code == 201
        assert reply.json()["host"] == f"{served[1]}/i/made-{ours}"
        collection = served[0].collection(f"made-{ours}")
        assert (collection.dim, collection.metric, collection.index) == (4, ours, "hnsw")
        assert pinecone.get(f"/indexes/made-{ours}").json() == reply.json()


@pytest.mark.parametrize(("change", "words"), [
    ({"name": "Upper"}, "lower case"), ({"name": "a_b"}, "lower case"), ({"name": "x" * 46}, "45"), ({"name": ""}, "name"),
    ({"name": "마당"}, "name"), ({"name": None}, "name"), ({"dimension": 0}, "dimension"), ({"dimension": 20_001}, "20,000"),
    ({"dimension": "3"}, "dimension"), ({"metric": "manhattan"}, "metric"), ({"spec": None}, "spec"), ({"spec": {"x": {}}}, "spec"),
    ({"vector_type": "sparse"}, "dimension"), ({"tags": {"a": 3}}, "tag"), ({"deletion_protection": True}, "deletion_protection"),
    ({"spec": {"serverless": {"cloud": "aws"}}}, "region")])
def test_a_bad_index_is_refused(pinecone: httpx.Client, change: dict[str, Any], words: str) -> None:
    before = pinecone.get("/indexes").json()
    body = {"name": "bad", "dimension": 3, "metric": "cosine", "spec": SPEC, **change}
    assert words in said(pinecone.post("/indexes", json=body), 400)
    assert pinecone.get("/indexes").json() == before


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"x"', b"\xff"])
def test_a_body_that_is_none(pinecone: httpx.Client, body: bytes) -> None:
    for method, path in (("POST", "/indexes"), ("POST", "/indexes/create-for-model")):
        said(pinecone.request(method, path, content=body), 400)


def test_every_version_describes_what_any_version_made(pinecone: httpx.Client, made: Made) -> None:
    name = made("euclidean", 7, tags={"a": "b"})[3:]
    fields = {"vec": {"type": "dense_vector", "dimension": 7, "metric": "dotproduct"},
              "title": {"type": "string", "full_text_search": {"language": "en"}}}
    schema = pinecone.post("/indexes", headers=NEWEST, json={"name": f"{name}-new", "schema": {"fields": fields}})
    assert schema.status_code == 201
    assert schema.json()["schema"] == {"fields": fields}
    assert schema.json()["deployment"]["deployment_type"] == "managed"
    newest = pinecone.get(f"/indexes/{name}", headers=NEWEST).json()
    assert newest["schema"] == {"fields": {"_values": {"type": "dense_vector", "dimension": 7, "metric": "euclidean"}}}
    assert newest["deployment"] == {"deployment_type": "managed", "cloud": "aws", "region": "us-east-1"}
    older = pinecone.get(f"/indexes/{name}-new").json()
    assert (older["dimension"], older["metric"], older["vector_type"]) == (7, "dotproduct", "dense")


def test_pods_are_described_as_pods(pinecone: httpx.Client, made: Made) -> None:
    name = made(spec={"pod": {"environment": "us-east1-gcp", "pod_type": "p2.x1", "shards": 2}})[3:]
    changed = pinecone.patch(f"/indexes/{name}", json={"spec": {"pod": {"replicas": 3}}}).json()
    assert changed["spec"] == {"pod": {"environment": "us-east1-gcp", "pod_type": "p2.x1", "replicas": 3, "shards": 2, "pods": 6}}
    newest = pinecone.get(f"/indexes/{name}", headers=NEWEST).json()
    assert newest["deployment"] == {"deployment_type": "pod", "environment": "us-east1-gcp", "pod_type": "p2.x1", "replicas": 3,
                                    "shards": 2}
    assert "pods" in said(pinecone.patch(f"/indexes/{made()[3:]}", json={"spec": {"pod": {"replicas": 3}}}), 400)


def test_tags_are_merged(pinecone: httpx.Client, made: Made) -> None:
    name = made(tags={"a": "1", "b": "2"})[3:]
    assert pinecone.patch(f"/indexes/{name}", json={"tags": {"b": "", "c": "3"}}).json()["tags"] == {"a": "1", "c": "3"}
    assert pinecone.patch(f"/indexes/{name}", json={"tags": {"a": "", "c": ""}}).json()["tags"] is None
    full = {f"t{n}": "x" for n in range(20)}
    assert pinecone.patch(f"/indexes/{name}", json={"tags": full}).status_code == 200
    assert "21" in said(pinecone.patch(f"/indexes/{name}", json={"tags": {"more": "x"}}), 400)


def test_read_capacity_is_kept(pinecone: httpx.Client, made: Made) -> None:
    name = made()[3:]
    wanted = {"mode": "Dedicated", "dedicated": {"node_type": "t1", "scaling": "Manual", "manual": {"shards": 2, "replicas": 1}}}
    changed = pinecone.patch(f"/indexes/{name}", json={"spec": {"serverless": {"read_capacity": wanted}}}).json()
    assert changed["spec"]["serverless"]["read_capacity"] == {
        **wanted, "status": {"state": "Ready", "current_shards": 2, "current_replicas": 1}}


def test_protection(pinecone: httpx.Client, made: Made) -> None:
    name = made(deletion_protection="enabled")[3:]
    assert "protection" in said(pinecone.delete(f"/indexes/{name}"), 403)
    pinecone.patch(f"/indexes/{name}", json={"deletion_protection": "disabled"})
    assert pinecone.delete(f"/indexes/{name}").status_code == 202
    for method, path in (("DELETE", f"/indexes/{name}"), ("GET", f"/indexes/{name}"), ("PATCH", f"/indexes/{name}"),
                         ("POST", f"/i/{name}/query"), ("GET", f"/i/{name}/vectors/list")):
        assert name in said(pinecone.request(method, path, json={"vector": [1], "topK": 1}), 404)


def test_an_index_for_a_model(pinecone: httpx.Client, served: tuple[Workspace, str]) -> None:
    embed = {"model": "bundled/static", "field_map": {"text": "chunk"}, "write_parameters": {"truncate": "END"}}
    reply = pinecone.post("/indexes/create-for-model", json={"name": "for-model", "cloud": "aws", "region": "us-east-1",
                                                             "embed": embed, "tags": {"a": "b"}})
    assert reply.status_code == 201, reply.text
    dim = served[0].models.embedder("bundled/static").dim
    kept = {**embed, "dimension": dim, "metric": "cosine"}
    assert reply.json()["embed"] == {**kept, "vector_type": "dense"}
    assert (reply.json()["dimension"], reply.json()["tags"]) == (dim, {"a": "b"})
    assert served[0].collection("for-model").attributes["pinecone.embed"] == kept
    newest = pinecone.get("/indexes/for-model", headers=NEWEST).json()
    assert newest["schema"]["fields"] == {"chunk": {"type": "semantic_text", "model": "bundled/static", "metric": "cosine",
                                                    "write_parameters": {"truncate": "END"}}}
    changed = pinecone.patch("/indexes/for-model", json={"embed": {"read_parameters": {"input_type": "query"}}}).json()
    assert changed["embed"]["read_parameters"] == {"input_type": "query"}
    assert "cannot be changed" in said(pinecone.patch("/indexes/for-model", json={"embed": {"model": "bundled/minilm"}}), 400)


@pytest.mark.parametrize(("embed", "status"), [
    ({"model": "nobody/nothing", "field_map": {"text": "t"}}, 404), ({"model": "bundled/static"}, 400), ({}, 400),
    ({"model": "bundled/static", "field_map": {"text": "t"}, "dimension": 0}, 400)])
def test_a_bad_model_is_refused(pinecone: httpx.Client, embed: dict[str, Any], status: int) -> None:
    said(pinecone.post("/indexes/create-for-model", json={"name": "bad-model", "cloud": "a", "region": "b", "embed": embed}), status)
    said(pinecone.get("/indexes/bad-model"), 404)


def test_a_collection_of_the_workspace_is_an_index(pinecone: httpx.Client, served: tuple[Workspace, str]) -> None:
    served[0].create_collection("모음_1", dim=2, metric="dot").upsert([{"id": "a", "values": [1, 2], "metadata": {"n": 3}}])
    found = next(index for index in pinecone.get("/indexes").json()["indexes"] if index["name"] == "모음_1")
    assert (found["dimension"], found["metric"]) == (2, "dotproduct")
    matches = httpx.post(f"{found['host']}/query", json={"vector": [1, 0], "topK": 1, "includeMetadata": True}).json()["matches"]
    assert repr(matches) == "[{'id': 'a', 'score': 1.0, 'values': [], 'metadata': {'n': 3.0}}]"


def test_of_what_is_not_served_there_is_none(pinecone: httpx.Client, made: Made) -> None:
    index = made()
    for path, listed in (("/collections", "collections"), ("/backups", "data"), (f"/indexes/{index[3:]}/backups", "data"),
                         ("/restore-jobs", "data"), (f"{index}/bulk/imports", "data")):
        assert pinecone.get(path).json() == {listed: []}
        assert "madang collection" in said(pinecone.post(path, json={}), 501)
        for method in ("GET", "DELETE"):
            assert "'x'" in said(pinecone.request(method, f"{path}/x"), 404)


def test_what_each_call_needs(tmp_path: Any) -> None:
    """A key that may only read, or only some namespaces, is held to that by every handler."""
    with Workspace(tmp_path / "ws") as workspace:
        dialect = Pinecone(workspace, Work())
        workspace.create_collection("c", dim=1)
        bodies = {"/query": b'{"vector":[1],"topK":1,"namespace":"mine"}', "/vectors/upsert": b'{"vectors":[{"id":"a","values":[1]}]}',
                  "/vectors/update": b'{"id":"a","setMetadata":{}}', "/vectors/delete": b'{"ids":["a"]}',
                  "/vectors/fetch_by_metadata": b'{"filter":{}}', "/namespaces": b'{"name":"x"}'}
        writing = {"/vectors/upsert", "/vectors/update", "/vectors/delete"}
        for method, path in (("POST", "/query"), ("POST", "/vectors/upsert"), ("POST", "/vectors/update"), ("POST", "/vectors/delete"),
                             ("POST", "/vectors/fetch_by_metadata"), ("POST", "/namespaces"), ("GET", "/vectors/fetch"),
                             ("GET", "/vectors/list"), ("GET", "/namespaces/x"), ("DELETE", "/namespaces/x")):
            handler, parts = dialect.find(method, f"/i/c{path}") or (None, {})
            assert handler is not None
            asked = Request(method, path, {}, b"ids=a", bodies.get(path, b""), Identity("read", frozenset({"other"})), "", parts)
            with pytest.raises(NotAllowed):
                handler(asked)
            if path in writing or method == "DELETE" or (method, path) == ("POST", "/namespaces"):
                asked.identity = Identity("read")
                with pytest.raises(NotAllowed):
                    handler(asked)
        for method, path in (("POST", "/indexes"), ("PATCH", "/indexes/c"), ("DELETE", "/indexes/c"), ("POST", "/indexes/create-for-model")):
            handler, parts = dialect.find(method, path) or (None, {})
            assert handler is not None
            body = (b'{"name":"x","dimension":1,"cloud":"a","region":"b","spec":{"serverless":{"cloud":"a","region":"b"}},'
                    b'"embed":{"model":"bundled/static","field_map":{"text":"t"}}}')
            coroutine: Any = handler(Request(method, path, {}, b"", body, Identity("write"), "", parts))
            with pytest.raises(NotAllowed):
                coroutine.send(None)
