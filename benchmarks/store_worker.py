"""One contender of benchmarks/store.py in a process of its own; started by it, in the contender's environment.

A line of JSON on standard input is a request, {"do": ..., ...}; each is answered by one line, after lines of progress
where it takes long. What libraries print goes to standard error.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.store_data import CALL, Chunk, Fields, K, chunks, identity, row_of
from benchmarks.store_peers import CONTENDERS

WARM = 8                # queries before each measurement, untimed: the caches are this one's then
DELETES = 1000          # ids a call


def family() -> list[int]:
    """This process and those it started, as Linux tells."""
    known, new = [], [os.getpid()]
    while new:
        known += new
        new = [int(child) for pid in new for task in Path(f"/proc/{pid}/task").glob("*/children")
               for child in told(task).split()]
    return known


def told(path: Path) -> str:
    """What a file of a process or a thread says; "" where that has ended meanwhile."""
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def cpu_seconds() -> float:
    """Of all threads, and of processes this one started."""
    if not Path("/proc/self/task").exists():
        return time.process_time()
    ticks = 0
    for pid in family()[1:]:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def memory() -> dict[str, int]:
    """Resident bytes now and at their peak, and those of them that no file holds, at their peak (0 where the system does
    not tell); processes this one started included."""
    if not Path("/proc/self/status").exists():
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return {"now_bytes": peak, "peak_bytes": peak, "peak_anon_bytes": 0}
    return {"now_bytes": resident("VmRSS"), "peak_bytes": resident("VmHWM"),
            "peak_anon_bytes": max(Watch.most, resident("RssAnon"))}


def resident(what: str) -> int:
    """Bytes, as Linux names them; a process that has just ended has none."""
    found = 0
    for pid in family():
        with suppress(OSError):
            found += sum(int(line.split()[1]) * 1024 for line in Path(f"/proc/{pid}/status").read_text().splitlines()
                         if line.startswith(f"{what}:"))
    return found


class Watch(threading.Thread):
    """Looks at the anonymous memory ten times a second, since Linux keeps no peak of it: what is mapped from files can be
    dropped when others need the memory, and is not a store's to answer for."""

    most = 0

    def run(self) -> None:
        while True:
            Watch.most = max(Watch.most, resident("RssAnon"))
            time.sleep(0.1)


def clocked(function: Callable[[], Any]) -> dict[str, float]:
    """Wall and CPU seconds."""
    wall, cpu = time.perf_counter(), cpu_seconds()
    function()
    return {"wall_s": time.perf_counter() - wall, "cpu_s": cpu_seconds() - cpu}


