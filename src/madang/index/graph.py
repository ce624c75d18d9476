"""What HNSW and NSW share: vectors with links, searched along the links.

The work is done by the kernel's `Graph` (kernel/graph.hpp); here arguments are checked, codes are chosen, the breadth
of a search is calibrated, and files are written.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeAlias, TypeGuard, get_args

import numpy as np

from madang.base.errors import Corrupt, InvalidInput
from madang.index import _kernel, container
from madang.index.audit import Audit, audit
from madang.index.calibrate import Calibration, check_target
from madang.index.distance import as_allow, as_rows, as_update, as_vectors, check_count, check_metric
from madang.index.flat import Flat
from madang.index.protocol import Allow, Metric, Rows, Scores, Vectors

Quantization: TypeAlias = Literal["auto", "int8", "int4"]
QUANTIZATIONS: tuple[Quantization, ...] = get_args(Quantization)
Precision: TypeAlias = Literal["auto", "float16", "float32"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
Plan: TypeAlias = Literal["graph", "codes", "exact"]
# What lies outside an index, part by part: vectors (n, dim) as compared, the numbers (n,) that they count as, and which
# rows of these (m,), ascending, are meant.
Apart: TypeAlias = tuple[tuple[Vectors, Rows, Rows], ...]

_VERSION = 3
_HALF_FROM = 128      # dimensions: with fewer, rounding errors average out less, and there is less to save
_FEWEST = 1000        # vectors from which codes can be judged
_SURE = 4096          # vectors from which on a choice of code is kept
_JUDGED = 250_000     # of them at most


class SmallWorld:
    """The common part; use `HNSW` or `NSW`."""

    kind: ClassVar[str]
    _layered: ClassVar[bool]
    _alpha: ClassVar[float]

    def __init__(self, dim: int | None = None, metric: Metric = "cosine", *, m: int = 16, ef_construction: int = 200,
                 ef_search: int = 64, seed: int = 0, quantization: Quantization | None = "auto",
                 target_recall: float | None = None, precision: Precision = "auto") -> None:
        self._dim = 0 if dim is None else check_count(dim, "dim", 1, "the width of the vectors")
        self._metric = check_metric(metric)
        self.m = check_count(m, "m", 2, "how many links to choose for each vector, 8 to 48 as a rule")
        self.ef_construction = check_count(ef_construction, "ef_construction", 1, "how many candidates to consider")
        self.ef_search = check_count(ef_search, "ef_search", 1, "how many candidates to keep")
        self.seed = check_count(seed, "seed", 0, "any whole number")
        if self.m > 512 or self.ef_construction > 2**20:
            raise InvalidInput("m must be at most 512 and ef_construction at most 1048576.",
                               remedy="16 and 200 suit most data.")
        if quantization is not None and quantization not in QUANTIZATIONS:
            raise InvalidInput(f"quantization {quantization!r} is unknown.",
                               remedy=f"Choose one of {', '.join(QUANTIZATIONS)}, or None for float32.")
        self.quantization = quantization
        self.target_recall = check_target(target_recall)
        if precision not in PRECISIONS:
            raise InvalidInput(f"precision {precision!r} is unknown.", remedy=f"Choose one of {', '.join(PRECISIONS)}.")
        self.precision = precision
        self._code: str | None = {"int8": "int8", "int4": "int4", None: "float32"}.get(quantization)
        self._graph: _kernel.Graph | None = None
        self._starting = threading.Lock()
        self._calibration = Calibration()
        self.changes = 0                    # vectors added, removed, and twice those updated, since it was made

    def __repr__(self) -> str:
        return (f"{type(self).__name__}(dim={self._dim or None}, metric={self._metric!r}, m={self.m}, "
                f"ef_construction={self.ef_construction}, ef_search={self.ef_search}, seed={self.seed}, "
                f"quantization={self.quantization!r}, precision={self.precision!r})")

    def __len__(self) -> int:
        """The number of live rows."""
        return 0 if self._graph is None else len(self._graph)

    @property
    def dim(self) -> int:
        """The width of the vectors; 0 until the first ones decide it."""
        return self._dim

    @property
    def metric(self) -> Metric:
        return self._metric

    @property
    def rows_ever(self) -> int:
        """How many rows were ever given out; a mask for `allow` has one entry for each."""
        return 0 if self._graph is None else self._graph.rows_ever

    # Writing

    def add(self, vectors: Vectors, threads: int = 0, *, rows: Rows | None = None) -> Rows:
        """Add float32 vectors (n, dim) and return their rows (n,) int64, ascending; all of them or none.

        `rows` (n,) int64 are numbers to give them, ascending and above all there ever were: for callers who number
        vectors themselves, some of which are gone before they come here. The links come out the same for any number of
        threads (0: all cores). Others may search meanwhile.
        Raises InvalidInput for another shape or dtype, NaN, infinity, and (dot, euclidean) vectors so long that a score
        could overflow.
        """
        threads = check_count(threads, "threads", 0, "0 for all cores")
        vectors = as_vectors(vectors, self._dim or None, "vectors")
        if len(vectors) == 0:
            return np.empty(0, dtype=np.int64)
        with self._starting:
            graph = self._graph_for(vectors)
            before = graph.rows_ever
            numbers = None if rows is None else self._new_rows(rows, len(vectors))
            try:
                rows = graph.add(vectors, numbers, threads=threads).reshape(-1)
            except ValueError as error:
                raise InvalidInput(str(error)) from None
            if self.quantization == "auto" and 0 < before < _SURE <= graph.rows_ever:
                graph = self._judged_anew(graph, threads)
            self._graph, self._dim = graph, vectors.shape[1]
            self._code = graph.code
            self.changes += len(rows)
        return rows

    def remove(self, rows: Rows, threads: int = 0) -> int:
        """Remove rows; unknown or already removed rows are ignored. Returns how many were live.

        Once a sixteenth is gone, the lists that led to removed vectors are mended and their places are free.
        """
        threads = check_count(threads, "threads", 0, "0 for all cores")
        numbers = np.unique(as_rows(rows, "rows"))
        with self._starting:
            gone = 0 if self._graph is None else self._graph.remove(numbers, threads=threads)
            self.changes += gone
        return gone

    def update(self, rows: Rows, vectors: Vectors, threads: int = 0) -> None:
        """Give live rows (n,) new vectors (n, dim); all of them or none. Raises InvalidInput."""
        threads = check_count(threads, "threads", 0, "0 for all cores")
        numbers, vectors = as_update(rows, vectors, self._dim or None)
        with self._starting:
            live = np.zeros(len(numbers), dtype=bool) if self._graph is None else self._graph.live(numbers).reshape(-1)
            if not live.all():
                raise InvalidInput(f"rows contains {numbers[~live][0]}, which is not in the index.",
                                   remedy="Pass rows that `add` returned and that were not removed.")
            if self._graph is None or len(numbers) == 0:
                return
            try:
                self._graph.add(vectors, numbers, threads=threads)
                self.changes += 2 * len(numbers)
            except ValueError as error:
                raise InvalidInput(str(error)) from None

    def repair(self, threads: int = 0) -> int:
        """Mend all lists that lead to removed vectors, and link whatever no link leads to.

        Returns how many vectors could not be reached before: 0, unless memory or a file was changed from outside.
        """
        threads = check_count(threads, "threads", 0, "0 for all cores")
        with self._starting:
            return 0 if self._graph is None else self._graph.repair(threads=threads)

    # Reading

    def search(self, queries: Vectors, k: int, *, ef_search: int | None = None, allow: Allow | None = None,
               threads: int = 1, target_recall: float | None = None) -> tuple[Rows, Scores]:
        """The k best live rows for each of q queries (q, dim), best first, ties to the lower row.

        Args:
            ef_search: how many candidates to keep on the way: more find more and take longer. Default the index's own.
            allow: only these rows: row numbers (int64, any order), or a mask (bool) with one entry per row ever added.
                They are applied on the way, not afterwards, and where they are few all of them are compared.
            threads: 0 means all cores; the result is the same for any number.
            target_recall: find the `ef_search` that reaches this share of the true neighbours, by measuring; the
                first search after much has changed takes longer.

        Returns:
            rows (q, k) int64 padded with -1, and scores (q, k) float32 padded with -inf: those of the vectors as
            `precision` keeps them, not of codes.

        Raises:
            InvalidInput: another shape or dtype, NaN or infinity, k below 1, rows that were never added.
        """
        graph = self._graph
        if (graph is not None and type(k) is int and type(ef_search) is int and type(threads) is int
                and (allow is None or _are_rows(allow))):
            try:    # what is checked below takes as long as a third of a search; the kernel refuses all of it, too
                return graph.search(queries, k, ef_search, self.rerank(k, ef_search), allow, None, threads, "")[:2]
            except (ValueError, TypeError):
                pass    # in better words below, or made to fit
        k = check_count(k, "k", 1, "how many neighbours you want")
        queries = as_vectors(queries, self._dim or None, "queries")
        threads = check_count(threads, "threads", 0, "0 for all cores")
        ef = self.breadth(queries, k, ef_search, target_recall)
        if allow is not None and not _are_rows(allow):
            as_allow(allow, self.rows_ever)
        rows, scores, _, _ = self.run(queries, k, ef, allow=allow, threads=threads)
        return rows, scores

    def breadth(self, queries: Vectors, k: int, ef_search: int | None = None,
                target_recall: float | None = None) -> int:
        """How many candidates a search keeps: what it says, what its target needs, or the index's own."""
        if ef_search is not None:
            return check_count(ef_search, "ef_search", 1, "how many candidates to keep")
        target = check_target(target_recall if target_recall is not None else self.target_recall)
        return self.ef_search if target is None else self._calibration.breadth(self, target, k, queries)

    def run(self, queries: Vectors, k: int, ef: int, *, allow: Allow | None = None, threads: int = 1,
            plan: Plan | None = None) -> tuple[Rows, Scores, int, bool]:
        """A search in detail: also how many distances it computed, and whether it scanned instead of following links.

        `plan` forces "graph" (links), "codes" (compare all codes) or "exact" (compare all vectors). A mask may be
        shorter than for `search`: rows that were added since are not allowed.
        """
        graph = self._graph
        if graph is None:
            if allow is not None:
                as_allow(allow, 0)
            return _nothing(queries, k, self._metric)
        numbers, mask = (None, None)
        if _are_rows(allow):
            numbers = allow     # in order as a rule: the kernel finds out by itself
        elif allow is not None:
            marks = isinstance(allow, np.ndarray) and allow.dtype == np.bool_
            numbers, mask = as_allow(allow, len(allow) if marks else graph.rows_ever)
        try:
            try:
                return graph.search(queries, k, ef, self.rerank(k, ef), numbers, mask, threads, plan or "")
            except ValueError as error:
                if numbers is None or numbers is not allow or not str(error).startswith("rows:"):
                    raise
            numbers, _ = as_allow(allow, graph.rows_ever)
            return graph.search(queries, k, ef, self.rerank(k, ef), numbers, None, threads, plan or "")
        except ValueError as error:
            raise InvalidInput(str(error)) from None

    def nearest(self, query: Vectors, k: int, ef: int, end: int, apart: Apart,
                spare: int = 0) -> tuple[list[int], list[float], int, bool, float]:
        """The k best for one query (dim,) among the live rows below `end` and vectors that lie `apart`, which are all
        compared: as lists without padding, with what `run` tells beside it. `spare`: so many more, for a caller that
        will leave some out; they cost next to nothing, and are not found as surely. The last number is the score that
        rows of the index which are not among these do not exceed: whoever left some out must look again where that is
        above its own k-th.

        For a caller that keeps its newest vectors outside the index: one call costs less than two and a merge.
        """
        if self._graph is None:
            raise InvalidInput("the index has no vectors yet.", remedy="Add some.")
        try:
            return self._graph.nearest(query, k, spare, ef, self.rerank(k, ef), end, apart)
        except ValueError as error:
            raise InvalidInput(str(error)) from None

    def rerank(self, k: int, ef: int) -> int:
        """How many candidates get exact scores: codes may put near neighbours in the wrong order.

        It grows with the breadth of the search, so that a broad enough one finds everything whatever the codes are.
        """
        code = self._code
        return max(k + 8 + k // 4 if code == "int4" else k + 6 + k // 4 if code == "int8" else k, ef // 4)

    def audit(self, queries: Vectors | None = None, k: int = 10, *, ef_search: int | None = None,
              selectivities: tuple[float, ...] = (1.0, 0.5, 0.1, 0.01, 0.001), samples: int = 200) -> Audit:
        """Measure this index against exact search: what cannot be reached, recall by filter selectivity, cost.

        `queries` (q, dim) are real ones if you have them; else stored vectors, moved a little, stand in for them.
        """
        return audit(self, queries, check_count(k, "k", 1, "how many neighbours count"),
                     self.breadth(np.empty((0, self._dim), dtype=np.float32), k, ef_search),
                     selectivities, check_count(samples, "samples", 1, "how many queries to measure"))

    def reachable(self) -> int:
        """How many live vectors the links lead to; anything but len(self) is a defect that `repair` mends."""
        return 0 if self._graph is None else self._graph.reachable()

    def neighbours(self, row: int, level: int = 0) -> list[int]:
        """The rows that a row links to on a level: for looking at a graph."""
        return [] if self._graph is None else self._graph.neighbours(row, level)

    def sample(self, n: int, seed: int = 0) -> tuple[Rows, Vectors]:
        """Up to n live rows, chosen evenly by seed, and their vectors as compared."""
        if self._graph is None:
            return np.empty(0, dtype=np.int64), np.empty((0, self._dim), dtype=np.float32)
        while True:
            live = self.live_rows()
            if len(live) > n:
                live = np.sort(np.random.default_rng(seed).choice(live, n, replace=False))
            try:
                return live, self._graph.vectors(live)
            except ValueError:      # one of them was removed between the two
                continue

    def live_rows(self) -> Rows:
        """All live rows, ascending."""
        return np.empty(0, dtype=np.int64) if self._graph is None else self._graph.live_rows().reshape(-1)

    def stats(self) -> dict[str, Any]:
        """Counts, sizes in bytes, and what the search runs on."""
        sizes = {"size": 0, "search_bytes": 0, "total_bytes": 0} if self._graph is None else self._graph.sizes()
        return {"index": self.kind, "dim": self._dim, "metric": self._metric, "m": self.m,
                "ef_construction": self.ef_construction, "ef_search": self.ef_search, "seed": self.seed,
                "code": self._code, "rows_ever": self.rows_ever, "isa": _kernel.isa(), **sizes}

    # Files

    def save(self, path: str | Path) -> None:
        """Write the live vectors and their links to a file; all of it replaces what was there, or nothing does."""
        settings: dict[str, Any] = {"dim": self._dim, "metric": self._metric, "m": self.m,
                                    "ef_construction": self.ef_construction, "ef_search": self.ef_search,
                                    "seed": self.seed, "quantization": self.quantization, "code": self._code,
                                    "target_recall": self.target_recall, "precision": self.precision}
        arrays: container.Arrays = {}
        if self._graph is not None:
            for name, value in self._graph.parts().items():
                if isinstance(value, np.ndarray):
                    arrays[name] = value
                else:
                    settings[name] = value
        container.write(path, self.kind, _VERSION, settings, arrays)

    @classmethod
    def load(cls, path: str | Path, mmap: bool = True) -> Self:
        """Read what `save` wrote; `mmap` maps it, so that pages are read when they are needed.

        Raises NotFound, and Corrupt for a file that is truncated, changed, or of another kind or version.
        """
        settings, arrays = container.read(path, cls.kind, _VERSION, mapped=mmap)
        try:
            index = cls(settings["dim"] or None, settings["metric"], m=settings["m"],
                        ef_construction=settings["ef_construction"], ef_search=settings["ef_search"],
                        seed=settings["seed"], quantization=settings["quantization"],
                        target_recall=settings["target_recall"], precision=settings["precision"])
            index._code = settings["code"]
            if arrays:
                graph = index._new_graph(index._dim, settings["code"])
                graph.restore({**settings, **arrays})
                index._graph = graph
        except (ValueError, KeyError, TypeError, RuntimeError, OverflowError) as error:
            what = error if isinstance(error, ValueError) else repr(error)
            raise Corrupt(f"index file {path} is inconsistent: {what}",
                          remedy="Restore it from a copy, or build the index again.") from None
        return index

    # Plumbing

    def _new_rows(self, rows: Rows, count: int) -> Rows:
        numbers = as_rows(rows, "rows")
        if len(numbers) != count:
            raise InvalidInput(f"rows has {len(numbers)} numbers for {count} vectors.", remedy="Give one for each.")
        if numbers[0] < self.rows_ever or (np.diff(numbers) <= 0).any() or numbers[-1] >= 2**62:
            raise InvalidInput(f"rows must be ascending and at least {self.rows_ever}.",
                               remedy="Use `update` for rows that are there.")
        return numbers

    def _judged_anew(self, graph: _kernel.Graph, threads: int) -> _kernel.Graph:
        """The code was chosen by the first vectors there were. Now that there are enough: the same graph, or one of the
        same rows with the code that suits them. Who searches the old one goes on."""
        live = graph.live_rows().reshape(-1)
        vectors = graph.vectors(live)
        code = choose_code(vectors, self._metric) if len(live) >= _FEWEST else graph.code
        if code == graph.code:
            return graph
        made = self._new_graph(vectors.shape[1], code)
        made.add(vectors, None if int(live[-1]) == len(live) - 1 else live, threads=threads)
        return made

    def _graph_for(self, vectors: Vectors) -> _kernel.Graph:
        if self._graph is not None:
            return self._graph
        code = self._code
        if code is None:
            code = choose_code(vectors, self._metric) if len(vectors) >= _FEWEST else "int8"
        return self._new_graph(vectors.shape[1], code)

    def _new_graph(self, dim: int, code: str) -> _kernel.Graph:
        suits = self._metric == "cosine" and dim >= _HALF_FROM
        short = self.precision == "float16" or (self.precision == "auto" and suits)
        half = short and code != "float32"
        try:
            return _kernel.Graph(dim, self._metric, code, self.m, self.ef_construction, self.seed,
                                 self._layered, self._alpha, half)
        except ValueError as error:
            raise InvalidInput(str(error)) from None


def choose_code(vectors: Vectors, metric: Metric) -> str:
    """"int4" where half a byte per dimension still tells the nearest of these vectors (n, dim) apart, else "int8".

    Half the bytes are half the memory traffic, which is most of what a search costs. Whether they suffice depends on
    the data: on the distances between neighbours beside the rounding error. So for a sample of the vectors the nearest
    are found exactly, and ranked again by codes: the 10 nearest must be among the 24 best.
    """
    if vectors.shape[1] <= 64:  # a cache line either way
        return "int8"
    base = np.ascontiguousarray(vectors[::len(vectors) // _JUDGED + 1])
    queries = np.ascontiguousarray(base[::len(base) // 50 + 1])
    truth = Flat(base.shape[1], metric)
    truth.add(base)
    near, _ = truth.search(queries, min(100, len(base)), threads=0)
    rows, places = np.unique(near, return_inverse=True)
    trial = _kernel.Graph(base.shape[1], metric, "int4", 2, 1, 0, False, 0.0)
    trial.add(base[rows], threads=0)
    found = 0
    for query, mine in zip(queries, places.reshape(near.shape), strict=True):
        coded, _, _, _ = trial.search(query[None, :], 24, 24, 24, np.unique(mine), None, 1, "codes")
        found += int(np.count_nonzero(np.isin(mine[:10], coded)))
    return "int4" if found >= 0.998 * 10 * len(queries) else "int8"


def _are_rows(allow: Allow | None) -> TypeGuard[Rows]:
    """Whether these are row numbers that the kernel takes as they are, once it has found them to be in order."""
    return type(allow) is np.ndarray and allow.dtype == np.int64 and allow.ndim == 1 and allow.flags.c_contiguous


def _nothing(queries: Vectors, k: int, metric: Metric) -> tuple[Rows, Scores, int, bool]:
    """What a search of no vectors finds; the queries are checked all the same."""
    try:
        _kernel.prepare(np.ascontiguousarray(queries), metric)
    except ValueError as error:
        raise InvalidInput(str(error).replace("vectors", "queries")) from None
    shape = (len(queries), k)
    return np.full(shape, -1, dtype=np.int64), np.full(shape, -np.inf, dtype=np.float32), 0, False
