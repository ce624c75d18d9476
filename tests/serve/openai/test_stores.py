"""Files and vector stores over plain HTTP: what becomes of files, whatever they are called, and after a restart."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx
import pytest

import madang
from madang.serve.openai_ledger import Ledger
from madang.serve.run import serving
from madang.wire.openai_stores import Adding
from madang.workspace import Workspace

LEAVE = b"# Leave\n\nEmployees get 25 days of paid vacation per year.\n"


def send(http: httpx.Client, name: str = "leave.md", content: bytes = LEAVE, **fields: str) -> httpx.Response:
    return http.post("/v1/files", files={"file": (name, content)}, data={"purpose": "assistants", **fields})


def waited(http: httpx.Client, path: str) -> dict[str, Any]:
    """What is there once it is settled."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        found: dict[str, Any] = http.get(path).json()
        if found["status"] != "in_progress":
            return found
        time.sleep(0.02)
    raise AssertionError(f"{path} was not settled")


def store_of(http: httpx.Client, *files: str, **body: Any) -> str:
    store = http.post("/v1/vector_stores", json={"file_ids": list(files), **body}).json()["id"]
    assert waited(http, f"/v1/vector_stores/{store}")["status"] == "completed"
    return str(store)


def search(http: httpx.Client, store: str, query: Any = "How many vacation days?", **body: Any) -> httpx.Response:
    return http.post(f"/v1/vector_stores/{store}/search", json={"query": query, **body})


def test_a_name_is_only_told_back(workspace: Workspace, http: httpx.Client) -> None:
    for name in ("../../../escape.md", "a/b/leave.md", "..\\x.md"):
        said = send(http, name)
        if said.status_code == 200:
            assert "/" not in said.json()["filename"]
    kept = {path.name for path in (workspace.path / "files").iterdir()}
    assert all(name.startswith(("file-", "files.db")) for name in kept), kept
    assert not list(workspace.path.parent.glob("escape*"))
    assert http.get("/v1/files/..%2F..%2Fmadang.toml/content").status_code == 404
    assert http.get("/v1/files/..%2Ffiles.db/content").status_code == 404


@pytest.mark.parametrize(("request_", "param"), [
    ({"data": {"purpose": "assistants"}, "files": {"x": ("", b"")}}, None),
    ({"files": {"file": ("a.md", b"x")}}, "purpose"),
    ({"files": {"file": ("a.md", b"x")}, "data": {"purpose": "fun"}}, "purpose"),
    ({"files": {"file": ("a.md", b"x")}, "data": {"purpose": "assistants", "expires_after[seconds]": "5"}}, "expires_after[seconds]"),
    ({"json": {"purpose": "assistants"}}, None),
    ({"content": b"--x\r\n", "headers": {"content-type": "multipart/form-data; boundary=x"}}, None),
])
def test_forms_that_are_none_are_refused(workspace: Workspace, http: httpx.Client, request_: dict[str, Any], param: str | None) -> None:
    refused = http.post("/v1/files", **request_)
    assert refused.status_code == 400, refused.text
    if param:
        assert refused.json()["error"]["param"] == param
    assert not [path for path in (workspace.path / "files").glob("*") if not path.name.startswith("files.db")]


def test_files_are_listed_page_by_page(http: httpx.Client) -> None:
    ids = [send(http, f"f{number}.md").json()["id"] for number in range(5)]
    first = http.get("/v1/files", params={"order": "asc", "limit": 2}).json()
    assert ([file["id"] for file in first["data"]], first["has_more"]) == (ids[:2], True)
    rest = http.get("/v1/files", params={"order": "asc", "after": first["last_id"]}).json()
    assert ([file["id"] for file in rest["data"]], rest["has_more"]) == (ids[2:], False)
    assert [file["id"] for file in http.get("/v1/files").json()["data"]] == ids[::-1]
    assert http.get("/v1/files", params={"purpose": "vision"}).json()["data"] == []
    for wrong in ({"limit": "x"}, {"limit": 0}, {"order": "up"}, {"after": "file-no"}):
        assert http.get("/v1/files", params=wrong).status_code == 400


def test_a_file_leaves_the_stores_it_was_in(http: httpx.Client) -> None:
    file = send(http).json()["id"]
    store = store_of(http, file)
    assert search(http, store).json()["data"][0]["file_id"] == file
    assert http.delete(f"/v1/files/{file}").json() == {"id": file, "object": "file", "deleted": True}
    assert search(http, store).json()["data"] == []
    assert http.get(f"/v1/vector_stores/{store}").json()["file_counts"]["total"] == 0
    assert http.get(f"/v1/files/{file}").status_code == 404


def test_attributes_can_be_changed_and_filtered(http: httpx.Client) -> None:
    file = send(http).json()["id"]
    store = store_of(http)
    path = f"/v1/vector_stores/{store}/files/{file}"
    http.post(f"/v1/vector_stores/{store}/files", json={"file_id": file, "attributes": {"year": 2024, "final": True}})
    assert waited(http, path)["attributes"] == {"year": 2024, "final": True}

    def found(**filters: Any) -> int:
        return len(search(http, store, filters=filters).json()["data"])

    assert found(type="gte", key="year", value=2024) == 1
    assert found(type="gt", key="year", value=2024) == 0
    assert found(type="eq", key="final", value=True) == 1
    assert found(type="in", key="year", value=[2023, 2024]) == 1
    assert found(type="or", filters=[{"type": "eq", "key": "year", "value": 1}, {"type": "eq", "key": "final", "value": True}]) == 1
    http.post(path, json={"attributes": {"year": 2026}})
    assert waited(http, path)["attributes"] == {"year": 2026}
    assert (found(type="gte", key="year", value=2025), found(type="eq", key="final", value=True)) == (1, 0)
    for wrong in ({"type": "like", "key": "a", "value": "b"}, {"type": "eq", "key": "a"}, {"type": "in", "key": "a", "value": 1},
                  {"type": "eq", "key": "a", "value": [1]}, {"type": "and", "filters": []}, {"type": "eq", "value": 1}):
        assert search(http, store, filters=wrong).status_code == 400, wrong


