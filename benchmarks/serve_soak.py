"""Our server under a mixed load for a while, then killed: no error, steady memory, every acknowledged write there.

    python benchmarks/serve_soak.py [--seconds 600] [--rows 20000] [--share 0.8]

Upserts, deletes and queries come over several connections at a share of what the same mixture reaches when everybody sends
the next request at once. Each client has ids of its own, so that it knows what each of them must be in the end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.results import Row, versions
from benchmarks.serve_peers import Ours
from benchmarks.store_process import Failed

CLIENTS, IDS, BATCH = 8, 2_000, 20
PREFIX = "/i/bench"
WARM_S = 60.0           # until memory has taken its shape
DIM = 384


@dataclass
class Client:
    """One connection and the ids that are its own; `known`: the version of each that was acknowledged, None for deleted."""

    number: int
    http: httpx.AsyncClient
    random: random.Random
    known: dict[str, int | None] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    version: int = 0

    def vector(self) -> list[float]:
        return [self.random.gauss(0, 1) for _ in range(DIM)]

    def request(self) -> tuple[str, dict[str, Any], dict[str, int | None]]:
        """Path, body, and what is so once it was acknowledged: 8 queries to 1 upsert and 1 delete in 3 of 10."""
        draw = self.random.random()
        if draw < 0.8:
            return "/query", {"vector": self.vector(), "topK": 10, "includeMetadata": True}, {}
        ids = [f"c{self.number}-{self.random.randrange(IDS)}" for _ in range(BATCH if draw < 0.95 else 3)]
        if draw < 0.95:
            self.version += 1
            return "/vectors/upsert", {"vectors": [
                {"id": each, "values": self.vector(), "metadata": {"version": self.version}} for each in dict.fromkeys(ids)]
            }, dict.fromkeys(ids, self.version)
        return "/vectors/delete", {"ids": list(dict.fromkeys(ids))}, dict.fromkeys(ids)

    async def send(self) -> None:
        path, body, then = self.request()
        begun = time.perf_counter()
        try:
            answer = await self.http.post(PREFIX + path, content=json.dumps(body).encode())
        except httpx.HTTPError as error:
            self.errors.append(f"{path}: {error!r}")
            return
        self.seconds.append(time.perf_counter() - begun)
        if answer.status_code != 200:
            self.errors.append(f"{path}: {answer.status_code} {answer.text[:200]}")
            return
        self.known.update(then)

    async def run(self, until: float, every_s: float) -> None:
        """Requests at their times, or one after the other where `every_s` is 0."""
        due = time.perf_counter()
        while time.perf_counter() < until:
            await self.send()
            if every_s:
                due += self.random.expovariate(1 / every_s)
                await asyncio.sleep(max(0.0, due - time.perf_counter()))


async def load(clients: list[Client], seconds: float, per_s: float, server: Ours, memory: list[tuple[float, int]]) -> float:
    """Requests a second that were answered; `memory`: seconds and bytes, every five seconds."""
    for client in clients:
        client.seconds.clear()
    begun = time.perf_counter()

    async def watch() -> None:
        while time.perf_counter() < begun + seconds:
            memory.append((time.perf_counter() - begun, server.memory_bytes()))
            await asyncio.sleep(5)

    every_s = len(clients) / per_s if per_s else 0.0
    await asyncio.gather(watch(), *(client.run(begun + seconds, every_s) for client in clients))
    return sum(len(client.seconds) for client in clients) / (time.perf_counter() - begun)


async def soak(server: Ours, options: argparse.Namespace) -> tuple[dict[str, Any], dict[str, int | None]]:
    """What was measured, and what must be there afterwards."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", headers=server.headers, timeout=60,
                                 limits=httpx.Limits(max_connections=CLIENTS)) as http:
        clients = [Client(number, http, random.Random(number)) for number in range(CLIENTS)]
        capacity = await load(clients, 10, 0, server, [])
        memory: list[tuple[float, int]] = []
        reached = await load(clients, options.seconds, capacity * options.share, server, memory)
    seconds = np.concatenate([client.seconds for client in clients]) * 1e3
    errors = [error for client in clients for error in client.errors]
    steady = [size for at, size in memory if at >= min(WARM_S, options.seconds / 2)]
    third = max(1, len(steady) // 3)
    growth = float(np.median(steady[-third:]) / np.median(steady[:third]) - 1)
    found = {"capacity_per_s": capacity, "per_s": reached, "p50_ms": float(np.quantile(seconds, 0.5)),
             "p99_ms": float(np.quantile(seconds, 0.99)), "errors": errors, "memory_growth": growth,
             "memory_bytes": int(np.median(steady[-third:]))}
    return found, {name: version for client in clients for name, version in client.known.items()}


def lost(server: Ours, wanted: dict[str, int | None]) -> list[str]:
    """What is not as it was acknowledged."""
    wrong = []
    names = list(wanted)
    for start in range(0, len(names), 100):
        part = names[start:start + 100]
        answer = server.http.get(f"{PREFIX}/vectors/fetch", params={"ids": part})
        there = {name: int(each["metadata"]["version"]) for name, each in answer.json()["vectors"].items()}
        wrong += [name for name in part if there.get(name) != wanted[name]]
    return wrong


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Load, kill, look."""
    with tempfile.TemporaryDirectory(prefix="soak-", dir=options.folder or None) as folder:
        server = Ours(Path(folder) / "ws", DIM)
        server.prepare()
        server.start()
        try:
            generator = np.random.default_rng(0)
            for start in range(0, options.rows, 500):
                server.posted(f"{PREFIX}/vectors/upsert", json.dumps({"vectors": [
                    {"id": f"r{row}", "values": generator.standard_normal(DIM).round(4).tolist(), "metadata": {"version": 0}}
                    for row in range(start, min(start + 500, options.rows))]}).encode())
            server.indexed()
            found, wanted = asyncio.run(soak(server, options))
        finally:
            server.stop(kill=True)
        server.start()
        try:
            found |= {"checked": len(wanted), "lost": lost(server, wanted)}
        finally:
            server.stop()
        return found


def line(found: dict[str, Any], options: argparse.Namespace) -> str:
    """As one line."""
    return (f"{options.seconds:.0f} s at {found['per_s']:,.0f}/s ({options.share:.0%} of {found['capacity_per_s']:,.0f}/s): "
            f"{len(found['errors'])} errors, p50 {found['p50_ms']:.1f} ms, p99 {found['p99_ms']:.1f} ms, memory "
            f"{found['memory_bytes'] / 1e6:,.0f} MB {found['memory_growth']:+.1%}; after kill -9: {len(found['lost'])} of "
            f"{found['checked']:,} acknowledged writes lost")


def parsed(arguments: list[str]) -> argparse.Namespace:
    """Options."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=float, default=600)
    options.add_argument("--rows", type=int, default=20_000, help="records that are there from the start")
    options.add_argument("--share", type=float, default=0.8, help="of what the mixture reaches at most")
    options.add_argument("--folder", default="", help="where data is kept")
    options.add_argument("--append", action="store_true", help="add a row to RESULTS.md")
    return options.parse_args(arguments)


def main() -> None:
    options = parsed(sys.argv[1:])
    found = measure(options)
    print(line(found, options))
    for error in [*found["errors"][:10], *found["lost"][:10]]:
        print(f"  {error}")
    if options.append:
        from benchmarks.results import append

        command = " ".join(["python benchmarks/serve_soak.py", *(each for each in sys.argv[1:] if each != "--append")])
        append([Row("server, mixed load, then killed", line(found, options), command, versions("madang", "uvicorn"))])
    if found["errors"] or found["lost"]:
        raise Failed("errors, or writes lost")


if __name__ == "__main__":
    main()