class Worker:
    """Answers requests; one method each."""

    def __init__(self, name: str, folder: str, data: str, tell: Callable[[dict[str, Any]], None]) -> None:
        """`folder`: of the store; `data`: where the vectors lie; `tell`: writes a line."""
        self.data, self.tell = Path(data), tell
        base = np.load(self.data / "base.npy", mmap_mode="r")
        self.n, dim = base.shape
        del base
        self.queries = {part: np.load(self.data / f"{part}.npy") for part in ("tune", "report")}
        self.fields = Fields(self.n)
        self.contender = next(kind for kind in CONTENDERS if kind.name == name)(Path(folder), dim, self.n)

    def begin(self, started: float) -> dict[str, Any]:
        """Import the contender's libraries. `started`: time.time() when the process was asked for."""
        self.started = started
        self.contender.imports()
        if Path("/proc/self/status").exists():
            Watch(daemon=True).start()
        return {"versions": {package: version(package) for package in self.contender.packages}, **memory()}

    def create(self) -> dict[str, Any]:
        """A new store."""
        self.contender.create()
        return {}

    def open(self) -> dict[str, Any]:
        """An existing store, up to the first answer; with seconds since the process was asked for."""
        def first() -> None:
            self.contender.open()
            self.contender.search(self.queries["report"][0], K, None)

        return {**clocked(first), "with_imports_s": time.time() - self.started}

    def pieces(self, rows: list[int], sources: list[int] | None) -> Iterator[Chunk]:
        """Chunks, with progress as they are taken. Making them is no contender's work: `written` takes it out."""
        self.making = {"wall_s": 0.0, "cpu_s": 0.0}
        made = chunks(self.data / "base.npy", self.fields, rows, sources)
        for done in range(0, len(rows), CALL):
            self.tell({"progress": f"{done:,} of {len(rows):,} records"})
            chunk: list[Chunk] = []
            for name, seconds in clocked(lambda chunk=chunk: chunk.append(next(made))).items():
                self.making[name] += seconds
            yield chunk[0]

    def written(self, function: Callable[[], Any]) -> dict[str, float]:
        """Wall and CPU seconds of what takes its records from `pieces`."""
        whole = clocked(function)
        return {name: whole[name] - self.making[name] for name in whole}

    def load(self, rows: list[int] | None = None, sources: list[int] | None = None) -> dict[str, Any]:
        """Insert records, then answer one query, then finish the index."""
        wanted = rows or list(range(self.n))
        inserted = self.written(lambda: self.contender.load(self.pieces(wanted, sources)))
        self.tell({"progress": f"{len(wanted):,} records inserted"})
        first = clocked(lambda: self.contender.search(self.queries["report"][0], K, None))
        self.tell({"progress": f"{len(wanted):,} records searchable"})
        finished = clocked(self.contender.finish)
        return {"records": len(wanted), "insert": inserted, "first_answer": first, "finish": finished, **memory()}

    def update(self, rows: list[int], sources: list[int]) -> dict[str, Any]:
        """Replace records by id."""
        def all_of() -> None:
            for chunk in self.pieces(rows, sources):
                self.contender.update(chunk)

        return {**self.written(all_of), "finish": clocked(self.contender.finish)}

    def delete(self, rows: list[int]) -> dict[str, Any]:
        """By id, 1,000 a call."""
        calls = [[identity(row) for row in rows[start:start + DELETES]] for start in range(0, len(rows), DELETES)]

        def all_of() -> None:
            for number, ids in enumerate(calls):
                self.contender.delete(ids)
                self.tell({"progress": f"{number + 1} of {len(calls)} calls"})

        return {**clocked(all_of), "finish": clocked(self.contender.finish)}

    def search(self, part: str, setting: Any, below: int | None, most_s: float, clients: int = 1,
               least: int = 20, once: bool = False) -> dict[str, Any]:
        """Queries of a part in turn, again and again unless `once`, for `most_s` seconds and at least `least` of them."""
        queries = self.queries[part]
        limit = len(queries) if once else sys.maxsize
        self.contender.set(setting)
        for query in queries[-WARM:]:
            self.contender.search(query, K, below)
        counter = itertools.count()
        answers: dict[int, list[str]] = {}
        seconds: list[float] = []

        def client(search: Callable[..., list[str]], until: float) -> None:
            while (number := next(counter)) < limit and (number < least or time.perf_counter() < until):
                start = time.perf_counter()
                answers[number] = search(queries[number % len(queries)], K, below)
                seconds.append(time.perf_counter() - start)

        searches = [self.contender.client() for _ in range(clients)]
        wall, cpu = time.perf_counter(), cpu_seconds()
        if clients == 1:
            client(searches[0], wall + most_s)
        else:
            together(client, searches, wall + most_s)
        wall, cpu = time.perf_counter() - wall, cpu_seconds() - cpu
        p50, p95 = np.quantile(seconds, (0.5, 0.95)) * 1000
        rows = [[row_of(name) for name in answers[number]] for number in range(min(len(answers), len(queries)))]
        return {"count": len(seconds), "wall_per_s": len(seconds) / wall, "cpu_per_s": len(seconds) / max(cpu, 1e-9),
                "p50_ms": p50, "p95_ms": p95, "rows": rows if once else []}

    def close(self) -> dict[str, Any]:
        """Close the store; what it writes then belongs to it."""
        return {**clocked(self.contender.close), **memory()}


def together(client: Callable[..., None], searches: list[Any], until: float) -> None:
    """One thread for each client; the first error is raised here."""
    errors: list[BaseException] = []

    def run(search: Any) -> None:
        try:
            client(search, until)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(search,)) for search in searches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def main() -> None:
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def tell(answer: dict[str, Any]) -> None:
        out.write(json.dumps(answer) + "\n")
        out.flush()

    worker = Worker(sys.argv[1], sys.argv[2], sys.argv[3], tell)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            tell({"done": getattr(worker, request.pop("do"))(**request)})
        except Exception as error:      # a stranger's failure is reported, not hidden
            traceback.print_exc()
            tell({"error": f"{type(error).__name__}: {error}"[:400]})


if __name__ == "__main__":
    main()
