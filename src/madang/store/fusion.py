"""One ranking out of several: by reciprocal ranks, by a weighted sum of normalised scores, or by the sum of the scores.

"rrf" is reciprocal rank fusion (Cormack, Clarke & Büttcher, SIGIR 2009, equation 1), weighted. It looks at ranks only.

"weighted" is the convex combination of Bruch, Gai & Ingber ("An Analysis of Fusion Functions for Hybrid Retrieval",
ACM Transactions on Information Systems 42(1), 2023), with their theoretical min-max normalisation:

    normalised(score) = (score - floor) / (best score in the ranking - floor)

where the floor is the least score there can be: -1 for a cosine, 0 for BM25. Against the least score *found* (min-max)
it has the advantage that the last of a hundred good answers does not count as nothing. An inner product and a negative
squared distance have no least score; there the least score found takes its place. The floor is also what an item counts
that is missing from a ranking, which is 0 when normalised. Weights are divided by their sum, so that fused scores
lie between 0 and 1.

"sum" adds the scores themselves, each times its weight. That means something where they are of one kind, as the inner
products of the two halves of a vector that is dense and sparse. It is exact: a search sees to it that
whatever words or a sparse vector find has its dense score, too; what they do not find scores 0 with them.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Literal, TypeAlias, TypeVar, get_args

from madang.base.errors import InvalidInput
from madang.index.protocol import Metric

K = TypeVar("K", bound=Hashable)

Method: TypeAlias = Literal["rrf", "weighted", "sum"]
METHODS: tuple[Method, ...] = get_args(Method)
NAMES = ("dense", "lexical", "sparse")
Ranking: TypeAlias = tuple[Sequence[int], Sequence[float]]      # items, best first, and their scores

_LARGEST = 3.4e38      # beyond float32: an infinite score counts as this


@dataclass(frozen=True, slots=True)
class Fusion:
    """How the dense, the lexical and the sparse ranking are combined. A weight of 0 leaves that ranking out."""

    k: int = 60                    # of "rrf": larger values level the ranks
    dense: float = 1.0
    lexical: float = 1.0
    depth: int = 100               # how far each ranking is read
    sparse: float = field(default=1.0, kw_only=True)
    method: Method = field(default="rrf", kw_only=True)

    def __post_init__(self) -> None:
        for name in ("k", "depth"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
                raise InvalidInput(f"fusion {name} is {value!r}.", remedy="Give a whole number of at least 1.")
        for name in NAMES:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= float(value) < math.inf:
                raise InvalidInput(f"fusion weight {name} is {value!r}.", remedy="Give a finite number of at least 0.")
        if self.dense + self.lexical + self.sparse <= 0:
            raise InvalidInput("all fusion weights are 0.", remedy="Give one of dense, lexical and sparse a weight.")
        if self.method not in METHODS:
            raise InvalidInput(f"fusion method {self.method!r} is unknown.",
                               remedy=f"Choose one of {', '.join(METHODS)}.")

    def named(self, rankings: Iterable[str]) -> str:
        """As a plan says it, with the weights of these rankings only: "rrf(k=60, dense=1, lexical=1)"."""
        present = set(rankings)
        parts = [f"k={self.k}"] if self.method == "rrf" else []
        parts += [f"{name}={getattr(self, name):g}" for name in NAMES if name in present]
        return f"{self.method}({', '.join(parts)})"

    def __str__(self) -> str:
        return self.named(NAMES)


def floors(metric: Metric, sparse: float | None = None) -> dict[str, float | None]:
    """The least score of each ranking, None where there is none; `sparse` is `Sparse.floor` of the query."""
    return {"dense": -1.0 if metric == "cosine" else None, "lexical": 0.0, "sparse": sparse}


def fuse(rankings: Mapping[str, Ranking], fusion: Fusion,
         floors: Mapping[str, float | None] | None = None) -> list[tuple[int, float]]:
    """One ranking out of those named "dense", "lexical" and "sparse" (those that were asked for; they may be empty).

    Args:
        rankings: items, no item twice, with their scores, best first. They are read to their ends: whoever makes
            them sees to `fusion.depth`.
        floors: the least score of each ranking, for "weighted"; where there is none, the least score found is it.

    Returns:
        (item, score), best first. Ties keep the order in which items first appear: dense, lexical, sparse. An item
        that only rankings of weight 0 know is not in it.

    Raises:
        InvalidInput: an unknown ranking, items and scores of different lengths, a score that is not a number, or no
            weight for any of these rankings.
    """
    used = _used(rankings, fusion)
    weights = [float(getattr(fusion, name)) for name in used]
    if fusion.method == "rrf":
        return reciprocal_rank([items for items, _ in used.values()], weights, fusion.k)
    total: dict[int, float] = {}
    plain = fusion.method == "sum"
    share = 1.0 if plain else math.fsum(weights)
    for (name, (items, scores)), weight in zip(used.items(), weights, strict=True):
        for item, score in zip(items, scores if plain else normalised(scores, (floors or {}).get(name)), strict=True):
            total[item] = total.get(item, 0.0) + weight / share * score
    return sorted(total.items(), key=lambda pair: -pair[1])


def _used(rankings: Mapping[str, Ranking], fusion: Fusion) -> dict[str, Ranking]:
    """The rankings that have a weight, in the order of `NAMES`."""
    unknown = sorted(set(rankings) - set(NAMES))
    if unknown:
        raise InvalidInput(f"ranking {unknown[0]!r} is unknown.", remedy=f"Known: {', '.join(NAMES)}.")
    for name, (items, scores) in rankings.items():
        if len(items) != len(scores):
            raise InvalidInput(f"the {name} ranking has {len(items)} items and {len(scores)} scores.",
                               remedy="Give a score for each item.")
        if any(math.isnan(score) for score in scores):
            raise InvalidInput(f"the {name} ranking has a score that is not a number.", remedy="Give numbers.")
    used = {name: rankings[name] for name in NAMES if name in rankings and getattr(fusion, name) > 0}
    if rankings and not used:
        raise InvalidInput(f"the fusion weights of {' and '.join(sorted(rankings))} are 0, and nothing else was asked "
                           "for.", remedy="Give one of them a weight, or query by something that has one.")
    return used


def normalised(scores: Sequence[float], floor: float | None = None) -> list[float]:
    """Scores between 0 (the floor) and 1 (the best): theoretical min-max, or min-max where `floor` is None.

    Scores that are all alike count 1 each: they were found, and what is missing counts 0. A score below the floor, by
    rounding, lowers it.
    """
    if not len(scores):
        return []
    finite = [min(max(float(score), -_LARGEST), _LARGEST) for score in scores]
    best, least = max(finite), min(finite)
    if floor is not None:
        least = min(least, floor)
    if best == least:
        return [1.0] * len(finite)
    return [(score - least) / (best - least) for score in finite]


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
