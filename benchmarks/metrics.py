"""Ranking metrics for one relevant document per query.

nDCG as trec_eval computes it (linear gain, log2(rank + 1) discount; Järvelin & Kekäläinen, TOIS 2002); with one
relevant document the ideal is 1, so nDCG@k = 1 / log2(rank + 1) within the first k ranks and 0 beyond.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def ndcg(ranking: Sequence[str], relevant: str, k: int = 10) -> float:
    """nDCG@k of one query."""
    for rank, item in enumerate(ranking[:k], start=1):
        if item == relevant:
            return 1.0 / math.log2(rank + 1)
    return 0.0


def hit(ranking: Sequence[str], relevant: str, k: int = 10) -> float:
    """1 when the relevant document is among the first k, else 0."""
    return float(relevant in ranking[:k])
