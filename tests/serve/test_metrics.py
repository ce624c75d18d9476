"""What is told of requests: numbers for Prometheus and a line each, and nothing of what was in them."""

from __future__ import annotations

import io
import json
import re
import threading
import time

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from madang.base.settings import Serve
from madang.serve.access import Access, Keys
from madang.serve.run import serving
from madang.serve.watch import Log, Metrics, template
from madang.workspace import Workspace


def numbers(http: httpx.Client) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    answer = http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {(sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(answer.text) for sample in family.samples}


def of(found: dict[tuple[str, tuple[tuple[str, str], ...]], float], name: str, **labels: str) -> float:
    return found[name, tuple(sorted(labels.items()))]


def test_requests_are_counted_by_route(workspace: Workspace, http: httpx.Client) -> None:
    workspace.create_collection("v", dim=2).upsert([{"id": str(n), "values": [1, n]} for n in range(20)])
    for name in ("v", "v", "none"):
        http.post(f"/i/{name}/query", json={"vector": [1, 0], "topK": 3})
        http.get(f"/api/collections/{name}")
    for path in ("/a", "/b", "/c/d"):
        http.get(path)
    found = numbers(http)
    for method, route in (("POST", "/i/{index}/query"), ("GET", "/api/collections/{name}")):
        assert of(found, "madang_requests_total", method=method, route=route, status="200") == 2
        assert of(found, "madang_requests_total", method=method, route=route, status="404") == 1
        assert of(found, "madang_request_seconds_count", method=method, route=route) == 3
        assert of(found, "madang_request_seconds_bucket", method=method, route=route, le="+Inf") == 3
    assert of(found, "madang_requests_total", method="GET", route="unknown", status="404") == 3
    assert of(found, "madang_records", collection="v") == 20
    assert of(found, "madang_searches_total", collection="v") == 2
    assert of(found, "madang_search_compared_total", collection="v") == 40
    assert of(found, "madang_index_waiting", collection="v") == 0
    assert of(found, "madang_collections") == 1
    assert of(found, "process_resident_memory_bytes") > 1e6


def test_what_waits_for_the_index_is_told(workspace: Workspace, http: httpx.Client) -> None:
    from madang.index import HNSW

    workspace.create_collection("v", dim=2, index=HNSW(m=4)).upsert([{"id": str(n), "values": [1, n]} for n in range(30)])
    assert of(numbers(http), "madang_index_waiting", collection="v") == 30


def test_threads_lose_no_count(workspace: Workspace) -> None:
    metrics = Metrics(workspace, dict)
    threads = [threading.Thread(target=lambda: [metrics.observe("GET", "/x", 200, 0.001) for _ in range(2000)])
               for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert b'madang_requests_total{method="GET",route="/x",status="200"} 8000.0' in metrics.text()


def test_routes_cannot_fill_the_memory(workspace: Workspace) -> None:
    metrics = Metrics(workspace, dict)
    for n in range(3000):
        metrics.observe(f"M{n}", f"/{n}", 200, 0.001)
    text = metrics.text().decode()
    assert len(set(re.findall(r'route="([^"]*)"', text))) <= 501
    assert set(re.findall(r'method="([^"]*)"', text)) == {"other"}


@pytest.mark.parametrize(("path", "parts", "expected"), [
    ("/i/docs/query", {"index": "docs"}, "/i/{index}/query"),
    ("/i/i/query", {"index": "i"}, "/i/{index}/query"),
    ("/i/query/query", {"index": "query"}, "/i/{index}/query"),
    ("/i/%EA%B0%80/query", {"index": "가"}, "/i/{index}/query"),
    ("/indexes/docs", {"name": "docs"}, "/indexes/{name}"),
    ("/i/a/bulk/imports/a", {"index": "a", "id": "a"}, "/i/{index}/bulk/imports/{id}"),
    ("/vectors", {}, "/vectors"),
])
def test_templates(path: str, parts: dict[str, str], expected: str) -> None:
    assert template(path, parts) == expected


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=12))
def test_a_name_never_stays_in_a_template(name: str) -> None:
    from urllib.parse import quote

    assert template(f"/i/{quote(name, safe='')}/query", {"index": name}) == "/i/{index}/query"


# --- lines ---

SECRETS = ("vacation", "hunter2", "mysecretid", "mdg_", "topsecretfield", "privatecollection")


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_line_a_request_without_what_was_in_it(workspace: Workspace, form: str) -> None:
    keys = Keys(workspace.path)
    token, _ = keys.create("app", "admin")
    workspace.create_collection("privatecollection", dim=2)
    stream = io.StringIO()
    log = Log(form, stream)
    with (serving(workspace, access=Access(keys), log=log) as address,
          httpx.Client(base_url=address, headers={"api-key": token, "x-request-id": "mine-1"}, timeout=30) as http):
        assert http.get("/health").headers["x-request-id"] == "mine-1"
        http.post("/api/collections/privatecollection/records/upsert", json={"records": [
            {"id": "mysecretid", "values": [1, 0], "document": "vacation", "metadata": {"topsecretfield": "hunter2"}}]})
        http.post("/api/search", json={"query": "vacation hunter2", "collection": "privatecollection", "mode": "bm25"})
        http.post("/i/privatecollection/query", json={"vector": [1, 0], "topK": 1, "filter": {"topsecretfield": "hunter2"}})
        http.get("/api/collections/privatecollection/records", params={"prefix": "mysecretid"})
        http.get("/vacation/hunter2")
        http.post("/api/ask", content=b"vacation{", headers={"content-type": "application/json"})
        bad = http.get("/health", headers={"x-request-id": "a b"})
        assert bad.headers["x-request-id"] != "a b"
    log.close()
    text = stream.getvalue()
    lines = text.splitlines()
    assert len(lines) == 8
    for secret in SECRETS:
        assert secret not in text
    assert "/api/collections/{name}/records/upsert" in lines[1]
    if form == "json":
        told = [json.loads(line) for line in lines]
        assert set(told[0]) == {"time", "event", "id", "method", "route", "status", "ms", "bytes", "key", "client"}
        assert [each["status"] for each in told] == [200, 200, 200, 200, 200, 404, 400, 200]
        assert (told[0]["id"], told[0]["key"], told[1]["key"]) == ("mine-1", None, "app")
        assert told[1]["bytes"] == len('{"upserted":1}')


def test_a_log_that_nobody_reads_holds_nobody_up() -> None:
    class Stuck(io.StringIO):
        def __init__(self) -> None:
            super().__init__()
            self.go = threading.Event()

        def write(self, text: str) -> int:
            self.go.wait(60)
            return super().write(text)

    stream = Stuck()
    log = Log("text", stream)
    for n in range(30_000):
        log.request(b"%d" % n, "GET", "/x", 200, 0.001, 1, "", "")
    stream.go.set()
    log.close()
    assert 10_000 <= len(stream.getvalue().splitlines()) <= 10_001


def test_off_is_off(workspace: Workspace) -> None:
    stream = io.StringIO()
    log = Log("off", stream)
    with serving(workspace, log=log, settings=Serve()) as address:
        httpx.get(f"{address}/health")
    log.close()
    log.event("x")
    time.sleep(0)
    assert stream.getvalue() == ""
