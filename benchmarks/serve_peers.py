"""The servers of benchmarks/serve.py: how each is started, filled and asked, over plain HTTP."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import httpx
import numpy as np

from benchmarks.datasets import ROOT
from benchmarks.store_data import Chunk, Vectors
from benchmarks.store_process import PEERS, QUIET, Failed

START_S = 120.0


class Server:
    """One server on a port of its own. Also a context manager: started by `start`, stopped at the end."""

    name: ClassVar[str]
    settings: ClassVar[Sequence[Any]]      # to find the cheapest that reaches the recall among; fast ones first
    headers: ClassVar[dict[str, str]] = {"content-type": "application/json"}

    def __init__(self, folder: Path, dim: int) -> None:
        self.folder, self.dim = folder, dim
        self.folder.mkdir(parents=True, exist_ok=True)

    def command(self) -> list[str]:
        """What starts it; listens at `self.port`."""
        raise NotImplementedError

    def start(self) -> float:
        """Seconds until it says that it is ready."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.log = tempfile.TemporaryFile()     # noqa: SIM115  (closed by `stop`)
        begun = time.perf_counter()
        self.child = subprocess.Popen(self.command(), stdout=self.log, stderr=self.log, env=os.environ | QUIET, cwd=ROOT)
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", headers=self.headers, timeout=600)
        while time.perf_counter() < begun + START_S:
            with suppress(httpx.TransportError):
                if self.http.get(self.ready).status_code == 200:
                    return time.perf_counter() - begun
            if self.child.poll() is not None:
                break
            time.sleep(0.005)
        self.log.seek(0)
        raise Failed(f"{self.name} did not start: {self.log.read().decode(errors='replace')[-500:]}")

    def stop(self, kill: bool = False) -> None:
        """In order, or by `kill -9`."""
        self.http.close()
        self.child.kill() if kill else self.child.terminate()
        try:
            self.child.wait(60)
        finally:
            self.child.kill()
            self.child.wait()
            self.log.close()

    ready: ClassVar[str]
    query_path: str

    def upsert_body(self, chunk: Chunk) -> bytes:
        raise NotImplementedError

    def upsert(self, body: bytes) -> None:
        raise NotImplementedError

    def query_body(self, query: Vectors, k: int) -> bytes:
        raise NotImplementedError

    def ids(self, answer: bytes) -> list[str]:
        """The ids of an answer."""
        raise NotImplementedError

    def set(self, setting: Any) -> None:
        """How broadly to search from now on."""

    def indexed(self) -> None:
        """Wait until everything is in the index."""

    def posted(self, path: str, body: bytes) -> bytes:
        """The answer to a POST. Raises Failed for an error."""
        answer = self.http.post(path, content=body)
        if answer.status_code >= 300:
            raise Failed(f"{self.name}: {path}: {answer.status_code}: {answer.text[:300]}")
        return answer.content

    def memory_bytes(self) -> int:
        """Resident now."""
        for line in Path(f"/proc/{self.child.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) * 1024
        return 0

    def cpu_seconds(self) -> float:
        """Of the server's process."""
        fields = Path(f"/proc/{self.child.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Ours(Server):
    """`madang serve`, spoken to as Pinecone's client does; the index looks for its breadth itself."""

    name, ready = "madang", "/health"
    settings = (0.95,)
    headers: ClassVar[dict[str, str]] = {"content-type": "application/json", "api-key": "any",
                                         "x-pinecone-api-version": "2025-10"}
    query_path = "/i/bench/query"

    def prepare(self) -> None:
        """The index, made before the server is."""
        import madang

        with madang.open(self.folder) as workspace:
            workspace.create_collection("bench", self.dim, "cosine", madang.HNSW(target_recall=0.955))

    def command(self) -> list[str]:
        return [sys.executable, "-m", "madang", "serve", "--port", str(self.port), "--workspace", str(self.folder)]

    def upsert_body(self, chunk: Chunk) -> bytes:
        return json.dumps({"namespace": "", "vectors": [
            {"id": name, "values": values, "metadata": metadata} for name, values, metadata in
            zip(chunk.ids, chunk.values.astype(np.float64).round(8).tolist(), chunk.metadata, strict=True)]}).encode()

    def upsert(self, body: bytes) -> None:
        self.posted("/i/bench/vectors/upsert", body)

    def query_body(self, query: Vectors, k: int) -> bytes:
        return json.dumps({"vector": query.tolist(), "topK": k, "namespace": "", "includeValues": False,
                           "includeMetadata": False}).encode()

    def ids(self, answer: bytes) -> list[str]:
        return [match["id"] for match in json.loads(answer)["matches"]]

    def indexed(self) -> None:
        for _ in range(6000):
            told = next((line for line in self.http.get("/metrics").text.splitlines()
                         if line.startswith("madang_index_waiting{")), None)
            if told is not None and float(told.split()[-1]) < 128:
                return
            time.sleep(0.1)
        raise Failed("the index does not catch up")


class Chroma(Server):
    """`chroma run`, its server in Rust, over its API of version 2."""

    name, ready = "chroma", "/api/v2/heartbeat"
    settings = (10, 12, 16, 20, 24, 32, 48, 64, 100, 200)
    _base = "/api/v2/tenants/default_tenant/databases/default_database/collections"

    def prepare(self) -> None:
        """Made by the first request."""

    def command(self) -> list[str]:
        return [str(PEERS.with_name("chroma")), "run", "--path", str(self.folder), "--port", str(self.port),
                "--host", "127.0.0.1"]

    def start(self) -> float:
        if not PEERS.exists():
            raise Failed("chroma's environment is not there; make it with: make .venv-bench-store/installed")
        seconds = super().start()
        made = json.loads(self.posted(self._base, json.dumps(
            {"name": "bench", "get_or_create": True, "configuration": {"hnsw": {"space": "cosine"}}}).encode()))
        self.query_path = f"{self._base}/{made['id']}/query"
        self._collection = f"{self._base}/{made['id']}"
        return seconds

    def upsert_body(self, chunk: Chunk) -> bytes:
        flat = [{key: value for key, value in metadata.items() if not isinstance(value, list)} for metadata in chunk.metadata]
        return json.dumps({"ids": chunk.ids, "embeddings": chunk.values.astype(np.float64).round(8).tolist(),
                           "metadatas": flat}).encode()

    def upsert(self, body: bytes) -> None:
        self.posted(f"{self._collection}/upsert", body)

    def query_body(self, query: Vectors, k: int) -> bytes:
        return json.dumps({"query_embeddings": [query.tolist()], "n_results": k, "include": ["distances"]}).encode()

    def ids(self, answer: bytes) -> list[str]:
        found: list[str] = json.loads(answer)["ids"][0]
        return found

    def set(self, setting: Any) -> None:
        answer = self.http.put(self._collection, json={"new_configuration": {"hnsw": {"ef_search": setting}}})
        if answer.status_code >= 300:
            raise Failed(f"chroma: {answer.status_code}: {answer.text[:300]}")
