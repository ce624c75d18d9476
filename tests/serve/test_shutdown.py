"""The end: what was begun is finished, what was acknowledged is there, and the workspace is closed."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

import madang
from madang.base.settings import Serve
from madang.index import HNSW
from madang.serve.run import serving
from madang.workspace import Workspace
from tests.serve.process import command


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
def test_acknowledged_writes_outlive_a_signal(tmp_path: Path, kind: signal.Signals) -> None:
    with madang.open(tmp_path) as ws:
        ws.create_collection("v", dim=8, index=HNSW(m=4))
    acknowledged: list[str] = []
    started = threading.Event()
    rng = np.random.default_rng(0)

    def write(address: str, name: str) -> None:
        with httpx.Client(base_url=address, timeout=30) as http:
            for n in range(10_000):
                records = [{"id": f"{name}-{n}-{i}", "values": rng.normal(size=8).tolist()} for i in range(20)]
                try:
                    if http.post("/api/collections/v/records/upsert", json={"records": records}).status_code != 200:
                        return
                except httpx.TransportError:
                    return
                acknowledged.extend(record["id"] for record in records)  # type: ignore[misc]
                if len(acknowledged) > 600:
                    started.set()

    with command(tmp_path) as (process, address):
        threads = [threading.Thread(target=write, args=(address, name)) for name in "abc"]
        for thread in threads:
            thread.start()
        assert started.wait(60)
        process.send_signal(kind)
        for thread in threads:
            thread.join(60)
        assert process.wait(60) == 0      # in order, not by the signal
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
    assert not (tmp_path / "writer.json").exists()      # the lock was let go of
    with madang.open(tmp_path) as ws:
        assert set(acknowledged) - set(ws.collection("v").fetch(acknowledged)) == set()


def test_a_request_under_way_is_answered(workspace: Workspace) -> None:
    began, answer = threading.Event(), dict[str, Any]()
    workspace.create_collection("v", dim=2)
    create = workspace.create_collection

    def slow(*args: Any, **kwargs: Any) -> Any:
        began.set()
        time.sleep(0.5)
        return create(*args, **kwargs)

    workspace.create_collection = slow  # type: ignore[method-assign]
    with serving(workspace) as address:
        def ask() -> None:
            answer["status"] = httpx.post(f"{address}/api/collections", json={"name": "w", "dim": 2}, timeout=30).status_code

        thread = threading.Thread(target=ask)
        thread.start()
        began.wait(30)
    thread.join(30)
    assert answer["status"] == 201
    assert workspace.collections() == ["v", "w"]
    with socket.socket() as probe, pytest.raises(ConnectionRefusedError):
        probe.connect(("127.0.0.1", int(address.rpartition(":")[2])))


def test_a_long_ingest_is_cut_short_at_a_commit(workspace: Workspace) -> None:
    """Its watcher is told, and the server does not wait for the rest."""
    began, ingest, told = threading.Event(), workspace.ingest, list[str]()

    def endless(*args: Any, progress: Any, **kwargs: Any) -> Any:
        from madang.rag.ingest import IngestProgress

        began.set()
        while True:
            progress(IngestProgress(0, 1, 0, 1, 0, 0.0))
            time.sleep(0.01)

    workspace.ingest = endless  # type: ignore[method-assign]
    with serving(workspace, settings=Serve(grace_s=30)) as address:
        job = httpx.post(f"{address}/api/ingest", files=[("files", ("a.md", b"x"))]).json()["id"]

        def watch() -> None:
            told.append(httpx.get(f"{address}/api/ingest/{job}/events", timeout=60).text)

        thread = threading.Thread(target=watch)
        thread.start()
        began.wait(30)
        time.sleep(0.3)
    thread.join(30)
    assert "event: cancelled" in told[0]
    workspace.ingest = ingest  # type: ignore[method-assign]


def said(directory: Path, *options: str) -> tuple[str, str]:
    """What `madang serve` says when it is stopped as soon as it has begun to speak."""
    process = subprocess.Popen([sys.executable, "-m", "madang", "serve", "--port", "0", "-w", str(directory), *options],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        first = process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        out, err = first + process.stdout.read(), process.stderr.read()
        assert process.wait(60) == 0, err
        return out, err
    finally:
        process.kill()
        process.communicate()


def test_the_command_says_what_it_serves_and_warns(tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "madang", *arguments, "-w", str(tmp_path)], capture_output=True,
                              text=True, timeout=60, check=False)

    out, _ = said(tmp_path)
    assert "no key is needed" in out
    assert str(tmp_path) in out
    refused = run("serve", "--host", "0.0.0.0")
    assert refused.returncode == 1
    assert "madang key create" in refused.stderr
    assert run("key", "create", "a").returncode == 0
    out, err = said(tmp_path, "--host", "0.0.0.0")
    assert "a key is needed" in out
    assert "unencrypted" in err


def test_lines_of_json_on_standard_error(tmp_path: Path) -> None:
    with command(tmp_path, "--log", "json") as (process, address):
        httpx.get(f"{address}/api/collections")
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        assert process.stderr is not None
        told = [json.loads(line) for line in process.stderr.read().splitlines()]
    assert [line["route"] for line in told] == ["/health", "/api/collections"]
