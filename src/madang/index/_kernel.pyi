"""The compiled index kernel (kernel/). Whatever is wrong with an array is a ValueError naming the argument."""

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

def search(vectors: Vectors, queries: Vectors, k: int, metric: str, rows: Rows | None = None,
           mask: NDArray[np.bool_] | None = None, threads: int = 1) -> tuple[Rows, Scores]:
    """The k best of prepared vectors (n, dim) for raw queries (q, dim); all arrays C-contiguous.

    `rows` (strictly ascending) and `mask` (n,) restrict the candidates; `threads` 0 means all cores. Returns rows
    and scores (q, k), padded with -1 and -inf.
    """

