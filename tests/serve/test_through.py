"""Writes beside a running server go through it: from the command line and from Python, and nothing else can use the way."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

import madang
from madang.base.errors import Conflict, InvalidInput, Locked, NotFound
from madang.base.records import Record, Source, SparseVector
from madang.cli.main import entry
from madang.index import HNSW
from madang.serve.access import Keys
from madang.store.lock import WriterLock
from madang.workspace import Workspace
from tests.serve.process import command


@pytest.fixture
def beside(tmp_path: Path) -> Iterator[Workspace]:
    """A workspace that a server of another process has the lock of; with keys, of which this process has none."""
    Keys(tmp_path).create("other")
    with command(tmp_path) as (_, address), madang.open(tmp_path) as ws:
        with pytest.raises(Locked) as locked:
            ws.store.lock.acquire()
        assert locked.value.server is not None
        assert locked.value.server[0] == address
        yield ws
        assert not ws.store.lock.held


def test_collections_and_records(beside: Workspace) -> None:
    made = beside.create_collection("v", dim=3, metric="dot", index=HNSW(m=7, quantization=None, seed=5))
    assert (made.dim, made.metric, made.index) == (3, "dot", "hnsw")
    vectors = np.arange(60, dtype=np.float32).reshape(20, 3) / 7
    records = [Record(f"r{n}", vectors[::-1][n], SparseVector([n], [0.5]), {"n": n, "tags": ["a"]}, f"word{n}", "title")
               for n in range(20)]
    assert made.upsert(iter(records), namespace="s") == 20
    found = made.fetch(["r3"], "s")["r3"]
    np.testing.assert_array_equal(found.values, vectors[::-1][3])
    assert (found.sparse, found.metadata, found.document, found.context) == (
        SparseVector([3], [0.5]), {"n": 3, "tags": ["a"]}, "word3", "title")
    assert made.query(text="word7", top_k=1, namespace="s").matches[0].id == "r7"
    made.update("r3", set_metadata={"n": 99}, namespace="s")
    assert made.fetch(["r3"], "s")["r3"].metadata["n"] == 99
    assert made.delete(filter={"n": {"$lt": 5}}, namespace="s") == 4
    assert made.delete(["r9", "none"], namespace="s") == 1
    assert made.set_attributes({"tag": "x"}) == {"tag": "x"} == beside.collection("v").attributes
    assert made.stats().namespaces == {"s": 15}
    assert made.reanalyze() == 15
    beside.drop_collection("v")
    assert beside.collections() == []


def test_errors_are_what_they_would_be_here(beside: Workspace) -> None:
    made = beside.create_collection("v", dim=2)
    with pytest.raises(Conflict, match="'v' exists already"):
        beside.create_collection("v", dim=2)
    with pytest.raises(NotFound, match="no record 'x'"):
        made.update("x", values=[1, 2])
    with pytest.raises(InvalidInput, match="dimension 3"):
        made.upsert([{"id": "x", "values": [1, 2, 3]}])
    with pytest.raises(NotFound, match="no collection is called 'w'"):
        beside.drop_collection("w")
    with pytest.raises(Locked):           # what cannot be sent is refused as before
        beside.restore_snapshot("v", "s")


def test_documents(beside: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "papers"
    folder.mkdir()
    (folder / "leave.md").write_text("# Leave\n\nThere are 15 vacation days a year.\n")
    ingest = ["ingest", str(folder), "-w", str(beside.path), "--embedder", "bundled/static"]
    assert entry(ingest) == 0
    assert entry(["ask", "How many vacation days are there?", "-w", str(beside.path)]) == 0
    assert "15 vacation days" in capsys.readouterr().out
    (folder / "leave.md").unlink()
    (folder / "other.md").write_text("The boiler is serviced in October.\n")
    assert entry(ingest[:4]) == 0
    assert [info.title for info in beside.collection("docs").sources().values()] == ["other.md"]
    source = Source("u", "h", "the text", pages=(0, 4), title="t", size_bytes=8)
    plain = beside.create_collection("w", dim=2)
    assert plain.replace_sources([(source, [Record("a", np.ones(2, dtype=np.float32), document="the text")])]) == 1
    assert plain.source("u") == source
    assert plain.remove_sources(iter(["u", "none"])) == 1


def test_the_token_is_its_owners_alone(beside: Workspace) -> None:
    path = beside.path / "writer.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    told = json.loads(path.read_text())
    call = {"operation": "create", "collection": "x", "arguments": {"name": "x", "dim": 2, "metric": "cosine",
                                                                   "index": {"kind": "flat"}}}
    for key in ("", "mdg_x", told["token"][:-1]):
        assert httpx.post(f"{told['address']}/api/through", json=call, headers={"api-key": key}).status_code == 401
    reader, _ = Keys(beside.path).create("reader", "read")
    assert httpx.post(f"{told['address']}/api/through", json=call, headers={"api-key": reader}).status_code == 403
    headers = {"api-key": told["token"]}
    for wrong in ({}, {"operation": "close", "collection": "x", "arguments": {}}, {**call, "arguments": {}},
                  {**call, "arguments": 7}, {"operation": "upsert", "collection": "x", "arguments": {"path": "/"}}):
        refused = httpx.post(f"{told['address']}/api/through", json=wrong, headers=headers)
        assert refused.status_code in (400, 404), (wrong, refused.text)
    assert httpx.post(f"{told['address']}/api/through", json=call, headers=headers).json() == {"result": "x"}
    assert told["token"] not in httpx.get(f"{told['address']}/api/openapi.json", headers=headers).text


def test_when_the_server_stops_the_write_is_made_here(tmp_path: Path) -> None:
    with madang.open(tmp_path) as ws:
        with command(tmp_path) as (process, _):
            made = ws.create_collection("v", dim=2)
            assert not ws.store.lock.held
            process.terminate()
            process.wait(60)
            assert made.upsert([{"id": "a", "values": [1, 0]}]) == 1
        assert ws.store.lock.held
        assert made.fetch(["a"])


def test_when_the_server_is_killed_the_write_is_made_here(tmp_path: Path) -> None:
    with madang.open(tmp_path) as ws, command(tmp_path) as (process, _):
        made = ws.create_collection("v", dim=2)
        process.kill()
        process.wait(60)
        assert (tmp_path / "writer.json").exists()       # what it said; the lock is free
        assert made.upsert([{"id": "a", "values": [1, 0]}]) == 1
        assert made.fetch(["a"])


def test_another_process_that_is_no_server_refuses_as_before(tmp_path: Path) -> None:
    script = "import sys, time, madang; ws = madang.open(sys.argv[1]); ws.create_collection('v', dim=2); print('on', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "on\n"
        try:
            with madang.open(tmp_path) as ws, pytest.raises(Locked, match="locked by another process") as locked:
                ws.collection("v").upsert([{"id": "a", "values": [1, 0]}])
            assert locked.value.server is None
        finally:
            process.kill()


def test_an_address_of_another_day_is_no_way_in(tmp_path: Path) -> None:
    """The lock is held by a process that says nothing yet, and what an earlier server said is still there."""
    (tmp_path / "writer.json").write_text(json.dumps({"address": "http://127.0.0.1:9", "token": "old"}))
    holder = WriterLock(tmp_path)
    holder._lock.acquire()
    try:
        with madang.open(tmp_path) as ws:
            started = time.monotonic()
            with pytest.raises(Locked):
                ws.create_collection("v", dim=2)
            assert time.monotonic() - started < 60
    finally:
        holder._lock.release()


def test_the_lock_says_who_has_it_without_leaving_pieces(tmp_path: Path) -> None:
    lock = WriterLock(tmp_path)
    lock.announce(("http://127.0.0.1:1", "secret"))
    assert not (tmp_path / "writer.json").exists()      # nothing is held yet
    lock.acquire()
    assert json.loads((tmp_path / "writer.json").read_text())["address"] == "http://127.0.0.1:1"
    lock.announce(None)
    assert "secret" not in (tmp_path / "writer.json").read_text()
    assert json.loads((tmp_path / "writer.json").read_text())["pid"] == os.getpid()
    lock.release()
    assert sorted(path.name for path in tmp_path.iterdir()) in ([], ["writer.lock"])
