"""Our own routes: collections, records, documents, questions, and the document that describes them."""

from __future__ import annotations

import io
import json
import re
import sys
import threading
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from httpx_sse import connect_sse
from hypothesis import given, settings
from hypothesis import strategies as st

from madang.base.errors import InvalidInput
from madang.base.settings import Serve
from madang.serve import uploads
from madang.serve.access import Access, Keys
from madang.serve.run import serving
from madang.serve.uploads import clean_name
from madang.workspace import Workspace

LEAVE = b"# Leave\n\nThere are 15 vacation days a year.\n\n# Sickness\n\nCall before nine o'clock.\n"


def upload(http: httpx.Client, files: dict[str, bytes], collection: str = "docs", **fields: str) -> httpx.Response:
    return http.post("/api/ingest", files=[("files", (name, content)) for name, content in files.items()],
                     data={"collection": collection, **fields})


def finished(http: httpx.Client, started: httpx.Response) -> dict[str, Any]:
    """The last event of an ingest."""
    assert started.status_code == 202, started.text
    with connect_sse(http, "GET", f"/api/ingest/{started.json()['id']}/events") as events:
        told = list(events.iter_sse())
    assert told[0].event == "started"
    assert {event.event for event in told[1:-1]} <= {"progress"}
    last: dict[str, Any] = json.loads(told[-1].data)
    assert told[-1].event == last["status"]
    return last


# --- collections and records ---

def test_collections_come_and_go(http: httpx.Client) -> None:
    made = http.post("/api/collections", json={"name": "v", "dim": 3, "metric": "dot", "index": {"kind": "hnsw", "m": 8}})
    shown = {"name": "v", "dim": 3, "metric": "dot", "index": "hnsw", "embedder": None}
    assert (made.status_code, made.json()) == (201, shown)
    assert http.get("/api/collections").json() == {"collections": [shown]}
    assert http.get("/api/collections/v").json() == shown
    assert http.get("/api/collections/v/stats").json() | {"size_bytes": 0, "analyzer": ""} == {
        **shown, "records": 0, "namespaces": {}, "sources": 0, "analyzer": "", "size_bytes": 0, "sequence": 0}
    again = http.post("/api/collections", json={"name": "v", "dim": 3})
    assert (again.status_code, again.json()["error"]["code"]) == (409, "conflict")
    assert http.delete("/api/collections/v").status_code == 204
    gone = http.get("/api/collections/v")
    assert gone.status_code == 404
    assert gone.json() == {"error": {"code": "not_found", "message": "no collection is called 'v' in the workspace.",
                                     "remedy": "There are: none yet."}}


def test_records_are_what_the_store_says(workspace: Workspace, http: httpx.Client) -> None:
    http.post("/api/collections", json={"name": "v", "dim": 4})
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(50, 4)).astype(np.float32)
    records = [{"id": f"r{n:02}", "values": vectors[n].tolist(), "metadata": {"n": n, "even": n % 2 == 0},
                "document": f"text number {n}"} for n in range(50)]
    assert http.post("/api/collections/v/records/upsert", json={"records": records}).json() == {"upserted": 50}
    asked = {"vector": vectors[7].tolist(), "top_k": 5, "filter": {"even": False}, "include_values": True,
             "include_document": True}
    found = http.post("/api/collections/v/records/query", json=asked).json()
    expected = workspace.collection("v").query(**asked)
    assert [(match["id"], match["score"]) for match in found["matches"]] == [
        (match.id, match.score) for match in expected.matches]
    assert found["matches"][0]["id"] == "r07"
    assert found["matches"][0]["metadata"] == {"n": 7, "even": False}
    assert found["matches"][0]["document"] == "text number 7"
    np.testing.assert_array_equal(np.float32(found["matches"][0]["values"]), vectors[7])
    assert "exact over 25 candidates" in found["plan"]
    words = http.post("/api/collections/v/records/query", json={"text": "number 31", "top_k": 1}).json()
    assert words["matches"][0]["id"] == "r31"
    page = http.get("/api/collections/v/records", params={"prefix": "r0", "limit": 4}).json()
    assert page["ids"] == ["r00", "r01", "r02", "r03"]
    assert http.get("/api/collections/v/records", params={"cursor": page["cursor"], "limit": 1}).json()["ids"] == ["r04"]
    assert http.post("/api/collections/v/records/update", json={"id": "r01", "set_metadata": {"n": 99}}).status_code == 204
    fetched = http.post("/api/collections/v/records/fetch", json={"ids": ["r01", "none"]}).json()["records"]
    assert fetched["r01"]["metadata"] == {"n": 99, "even": False}
    assert list(fetched) == ["r01"]
    assert http.post("/api/collections/v/records/delete", json={"filter": {"even": True}}).json() == {"deleted": 25}
    assert http.post("/api/collections/v/records/delete", json={"delete_all": True}).json() == {"deleted": 25}


