"""Exact search against NumPy and faiss: one query and a batch of 256, on 1 and 2 threads.

    python benchmarks/index.py [--n 50000] [--dim 384] [--k 10] [--repeats 15] [--json]

faiss is optional: pip install faiss-cpu. All take turns within one process, so that a busy machine disturbs them
alike; each number of threads has a process of its own, since BLAS reads it only at its start. Results are compared
first: a fast wrong answer would not count.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks.results import Row, versions
from madang.index.flat import Flat
from madang.index.protocol import Rows, Vectors

Search = Callable[[Vectors, int], Rows]
BATCHES = (1, 256)


def numpy_search(vectors: Vectors) -> Search:
    """The usual way: a matrix product, then a partial sort."""
    def search(queries: Vectors, k: int) -> Rows:
        scores = queries @ vectors.T
        best = np.argpartition(scores, -k, axis=1)[:, -k:]
        order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1, kind="stable")
        return np.take_along_axis(best, order, axis=1)
    return search


def contenders(vectors: Vectors, threads: int) -> dict[str, Search]:
    """Inner-product search over the same vectors; "product" is NumPy's matrix product alone, without the sorting."""
    index = Flat(vectors.shape[1], "dot")
    index.add(vectors)
    found: dict[str, Search] = {
        "madang": lambda queries, k: index.search(queries, k, threads=threads)[0],
        "numpy": numpy_search(vectors),
        "product": lambda queries, k: queries @ vectors.T,
    }
    if find_spec("faiss"):
        import faiss

        faiss.omp_set_num_threads(threads)
        other = faiss.IndexFlatIP(vectors.shape[1])
        other.add(vectors)
        found["faiss"] = lambda queries, k: other.search(queries, k)[1]
    return found


def run(n: int, dim: int, k: int, repeats: int, threads: int) -> dict[str, dict[str, float]]:
    """Median milliseconds per call, by batch and contender, in this process."""
    generator = np.random.default_rng(0)
    vectors = generator.standard_normal((n, dim), dtype=np.float32)
    queries = generator.standard_normal((max(BATCHES), dim), dtype=np.float32)
    searches = contenders(vectors, threads)
    for name, search in searches.items():
        agreement = np.mean(search(queries, k) == searches["madang"](queries, k)) if name != "product" else 1.0
        if agreement < 0.999:  # rounding may swap two nearly equal neighbours
            raise SystemExit(f"{name} found other neighbours: {agreement:.4f} of them agree")
    return {f"{size}": _medians(searches, queries[:size], k, repeats) for size in BATCHES}


def _medians(searches: dict[str, Search], queries: Vectors, k: int, repeats: int) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in searches}
    for _ in range(repeats):
        for name, search in searches.items():
            time.sleep(0.03)  # the idle threads of BLAS and OpenMP spin for a while and would slow the next one down
            search(queries, k)  # the caches are this one's now
            start = time.perf_counter()
            search(queries, k)
            times[name].append((time.perf_counter() - start) * 1000)
    return {name: round(statistics.median(mine), 3) for name, mine in times.items()}


def measure(n: int = 50_000, dim: int = 384, k: int = 10, repeats: int = 15) -> dict[str, Any]:
    """Median milliseconds per call: {"1 threads": {"256": {"madang": ...}}}."""
    result = {}
    for threads in (1, 2):
        variables = dict.fromkeys(("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS",
                                   "VECLIB_MAXIMUM_THREADS"), str(threads))
        command = [sys.executable, __file__, "--n", str(n), "--dim", str(dim), "--k", str(k), "--repeats", str(repeats),
                   "--threads", str(threads), "--json"]
        out = subprocess.run(command, env=os.environ | variables, check=True, capture_output=True, text=True).stdout
        result[f"{threads} threads"] = json.loads(out)
    return result


def rows() -> list[Row]:
    """For RESULTS.md."""
    signature = versions("numpy", *(["faiss-cpu"] if find_spec("faiss") else []))
    return [Row(f"exact search, 50,000 x 384 float32, k=10, batch of {size}, {threads}",
                ", ".join(f"{name} {ms:,.2f} ms" for name, ms in times.items()), "python benchmarks/index.py", signature)
            for threads, batches in measure().items() for size, times in batches.items()]


def _print(result: dict[str, Any], n: int, dim: int) -> None:
    names = list(next(iter(next(iter(result.values())).values())))
    print(f"exact search over {n:,} x {dim} float32, median ms per call (product: NumPy's matrix product alone)")
    print(f"{'':24}" + "".join(f"{name:>10}" for name in names) + f"{'GB/s':>10}")
    for threads, batches in result.items():
        for size, times in batches.items():
            speed = n * dim * 4 / times["madang"] / 1e6
            print(f"{threads}, batch of {size:<5}" + "".join(f"{times[name]:>10.2f}" for name in names)
                  + (f"{speed:>10.1f}" if size == "1" else ""))
    if not find_spec("faiss"):
        print("faiss was left out; install it with: pip install faiss-cpu")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--n", type=int, default=50_000)
    options.add_argument("--dim", type=int, default=384)
    options.add_argument("--k", type=int, default=10)
    options.add_argument("--repeats", type=int, default=15)
    options.add_argument("--threads", type=int, default=0, help="measure in this process only, with so many threads")
    options.add_argument("--json", action="store_true", help="one line of JSON instead of a table")
    chosen = options.parse_args()
    if chosen.threads:
        result: dict[str, Any] = run(chosen.n, chosen.dim, chosen.k, chosen.repeats, chosen.threads)
        shown = {f"{chosen.threads} threads": result}
    else:
        result = shown = measure(chosen.n, chosen.dim, chosen.k, chosen.repeats)
    if chosen.json:
        print(json.dumps(result))
    else:
        _print(shown, chosen.n, chosen.dim)


if __name__ == "__main__":
    main()
