"""Servers compared over HTTP: ours, spoken to as by Pinecone's client, and `chroma run`.

    python benchmarks/serve.py [--rows N] [--part upsert --part query --part start] [--seconds 5] [--rounds 3]

Both get the same records and queries, in turns, on the same machine. Queries come from wrk (apt-get install wrk) with 1, 8
and 32 connections, each sending the next one when it has its answer, at the cheapest setting that reaches the recall.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.datasets import load
from benchmarks.results import Row, versions
from benchmarks.serve_peers import Chroma, Ours, Server
from benchmarks.store_data import Fields, K, Truth, chunks, row_of
from benchmarks.store_process import Failed

PARTS = ("upsert", "query", "start")
CONNECTIONS = (1, 8, 32)
BATCH = 500             # records of an upsert
JUDGED = 500            # queries that recall is measured with
_SCRIPT = """
wrk.method = "POST"
local bodies = {}
for line in io.lines(os.getenv("BODIES")) do bodies[#bodies + 1] = line end
local headers = {}
for name, value in os.getenv("HEADERS"):gmatch("([^\\t]+)\\t([^\\t]+)\\t") do headers[name] = value end
local i = 0
request = function()
  i = i + 1
  return wrk.format("POST", os.getenv("WHERE"), headers, bodies[i % #bodies + 1])
end
done = function(summary, latency, requests)
  local errors = summary.errors
  print(string.format('RESULT {"per_s": %f, "p50_ms": %f, "p99_ms": %f, "failed": %d}',
    summary.requests / summary.duration * 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""


class Contest:
    """The servers on one data set."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        data = load("docs")
        data = data.head(options.rows) if options.rows else data
        self.base, self.tune, self.report = (part / np.linalg.norm(part, axis=1, keepdims=True)
                                             for part in (data.base, data.tune, data.report))
        self.options, self.folder = options, folder
        np.save(folder / "base.npy", self.base.astype(np.float32))
        self.truths = {"tune": Truth(self.base, self.tune[:JUDGED], None), "report": Truth(self.base, self.report[:JUDGED], None)}
        self.servers: list[Server] = [kind(folder / kind.name, self.base.shape[1]) for kind in (Ours, Chroma)
                                      if not options.only or kind.name in options.only]
        self.found: dict[str, dict[str, Any]] = {server.name: {} for server in self.servers}

    def run(self) -> dict[str, Any]:
        """Everything that was asked for; the servers run beside each other, and work in turns."""
        running: list[Server] = []
        try:
            for server in self.servers:
                server.prepare()
                server.start()
                running.append(server)
                self.found[server.name]["upsert"] = self.upsert(server)
                say(f"{server.name}: {self.found[server.name]['upsert']['per_s']:,.0f} records/s written")
            if "query" in self.options.part:
                self.query()
        finally:
            for server in running:
                server.stop()
        if "start" in self.options.part:
            for server in self.servers:
                self.found[server.name]["start_s"] = self.start(server)
        return self.found

    def upsert(self, server: Server) -> dict[str, float]:
        """All records over one connection."""
        bodies = [server.upsert_body(chunk) for chunk in
                  chunks(self.folder / "base.npy", Fields(len(self.base)), range(len(self.base)), size=BATCH)]
        begun, cpu = time.perf_counter(), server.cpu_seconds()
        for body in bodies:
            server.upsert(body)
        seconds, used = time.perf_counter() - begun, server.cpu_seconds() - cpu
        server.indexed()
        return {"per_s": len(self.base) / seconds, "per_cpu_s": len(self.base) / max(used, 1e-9),
                "indexed_per_s": len(self.base) / (time.perf_counter() - begun), "memory_bytes": server.memory_bytes()}

    def recall(self, server: Server, part: str) -> float:
        queries = getattr(self, part)[:JUDGED]
        told = [[row_of(name) for name in server.ids(server.posted(server.query_path, server.query_body(query, K)))]
                for query in queries]
        return float(self.truths[part].recall(told))

    def query(self) -> None:
        """Tune each, then time all in turns."""
        for server in self.servers:
            mine = self.found[server.name]
            for setting in server.settings:
                server.set(setting)
                mine["setting"] = setting
                if self.recall(server, "tune") >= self.options.target:
                    break
            mine["recall"] = self.recall(server, "report")
            say(f"{server.name}: setting {mine['setting']}, recall {mine['recall']:.4f}")
            bodies = self.folder / f"{server.name}.bodies"
            bodies.write_bytes(b"\n".join(server.query_body(query, K) for query in self.report))
            mine["rounds"] = {connections: [] for connections in CONNECTIONS}
        for number in range(self.options.rounds):
            for connections in CONNECTIONS:
                for server in self.servers[number % 2:] + self.servers[:number % 2]:
                    timed = self.wrk(server, connections)
                    self.found[server.name]["rounds"][connections].append(timed)
                    say(f"{server.name}: {connections} connections: {timed['per_s']:,.0f}/s, "
                        f"p50 {timed['p50_ms']:.2f} ms, p99 {timed['p99_ms']:.2f} ms")

    def wrk(self, server: Server, connections: int) -> dict[str, float]:
        """One run. Raises Failed for any answer that is not one."""
        program = shutil.which("wrk")
        if program is None:
            raise Failed("wrk is missing; on Debian or Ubuntu: apt-get install wrk")
        script = self.folder / "query.lua"
        script.write_text(_SCRIPT, encoding="utf-8")
        headers = "".join(f"{name}\t{value}\t" for name, value in server.headers.items())
        cpu = server.cpu_seconds()
        done = subprocess.run(
            [program, "-t1", f"-c{connections}", f"-d{self.options.seconds}s", "-s", str(script),
             f"http://127.0.0.1:{server.port}"], capture_output=True, text=True, check=False,
            env={"BODIES": str(self.folder / f"{server.name}.bodies"), "HEADERS": headers, "WHERE": server.query_path})
        line = next((line for line in done.stdout.splitlines() if line.startswith("RESULT ")), None)
        if line is None:
            raise Failed(f"wrk failed: {done.stdout[-300:]}{done.stderr[-300:]}")
        timed: dict[str, float] = json.loads(line.removeprefix("RESULT "))
        if timed["failed"]:
            raise Failed(f"{server.name}: {timed['failed']:.0f} queries failed")
        return {**timed, "cpu_share": (server.cpu_seconds() - cpu) / self.options.seconds}

    def start(self, server: Server) -> float:
        """Median seconds from the command to the first answer to a query, of as many starts as there are rounds."""
        seconds = []
        for _ in range(self.options.rounds):
            begun = time.perf_counter()
            server.start()
            server.posted(server.query_path, server.query_body(self.report[0], K))
            seconds.append(time.perf_counter() - begun)
            server.stop()
        return statistics.median(seconds)


def lines(found: dict[str, dict[str, Any]]) -> dict[str, str]:
    """What was found, a line each, and the ratios."""
    told = {}
    for name, mine in found.items():
        parts = [f"upsert {mine['upsert']['per_s']:,.0f}/s ({mine['upsert']['per_cpu_s']:,.0f} per CPU s), "
                 f"indexed {mine['upsert']['indexed_per_s']:,.0f}/s"]
        if "rounds" in mine:
            parts.append(f"({mine['setting']}) recall {mine['recall']:.4f}")
            parts += [f"{connections} connections {median(rounds, 'per_s'):,.0f}/s p50 {median(rounds, 'p50_ms'):.2f} ms "
                      f"p99 {median(rounds, 'p99_ms'):.2f} ms" for connections, rounds in mine["rounds"].items()]
        if "start_s" in mine:
            parts.append(f"start to first answer {mine['start_s']:.2f} s")
        told[name] = "; ".join(parts)
    if {"madang", "chroma"} <= set(found):
        ours, theirs = found["madang"], found["chroma"]
        parts = [f"upsert x {ours['upsert']['per_s'] / theirs['upsert']['per_s']:.1f}"]
        if "rounds" in ours:
            parts += [f"{connections} connections x " + ratio([a["per_s"] / b["per_s"] for a, b in zip(
                ours["rounds"][connections], theirs["rounds"][connections], strict=True)]) for connections in CONNECTIONS]
        told["madang / chroma"] = "; ".join(parts)
    return told


def median(rounds: list[dict[str, float]], name: str) -> float:
    return statistics.median(one[name] for one in rounds)


def ratio(values: list[float]) -> str:
    return f"{statistics.median(values):.1f} [{min(values):.1f}-{max(values):.1f}]"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def measure(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="serve-", dir=options.folder or None) as folder:
        return Contest(options, Path(folder)).run()


def rows(arguments: list[str] | None = None) -> list[Row]:
    """For RESULTS.md."""
    options = parsed(arguments or [])
    command = " ".join(["python benchmarks/serve.py", *(arguments or [])])
    return [Row(f"servers, docs{f' {options.rows:,}' if options.rows else ''}, {name}", line, command,
                versions("madang", "uvicorn", "orjson")) for name, line in lines(measure(options)).items()]


def parsed(arguments: list[str]) -> argparse.Namespace:
    """Options."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, default=0, help="only so many records, for a quick try")
    options.add_argument("--target", type=float, default=0.95, help="recall@10 to reach")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--seconds", type=int, default=5, help="of each measurement")
    options.add_argument("--part", action="append", choices=PARTS, help="only this (after upsert); may be repeated")
    options.add_argument("--only", type=lambda text: text.split(","), default=[], metavar="NAME,...")
    options.add_argument("--folder", default="", help="where data is kept, on the disk to measure")
    options.add_argument("--append", action="store_true", help="add rows to RESULTS.md")
    chosen = options.parse_args(arguments)
    chosen.part = tuple(chosen.part or PARTS)
    return chosen


def main() -> None:
    options = parsed(sys.argv[1:])
    if options.append:
        from benchmarks.results import append

        append(rows([argument for argument in sys.argv[1:] if argument != "--append"]))
        return
    for name, line in lines(measure(options)).items():
        print(f"{name}: {line}")


if __name__ == "__main__":
    main()
