"""Ranking metrics for one relevant document per query.

nDCG as trec_eval computes it (linear gain, log2(rank + 1) discount; Järvelin & Kekäläinen, TOIS 2002); with one
relevant document the ideal is 1, so nDCG@k = 1 / log2(rank + 1) within the first k ranks and 0 beyond.
"""

from __future__ import annotations

from collections.abc import Sequence

from madang.workspace import ranking as rankings


def ndcg(ranking: Sequence[str], relevant: str, k: int = 10) -> float:
    """nDCG@k of one query."""
    return rankings.ndcg(ranking, {relevant}, k)


def hit(ranking: Sequence[str], relevant: str, k: int = 10) -> float:
    """1 when the relevant document is among the first k, else 0."""
    return float(relevant in ranking[:k])
