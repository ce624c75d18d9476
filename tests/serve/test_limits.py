"""What is too much, too often, too slow, or from the wrong page."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from madang.base.errors import InvalidInput
from madang.base.settings import Serve
from madang.serve.gate import Gate, host_of, is_loopback
from madang.serve.http import Bodies, Refused, TooLarge
from madang.serve.limits import Busy, Rates, TooMany
from madang.serve.run import serving
from madang.serve.work import Work
from madang.workspace import Workspace

SMALL = Serve(max_body_mb=0.01, max_upload_mb=0.02, max_batch=3, max_dim=8, max_top_k=5, body_timeout_s=0.3)


@contextmanager
def client(workspace: Workspace, settings: Serve, **headers: str) -> Iterator[httpx.Client]:
    with (serving(workspace, settings=settings) as address,
          httpx.Client(base_url=address, headers=headers, timeout=30) as http):
        yield http


def raw(http: httpx.Client, data: bytes, *more: bytes) -> bytes:
    """What comes back on a connection until it is closed."""
    with socket.create_connection((http.base_url.host, http.base_url.port or 80)) as connection:
        connection.settimeout(20)
        connection.sendall(data)
        for piece in more:
            connection.sendall(piece)
        received = b""
        try:
            while piece := connection.recv(65536):
                received += piece
        except ConnectionResetError:
            pass
        return received


# --- sizes ---

def test_too_large_is_413_in_either_dialect(workspace: Workspace) -> None:
    workspace.create_collection("v", dim=2)
    with client(workspace, SMALL) as http:
        for path in ("/i/v/query", "/api/collections/v/records/query"):
            refused = http.post(path, content=b"x" * 10_001)
            assert refused.status_code == 413, path
            assert "10,000" in refused.json()["error"]["message"]

            def pieces() -> Iterator[bytes]:
                for _ in range(20):
                    yield b"x" * 1000

            assert http.post(path, content=pieces()).status_code == 413, path
            assert raw(http, b"POST %b HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 99999999999999999999\r\n\r\n"
                       % path.encode())[9:12] in (b"413", b"400"), path
        files = [("files", ("a.txt", b"x" * 20_001))]
        assert http.post("/api/ingest", files=files).status_code == 413
        assert not list(workspace.path.glob(".uploads/*"))
        assert http.get("/health").status_code == 200


def test_counts_are_bounded_as_the_settings_say(workspace: Workspace) -> None:
    workspace.create_collection("v", dim=2)
    with client(workspace, SMALL) as http:
        records = [{"id": str(n), "values": [1, n]} for n in range(4)]
        asked: list[tuple[str, Any, str]] = [
            ("/api/collections/v/records/upsert", {"records": records}, "max_batch"),
            ("/api/collections/v/records/fetch", {"ids": list("abcd")}, "max_batch"),
            ("/api/collections/v/records/delete", {"ids": list("abcd")}, "max_batch"),
            ("/api/collections/v/records/query", {"vector": [1, 0], "top_k": 6}, "max_top_k"),
            ("/api/search", {"query": "x", "collection": "v", "top_k": 6}, "max_top_k"),
            ("/api/collections", {"name": "w", "dim": 9}, "max_dim")]
        for path, body, setting in asked:
            refused = http.post(path, json=body)
            assert refused.status_code == 400, path
            assert setting in refused.json()["error"]["remedy"], path
        assert http.post("/api/collections/v/records/upsert", json={"records": records[:3]}).json() == {"upserted": 3}
        files = [("files", (f"{n}.txt", b"x")) for n in range(4)]
        assert "3 files" in http.post("/api/ingest", files=files).json()["error"]["message"]


def test_a_long_url_and_long_headers_are_refused(workspace: Workspace) -> None:
    with client(workspace, Serve()) as http:
        assert http.get("/health?" + "x" * 16_500).status_code == 414
        assert http.get("/health", headers={"x": "y" * 33_000}).status_code == 431
        assert http.get("/health", headers={f"x-{n}": "y" for n in range(120)}).status_code == 431
        head = b"GET /health HTTP/1.1\r\nhost: 127.0.0.1\r\nx: "
        assert b"400 Bad Request" in raw(http, head, *[b"y" * 32_768] * 3)     # a header without an end
        assert http.get("/health").status_code == 200


def test_compressed_bodies_are_refused(workspace: Workspace) -> None:
    with client(workspace, Serve()) as http:
        bomb = gzip.compress(b" " * 1_000_000)
        for path in ("/api/search", "/i/v/query"):
            refused = http.post(path, content=bomb, headers={"content-encoding": "gzip"})
            assert refused.status_code == 415, path
            assert "Content-Encoding" in refused.json()["error"]["message"] + str(refused.json()["error"].get("remedy"))


# --- time ---

def test_a_slow_body_ends(workspace: Workspace) -> None:
    workspace.create_collection("v", dim=2)
    with client(workspace, SMALL) as http:
        for path in (b"/i/v/query", b"/api/search", b"/api/ingest"):
            head = b"POST %b HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 100\r\n" % path
            assert b"408" in raw(http, head + b"content-type: multipart/form-data; boundary=b\r\n\r\n", b"-")[:20], path


def test_a_head_that_does_not_come_closes_the_connection(workspace: Workspace) -> None:
    with client(workspace, SMALL) as http:
        assert raw(http, b"") == raw(http, b"GET /hea") == b""
        assert raw(http, b"GET /health HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n", b"GET /hea").startswith(b"HTTP/1.1 200")
        assert raw(http, b"GET /health HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\nGET /hea").startswith(b"HTTP/1.1 200")


def test_a_body_that_trickles_ends() -> None:
    """Each piece comes in time, all of them never."""
    async def trickle() -> dict[str, Any]:
        await asyncio.sleep(0.02)
        return {"type": "http.request", "body": b"x", "more_body": True}

    with pytest.raises(Refused, match="did not come within"):
        asyncio.run(Bodies(1_000_000, 0.1).whole({}, trickle))  # type: ignore[arg-type]


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=8), st.integers(1, 120))
def test_a_body_is_whole_or_refused(pieces: list[bytes], most: int) -> None:
    waiting = [{"type": "http.request", "body": piece, "more_body": n < len(pieces) - 1} for n, piece in enumerate(pieces)]

    async def receive() -> Any:
        return waiting.pop(0)

    whole = b"".join(pieces)
    try:
        assert asyncio.run(Bodies(most, 5).whole({}, receive)) == whole
        assert len(whole) <= most
    except TooLarge:
        assert len(whole) > most


def test_a_caller_who_goes_away_gets_nothing() -> None:
    waiting = [{"type": "http.request", "body": b"x", "more_body": True}, {"type": "http.disconnect"}]

    async def receive() -> Any:
        return waiting.pop(0)

    assert asyncio.run(Bodies(10, 5).whole({}, receive)) is None


# --- rates ---

def test_a_bucket_fills_again() -> None:
    now = 0.0
    rates = Rates(2.0, 3, clock=lambda: now)
    for _ in range(3):
        rates.take("a")
    with pytest.raises(TooMany) as refused:
        rates.take("a")
    assert refused.value.retry_after_s == 1
    rates.take("b")
    now = 0.5
    rates.take("a")
    with pytest.raises(TooMany):
        rates.take("a")
    now = 1000.0
    for _ in range(3):      # never more than the burst
        rates.take("a")
    with pytest.raises(TooMany):
        rates.take("a")


@given(st.lists(st.floats(0, 3, allow_nan=False), max_size=60), st.floats(0.1, 5), st.integers(1, 5))
def test_never_more_than_rate_and_burst(waits: list[float], rate: float, burst: int) -> None:
    now, passed = 0.0, 0
    rates = Rates(rate, burst, clock=lambda: now)
    for wait in waits:
        now += wait
        try:
            rates.take("a")
            passed += 1
        except TooMany:
            continue
    assert passed <= burst + rate * now + 1e-6


def test_callers_are_forgotten_before_they_fill_the_memory() -> None:
    rates = Rates(1.0, 1, clock=lambda: 0.0)
    for n in range(20_000):
        rates.take(str(n))
    assert len(rates._buckets) == 10_000


def test_too_often_is_429_with_retry_after(workspace: Workspace) -> None:
    workspace.create_collection("v", dim=2)
    with client(workspace, Serve(rate_per_s=0.01, rate_burst=2)) as http:
        query = {"vector": [1, 0], "topK": 1}
        assert [http.post("/i/v/query", json=query).status_code for _ in range(2)] == [200, 200]
        for refused in (http.post("/i/v/query", json=query), http.get("/api/collections")):
            assert refused.status_code == 429
            assert 1 <= int(refused.headers["retry-after"]) <= 100
            assert "rate_per_s" in json.dumps(refused.json())
        assert http.get("/health").status_code == 200


# --- work ---

def test_no_more_work_waits_than_allowed() -> None:
    async def run() -> None:
        work, hold = Work(threads=1, most=3), threading.Event()
        begun = [work.long(lambda: hold.wait(20)) for _ in range(3)]
        with pytest.raises(Busy, match="3 calls"):
            work.long(lambda: True)
        assert await work.write(lambda: 7) == 7       # another line
        assert work.waiting() == {"write": 0, "long": 3}
        hold.set()
        assert await asyncio.gather(*begun) == [True] * 3
        assert await work.long(lambda: 8) == 8
        work.close()

    asyncio.run(run())


def test_busy_is_503_with_retry_after(workspace: Workspace) -> None:
    hold, begun = threading.Event(), threading.Event()
    search = workspace.search

    def slow(*args: Any, **kwargs: Any) -> Any:
        begun.set()
        hold.wait(20)
        return search(*args, **kwargs)

    workspace.search = slow  # type: ignore[method-assign]
    workspace.create_collection("v", dim=2)
    with client(workspace, Serve(max_waiting=1, threads=1)) as http:
        body = {"query": "x", "collection": "v", "mode": "bm25"}
        first = threading.Thread(target=lambda: http.post("/api/search", json=body))
        first.start()
        begun.wait(20)
        refused = http.post("/api/search", json=body)
        hold.set()
        first.join()
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "1"
    assert refused.json()["error"]["code"] == "busy"


# --- browsers ---

def test_a_name_that_resolves_here_is_not_ours(workspace: Workspace) -> None:
    workspace.create_collection("v", dim=2)
    with client(workspace, Serve(hosts=("madang.internal",))) as http:
        port = http.base_url.port
        for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", "0.0.0.0", "10.0.0.1", "[::2]:80"):
            for method, path in (("GET", "/health"), ("GET", "/api/collections"), ("POST", "/i/v/query")):
                assert http.request(method, path, headers={"host": host}).status_code == 421, host
        for host in ("localhost", f"LOCALHOST:{port}", "[::1]:99", "127.0.0.1", "a.localhost", "Madang.internal.:80"):
            assert http.get("/health", headers={"host": host}).status_code == 200, host


def test_pages_of_others_may_not_change_anything(workspace: Workspace) -> None:
    with client(workspace, Serve()) as http:
        own = str(http.base_url).rstrip("/")
        body = json.dumps({"name": "w", "dim": 2})
        for origin in ("https://evil.example", "null", "file://", own.replace("http", "https") + "0", "://"):
            headers = {"origin": origin, "content-type": "text/plain"}
            for path in ("/api/collections", "/i/w/query"):
                assert http.post(path, content=body, headers=headers).status_code == 403, origin
            read = http.get("/api/collections", headers=headers)
            assert "access-control-allow-origin" not in read.headers
        assert workspace.collections() == []
        made = http.post("/api/collections", content=body, headers={"origin": own, "content-type": "application/json"})
        assert made.status_code == 201


def test_pages_that_are_named_may(workspace: Workspace) -> None:
    with client(workspace, Serve(cors_origins=("https://app.example/",))) as http:
        asks = {"origin": "https://app.example", "access-control-request-method": "POST",
                "access-control-request-headers": "api-key,content-type"}
        told = http.options("/api/collections", headers=asks)
        assert told.status_code == 204
        assert told.headers["access-control-allow-origin"] == "https://app.example"
        assert told.headers["access-control-allow-headers"] == "api-key,content-type"
        made = http.post("/api/collections", json={"name": "w", "dim": 2}, headers={"origin": "https://app.example"})
        assert made.status_code == 201
        assert made.headers["access-control-allow-origin"] == "https://app.example"
        other = http.options("/api/collections", headers={**asks, "origin": "https://other.example"})
        assert "access-control-allow-origin" not in other.headers
    for wrong in ("*", "app.example", "https://app.example/path", "null"):
        with pytest.raises(InvalidInput, match="no origin"):
            Gate(replace(Serve(), cors_origins=(wrong,)))


def test_names_of_hosts() -> None:
    assert [host_of(each) for each in ("A.b:80", "a.b.", "[::1]:80", "[::1]", "1.2.3.4", "")] == [
        "a.b", "a.b", "::1", "::1", "1.2.3.4", ""]
    assert not any(is_loopback(host) for host in ("0.0.0.0", "localhost.evil", "127.0.0.1.x", "::", "2130706433", ""))
