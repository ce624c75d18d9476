"""How two sets of vectors are compared, in NumPy alone. Rows have length 1."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def pair_similarities(vectors: Floats) -> Floats:
    """The cosine of every unordered pair of rows: (n (n - 1) / 2,)."""
    upper = np.triu_indices(len(vectors), 1)
    return np.asarray((vectors @ vectors.T)[upper], np.float32)


def spearman(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """Spearman's rank correlation, assuming no ties, as among cosines of different texts."""
    ranks = [values.argsort().argsort() for values in (a, b)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def nearest_is_partner(vectors: Floats) -> float:
    """Rows 2i and 2i + 1 belong together: how often is a row's nearest other row its partner?"""
    similar = vectors @ vectors.T
    np.fill_diagonal(similar, -2)
    return float((similar.argmax(axis=1) == (np.arange(len(vectors)) ^ 1)).mean())


def known_item_scores(queries: Floats, documents: Floats) -> tuple[float, float, NDArray[np.int64]]:
    """nDCG@10, share found first, and each query's first hit, where document i is what query i looks for.

    With one relevant document, nDCG@10 is 1 / log2(rank + 1) for ranks up to 10 (Jarvelin and Kekalainen 2002).
    """
    scores = queries @ documents.T
    rank = (scores > np.diag(scores)[:, None]).sum(axis=1) + 1
    gain = np.where(rank <= 10, 1 / np.log2(rank + 1), 0)
    return float(gain.mean()), float((rank == 1).mean()), scores.argmax(axis=1)
