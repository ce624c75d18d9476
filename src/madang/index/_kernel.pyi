"""The compiled index kernel (kernel/). Whatever is wrong with an array is a ValueError naming the argument."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from madang.index.protocol import Rows, Scores, Vectors

def isa() -> str:
    """The instruction set in use: "avx512", "avx2" or "plain"."""

def available_isas() -> list[str]:
    """The instruction sets this CPU can run, best first."""

def set_isa(name: str) -> None:
    """Use another one in the whole process, "auto" for the best; so does the environment variable MADANG_ISA."""

def prepare(vectors: Vectors, metric: str, out: Vectors | None = None, threads: int = 1) -> None:
    """Check vectors (n, dim) and write what `search` compares to `out`: for cosine unit vectors, else a copy."""

def all_finite(values: NDArray[np.float32]) -> bool:
    """Whether no value of an array (n,) is NaN or infinity."""

def search(vectors: Vectors, queries: Vectors, k: int, metric: str, rows: Rows | None = None,
           mask: NDArray[np.bool_] | None = None, threads: int = 1) -> tuple[Rows, Scores]:
    """The k best of prepared vectors (n, dim) for raw queries (q, dim); all arrays C-contiguous.

    `rows` (strictly ascending) and `mask` (n,) restrict the candidates; `threads` 0 means all cores. Returns rows
    and scores (q, k), padded with -1 and -inf.
    """


class Graph:
    """A small world of vectors with links: what HNSW and NSW are made of (kernel/graph.hpp)."""

    def __init__(self, dim: int, metric: str, code: str, m: int, ef_construction: int, seed: int, layered: bool,
                 alpha: float, half: bool = False) -> None: ...
    def __len__(self) -> int: ...
    @property
    def rows_ever(self) -> int: ...
    @property
    def code(self) -> str: ...
    def add(self, vectors: Vectors, rows: Rows | None = None, threads: int = 1) -> Rows:
        """Add raw vectors (n, dim), as new rows or as these rows, live or not; returns the rows (n, 1)."""
    def remove(self, rows: Rows, threads: int = 1) -> int:
        """Remove rows; returns how many were live."""
    def search(self, queries: Vectors, k: int, ef: int, rerank: int, rows: Rows | None = None,
               mask: NDArray[np.bool_] | None = None, threads: int = 1,
               plan: str = "") -> tuple[Rows, Scores, int, bool]:
        """Rows and scores (q, k), how many distances were computed, and whether it scanned."""
    def nearest(self, query: Vectors, k: int, spare: int, ef: int, rerank: int, end: int,
                apart: tuple[tuple[Vectors, Rows, Rows], ...]) -> tuple[list[int], list[float], int, bool, float]:
        """The k best and `spare` more for one query (dim,) among the rows below `end`, and `apart` of them: vectors as
        compared (n, dim), the numbers (n,) that they count as, and which of them (m,), ascending. As lists, without
        padding, and with what `search` tells; last the score that no other row of the graph exceeds."""
    def repair(self, threads: int = 1) -> int: ...
    def reachable(self) -> int: ...
    def live(self, rows: Rows) -> NDArray[np.bool_]: ...
    def live_rows(self) -> Rows: ...
    def vectors(self, rows: Rows) -> Vectors: ...
    def neighbours(self, row: int, level: int = 0) -> list[int]: ...
    def sizes(self) -> dict[str, int]: ...
    def gather_ns(self, rows: Rows) -> float:
        """CPU nanoseconds for each record when records are only read in this order: the bound of a search."""
    def parts(self, threads: int = 1) -> dict[str, Any]: ...
    def restore(self, parts: dict[str, Any]) -> None: ...


def encode_codes(vectors: Vectors, metric: str, codes: NDArray[np.uint8], facts: Vectors, threads: int = 1) -> None:
    """Write what `sieved_search` needs of prepared vectors (n, dim): codes (n, dim in whole 64s), facts (n, 4)."""

def sieved_search(vectors: Vectors, codes: NDArray[np.uint8], facts: Vectors, queries: Vectors, k: int, metric: str,
                  rows: Rows | None = None, mask: NDArray[np.bool_] | None = None,
                  threads: int = 1) -> tuple[Rows, Scores]:
    """As `search`, with the same results: the codes tell which vectors must be read."""


class Cells:
    """Vectors in cells around centroids: what IVF is made of (kernel/ivf.hpp)."""

    def __init__(self, dim: int, metric: str, code: str) -> None: ...
    def __len__(self) -> int: ...
    def divide(self, centroids: Vectors, bias: NDArray[np.float32], reach: float, cells: Rows,
               threads: int = 1) -> None:
        """Make cells around centroids (c, dim), and put every vector there is, by ascending row, into its cell."""
    def add(self, vectors: Vectors, cells: Rows, rows: Rows, threads: int = 1) -> None:
        """Add prepared vectors (n, dim) to cells (n,): as new rows, ascending and above all others, or as live ones."""
    def remove(self, rows: Rows) -> int:
        """Remove rows; returns how many were live."""
    def search(self, queries: Vectors, k: int, nprobe: int, depth: int, rows: Rows | None = None,
               mask: NDArray[np.bool_] | None = None, threads: int = 1) -> tuple[Rows, Scores, int]:
        """Rows and scores (q, k), and how many vectors were compared."""
    def live(self, rows: Rows) -> NDArray[np.bool_]: ...
    def live_rows(self) -> Rows: ...
    def vectors(self, rows: Rows) -> Vectors: ...
    def sizes(self) -> dict[str, int]: ...
    def parts(self) -> dict[str, Any]: ...
    def restore(self, parts: dict[str, Any]) -> None: ...
