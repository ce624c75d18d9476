"""Exact search as one would write it down: slow, readable, in double precision. The oracle of the tests."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from madang.index.protocol import Allow, Metric, Rows, Scores, Vectors


def scores_of(vectors: Vectors, queries: Vectors, metric: Metric) -> NDArray[np.float64]:
    """Scores (q, n) of queries (q, dim) against vectors (n, dim); `madang.index.distance` defines the metrics."""
    x, q = vectors.astype(np.float64), queries.astype(np.float64)
    if metric == "cosine":
        return unit(q) @ unit(x).T
    if metric == "dot":
        return q @ x.T
    if metric == "euclidean":
        return -np.array([[np.sum((a - b) ** 2) for b in x] for a in q]).reshape(len(q), len(x))
    raise ValueError(metric)


def unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each vector over its length; a zero vector stays zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    units: NDArray[np.float64] = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    return units


def search(vectors: Vectors, queries: Vectors, k: int, metric: Metric,
           allow: Allow | None = None) -> tuple[Rows, Scores]:
    """The k best of vectors (n, dim) for queries (q, dim): rows and scores (q, k), padded with -1 and -inf.

    `allow` restricts the search to the rows it names (int64) or marks (bool, n). Ties go to the lower row.
    """
    allowed = np.arange(len(vectors))
    if allow is not None:
        allowed = np.flatnonzero(allow) if allow.dtype == np.bool_ else np.unique(allow)
    all_scores = scores_of(vectors[allowed], queries, metric)
    rows = np.full((len(queries), k), -1, dtype=np.int64)
    scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
    for i, mine in enumerate(all_scores):
        best = np.argsort(-mine, kind="stable")[:k]
        rows[i, :len(best)] = allowed[best]
        scores[i, :len(best)] = mine[best]
    return rows, scores
