"""What benchmarks/store.py hands out and judges by: records, filters, and exact answers. NumPy only: peers import it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Rows = NDArray[np.int64]

K = 10
LANGS = ("ko", "en", "de", "fr", "ja")
TAGS = tuple(f"tag{number:02d}" for number in range(50))
PARTS = 1000            # values of "part": {"part": {"$lt": 5}} selects 0.5 %
CALL = 5_000            # records a call of a bulk load, for everybody (chroma takes at most 5,461)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Records of one call: ids, values (n, d) float32, and metadata."""

    ids: list[str]
    values: Vectors
    metadata: list[dict[str, Any]]


def identity(row: int) -> str:
    """The id of a row."""
    return f"record-{row:08d}"


def row_of(name: str) -> int:
    """The row of an id."""
    return int(name.rpartition("-")[2])


class Fields:
    """Metadata of n records, seeded: year 1990 to 2025, one of 5 languages, part 0 to 999, 1 or 2 of 50 tags."""

    def __init__(self, n: int) -> None:
        generator = np.random.default_rng(5)
        self.year = generator.integers(1990, 2026, n, dtype=np.int16)
        self.lang = generator.integers(0, len(LANGS), n, dtype=np.int8)
        self.part = generator.integers(0, PARTS, n, dtype=np.int16)
        self.tags = generator.integers(0, len(TAGS), (n, 2), dtype=np.int8)

    def of(self, row: int) -> dict[str, Any]:
        """Metadata of one record."""
        first, second = self.tags[row].tolist()
        return {"year": int(self.year[row]), "lang": LANGS[self.lang[row]], "part": int(self.part[row]),
                "tags": [TAGS[first]] if first == second or first % 2 else [TAGS[first], TAGS[second]]}


def chunks(file: Path, fields: Fields, rows: Sequence[int], sources: Sequence[int] | None = None,
           size: int = CALL) -> Iterator[Chunk]:
    """Records `rows`, `size` at a time; `sources`: whose vectors they take, their own if None.

    The file is mapped anew for each chunk, so that it does not add up in the memory that is measured.
    """
    for start in range(0, len(rows), size):
        part = rows[start:start + size]
        taken = np.asarray(part if sources is None else sources[start:start + size])
        values = np.array(np.load(file, mmap_mode="r")[taken])
        yield Chunk([identity(row) for row in part], values, [fields.of(row) for row in part])


class Truth:
    """Recall@10 by exact search in NumPy. base (n, d) and queries (q, d) are of unit length.

    A neighbour counts as found if its exact score is no worse than that of the k-th best allowed record, so that ties
    harm nobody. Where fewer than 10 are allowed, all of them are to be found.
    """

    def __init__(self, base: Vectors, queries: Vectors, allowed: NDArray[np.bool_] | None = None) -> None:
        self.allowed = np.ones(len(base), dtype=bool) if allowed is None else allowed
        self.base, self.queries = base, queries
        those = base if allowed is None else base[allowed]
        if not len(those):
            raise ValueError("no record is allowed, so there is nothing to find")
        self.k = min(K, len(those))
        self.least = np.empty(len(queries), np.float32)
        for start in range(0, len(queries), 100):
            scores = queries[start:start + 100] @ those.T
            self.least[start:start + 100] = np.partition(scores, -self.k, axis=1)[:, -self.k]
        self.least -= 1e-5 * np.abs(self.least) + 1e-6      # another order of summation is no error

    def recall(self, found: Sequence[Sequence[int]]) -> float:
        """Of the rows found for each of the first queries; repeated and forbidden rows do not count."""
        hits = 0
        for query, rows in enumerate(found):
            mine = np.unique(np.asarray(rows, dtype=np.int64))
            mine = mine[(mine >= 0) & (mine < len(self.base))]
            mine = mine[self.allowed[mine]]
            hits += min(self.k, int(np.count_nonzero(self.base[mine] @ self.queries[query] >= self.least[query])))
        return hits / (self.k * len(found)) if found else 0.0

    def strays(self, found: Sequence[Sequence[int]]) -> int:
        """How many rows were returned that are not allowed: deleted, or not matching the filter."""
        return sum(not (0 <= row < len(self.allowed) and self.allowed[row]) for rows in found for row in rows)
