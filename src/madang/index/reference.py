"""The indexes as one would write them down: slow, readable, in double precision. The oracles of the tests.

`search` is exact; `ReferenceNSW`, `ReferenceHNSW` and `ReferenceIVF` are the algorithms of the papers without anything
that makes them fast. The kernel builds its graphs in batches, so its links are not theirs; but `search_layer` over the
kernel's links finds, query by query, what the kernel finds.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from madang.index.protocol import Allow, Metric, Rows, Scores, Vectors

Doubles: TypeAlias = NDArray[np.float64]
Distance: TypeAlias = Callable[[Sequence[int]], Doubles]   # of one query to these rows
Links: TypeAlias = Callable[[int], Sequence[int]]          # the rows that a row leads to
Near: TypeAlias = list[tuple[float, int]]                  # distances and rows, nearest first, ties by the lower row


def scores_of(vectors: Vectors | Doubles, queries: Vectors | Doubles, metric: Metric) -> Doubles:
    """Scores (q, n) of queries (q, dim) against vectors (n, dim); `madang.index.distance` defines the metrics."""
    x, q = vectors.astype(np.float64), queries.astype(np.float64)
    if metric == "cosine":
        return unit(q) @ unit(x).T
    if metric == "dot":
        return q @ x.T
    if metric == "euclidean":
        return -np.array([[np.sum((a - b) ** 2) for b in x] for a in q]).reshape(len(q), len(x))
    raise ValueError(metric)


def unit(vectors: Doubles) -> Doubles:
    """Each vector over its length; a zero vector stays zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    units: Doubles = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    return units


def search(vectors: Vectors, queries: Vectors, k: int, metric: Metric,
           allow: Allow | None = None) -> tuple[Rows, Scores]:
    """The k best of vectors (n, dim) for queries (q, dim): rows and scores (q, k), padded with -1 and -inf.

    `allow` restricts the search to the rows it names (int64) or marks (bool, n). Ties go to the lower row.
    """
    allowed = np.arange(len(vectors))
    if allow is not None:
        allowed = np.flatnonzero(allow) if allow.dtype == np.bool_ else np.unique(allow)
    everything = scores_of(vectors[allowed], queries, metric)
    return _table([sorted(zip((-mine).tolist(), allowed.tolist(), strict=True)) for mine in everything], k)


