"""The parameter study: build, search, measure, and keep every measured point at once, so that a killed run goes on.

Recall is measured against exact search. A point is one index with one breadth of search; an index is built once for all
its breadths. Points are lines of `results.csv`, each with the fingerprint of the data and the signature of the machine
and release that measured it: what was measured already is not measured again.
"""

from __future__ import annotations

import csv
import io
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import xxhash
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from madang.base.errors import Conflict, Corrupt, InvalidInput, Locked
from madang.base.stats import bootstrap_mean
from madang.index import _kernel
from madang.index.flat import Flat
from madang.index.lab_data import Data
from madang.index.lab_grid import GRAPHS, Build, Grid, make
from madang.index.protocol import Rows, Scores

RESULTS = "results.csv"
Answers: TypeAlias = "tuple[Rows, Scores]"
Floats: TypeAlias = NDArray[np.float64]

_BATCH_S = 0.05       # a batch is repeated for as long as this, at least


@dataclass(frozen=True, slots=True)
class Point:
    """One measurement, and all that it depends on. The fields are the columns of `results.csv`, in this order."""

    data: str
    fingerprint: str
    queries_fingerprint: str
    machine: str                         # signature of machine and release, see `machine`
    index: str
    size: int
    quantization: str
    m: int | None
    ef_construction: int | None
    nlist: int | None
    breadth: int                         # ef_search or nprobe; 0 where there is none
    k: int
    threads: int
    repeats: int
    queries: int
    dim: int
    metric: str
    code: str                            # what `quantization` came to
    recall: float                        # mean of recall@k
    recall_low: float                    # of its 95 % interval, by bootstrap over the queries
    recall_high: float
    median_us: float                     # of a single query, on one thread
    p95_us: float
    batch_qps: float                     # queries per second, all in one call, on `threads`
    build_s: float
    search_bytes: int                    # what a search works on
    total_bytes: int                     # with the float32 vectors that only exact scores need
    unreachable: int                     # live vectors that no links lead to

    @property
    def build(self) -> Build:
        return Build(self.index, self.size, self.quantization, self.m, self.ef_construction, self.nlist)

    @property
    def breadth_name(self) -> str:
        return "ef_search" if self.index in GRAPHS else "nprobe" if self.index == "ivf" else ""