def test_snapshots_and_audits(http: httpx.Client) -> None:
    http.post("/api/collections", json={"name": "v", "dim": 2})
    http.post("/api/collections/v/records/upsert", json={"records": [{"id": "a", "values": [1, 0]}]})
    assert http.post("/api/collections/v/snapshots", json={"name": "first"}).status_code == 201
    http.post("/api/collections/v/records/delete", json={"ids": ["a"]})
    assert [each["name"] for each in http.get("/api/collections/v/snapshots").json()["snapshots"]] == ["first"]
    assert http.post("/api/collections/v/snapshots/first/restore").status_code == 200
    assert http.get("/api/collections/v/stats").json()["records"] == 1
    assert http.post("/api/collections/v/audit", json={"samples": 5}).json()["records"] == 1
    assert http.delete("/api/collections/v/snapshots/first").status_code == 204
    assert http.delete("/api/collections/v/snapshots/first").status_code == 404


@pytest.mark.parametrize(("method", "path", "body", "status", "says"), [
    ("POST", "/api/collections", b"{", 400, "not JSON"),
    ("POST", "/api/collections", b'{"name": "w", "dim": NaN}', 400, "not JSON"),
    ("POST", "/api/collections", b'{"name": "\\ud800", "dim": 2}', 400, "not JSON"),
    ("POST", "/api/collections", b"[" * 100_000, 400, "not JSON"),
    ("POST", "/api/collections", b'{"name": "w"}', 422, "dim: Field required"),
    ("POST", "/api/collections", b'{"name": "w", "dim": 0}', 422, "dim: "),
    ("POST", "/api/collections", b'{"name": "w", "dim": 2, "x": 1}', 422, "x: Extra"),
    ("POST", "/api/collections", b'{"name": "../w", "dim": 2}', 400, "collection name"),
    ("POST", "/api/collections", b'{"name": "w", "dim": 2, "index": {"kind": "flat", "m": 4}}', 400, "does not take"),
    ("POST", "/api/collections/v/records/query", b"{}", 400, "needs a vector"),
    ("POST", "/api/collections/v/records/query", b'{"vector": [1]}', 400, "dimension 1"),
    ("POST", "/api/collections/v/records/query", b'{"vector": [1, 2], "filter": {"a": {"$x": 1}}}', 400, "$x"),
    ("POST", "/api/collections/v/records/upsert", b'{"records": [{"id": "a", "values": [1, 2], "metadata": {"a": null}}]}',
     400, "'a'"),
    ("POST", "/api/collections/v/records/update", b'{"id": "none", "values": [1, 2]}', 404, "no record 'none'"),
    ("GET", "/api/collections/v/records?limit=0", b"", 422, "limit: "),
    ("GET", "/api/ingest/none", b"", 404, "no ingest 'none'"),
    ("GET", "/nowhere", b"", 404, "Not Found"),
    ("PUT", "/health", b"", 405, "Method Not Allowed"),
])
def test_refusals(workspace: Workspace, http: httpx.Client, method: str, path: str, body: bytes, status: int,
                  says: str) -> None:
    workspace.create_collection("v", dim=2)
    refused = http.request(method, path, content=body, headers={"content-type": "application/json"})
    told = refused.json()
    assert (refused.status_code, set(told), set(told["error"])) == (status, {"error"}, {"code", "message", "remedy"})
    assert says in told["error"]["message"]
    assert str(workspace.path) not in refused.text
    assert refused.headers["x-request-id"]


def test_a_defect_tells_nothing_of_itself(workspace: Workspace, http: httpx.Client) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("secret detail")

    workspace.search = broken  # type: ignore[assignment]
    told = http.post("/api/search", json={"query": "x"})
    assert told.status_code == 500
    assert "secret" not in told.text
    assert "ZeroDivisionError" in told.text
    assert http.get("/health").status_code == 200


# --- documents ---

