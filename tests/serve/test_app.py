"""The application around the protocols: bodies, errors, the way in."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import pytest

from madang.base.errors import InvalidInput
from madang.serve.run import bound, is_loopback
from madang.workspace import Workspace


def test_a_query_is_answered(workspace: Workspace, http: httpx.Client) -> None:
    vectors = np.eye(3, dtype=np.float32)
    workspace.create_collection("v", dim=3).upsert(
        [{"id": str(i), "values": vectors[i], "metadata": {"n": i}} for i in range(3)])
    found = http.post("/i/v/query", json={"vector": [0, 1, 0], "topK": 1, "includeMetadata": True})
    assert found.status_code == 200
    assert found.json()["matches"] == [{"id": "1", "score": 1.0, "values": [], "metadata": {"n": 1}}]


def test_errors_are_in_the_dialects_words(http: httpx.Client) -> None:
    refused = http.post("/i/nope/query", json={"vector": [0], "topK": 1})
    assert refused.status_code == refused.json()["status"] == 404
    assert "no collection is called 'nope'" in refused.json()["error"]["message"]
    assert http.post("/i/nope/query", content=b"{").status_code == 400
    assert http.get("/health").json() == {"status": "alive"}
    assert http.get("/nowhere").status_code == 404


def test_addresses() -> None:
    taken = bound("127.0.0.1", 0)
    try:
        with pytest.raises(InvalidInput, match="Another program listens there"):
            bound("127.0.0.1", taken.getsockname()[1])
    finally:
        taken.close()
    with pytest.raises(InvalidInput, match="cannot listen"):
        bound("203.0.113.1", 0)
    assert [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "example.org", "127.3.3.3")] == [
        True, True, True, False, False, True]


def test_the_command_serves_until_it_is_told_to_stop(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-m", "madang", "serve", "--port", "0", "--json", "-w", str(tmp_path / "ws")],
                               stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        address = process.stdout.readline().split('"')[3]
        until = time.monotonic() + 60
        while time.monotonic() < until:
            try:
                assert httpx.get(f"{address}/health").status_code == 200
                break
            except httpx.TransportError:
                time.sleep(0.1)
        process.terminate()
        process.wait(60)
    finally:
        process.kill()
        process.stdout.close()
        process.wait()
    with socket.socket() as probe, pytest.raises(ConnectionRefusedError):
        probe.connect(("127.0.0.1", int(address.rpartition(":")[2])))
