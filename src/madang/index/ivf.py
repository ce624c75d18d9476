"""IVF: an inverted file (Sivic & Zisserman 2003; Jégou et al. 2011, section IV).

Vectors are put into cells, each to the centroid nearest to it; a search reads the cells nearest to the query and no
others. k-means puts the centroids where the vectors are. It builds in a fraction of the time of a graph, takes no
memory for links, and adding and removing cost little; a graph finds more in the same time.

What a vector differs from its centroid is written down in a byte per dimension, and the best by these codes are ranked
by their float32 vectors (kernel/shelf.hpp).

Inner products know no distance, so for "dot" every vector gets one more coordinate that makes all equally long
(Neyshabur & Srebro 2015, section 4), and is put into a cell by its Euclidean distance then; a query has 0 there. Cells
are searched in the order of their centroids' distance to the query, scaled to the vectors' length.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np

from madang.base.errors import Corrupt, InvalidInput
from madang.index import _kernel, container
from madang.index.distance import as_allow, as_rows, as_update, as_vectors, check_count, check_metric
from madang.index.kmeans import kmeans, nearest
from madang.index.protocol import Allow, Metric, Rows, Scores, Vectors

_VERSION = 2
_FEWEST = 1024           # vectors; below, there is one cell, and a search compares everything
_PER_CELL = 64           # vectors per cell that the centroids are learnt from
_LEAST_PER_CELL = 8      # and at least so many, where the number of cells is given
_GROWTH = 4              # learn again when there are so many times more vectors than when the centroids were learnt
_CHUNK = 1 << 14         # vectors assigned at a time
Quantization = Literal["int8", "int4"]
_CODES = {"int8": "int8", "int4": "int4", None: "float32"}


class IVF:
    """Approximate nearest neighbours among the vectors of the cells nearest to the query.

    Args:
        dim: the width of the vectors, or None to take it from the first ones.
        metric: "cosine", "dot" or "euclidean".
        nlist: how many cells, at most an eighth of the vectors; None for 4 times the square root of the number of
            vectors when they are made.
        nprobe: how many of them a search reads, unless it says otherwise; None for a 16th of them, at least 8.
        seed: of the centroids. The same calls with the same seed give the same bytes on any number of threads.
        quantization: how vectors are written down for the search: "int8", "int4" or None for float32. Answers are
            ranked by float32 in any case.

    With fewer than 1024 vectors and no `nlist` there is one cell, and answers are exact but for the rounding of codes.
    Cells are made anew, from a sample of all vectors, when there are 4 times more vectors than when they were made. Any
    number of threads may search while another one writes.

    Raises:
        InvalidInput: a parameter is out of range; the message names it.
    """

    kind: ClassVar[str] = "ivf"

    def __init__(self, dim: int | None = None, metric: Metric = "cosine", *, nlist: int | None = None,
                 nprobe: int | None = None, seed: int = 0, quantization: Quantization | None = "int8") -> None:
        self._metric = check_metric(metric)
        self._dim = 0 if dim is None else check_count(dim, "dim", 1, "the width of the vectors")
        self.nlist = None if nlist is None else check_count(nlist, "nlist", 1, "the number of cells, or None")
        self.nprobe = None if nprobe is None else check_count(nprobe, "nprobe", 1, "how many cells to search, or None")
        self.seed = check_count(seed, "seed", 0, "any whole number")
        if quantization is not None and quantization not in ("int8", "int4"):
            raise InvalidInput(f"quantization {quantization!r} is unknown.", remedy='Choose "int8", "int4" or None.')
        self.quantization: Quantization | None = quantization
        self._cells: _kernel.Cells | None = None
        self._centroids: Vectors | None = None   # (cells, dim), for dot (cells, dim + 1)
        self._reach = 0.0                        # dot: the length that vectors are brought to
        self._trained = 0                        # vectors there were when the centroids were learnt
        self._rows_ever = 0
        self._writing = threading.Lock()

    def __repr__(self) -> str:
        return (f"IVF(dim={self._dim or None}, metric={self._metric!r}, nlist={self.nlist}, nprobe={self.nprobe}, "
                f"seed={self.seed}, quantization={self.quantization!r})")

    def __len__(self) -> int:
        """The number of live rows."""
        return 0 if self._cells is None else len(self._cells)

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
        return self._rows_ever

    # Writing

    def add(self, vectors: Vectors, threads: int = 0) -> Rows:
        """Add float32 vectors (n, dim) and return their rows (n,) int64, ascending; all of them or none.

        Raises InvalidInput for another shape or dtype, NaN, infinity, and (dot, euclidean) vectors so long that a score
        could overflow. `threads`: 0 means all cores; the cells are the same for any number.
        """
        threads = check_count(threads, "threads", 0, "0 for all cores")
        vectors = as_vectors(vectors, self._dim or None, "vectors")
        if len(vectors) == 0:
            return np.empty(0, dtype=np.int64)
        with self._writing:
            vectors = as_vectors(vectors, self._dim or None, "vectors")  # another thread may have decided the width
            prepared = self._prepared(vectors, threads)
            rows = np.arange(self._rows_ever, self._rows_ever + len(vectors), dtype=np.int64)
            self._put(prepared, rows, threads)
            self._rows_ever += len(vectors)
        return rows

    def remove(self, rows: Rows) -> int:
        """Remove rows; unknown or already removed rows are ignored. Returns how many were live.

        The rest of their cells moves together at once, and all cells do when a quarter of the memory is unused.
        """
        numbers = np.unique(as_rows(rows, "rows"))
        with self._writing:
            return 0 if self._cells is None else self._cells.remove(numbers)

    def update(self, rows: Rows, vectors: Vectors, threads: int = 0) -> None:
        """Give live rows (n,) new vectors (n, dim); all of them or none. Raises InvalidInput."""
        threads = check_count(threads, "threads", 0, "0 for all cores")
        numbers, vectors = as_update(rows, vectors, self._dim or None)
        with self._writing:
            self._check_live(numbers)
            if self._cells is not None and len(numbers):
                self._put(self._prepared(vectors, threads), numbers, threads)

    # Reading

    def search(self, queries: Vectors, k: int, *, nprobe: int | None = None, allow: Allow | None = None,
               threads: int = 1) -> tuple[Rows, Scores]:
        """The k best of what is found for each of q queries (q, dim), best first, ties to the lower row.

        Args:
            nprobe: how many cells to read: more find more and take longer. Default the index's own.
            allow: only these rows: row numbers (int64, any order), or a mask (bool) with one entry per row ever added.
                More cells are read until as many allowed vectors were compared as without; where hardly more are
                allowed at all, every one of them is compared.
            threads: 0 means all cores; the result is the same for any number.

        Returns:
            rows (q, k) int64 padded with -1, and scores (q, k) float32 padded with -inf; scores are exact.

        Raises:
            InvalidInput: another shape or dtype, NaN or infinity, k below 1, rows that were never added.
        """
        rows, scores, _ = self.run(queries, k, nprobe=nprobe, allow=allow, threads=threads)
        return rows, scores

    def run(self, queries: Vectors, k: int, *, nprobe: int | None = None, allow: Allow | None = None, threads: int = 1,
            depth: int | None = None) -> tuple[Rows, Scores, int]:
        """A search in detail: also how many vectors it compared; `depth` of them get exact scores (`rerank(k)`)."""
        k = check_count(k, "k", 1, "how many neighbours you want")
        threads = check_count(threads, "threads", 0, "0 for all cores")
        cells = self._cells
        queries = as_vectors(queries, self._dim or None, "queries")
        numbers, mask = (None, None) if allow is None else as_allow(allow, self._rows_ever)
        if nprobe is None:
            nprobe = self.probes()
        nprobe = check_count(nprobe, "nprobe", 1, "how many cells to search")
        try:
            if cells is None:
                _kernel.prepare(queries, self._metric)
                shape = (len(queries), k)
                return np.full(shape, -1, dtype=np.int64), np.full(shape, -np.inf, dtype=np.float32), 0
            return cells.search(queries, k, nprobe, depth or self.rerank(k), numbers, mask, threads)
        except ValueError as error:
            raise InvalidInput(str(error).replace("vectors:", "queries:")) from None

    def probes(self) -> int:
        """How many cells a search reads that does not say."""
        if self.nprobe is not None:
            return self.nprobe
        return max(8, -(-len(self._centroids) // 16)) if self._centroids is not None else 1

    def rerank(self, k: int) -> int:
        """How many candidates get exact scores: codes may put near neighbours in the wrong order."""
        return {"int4": k + 14 + k // 2, "int8": k + 6 + k // 4, None: k}[self.quantization]

    def vectors(self, rows: Rows) -> Vectors:
        """The vectors (n, dim) of live rows, as compared: for cosine of unit length. Raises InvalidInput."""
        numbers = as_rows(rows, "rows")
        with self._writing:
            self._check_live(numbers)
            if self._cells is None:
                return np.empty((0, self._dim), dtype=np.float32)
            return self._cells.vectors(numbers)

    def live_rows(self) -> Rows:
        """All live rows, ascending."""
        return np.empty(0, dtype=np.int64) if self._cells is None else self._cells.live_rows().reshape(-1)

    def stats(self) -> dict[str, Any]:
        """Counts, sizes in bytes, and what the search runs on."""
        sizes = {"size": 0, "search_bytes": 0, "total_bytes": 0} if self._cells is None else self._cells.sizes()
        return {"index": self.kind, "dim": self._dim, "metric": self._metric, "seed": self.seed,
                "nprobe": self.probes(), "quantization": self.quantization, "rows_ever": self._rows_ever,
                "trained": self._trained, "isa": _kernel.isa(), **sizes}

    # Files

    def save(self, path: str | Path) -> None:
        """Write the vectors and their cells to a file; all of it replaces what was there, or nothing does."""
        with self._writing:
            settings: dict[str, Any] = {
                "dim": self._dim, "metric": self._metric, "nlist": self.nlist, "nprobe": self.nprobe, "seed": self.seed,
                "quantization": self.quantization, "rows_ever": self._rows_ever, "trained": self._trained}
            arrays: container.Arrays = {}
            if self._cells is not None and self._centroids is not None:
                for name, value in self._cells.parts().items():
                    if isinstance(value, np.ndarray):
                        arrays[name] = value
                    else:
                        settings[name] = value
                arrays["centroids"] = self._centroids.reshape(-1)
            container.write(path, self.kind, _VERSION, settings, arrays)

    @classmethod
    def load(cls, path: str | Path, mmap: bool = True) -> Self:
        """Read what `save` wrote; `mmap` maps it, so that pages are read when they are needed.

        Raises NotFound, and Corrupt for a file that is truncated, changed, or of another kind or version.
        """
        settings, arrays = container.read(path, cls.kind, _VERSION, mapped=mmap)
        index = cls(settings["dim"] or None, settings["metric"], nlist=settings["nlist"], nprobe=settings["nprobe"],
                    seed=settings["seed"], quantization=settings["quantization"])
        index._rows_ever, index._trained = settings["rows_ever"], settings["trained"]
        if arrays:
            index._reach = settings["reach"]
            index._centroids = arrays.pop("centroids").reshape(-1, index._dim + (index._metric == "dot"))
            cells = index._new_cells(index._dim)
            try:
                cells.restore({**settings, **arrays})
            except ValueError as error:
                raise Corrupt(f"index file {path} is inconsistent: {error}",
                              remedy="Restore it from a copy, or build the index again.") from None
            index._cells = cells
        return index

    # Plumbing; what writes holds the lock.

    def _new_cells(self, dim: int) -> _kernel.Cells:
        try:
            return _kernel.Cells(dim, self._metric, _CODES[self.quantization])
        except ValueError as error:
            raise InvalidInput(str(error)) from None

    def _prepared(self, vectors: Vectors, threads: int) -> Vectors:
        out = np.empty_like(vectors)
        try:
            _kernel.prepare(vectors, self._metric, out, threads)
        except ValueError as error:
            raise InvalidInput(str(error)) from None
        return out

    def _check_live(self, numbers: Rows) -> None:
        live = np.zeros(len(numbers), dtype=bool) if self._cells is None else self._cells.live(numbers).reshape(-1)
        if not live.all():
            raise InvalidInput(f"rows contains {numbers[~live][0]}, which is not in the index.",
                               remedy="Pass rows that `add` returned and that were not removed.")

    def _put(self, prepared: Vectors, rows: Rows, threads: int) -> None:
        """Add prepared vectors as these rows, making cells where it is time."""
        first = self._cells is None
        cells = self._new_cells(prepared.shape[1]) if self._cells is None else self._cells
        if first:
            self._divide(cells, prepared, np.empty(0, dtype=np.int64), threads)
        cells.add(prepared, self._assigned(prepared, threads), rows, threads)
        self._cells, self._dim = cells, prepared.shape[1]
        if not first and len(cells) >= _GROWTH * self._trained and self._cell_count(len(cells)) > 1:
            self._learn_again(cells, threads)

    def _learn_again(self, cells: _kernel.Cells, threads: int) -> None:
        rows = cells.live_rows().reshape(-1)
        sample = rows
        most = self._cell_count(len(rows)) * _PER_CELL
        if len(rows) > most:
            sample = np.sort(np.random.default_rng(self.seed).choice(rows, most, replace=False))
        self._divide(cells, cells.vectors(sample), rows, threads)

    def _cell_count(self, n: int) -> int:
        if self.nlist is not None:
            return max(1, min(self.nlist, n // _LEAST_PER_CELL))
        return 1 if n < _FEWEST else round(4 * n**0.5)

    def _divide(self, cells: _kernel.Cells, vectors: Vectors, rows: Rows, threads: int) -> None:
        """Learn centroids from prepared vectors, and put the vectors of these rows, all there are, into their cells."""
        n = max(len(vectors), len(rows))
        self._reach = float(np.sqrt(np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64).max()))
        points = self._extended(vectors)
        count = self._cell_count(n)
        if count == 1:
            centroids = points.mean(axis=0, dtype=np.float64, keepdims=True).astype(np.float32)
        else:
            centroids = kmeans(points, count, spherical=self._metric == "cosine", seed=self.seed, threads=threads)
        self._centroids, self._trained = centroids, n
        assigned = [self._assigned(cells.vectors(rows[start:start + _CHUNK]), threads)
                    for start in range(0, len(rows), _CHUNK)]
        lengths = np.einsum("cd,cd->c", centroids, centroids, dtype=np.float64)
        bias = np.zeros(len(centroids)) if self._metric == "cosine" else -lengths / 2
        if self._metric == "euclidean":  # as seen from the centroids' mean
            offsets = centroids - centroids.mean(axis=0, dtype=np.float64)
            bias = -np.einsum("cd,cd->c", offsets, offsets) / 2
        cells.divide(np.ascontiguousarray(centroids[:, :vectors.shape[1]]), bias.astype(np.float32), self._reach,
                     np.concatenate(assigned) if assigned else rows, threads)

    def _assigned(self, vectors: Vectors, threads: int) -> Rows:
        assert self._centroids is not None
        if len(self._centroids) == 1:
            return np.zeros(len(vectors), dtype=np.int64)
        return nearest(self._extended(vectors), self._centroids, spherical=self._metric == "cosine", threads=threads)[0]

    def _extended(self, vectors: Vectors) -> Vectors:
        """For dot: with the coordinate that makes them equally long."""
        if self._metric != "dot":
            return vectors
        squares = np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64)
        missing = np.sqrt(np.maximum(self._reach**2 - squares, 0))
        return np.concatenate([vectors, missing[:, None].astype(np.float32)], axis=1)