def test_a_document_is_uploaded_found_and_asked(workspace: Workspace, http: httpx.Client) -> None:
    last = finished(http, upload(http, {"handbook/leave.md": LEAVE}, embedder="bundled/static"))
    assert last["status"] == "done"
    assert (last["report"]["added"], last["report"]["failed"]) == (1, 0)
    assert http.get(f"/api/ingest/{last['id']}").json() == last
    sources = http.get("/api/collections/docs/sources").json()["sources"]
    assert [source["uri"] for source in sources] == ["upload:handbook/leave.md"]
    assert not list(workspace.path.glob(".uploads/*"))
    passage = http.post("/api/search", json={"query": "vacation", "top_k": 1}).json()["passages"][0]
    assert "15 vacation days" in passage["text"]
    assert passage["source"] == "upload:handbook/leave.md"
    answer = http.post("/api/ask", json={"question": "How many vacation days are there?"}).json()
    assert answer["status"] == "answered"
    assert "15 vacation days" in answer["text"]
    assert answer["citations"][0]["verified"]
    with connect_sse(http, "POST", "/api/ask", json={"question": "How many vacation days are there?", "stream": True}) as it:
        told = list(it.iter_sse())
    assert told[-1].event == "answer"
    streamed = json.loads(told[-1].data)
    assert {**streamed, "timings_ms": 0, "trace_id": 0} == {**answer, "timings_ms": 0, "trace_id": 0}
    # Again: unchanged; another text under that name: in its place.
    assert finished(http, upload(http, {"handbook/leave.md": LEAVE}))["report"]["unchanged"] == 1
    assert finished(http, upload(http, {"handbook/leave.md": b"# Leave\n\nNone.\n"}))["report"]["updated"] == 1
    assert http.post("/api/collections/docs/sources/delete", json={"uris": ["upload:handbook/leave.md"]}).json() == {
        "deleted": 1}


def test_the_answer_to_an_upload_can_be_its_events(http: httpx.Client) -> None:
    with connect_sse(http, "POST", "/api/ingest", files=[("files", ("a.md", LEAVE))],
                     data={"embedder": "bundled/static"}) as events:
        told = list(events.iter_sse())
    assert [told[0].event, told[-1].event] == ["started", "done"]


def test_files_that_cannot_be_read_are_told_by_their_names(workspace: Workspace, http: httpx.Client) -> None:
    last = finished(http, upload(http, {"a.pdf": b"no pdf", "b.md": LEAVE}, embedder="bundled/static"))
    (problem,) = last["report"]["problems"]
    assert problem["path"] == "upload:a.pdf"
    assert "upload:a.pdf" in problem["message"]
    assert str(workspace.path) not in json.dumps(last)


def test_failures_of_an_ingest_are_told(workspace: Workspace, http: httpx.Client) -> None:
    last = finished(http, upload(http, {"a.md": LEAVE}, embedder="nobody/nothing"))
    assert last["status"] == "failed"
    assert "nobody" in last["error"]["message"]
    assert workspace.collections() == []


def test_an_ingest_is_cancelled(workspace: Workspace, http: httpx.Client) -> None:
    """It holds at its first step until the cancellation has come."""
    began, hold, ingest = threading.Event(), threading.Event(), workspace.ingest

    def slow(*args: Any, **kwargs: Any) -> Any:
        began.set()
        hold.wait(30)
        return ingest(*args, **kwargs)

    workspace.ingest = slow  # type: ignore[method-assign]
    first = upload(http, {"a.md": LEAVE}, embedder="bundled/static").json()["id"]
    second = upload(http, {"b.md": LEAVE}, embedder="bundled/static").json()["id"]
    began.wait(30)
    assert http.get(f"/api/ingest/{second}").json()["status"] == "waiting"
    assert http.delete(f"/api/ingest/{first}").status_code == http.delete(f"/api/ingest/{second}").status_code == 202
    hold.set()
    for job in (first, second):
        with connect_sse(http, "GET", f"/api/ingest/{job}/events") as events:
            assert list(events.iter_sse())[-1].event == "cancelled"
    assert not list(workspace.path.glob(".uploads/*"))
    workspace.ingest = ingest  # type: ignore[method-assign]
    assert finished(http, upload(http, {"a.md": LEAVE}, embedder="bundled/static"))["status"] == "done"


def test_an_answer_nobody_reads_is_not_written(workspace: Workspace, address: str) -> None:
    gone = threading.Event()

    def endless(question: str, *_: object, on_text: Any, **__: object) -> None:
        try:
            while True:
                on_text("word ")
        finally:
            gone.set()

    workspace.ask = endless  # type: ignore[assignment]
    with (httpx.Client(base_url=address, timeout=30) as http,
          http.stream("POST", "/api/ask", json={"question": "x", "stream": True}) as answer):
        assert next(answer.iter_lines()) == "event: text"
    assert gone.wait(30)


def test_ingests_of_others_are_not_seen(workspace: Workspace) -> None:
    keys = Keys(workspace.path)
    tokens = {name: keys.create(name, scope)[0] for name, scope in (("a", "admin"), ("b", "read"), ("c", "admin"))}
    with serving(workspace, access=Access(keys)) as address, httpx.Client(base_url=address, timeout=60) as http:
        headers = {name: {"api-key": token} for name, token in tokens.items()}
        files = [("files", ("a.md", LEAVE))]
        assert http.post("/api/ingest", files=files, headers=headers["b"]).status_code == 403
        job = http.post("/api/ingest", files=files, headers=headers["a"], data={"embedder": "bundled/static"}).json()["id"]
        assert [http.get(f"/api/ingest/{job}", headers=headers[name]).status_code for name in "abc"] == [200, 404, 200]
        assert http.delete(f"/api/ingest/{job}", headers=headers["b"]).status_code == 404