_KEY = ("fingerprint", "queries_fingerprint", "machine", "index", "size", "quantization", "m", "ef_construction",
        "nlist", "breadth", "k", "threads", "repeats")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a study is. `done` and `total` are estimated seconds of work; only their ratio is to be trusted."""

    doing: str
    points: int
    points_total: int
    done: float
    total: float


@dataclass(frozen=True, slots=True)
class Study:
    """The measured points of one grid, how many of them were there already, and how many others were left aside."""

    points: list[Point]
    resumed: int
    aside: int            # in the same file, but of other machines or releases
    seconds: float


def study(data: Data, grid: Grid, directory: str | Path,
          progress: Callable[[Progress], None] = lambda _: None) -> Study:
    """Measure what of a grid is not in `directory/results.csv` yet.

    Raises InvalidInput for parameters that the data does not allow, Conflict where the directory holds a study of other
    data, Locked where another process is writing to it, Corrupt for a file that is none of ours.
    """
    start = time.perf_counter()
    plan = grid.plan(data)
    for build, _ in plan:
        make(build, data)  # what an index refuses, it should refuse before anything is measured
    folder = Path(directory)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInput(f"directory {folder} cannot be made: {error.strerror}.",
                           remedy="Name another one with --out.") from None
    with _alone(folder):
        results = Results(folder / RESULTS, data)
        wanted = [_key(data, grid, build, breadth) for build, breadths in plan for breadth in breadths]
        missing = [(build, [breadth for breadth in breadths if _key(data, grid, build, breadth) not in results.points])
                   for build, breadths in plan]
        resumed = len(wanted) - sum(len(breadths) for _, breadths in missing)
        _Runner(data, grid, results, progress, missing, resumed).run()
        aside = sum(point.machine != machine()["signature"] for point in results.points.values())
        return Study([results.points[key] for key in wanted], resumed, aside, time.perf_counter() - start)


@cache
def machine() -> dict[str, str]:
    """What measured: processor, instruction set, versions, and a signature of what decides timings."""
    kernel = xxhash.xxh3_64_hexdigest(Path(str(_kernel.__file__)).read_bytes())[:8]
    told = {"processor": _processor(), "cores": str(os.cpu_count() or 1), "instructions": _kernel.isa(),
            "system": f"{platform.system()} {platform.machine()}", "madang": _version(), "kernel": kernel}
    signature = xxhash.xxh3_64_hexdigest(repr(told).encode())[:8]
    return {**told, "python": platform.python_version(), "numpy": np.__version__, "signature": signature}


def _version() -> str:
    try:
        return version("madang")
    except PackageNotFoundError:  # a source tree that was never installed
        return "0+source"


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _key(data: Data, grid: Grid, build: Build, breadth: int) -> tuple[Any, ...]:
    return (data.fingerprint, data.queries_fingerprint, machine()["signature"], build.index, build.size,
            build.quantization, build.m, build.ef_construction, build.nlist, breadth, grid.k, grid.threads,
            grid.repeats)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise Locked(f"another process measures into {folder}.",
                     remedy="Wait for it, or name another directory with --out.") from None
    try:
        yield
    finally:
        lock.release()


# Measuring

class _Runner:
    """One pass over a plan."""

    def __init__(self, data: Data, grid: Grid, results: Results, progress: Callable[[Progress], None],
                 plan: list[tuple[Build, list[int]]], resumed: int) -> None:
        self._data, self._grid, self._results, self._progress = data, grid, results, progress
        self._plan = [(build, breadths) for build, breadths in plan if breadths]
        self._points = resumed
        self._points_total = resumed + sum(len(breadths) for _, breadths in plan)
        self._done = 0.0
        self._total = sum(self._building(build) + sum(self._asking(build, breadth) for breadth in breadths)
                          for build, breadths in self._plan)
        self._truths: dict[int, Answers] = {}

    def run(self) -> None:
        for build, breadths in self._plan:
            self._tell(f"building {build}")
            index = make(build, self._data)
            start = time.perf_counter()
            index.add(self._data.vectors[:build.size], threads=self._grid.threads)
            build_s = time.perf_counter() - start
            self._done += self._building(build)
            for breadth in breadths:
                self._tell(f"searching {build}")
                self._results.append(self._measured(index, build, breadth, build_s))
                self._points += 1
                self._done += self._asking(build, breadth)
        self._tell("done")

    def _measured(self, index: Any, build: Build, breadth: int, build_s: float) -> Point:
        data, grid = self._data, self._grid
        how = {} if breadth == 0 else {"ef_search" if build.index in GRAPHS else "nprobe": breadth}
        found = index.search(data.queries, grid.k, threads=grid.threads, **how)
        interval = bootstrap_mean(tied_recalls(found, self._truth(build.size)))
        single = _single(index, data, grid, how)
        batch = _batch(index, data, grid, how)
        sizes = index.stats()
        live = index.reachable() if hasattr(index, "reachable") else len(index)
        return Point(data.name, data.fingerprint, data.queries_fingerprint, machine()["signature"], build.index,
                     build.size, build.quantization, build.m, build.ef_construction, build.nlist, breadth, grid.k,
                     grid.threads, grid.repeats, len(data.queries), data.dim, data.metric,
                     str(sizes.get("code") or "float32"), interval.mean, interval.low, interval.high,
                     float(np.median(single)), float(np.quantile(single, 0.95)), batch, build_s,
                     int(sizes.get("search_bytes", sizes.get("size_bytes", 0))),
                     int(sizes.get("total_bytes", sizes.get("size_bytes", 0))), len(index) - live)

    def _truth(self, size: int) -> Answers:
        if size not in self._truths:
            exact = Flat(self._data.dim, self._data.metric)
            exact.add(self._data.vectors[:size])
            self._truths[size] = exact.search(self._data.queries, self._grid.k, threads=0)
        return self._truths[size]

    # Seconds of work as they were on one machine: the bar moves evenly where they are in proportion.

    def _building(self, build: Build) -> float:
        per_vector = 3e-9 * (self._data.dim + 64)
        if build.ef_construction is not None:
            per_vector *= build.ef_construction
        elif build.index == "ivf":
            per_vector *= 30
        return 0.005 + build.size * per_vector

    def _asking(self, build: Build, breadth: int) -> float:
        scan = build.size * self._data.dim * 1e-10
        one = 1e-5 + (min(scan, breadth * (self._data.dim + 64) * 3e-9) if breadth else scan)
        return 0.02 + _BATCH_S + len(self._data.queries) * (self._grid.repeats + 1) * one

    def _tell(self, doing: str) -> None:
        self._progress(Progress(doing, self._points, self._points_total, self._done, self._total))


def tied_recalls(found: Answers, truth: Answers) -> Floats:
    """For each query the share of its k nearest that were found: (q,) from rows and scores (q, k), best first.

    A row that is as near as the farthest true one counts although it is not among them: of copies of one vector, which
    ones are called the nearest is an accident of their order.
    """
    (rows, scores), (true_rows, true_scores) = found, truth
    here, wanted = rows >= 0, (true_rows >= 0).sum(axis=1)
    among = (rows[:, :, None] == true_rows[:, None, :]).any(axis=2)
    last = np.take_along_axis(true_scores, np.maximum(wanted - 1, 0)[:, None], axis=1)
    hits = (here & (among | (scores >= last))).sum(axis=1)
    shares: Floats = np.minimum(hits, wanted) / np.maximum(wanted, 1)
    return shares


def _single(index: Any, data: Data, grid: Grid, how: dict[str, int]) -> Floats:
    """Microseconds of every query asked by itself (q,): the median of its repetitions, which are apart in time."""
    asked = [data.queries[i:i + 1] for i in range(len(data.queries))]
    took = np.empty((grid.repeats, len(asked)))
    for each in took:
        for i, query in enumerate(asked):
            start = time.perf_counter_ns()
            index.search(query, grid.k, threads=1, **how)
            each[i] = time.perf_counter_ns() - start
    middle: Floats = np.median(took, axis=0) / 1000
    return middle


def _batch(index: Any, data: Data, grid: Grid, how: dict[str, int]) -> float:
    """Queries per second when all are asked in one call."""
    rounds, start = 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < _BATCH_S or rounds == 0:
        index.search(data.queries, grid.k, threads=grid.threads, **how)
        rounds += 1
    return rounds * len(data.queries) / passed


# The file

class Results:
    """`results.csv`: read once, then lines are appended, each with one write that is synced.

    Whoever is killed in the middle of a line leaves a line without an end; it is cut off at the next start.
    """

    def __init__(self, path: Path, data: Data) -> None:
        self._path = path
        self.points: dict[tuple[Any, ...], Point] = {}
        for point in _read(path):
            if point.fingerprint != data.fingerprint:
                raise Conflict(f"{path.parent} holds a study of other data: {point.data} ({point.fingerprint}), not "
                               f"{data.name} ({data.fingerprint}).",
                               remedy="Name another directory with --out, or remove this one.")
            self.points[tuple(getattr(point, name) for name in _KEY)] = point

    def append(self, point: Point) -> None:
        """Write a point down, its numbers rounded to six digits, so that they are the same when they are read again."""
        rounded: dict[str, Any] = {name: float(f"{value:.6g}") for name, value in asdict(point).items()
                                   if isinstance(value, float)}
        point = replace(point, **rounded)
        new = not self._path.exists() or self._path.stat().st_size == 0
        line = io.StringIO()
        writer = csv.writer(line, lineterminator="\n")
        if new:
            writer.writerow(field.name for field in fields(Point))
        writer.writerow("" if value is None else value for value in asdict(point).values())
        with open(self._path, "ab", buffering=0) as file:
            file.write(line.getvalue().encode())
            os.fsync(file.fileno())
        self.points[tuple(getattr(point, name) for name in _KEY)] = point


def _read(path: Path) -> list[Point]:
    if not path.exists():
        return []
    content = path.read_bytes()
    whole = content[:content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        os.truncate(path, len(whole))
    names = [field.name for field in fields(Point)]
    lines = csv.reader(io.StringIO(whole.decode("utf-8", errors="replace")))
    found = []
    for number, values in enumerate(lines, 1):
        if number == 1:
            if values != names:
                raise Corrupt(f"{path} has other columns than this Madang writes.",
                              remedy="Name another directory with --out, or remove the file.")
            continue
        try:
            found.append(Point(**{field.name: _parsed(str(field.type), text)
                                  for field, text in zip(fields(Point), values, strict=True)}))
        except ValueError:
            raise Corrupt(f"{path} line {number} cannot be read.", remedy="Remove the line, or the file.") from None
    return found


def _parsed(kind: str, text: str) -> Any:
    if text == "" and "None" in kind:
        return None
    return {"int": int, "float": float}.get(kind.partition(" ")[0], str)(text)