@dataclass(frozen=True, slots=True)
class Stop:
    """When a walk ends before it has followed all of the `most` nearest: at the first row that is not among the `least`
    nearest, and whose squared distance is more than `slack` times that of the k-th (Al-Jazzazi et al. 2025, "Distance
    adaptive beam search", arXiv 2505.15636, with a slack that comes from the data)."""

    k: int
    least: int
    most: int
    slack: float
    squared: Callable[[float], float]     # of what the distance function returns

    @classmethod
    def of(cls, k: int, ef: int, spread: float, metric: Metric) -> Stop:
        """For `ef_search` = ef, where squared distances grow with the rank of a neighbour as rank^spread."""
        return cls(k, max(ef // 2, k), 3 * ef, (ef / k) ** spread,
                   (lambda distance: 2 + 2 * distance) if metric == "cosine" else (lambda distance: distance))

    def ends(self, candidate: tuple[float, int], found: Near) -> bool:
        return (bisect_left(found, candidate) >= self.least
                and self.squared(candidate[0]) > self.slack * self.squared(found[self.k - 1][0]))


def search_layer(distance: Distance, links: Links, entries: Sequence[int], ef: int, stop: Stop | None = None) -> Near:
    """The ef nearest rows that a walk along links meets (Malkov & Yashunin 2018, algorithm 2).

    From the entries on, the nearest row not yet followed is followed, until it would be farther than all ef found, or
    until `stop` says so, which is given with ef = stop.most.
    """
    visited = set(entries)
    candidates = sorted(zip(distance(sorted(visited)).tolist(), sorted(visited), strict=True))
    found = candidates[:ef]
    while candidates:
        nearest = heappop(candidates)
        if (len(found) == ef and nearest > found[-1]) or (stop is not None and stop.ends(nearest, found)):
            break
        new = [row for row in links(nearest[1]) if row not in visited]
        visited.update(new)
        for candidate in zip(distance(new).tolist(), new, strict=True):
            if len(found) < ef or candidate < found[-1]:
                heappush(candidates, candidate)
                insort(found, candidate)
                del found[ef:]
    return found


class _Vectors:
    """What the three indexes share: vectors in a list and their distances, which are negative scores."""

    def __init__(self, metric: Metric = "cosine") -> None:
        self.metric: Metric = metric
        self.vectors: Doubles = np.empty((0, 0))

    def __len__(self) -> int:
        return len(self.vectors)

    def distance_from(self, query: Doubles) -> Distance:
        """Distances of rows to a query (dim,)."""
        def distance(rows: Sequence[int]) -> Doubles:
            x = self.vectors[list(rows)]
            return np.sum((x - query) ** 2, axis=1) if self.metric == "euclidean" else -(x @ query)
        return distance

    def _append(self, vectors: Vectors) -> range:
        new = self._prepared(vectors)
        self.vectors = np.concatenate([self.vectors, new]) if len(self.vectors) else new
        return range(len(self.vectors) - len(new), len(self.vectors))

    def _prepared(self, vectors: Vectors) -> Doubles:
        x = vectors.astype(np.float64)
        return unit(x) if self.metric == "cosine" else x


class ReferenceNSW(_Vectors):
    """A navigable small world (Malkov et al. 2014): every vector is linked, both ways, to the m nearest before it.

    The first links are long, since the nearest of few vectors are far away; they are what a search travels by.
    """

    def __init__(self, metric: Metric = "cosine", *, m: int = 16, ef_construction: int = 100) -> None:
        super().__init__(metric)
        self.m, self.ef_construction = m, ef_construction
        self.links: list[list[int]] = []

    def add(self, vectors: Vectors) -> Rows:
        """Insert vectors (n, dim) one after the other; returns their rows (n,)."""
        rows = self._append(vectors)
        for row in rows:
            near = self._near(self.vectors[row], self.ef_construction)
            self.links.append([other for _, other in near[:self.m]])
            for other in self.links[row]:
                self.links[other].append(row)
        return np.array(rows, dtype=np.int64)

    def search(self, queries: Vectors, k: int, ef_search: int = 64) -> tuple[Rows, Scores]:
        """Rows and scores (q, k) of the k best found."""
        return _table([self._near(query, max(ef_search, k)) for query in self._prepared(queries)], k)

    def _near(self, query: Doubles, ef: int) -> Near:
        return search_layer(self.distance_from(query), self.links.__getitem__, [0], ef) if self.links else []


class ReferenceHNSW(_Vectors):
    """A hierarchy of navigable small worlds (Malkov & Yashunin 2018, arXiv 1603.09320), algorithms 1 to 5."""

    def __init__(self, metric: Metric = "cosine", *, m: int = 16, ef_construction: int = 100, seed: int = 0) -> None:
        super().__init__(metric)
        self.m, self.ef_construction = m, ef_construction
        self.generator = np.random.default_rng(seed)
        self.layers: list[dict[int, list[int]]] = []  # by level, the lowest first: the links of the rows that are on it
        self.entry = -1                               # a row on the top level

    def add(self, vectors: Vectors) -> Rows:
        """Insert vectors (n, dim) one after the other; returns their rows (n,)."""
        rows = self._append(vectors)
        for row in rows:
            self._insert(row, self.draw_level())
        return np.array(rows, dtype=np.int64)

    def draw_level(self) -> int:
        """Exponentially distributed with mL = 1 / ln m: a share of 1 / m of each level is on the next one, too."""
        return int(-math.log(1.0 - self.generator.random()) / math.log(self.m))

    def search(self, queries: Vectors, k: int, ef_search: int = 64) -> tuple[Rows, Scores]:
        """Rows and scores (q, k) of the k best found: algorithm 5."""
        return _table([self._near(query, max(ef_search, k)) for query in self._prepared(queries)], k)

    def _near(self, query: Doubles, ef: int) -> Near:
        if not self.layers:
            return []
        distance = self.distance_from(query)
        return search_layer(distance, self.layers[0].__getitem__, [self._descend(distance, 0)], ef)

    def _descend(self, distance: Distance, level: int) -> int:
        """The row that single steps from the entry end at, one level above `level`."""
        at = self.entry
        for above in reversed(self.layers[level + 1:]):
            at = search_layer(distance, above.__getitem__, [at], 1)[0][1]
        return at

    def _insert(self, row: int, level: int) -> None:
        """Algorithm 1: find the nearest on every level up to the row's own, link to some of them, and back."""
        distance = self.distance_from(self.vectors[row])
        top = len(self.layers) - 1
        entries = [self._descend(distance, level)] if self.layers else []
        for here in range(min(level, top), -1, -1):
            layer = self.layers[here]
            near = search_layer(distance, layer.__getitem__, entries, self.ef_construction)
            layer[row] = self._select(near, self.m)
            most = 2 * self.m if here == 0 else self.m
            for other in layer[row]:
                layer[other].append(row)
                if len(layer[other]) > most:
                    theirs = self.distance_from(self.vectors[other])(layer[other])
                    layer[other] = self._select(sorted(zip(theirs.tolist(), layer[other], strict=True)), most)
            entries = [other for _, other in near]
        if level > top:
            self.layers += [{row: []} for _ in range(level - top)]
            self.entry = row

    def _select(self, near: Near, most: int) -> list[int]:
        """Algorithm 4: the nearest, but none that is nearer to one already kept; so links go in all directions."""
        kept: list[int] = []
        for distance, row in near:
            if len(kept) < most and np.all(self.distance_from(self.vectors[row])(kept) >= distance):
                kept.append(row)
        return kept


class ReferenceIVF(_Vectors):
    """An inverted file (Jégou et al. 2011, section 4): k-means cells, of which few are searched.

    The cells are those of the first vectors added, by Lloyd's algorithm.
    """

    def __init__(self, metric: Metric = "cosine", *, nlist: int = 16, iterations: int = 10, seed: int = 0) -> None:
        super().__init__(metric)
        self.nlist, self.iterations = nlist, iterations
        self.generator = np.random.default_rng(seed)
        self.centres: Doubles = np.empty((0, 0))
        self.cells: list[list[int]] = []

    def add(self, vectors: Vectors) -> Rows:
        """Put vectors (n, dim) into the cells with the nearest centres; returns their rows (n,)."""
        rows = self._append(vectors)
        if not self.cells and len(rows) > 0:
            self.centres = self._means(self.vectors)
            self.cells = [[] for _ in self.centres]
        for row in rows:
            self.cells[int(self._nearest(self.vectors[row])[0])].append(row)
        return np.array(rows, dtype=np.int64)

    def search(self, queries: Vectors, k: int, nprobe: int = 1) -> tuple[Rows, Scores]:
        """Rows and scores (q, k) of the k best in the `nprobe` cells with the best centres; with all cells, exact."""
        found: list[Near] = []
        for query in self._prepared(queries):
            if not self.cells:
                found.append([])
                continue
            order = np.argsort(-scores_of(self.centres, query[None], self.metric)[0], kind="stable")
            rows = [row for cell in order[:nprobe] for row in self.cells[cell]]
            found.append(sorted(zip(self.distance_from(query)(rows).tolist(), rows, strict=True)))
        return _table(found, k)

    def _means(self, vectors: Doubles) -> Doubles:
        centres = vectors[self.generator.permutation(len(vectors))[:self.nlist]]
        for _ in range(self.iterations):
            self.centres = centres
            own = np.array([self._nearest(vector)[0] for vector in vectors])
            centres = np.array([vectors[own == cell].mean(axis=0) if np.any(own == cell) else centres[cell]
                                for cell in range(len(centres))])
        return centres

    def _nearest(self, vector: Doubles) -> NDArray[np.intp]:
        """The cells, by the distance of their centres."""
        return np.argsort(np.sum((self.centres - vector) ** 2, axis=1), kind="stable")


def _table(found: Sequence[Near], k: int) -> tuple[Rows, Scores]:
    """Rows and scores (q, k), padded with -1 and -inf."""
    rows = np.full((len(found), k), -1, dtype=np.int64)
    scores = np.full((len(found), k), -np.inf, dtype=np.float32)
    for i, near in enumerate(found):
        for j, (distance, row) in enumerate(near[:k]):
            rows[i, j], scores[i, j] = row, 0.0 - distance
    return rows, scores
