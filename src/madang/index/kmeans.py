"""k-means (Lloyd 1982) over a sample: where the cells of IVF lie."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from madang.index import _kernel
from madang.index.protocol import Rows, Vectors

# Vectors per centroid, round by round. The first rounds only have to spread the centroids out, for which few suffice.
_ROUNDS = (8, 8, 8, 16, 16, 32, 64)


def kmeans(points: Vectors, k: int, *, spherical: bool, seed: int, threads: int = 0) -> Vectors:
    """Up to k centroids (k, dim) of points (n, dim); fewer where some would have no point.

    `spherical` (Dhillon & Modha 2001): points are of unit length, compared by their cosine, and centroids are scaled to
    unit length. The same input gives the same centroids on any number of threads.
    """
    random = np.random.default_rng(seed)
    k = min(k, len(points))
    points = points[random.permutation(len(points))[:_ROUNDS[-1] * k]]
    centroids = points[:k].copy()
    for per_centroid in _ROUNDS:
        part = points[:max(k, per_centroid * k)]
        cells, _ = nearest(part, centroids, spherical=spherical, threads=threads)
        centroids, sizes = means(part, cells, k)
        if spherical:
            centroids = unit(centroids)
        _reseed(centroids, sizes, part, cells, random)
    cells, _ = nearest(points, centroids, spherical=spherical, threads=threads)
    return np.ascontiguousarray(centroids[np.bincount(cells, minlength=k) > 0])


def nearest(points: Vectors, centroids: Vectors, *, spherical: bool,
            threads: int = 0) -> tuple[Rows, NDArray[np.float32]]:
    """The centroid nearest to each point (n,), and its score; ties go to the lower one."""
    cells, scores = _kernel.search(centroids, points, 1, "dot" if spherical else "euclidean", threads=threads)
    return cells.reshape(-1), scores.reshape(-1)


def means(points: Vectors, cells: Rows, k: int) -> tuple[Vectors, Rows]:
    """The mean (k, dim) of each cell's points, zero where it has none, and how many they are."""
    sizes = np.bincount(cells, minlength=k)
    sums = np.zeros((k, points.shape[1]), dtype=np.float32)
    filled = np.flatnonzero(sizes)
    starts = np.concatenate(([0], np.cumsum(sizes[filled])[:-1]))
    sums[filled] = np.add.reduceat(points[np.argsort(cells, kind="stable")], starts, axis=0)
    sums /= np.maximum(sizes, 1).astype(np.float32)[:, None]
    return sums, sizes.astype(np.int64)


def unit(vectors: Vectors) -> Vectors:
    """Each vector over its length; a zero vector stays zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    units: Vectors = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    return units


def _reseed(centroids: Vectors, sizes: Rows, points: Vectors, cells: Rows, random: np.random.Generator) -> None:
    """Put centroids of empty cells where large cells have a point."""
    empty = np.flatnonzero(sizes == 0)
    if len(empty) == 0:
        return
    crowded = np.argsort(-sizes, kind="stable")[:len(empty)]
    for cell, other in zip(empty, crowded, strict=False):
        members = np.flatnonzero(cells == other)
        centroids[cell] = points[random.choice(members)] if len(members) else points[random.integers(len(points))]
