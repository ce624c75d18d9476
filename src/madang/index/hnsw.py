"""HNSW: a hierarchy of small worlds (Malkov & Yashunin 2018, arXiv 1603.09320).

Every vector is linked to near ones in all directions; a search walks from link to link towards the query. Some vectors,
exponentially fewer from level to level, also are on higher levels, where links span farther: the walk starts on the top
and goes down, so that it begins below near the query and not in some local minimum far away.

What differs from the paper, and why, is in docs/decisions/0006-graph-kernel.md: links are chosen in batches that come
out the same for any number of threads, distances on the way are those of 4- or 8-bit codes, removals heal the graph,
and a tree of links that are never given up keeps every vector reachable.
"""

from __future__ import annotations

from typing import ClassVar

from madang.index.graph import SmallWorld


class HNSW(SmallWorld):
    """Approximate nearest neighbours: near-exact answers, at a small and slowly growing cost.

    Args:
        dim: the width of the vectors, or None to take it from the first ones.
        metric: "cosine", "dot" or "euclidean".
        m: links chosen per vector and level; the lowest level holds up to twice as many. More links find more and take
            more memory: 8 to 16 for easy data, 24 to 48 for hard data or recall near 1.
        ef_construction: candidates considered for them; more make a better graph, built more slowly.
        ef_search: candidates followed by a search, unless it says otherwise; more find more and take longer. That is on
            average: it ends at the distance that the ef-th neighbour usually has, after half to three times as many.
        seed: of the levels. The same data, parameters and seed give the same bytes on any number of threads.
        quantization: how vectors are written down for the walk: "int8", "int4", None for float32, or "auto" for the
            smallest that tells the first vectors' neighbours apart. Answers are ranked by the vectors in any case.
        precision: of these vectors: "float16" takes half the memory, and a score is off by some 2e-5 (at 384
            dimensions; 5e-4 at most); "float32"; or "auto": float16 for cosine, where vectors have unit length, from
            128 dimensions on.
        target_recall: calibrate `ef_search` to reach this share of the true neighbours.

    Raises:
        InvalidInput: a parameter is out of range; the message names it.
    """

    kind: ClassVar[str] = "hnsw"
    _layered: ClassVar[bool] = True
    _alpha: ClassVar[float] = 1.0
