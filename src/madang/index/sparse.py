"""Exact maximum inner product over sparse vectors: the postings of the query's indices are added up.

This is the exhaustive "term at a time" evaluation of an inverted file (Turtle & Flood, "Query Evaluation: Strategies
and Optimizations", 1995). Values may have any sign, so that nothing may be skipped on the strength of an upper bound.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from madang.index.postings import Postings, check_k, checked_allow, checked_documents, distinct, floats, integers
from madang.index.protocol import Allow, Rows, Scores
from madang.index.segments import Segment, build, ranked

_MAX_INDEX = 2**32 - 1
_MAX_SCORE = float(np.finfo(np.float32).max)


class Sparse(Postings):
    """Sparse vectors by row; an index is an integer from 0 to 2**32 - 1. Rows, errors and threads: `Postings`."""

    kind = "sparse"

    def add(self, rows: ArrayLike, indptr: ArrayLike, indices: ArrayLike, values: ArrayLike) -> None:
        """Add n vectors given as a CSR matrix.

        `rows` (n,) integers; `indptr` (n + 1,) integers, ascending from 0 to nnz; `indices` (nnz,) integers, none
        twice in a vector; `values` (nnz,) finite float32. A vector may be empty, and a value 0: it is found by its
        index.
        """
        indices = integers("indices", indices, _MAX_INDEX)
        vectors = checked_documents(rows, indptr, ("indices", indices), ("values", values))
        if len(vectors.rows):
            negative = vectors.sums((vectors.weights < 0).astype(np.float32)).astype(np.float32)
            self._state = self._state.added(build(*vectors, negative, "Index"))

    def search(self, indices: ArrayLike, values: ArrayLike, k: int,
               allow: Allow | None = None) -> tuple[Rows, Scores]:
        """The k live rows of highest inner product with a vector of (t,) indices and (t,) finite values.

        Only rows that share an index with the query are found, whatever the sign of their score. An index given
        twice counts with the sum of its values. `allow` restricts the search: row numbers (int64), or a mask (bool)
        indexed by row, rows past its end being excluded. Returns rows (<= k,) int64 and scores float32, best first,
        ties to the lower row. Sums are made in float64; beyond float32's range a score is its largest number.
        """
        check_k(k)
        wanted = integers("indices", indices, _MAX_INDEX)
        keys, factors = distinct(wanted, floats("values", values, len(wanted), "indices"))
        allow = checked_allow(allow)
        parts = []
        for segment in self._state.segments:
            low, high = segment.ranges(keys)
            if (high > low).any():
                scores, found = _products(segment, low, high, factors)
                parts.append(segment.best(scores, found, k, allow))
        return ranked(parts, k)

    def floor(self, values: ArrayLike) -> float | None:
        """The least score any vector can have for a query of these values: 0 where no value is negative, here or
        there; None where there is no such bound. For `madang.store.fusion`."""
        given = np.asarray(values)
        return None if self._state.total or (given < 0).any() else 0.0

    def stats(self) -> dict[str, Any]:
        """Counts and sizes: live rows, segments, postings (dead ones included), negative values of live rows, bytes."""
        state = self._state
        return {**state.stats(), "negative_values": int(state.total)}


def _products(segment: Segment, low: NDArray[np.int64], high: NDArray[np.int64],
              factors: NDArray[np.float64]) -> tuple[Scores, NDArray[np.bool_]]:
    """The inner product with every vector of the segment (n,), dead ones included, and which share an index."""
    total, found = np.zeros(len(segment.rows)), np.zeros(len(segment.rows), np.bool_)
    # Index by index in ascending order: a score does not depend on how the vectors are spread over segments.
    for start, end, factor in zip(low.tolist(), high.tolist(), factors.tolist(), strict=True):
        if end > start:
            documents = segment.documents[start:end]
            total[documents] += factor * segment.weights[start:end].astype(np.float64)
            found[documents] = True
    return np.clip(total, -_MAX_SCORE, _MAX_SCORE).astype(np.float32), found
