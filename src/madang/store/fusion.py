"""Reciprocal rank fusion (Cormack, Clarke & Büttcher, SIGIR 2009, equation 1), weighted."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from madang.base.errors import InvalidInput

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Fusion:
    """How the dense and the lexical ranking are combined. A weight of 0 leaves that ranking out."""

    k: int = 60
    dense: float = 1.0
    lexical: float = 1.0
    depth: int = 100               # how far each ranking is read

    def __post_init__(self) -> None:
        if self.k < 1 or self.depth < 1:
            raise InvalidInput(f"fusion k and depth must be at least 1, not {self.k} and {self.depth}.")
        if min(self.dense, self.lexical) < 0 or self.dense + self.lexical <= 0:
            raise InvalidInput(f"fusion weights must not be negative, and one must be positive, "
                               f"not dense={self.dense}, lexical={self.lexical}.")

    def __str__(self) -> str:
        return f"rrf(k={self.k}, dense={self.dense:g}, lexical={self.lexical:g})"


def reciprocal_rank(rankings: Sequence[Sequence[K]], weights: Sequence[float] | None = None,
                    k: int = 60) -> list[tuple[K, float]]:
    """Fuse rankings (best first, 1-based ranks): score(d) = sum of weight / (k + rank).

    Returns (item, score), best first; ties keep the order in which items first appear.
    """
    scores: dict[K, float] = {}
    for ranking, weight in zip(rankings, weights or [1.0] * len(rankings), strict=True):
        for rank, item in enumerate(ranking, start=1):
            scores[item] = scores.get(item, 0.0) + weight / (k + rank)
    return sorted(scores.items(), key=lambda pair: -pair[1])
