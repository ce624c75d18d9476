"""How good a ranking is, and how alike two are: numbers of one query, from 0 to 1."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

_PERSISTENCE = 0.9     # of rank-biased overlap: the first ten ranks then have 86 % of the weight


def ndcg(ranking: Sequence[str], relevant: Collection[str], k: int) -> float:
    """nDCG@k, each item relevant or not: gain 1, discount log2(rank + 1), as trec_eval computes it.

    Järvelin & Kekäläinen, "Cumulated gain-based evaluation of IR techniques", TOIS 20 (2002).
    """
    gained = sum(1 / math.log2(rank + 1) for rank, item in enumerate(ranking[:k], start=1) if item in relevant)
    best = sum(1 / math.log2(rank + 1) for rank in range(1, min(k, len(relevant)) + 1))
    return gained / best if best else 0.0


def overlap(a: Sequence[str], b: Sequence[str], k: int) -> float:
    """The share of the first k that two rankings have in common; 1 where both are empty."""
    first, second = set(a[:k]), set(b[:k])
    most = max(len(first), len(second))
    return len(first & second) / most if most else 1.0


def rank_biased_overlap(a: Sequence[str], b: Sequence[str], persistence: float = _PERSISTENCE) -> float:
    """Agreement that weighs the top of the rankings most, extrapolated below their common depth (RBO_EXT).

    Webber, Moffat & Zobel, "A similarity measure for indefinite rankings", TOIS 28 (2010), for rankings of one length.
    """
    depth = min(len(a), len(b))
    if not depth:
        return float(len(a) == len(b))
    mine, theirs, shared, total = set[str](), set[str](), 0, 0.0
    for rank in range(1, depth + 1):
        first, second = a[rank - 1], b[rank - 1]
        shared += (first == second) + (first in theirs) + (second in mine)
        mine.add(first)
        theirs.add(second)
        total += shared / rank * persistence ** rank
    return shared / depth * persistence ** depth + (1 - persistence) / persistence * total
