"""The graph by itself: filters, churn, files, threads, memory, and how close a search is to what memory allows.

    python benchmarks/graph.py [--rows N] [--queries N] [--part filters|flat|churn|threads|files|bound]...
        [--json] [--append]

Data: the documentation sentences of benchmarks/datasets.py (real MiniLM embeddings, 384 dimensions), and for churn also
random vectors. Filters are random; correlated: whole neighbourhoods (200 cells), those nearest to the query first; and
anti-correlated: the farthest first. The cost of a filter is compared, in the same round, with exact float32 search over the
allowed vectors alone, already copied together: by NumPy as one would write it (product, partition, order, rows), and by
our own kernel. `flat` is exact search with `allow` in the index of all vectors, one thread, CPU time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks.datasets import load
from benchmarks.results import Row, append, versions
from madang.index import HNSW, Flat, _kernel
from madang.index.calibrate import recalls
from madang.index.protocol import Rows, Vectors

PARTS = ("filters", "flat", "churn", "threads", "files", "bound")
SELECTIVITIES = (0.5, 0.1, 0.01, 0.001)
K, EF = 10, 64
CELLS = 200
AS_ROWS = 1 / 32        # up to this share a filter is given as rows, else as a mask: as a collection does


def timed(function: Callable[[], Any], rounds: int = 1) -> float:
    """Median wall seconds."""
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def masks(base: Vectors, queries: Vectors, kind: str, share: float) -> Iterator[Any]:
    """For each query, which rows may be found."""
    generator = np.random.default_rng(1)
    n, allowed = len(base), max(K, round(share * len(base)))
    centres = base[generator.choice(n, CELLS, replace=False)]
    cells = np.concatenate([np.argmax(part @ centres.T, axis=1) for part in np.array_split(base, 20)])
    for query in queries:
        rank = np.empty(CELLS)
        nearness = centres @ query
        rank[np.argsort(-nearness if kind == "correlated" else nearness)] = np.arange(CELLS)
        key = generator.random(n) + (0 if kind == "random" else rank[cells])
        mask = np.zeros(n, dtype=bool)
        mask[np.argpartition(key, allowed - 1)[:allowed]] = True
        yield mask


def by_numpy(alone: Vectors, allowed: Rows, query: Vectors) -> Rows:
    """The best K rows of one query (1, d) among the allowed vectors, which lie together."""
    scores = (query @ alone.T)[0]
    best = np.argpartition(scores, -K)[-K:]
    found: Rows = allowed[best[np.argsort(-scores[best], kind="stable")]]
    return found


def filters(base: Vectors, queries: Vectors) -> dict[str, Any]:
    """Recall@10 at ef_search 64, microseconds a search, and the ratios to exact search over the allowed vectors."""
    index = HNSW(base.shape[1])
    index.add(base)
    result = {}
    for share in SELECTIVITIES:
        for kind in ("random", "correlated", "anti-correlated"):
            recall, mine, kernel, exact, ratios, scanned = [], [], [], [], [], 0
            for query, mask in zip(queries[:, None, :], masks(base, queries, kind, share), strict=True):
                allowed = np.flatnonzero(mask)
                alone = np.ascontiguousarray(base[allowed])
                truth = allowed[_kernel.search(alone, query, K, "cosine")[0]]
                kernel.append(timed(lambda a=alone, q=query: _kernel.search(a, q, K, "cosine")))
                by_numpy(alone, allowed, query)     # each is timed right after a first time
                exact.append(timed(lambda a=alone, r=allowed, q=query: by_numpy(a, r, q)))
                allow = allowed.astype(np.int64) if share <= AS_ROWS else mask
                rows, _, _, scan = index.run(query, K, EF, allow=allow)
                mine.append(timed(lambda q=query, a=allow: index.search(q, K, ef_search=EF, allow=a)))
                ratios.append(mine[-1] / exact[-1])
                recall.append(recalls(rows, truth)[0])
                scanned += scan
            result[f"{share:.1%} {kind}"] = {
                "recall": round(float(np.mean(recall)), 4), "us": round(statistics.median(mine) * 1e6),
                "exact_us": round(statistics.median(exact) * 1e6), "ratio": round(statistics.median(ratios), 3),
                "kernel_us": round(statistics.median(kernel) * 1e6), "scanned": scanned}
    return result


def flat(base: Vectors, queries: Vectors) -> dict[str, Any]:
    """Exact search with `allow`: recall@10, and queries per CPU second one a call and all in one, by share allowed."""
    index = Flat(base.shape[1])
    index.add(base)
    generator = np.random.default_rng(3)
    result = {}
    for share in (0.005, 0.1):
        allowed = np.sort(generator.choice(len(base), round(share * len(base)), replace=False)).astype(np.int64)
        truth = np.stack([by_numpy(base[allowed], allowed, query) for query in queries[:, None, :]])
        mask = np.zeros(len(base), dtype=bool)
        mask[allowed] = True
        for name, allow in (("rows", allowed), ("mask", mask)):
            found = np.concatenate([index.search(query, K, allow=allow)[0] for query in queries[:, None, :]])
            seconds: dict[str, list[float]] = {"single": [], "batch": []}
            for _ in range(7):
                start = time.process_time()
                for query in queries[:, None, :]:
                    index.search(query, K, allow=allow)
                seconds["single"].append((time.process_time() - start) / len(queries))
                start = time.process_time()
                index.search(queries, K, allow=allow)
                seconds["batch"].append((time.process_time() - start) / len(queries))
            result[f"{share:.1%} {name}"] = {
                "recall": round(float(recalls(found, truth).mean()), 4),
                **{f"{way}_per_s": round(1 / statistics.median(mine)) for way, mine in seconds.items()}}
    return result


def churn(name: str, vectors: Vectors, queries: Vectors) -> dict[str, Any]:
    """Delete half, then update 30 % three times; beside a fresh build of what is left."""
    generator = np.random.default_rng(2)
    keep = len(vectors) * 2 // 3
    index = HNSW(vectors.shape[1])
    live = dict(zip(index.add(vectors[:keep]).tolist(), vectors[:keep], strict=True))
    gone = generator.permutation(keep)[:keep // 2]
    index.remove(gone)
    for row in gone.tolist():
        del live[row]
    spare = keep
    for _ in range(3):
        rows = generator.choice(sorted(live), round(0.3 * len(live)), replace=False)
        new = np.take(vectors, range(spare, spare + len(rows)), axis=0, mode="wrap")
        index.update(rows, new)
        live.update(zip(rows.tolist(), new, strict=True))
        spare += len(rows)
    fresh = HNSW(vectors.shape[1])
    numbers = np.array(sorted(live))
    fresh.add(np.stack([live[row] for row in numbers.tolist()]))
    truth, _, _, _ = index.run(queries, K, K, plan="exact", threads=0)
    found, _ = index.search(queries, K, ef_search=EF)
    expected, _ = fresh.search(queries, K, ef_search=EF)
    with tempfile.TemporaryDirectory() as folder:
        index.save(Path(folder, "a"))
        fresh.save(Path(folder, "b"))
        on_disk = Path(folder, "a").stat().st_size / Path(folder, "b").stat().st_size
    return {"data": name, "live": len(index), "unreachable": len(index) - index.reachable(),
            "recall": round(float(recalls(found, truth).mean()), 4),
            "fresh_recall": round(float(recalls(np.where(expected >= 0, numbers[expected], -1), truth).mean()), 4),
            "memory_ratio": round(index.stats()["search_bytes"] / fresh.stats()["search_bytes"], 3),
            "file_ratio": round(on_disk, 3)}


def threads(base: Vectors, queries: Vectors) -> dict[str, Any]:
    """Build and batch search on two threads beside one, and whether the files are the same."""
    built: dict[int, list[float]] = {1: [], 2: []}
    files = {}
    index = HNSW(base.shape[1])
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(2):
            for count in built:
                index = HNSW(base.shape[1])
                built[count].append(timed(lambda i=index, c=count: i.add(base, threads=c)))
                index.save(Path(folder, "index"))
                files[count] = Path(folder, "index").read_bytes()
    searched: dict[int, list[float]] = {1: [], 2: []}
    many = np.concatenate([queries] * 4)
    for _ in range(9):
        for count in searched:
            searched[count].append(timed(lambda c=count: index.search(many, K, ef_search=EF, threads=c)))
    return {"same_bytes": files[1] == files[2],
            "build_s": {str(count): round(min(seconds), 2) for count, seconds in built.items()},
            "build_speedup": round(min(built[1]) / min(built[2]), 2),
            "search_speedup": round(statistics.median(a / b for a, b in zip(searched[1], searched[2], strict=True)), 2)}


def files(base: Vectors) -> dict[str, Any]:
    """Opening a saved index, and its memory beside dim + 2 m 4 + 16 bytes a vector."""
    result: dict[str, Any] = {}
    for quantization in ("int8", "int4"):
        index = HNSW(base.shape[1], quantization=quantization, ef_construction=40)  # type: ignore[arg-type]
        index.add(base)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "index")
            index.save(path)
            opened = timed(lambda p=path: HNSW.load(p), rounds=7)
            whole = path.stat().st_size
        per_vector = index.stats()["search_bytes"] / len(index)
        result[quantization] = {"open_ms": round(opened * 1000, 1), "file_mb": round(whole / 1e6, 1),
                                "search_bytes_per_vector": round(per_vector, 1),
                                "ratio": round(per_vector / (base.shape[1] + 2 * 16 * 4 + 16), 3)}
    return result


def bound(base: Vectors, queries: Vectors) -> dict[str, Any]:
    """Nanoseconds for each distance of a search, beside fetching as many records at random with ideal prefetching."""
    result: dict[str, Any] = {}
    for quantization in ("int8", "int4"):
        index = HNSW(base.shape[1], quantization=quantization, ef_construction=100)  # type: ignore[arg-type]
        index.add(base)
        rows = np.random.default_rng(0).integers(0, len(base), 1 << 18).astype(np.int64)
        gather, batch, single = [], [], []
        for _ in range(9):
            gather.append(index._graph.gather_ns(rows))  # type: ignore[union-attr]
            start = time.process_time()
            evaluations = index.run(queries, K, EF)[2]
            batch.append((time.process_time() - start) * 1e9 / evaluations)
            start = time.process_time()
            for query in queries[:, None, :]:
                index.run(query, K, EF)
            single.append((time.process_time() - start) * 1e9 / evaluations)
        result[quantization] = {"gather_ns": round(statistics.median(gather), 1),
                                "batch_ns": round(statistics.median(batch), 1),
                                "single_ns": round(statistics.median(single), 1),
                                "evaluations": round(evaluations / len(queries))}
    return result


def measure(parts: tuple[str, ...] = PARTS, limit: int | None = None, asked: int = 200) -> dict[str, Any]:
    """All parts, or those named."""
    data = load("docs")
    base, queries = data.base[:limit], np.ascontiguousarray(data.report[:asked])
    random = np.random.default_rng(0).standard_normal((6200, 64)).astype(np.float32)
    work: dict[str, Callable[[], Any]] = {
        "filters": lambda: filters(base, queries),
        "flat": lambda: flat(base, queries),
        "churn": lambda: [churn("random 64-d", random[:6000], random[6000:]), churn("docs", base, queries)],
        "threads": lambda: threads(base, queries),
        "files": lambda: files(base),
        "bound": lambda: bound(base, queries),
    }
    return {part: work[part]() for part in parts}


def rows() -> list[Row]:
    """For RESULTS.md."""
    return _rows(measure())


def _rows(result: dict[str, Any]) -> list[Row]:
    signature = versions("numpy") + "; docs data set"
    command = "python benchmarks/graph.py"
    made = [Row(f"filtered search, {name}, ef_search 64", f"recall@10 {one['recall']}, {one['us']} us, {one['ratio']} of "
                f"exact search over the allowed vectors in NumPy ({one['exact_us']} us; in our kernel {one['kernel_us']} us)",
                f"{command} --part filters", signature) for name, one in result.get("filters", {}).items()]
    made += [Row(f"exact search in Flat, {name} allowed, 1 thread, CPU time", f"recall@10 {one['recall']}, single "
                 f"{one['single_per_s']:,}/s, batch {one['batch_per_s']:,}/s", f"{command} --part flat", signature)
             for name, one in result.get("flat", {}).items()]
    made += [Row(f"delete half, update 30 % three times, {one['data']}, {one['live']:,} left",
                 f"unreachable {one['unreachable']}, recall@10 {one['recall']} (fresh build {one['fresh_recall']}), "
                 f"memory {one['memory_ratio']} and file {one['file_ratio']} of a fresh build",
                 f"{command} --part churn", signature) for one in result.get("churn", [])]
    made += [Row(f"HNSW {part}", json.dumps(result[part]).replace('"', ""), f"{command} --part {part}", signature)
             for part in ("threads", "files", "bound") if part in result]
    return made


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, help="only so many vectors")
    options.add_argument("--queries", type=int, default=200)
    options.add_argument("--part", action="append", choices=PARTS, help="only this; may be repeated")
    options.add_argument("--json", action="store_true")
    options.add_argument("--append", action="store_true", help="append what was measured to RESULTS.md")
    chosen = options.parse_args()
    result = measure(tuple(chosen.part or PARTS), chosen.rows, chosen.queries)
    if chosen.append:
        append(_rows(result))
    if chosen.json:
        print(json.dumps(result))
        return
    for part, values in result.items():
        print(part)
        for name, one in values.items() if isinstance(values, dict) else enumerate(values):
            print(f"  {name}: {one}")


if __name__ == "__main__":
    main()