@pytest.mark.parametrize(("body", "kind", "says"), [
    (b"{}", "application/json", "no multipart form"),
    (b"--b\r\n", "multipart/form-data", "no multipart form"),
    (b"--b--\r\n", "multipart/form-data; boundary=b", "no file"),
    (b"--b\r\nContent-Disposition: form-data; name=files; filename=a.md\r\n\r\nx", "multipart/form-data; boundary=b", "no end"),
    (b"nonsense", "multipart/form-data; boundary=b", "no multipart form"),
    (b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\ny\r\n--b--\r\n', "multipart/form-data; boundary=b", "field 'x'"),
    (b"--b\r\nA: " + b"x" * 5000 + b"\r\n\r\n\r\n--b--\r\n", "multipart/form-data; boundary=b", "header"),
    (b'--b\r\nContent-Disposition: form-data; name="f"; filename="\xff"\r\n\r\n\r\n--b--\r\n', "multipart/form-data; boundary=b",
     "UTF-8"),
])
def test_forms_that_are_none(http: httpx.Client, workspace: Workspace, body: bytes, kind: str, says: str) -> None:
    refused = http.post("/api/ingest", content=body, headers={"content-type": kind})
    assert refused.status_code == 400
    assert says in refused.json()["error"]["message"]
    assert not list(workspace.path.glob(".uploads/*"))


@pytest.mark.parametrize("name", ["../x", "a/../../x", "..\\x", "", "/", ".", "a\0b", "a\nb", "C:x", "x" * 201, "a?b"])
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="file name"):
        clean_name(name)


@given(st.text(max_size=40))
def test_a_name_never_leads_upwards(name: str) -> None:
    try:
        clean = clean_name(name)
    except (InvalidInput, UnicodeEncodeError):
        return
    assert clean == clean_name(clean)
    assert not Path(clean).is_absolute()
    assert ".." not in Path(clean).parts


@settings(max_examples=50)
@given(st.lists(st.binary(max_size=300), min_size=1, max_size=4), st.integers(1, 50))
def test_files_arrive_as_they_were_sent(tmp_path_factory: pytest.TempPathFactory, contents: list[bytes], step: int) -> None:
    import asyncio

    request = httpx.Request("POST", "http://x/", files=[("files", (f"{n}.bin", io.BytesIO(content)))
                                                         for n, content in enumerate(contents)], data={"collection": "가"})
    body = request.read()

    async def pieces() -> Any:
        for start in range(0, len(body), step):
            yield body[start:start + step]

    made = asyncio.run(uploads.receive(request.headers["content-type"], pieces(), tmp_path_factory.mktemp("up"), 10))
    assert made.fields == {"collection": "가"}
    assert [made.files[f"{n}.bin"].read_bytes() for n in range(len(contents))] == contents


# --- the description ---

def test_the_description_and_its_page_need_nothing_from_elsewhere(http: httpx.Client) -> None:
    document = http.get("/api/openapi.json").json()
    assert document["openapi"].startswith("3.")
    assert {"/health", "/ready", "/metrics", "/api/ask", "/api/collections/{name}/records/query"} <= set(document["paths"])
    assert set(document["components"]["securitySchemes"]) == {"key", "bearer"}
    page = http.get("/api/docs").text
    assert not re.search(r"https?://|<script|@import", page)
    assert "/api/collections/{name}/records/query" in page
    assert http.get("/docs").status_code == http.get("/redoc").status_code == 404


def test_importing_the_server_needs_no_model_library() -> None:
    import subprocess

    heavy = ("torch", "transformers", "diffusers", "onnxruntime", "tokenizers", "kiwipiepy")
    script = f"import sys, madang.serve.run; print([name for name in {heavy!r} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_ready_comes_and_one_damaged_collection_holds_nobody_up(workspace: Workspace) -> None:
    for name in ("a", "b"):
        workspace.create_collection(name, dim=2).upsert([{"id": "x", "values": [1, 0]}])
    workspace.close()
    for file in (workspace.path / "collections" / "b").iterdir():
        file.write_bytes(b"x" * 4096)
    with serving(workspace, settings=Serve(warm=5)) as address, httpx.Client(base_url=address, timeout=30) as http:
        for _ in range(500):
            answer = http.get("/ready")
            if answer.status_code == 200:
                break
        assert answer.json() == {"status": "ready", "collections": 1}
        assert http.post("/api/collections/a/records/query", json={"vector": [1, 0]}).status_code == 200
        assert http.post("/api/collections/b/records/query", json={"vector": [1, 0]}).status_code == 500
