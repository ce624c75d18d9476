"""What every vector index offers. The store knows indexes only through this."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Protocol, Self, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Metric: TypeAlias = Literal["cosine", "dot", "euclidean"]
METRICS: tuple[Metric, ...] = ("cosine", "dot", "euclidean")

Rows: TypeAlias = NDArray[np.int64]
Scores: TypeAlias = NDArray[np.float32]
Vectors: TypeAlias = NDArray[np.float32]
Allow: TypeAlias = "NDArray[np.int64] | NDArray[np.bool_]"


@runtime_checkable
class Index(Protocol):
    """k nearest neighbours over rows that are stable and never reused.

    Scores are higher for better matches: cosine similarity, inner product, or the negative squared Euclidean
    distance. Bad shapes, wrong dtypes and non-finite values raise `madang.base.errors.InvalidInput`, which is
    a `ValueError`.
    """

    @property
    def dim(self) -> int: ...

    @property
    def metric(self) -> Metric: ...

    def __len__(self) -> int:
        """The number of live rows."""
        ...

    def add(self, vectors: Vectors, threads: int = 0) -> Rows:
        """Add float32 vectors (n, dim); returns their n new rows (int64). `threads` 0 means all cores."""
        ...

    def remove(self, rows: Rows) -> int:
        """Remove rows; unknown or already removed rows are ignored. Returns how many were live."""
        ...

    def search(self, queries: Vectors, k: int, *, allow: Allow | None = None,
               threads: int = 1) -> tuple[Rows, Scores]:
        """The k best live rows for each of q queries (q, dim).

        `allow` restricts the search: row numbers (int64), or a mask (bool) with one entry per row ever added.
        Returns rows (q, k) int64, padded with -1, and scores (q, k) float32, padded with -inf; ties go to the
        lower row.
        """
        ...

    def save(self, path: str | Path) -> None: ...

    @classmethod
    def load(cls, path: str | Path, mmap: bool = True) -> Self: ...

    def stats(self) -> dict[str, Any]: ...