@pytest.mark.parametrize("body", [
    {"name": "x" * 300}, {"metadata": {"a": 1}}, {"metadata": {str(n): "x" for n in range(17)}}, {"expires_after": {"anchor": "now", "days": 1}},
    {"expires_after": {"anchor": "last_active_at"}}, {"chunking_strategy": {"type": "static", "static": {"max_chunk_size_tokens": 5}}},
    {"chunking_strategy": {"type": "static", "static": {"max_chunk_size_tokens": 200, "chunk_overlap_tokens": 150}}}, {"file_ids": [3]}])
def test_wrong_stores_are_refused(workspace: Workspace, http: httpx.Client, body: dict[str, Any]) -> None:
    assert http.post("/v1/vector_stores", json=body).status_code == 400
    assert http.post("/v1/vector_stores", json={"file_ids": ["file-no"]}).status_code == 404
    assert workspace.collections() == []


def test_what_is_not_there(workspace: Workspace, http: httpx.Client) -> None:
    workspace.create_collection("vs_other", dim=3)       # a collection that only is called like a store
    for store in ("vs_no", "vs_other", "docs"):
        for method, rest in (("GET", ""), ("POST", ""), ("DELETE", ""), ("GET", "/files"), ("GET", "/files/file-no"),
                             ("GET", "/file_batches/vsfb_no"), ("DELETE", "/files/file-no"), ("GET", "/files/file-no/content")):
            assert http.request(method, f"/v1/vector_stores/{store}{rest}").status_code == 404, (method, rest)
        assert search(http, store).status_code == 404
    assert workspace.collections() == ["vs_other"]
    store = store_of(http)
    assert search(http, store, query=" ").status_code == 400
    assert search(http, store, max_num_results=51).status_code == 400
    assert http.get(f"/v1/vector_stores/{store}/file_batches/vsfb_no").status_code == 404
    assert http.post(f"/v1/vector_stores/{store}/files", json={"file_id": "file-no"}).status_code == 404


def test_several_questions_and_the_least_score(http: httpx.Client) -> None:
    ids = [send(http, "a.md", LEAVE).json()["id"], send(http, "b.md", b"The office opens at nine.").json()["id"]]
    store = store_of(http, *ids)
    both = search(http, store, query=["vacation", "When does the office open?"]).json()
    assert {match["file_id"] for match in both["data"]} == {*ids}
    assert both["search_query"] == ["vacation", "When does the office open?"]
    scores = [match["score"] for match in both["data"]]
    assert scores == sorted(scores, reverse=True)
    least = search(http, store, query="vacation", ranking_options={"score_threshold": 1}).json()["data"]
    assert [match["file_id"] for match in least] == ids[:1]


def test_batches(http: httpx.Client) -> None:
    ids = [send(http, "a.md").json()["id"], send(http, "b.xyz", b"?").json()["id"]]
    store = store_of(http)
    made = http.post(f"/v1/vector_stores/{store}/file_batches", json={"files": [{"file_id": id_, "attributes": {"n": n}}
                                                                               for n, id_ in enumerate(ids)]}).json()
    path = f"/v1/vector_stores/{store}/file_batches/{made['id']}"
    assert waited(http, path)["file_counts"] == {"in_progress": 0, "completed": 1, "failed": 1, "cancelled": 0, "total": 2}
    failed = http.get(f"{path}/files", params={"filter": "failed"}).json()["data"]
    assert [(file["id"], file["attributes"], file["last_error"]["code"]) for file in failed] == [(ids[1], {"n": 1}, "unsupported_file")]
    assert http.post(f"{path}/cancel").json()["status"] == "completed"
    assert http.post(f"/v1/vector_stores/{store}/file_batches", json={}).status_code == 400


def test_what_one_server_did_not_finish_the_next_one_does(tmp_path: Path) -> None:
    with madang.open(tmp_path / "ws") as ws:
        with serving(ws) as address, httpx.Client(base_url=address) as http:
            file = send(http).json()["id"]
            store = store_of(http)
        ledger = Ledger(ws.path / "files" / "files.db")     # as if it had been killed right after it said "in progress"
        ledger.add(store, [Adding(file, {}, None)], 1, 800, "")
        ledger.close()
        with serving(ws) as address, httpx.Client(base_url=address) as http:
            assert waited(http, f"/v1/vector_stores/{store}/files/{file}")["status"] == "completed"
            assert search(http, store).json()["data"][0]["file_id"] == file


def test_stores_and_files_expire(workspace: Workspace, http: httpx.Client) -> None:
    file = send(http).json()["id"]
    store = store_of(http, file, expires_after={"anchor": "last_active_at", "days": 1})
    collection = workspace.collection(store)
    collection.set_attributes({"openai": {**collection.attributes["openai"], "last_active_at": 1}})
    assert http.get(f"/v1/vector_stores/{store}").json()["status"] == "expired"
    assert search(http, store).status_code == 404
    soon = send(http, expires_after="", **{"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}).json()
    assert soon["expires_at"] == soon["created_at"] + 3600
