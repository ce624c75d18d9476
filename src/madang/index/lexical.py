"""BM25 over integer term ids: geometric segments of postings in NumPy.

A document's score for a query is (Robertson & Zaragoza, "The Probabilistic Relevance Framework: BM25 and
Beyond", 2009, eq. 3.15, with the idf of Lucene's `BM25Similarity`, which is never negative)

    sum over query terms t of  q_t * ln(1 + (N - df_t + 0.5) / (df_t + 0.5)) * tf / (tf + K)
    K = k1 * (1 - b + b * length / average_length)

where N counts live rows (also those without a term), df_t the live rows with term t, tf is the float weight
of the term in the document, and a document's length is the sum of its weights. There is no factor (k1 + 1) in
the numerator, as in the source and in Lucene since 8.0: it would not change any order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from madang.base.errors import InvalidInput
from madang.index.postings import (
    Documents,
    Postings,
    check_k,
    checked_allow,
    checked_documents,
    distinct,
    floats,
    integers,
)
from madang.index.protocol import Allow, Rows, Scores
from madang.index.segments import Keys, Segment, Weights, build, ranked

_LARGE = 1e30  # sums of weights beyond this would overflow float32 scores


class Lexical(Postings):
    """A BM25 index.

    Terms are integer ids >= 0; what they stand for is the caller's business. Rows, errors and threads: `Postings`.
    """

    kind = "lexical"

    def __init__(self, k1: float = 1.2, b: float = 0.75) -> None:
        """`k1` >= 0 saturates the term frequency (0: presence only); `b` in [0, 1] corrects for length."""
        if not (np.isfinite(k1) and k1 >= 0):
            raise InvalidInput(f"k1 is {k1}.", remedy="Give a finite number of at least 0.")
        if not 0 <= b <= 1:
            raise InvalidInput(f"b is {b}.", remedy="Give a number between 0 and 1.")
        super().__init__()
        self.k1 = float(k1)
        self.b = float(b)

    def settings(self) -> dict[str, Any]:
        return {"k1": self.k1, "b": self.b}

    def add(self, rows: ArrayLike, indptr: ArrayLike, term_ids: ArrayLike, weights: ArrayLike) -> None:
        """Add n documents given as a CSR matrix.

        `rows` (n,) integers; `indptr` (n + 1,) integers, ascending from 0 to nnz; `term_ids` (nnz,) integers,
        no term twice in a document; `weights` (nnz,) finite and > 0. A document may be empty.
        """
        documents = checked_documents(rows, indptr, ("term_ids", term_ids), ("weights", weights))
        if (documents.weights <= 0).any():
            raise InvalidInput(f"weights holds {documents.weights.min()}.", remedy="Give numbers greater than 0.")
        if len(documents.rows):
            segment = build(*documents, _lengths(documents), "Term")
            self._state = self._state.added(segment)

    def search(self, term_ids: ArrayLike, query_weights: ArrayLike, k: int,
               allow: Allow | None = None) -> tuple[Rows, Scores]:
        """The k best live rows for a query of (t,) terms with (t,) weights, finite and >= 0.

        A term given twice counts with the sum of its weights; unknown terms count nothing. `allow` restricts
        the search: row numbers (int64), or a mask (bool) indexed by row, rows past its end being excluded.
        Returns rows (<= k,) int64 and their scores float32, > 0 only, best first, ties to the lower row.
        """
        check_k(k)
        terms, factors = _checked_query(term_ids, query_weights)
        allow = checked_allow(allow)
        state = self._state
        segments, ranges = state.segments, [s.ranges(terms) for s in state.segments]
        if not segments or not len(terms):
            return ranked([], k)
        df = np.sum([_document_frequency(s, *r) for s, r in zip(segments, ranges, strict=True)], axis=0)
        idf = np.log1p((state.live_count - df + 0.5) / (df + 0.5))
        impacts = (factors * idf).astype(np.float32)
        average = state.total / state.live_count
        parts = []
        for segment, (low, high) in zip(segments, ranges, strict=True):
            if (high > low).any():
                scores = _scores(segment, low, high, impacts, self._norms(segment.totals, average))
                parts.append(segment.best(scores, scores > 0, k, allow))
        return ranked(parts, k)

    def stats(self) -> dict[str, Any]:
        """Counts and sizes: live rows, segments, postings (dead ones included), average length, bytes."""
        state = self._state
        average = state.total / state.live_count if state.live_count else 0.0
        return {**state.stats(), "average_length": average, **self.settings()}

    def _norms(self, lengths: Weights, average: float) -> Weights:
        """K of the formula for each of the (n,) document lengths."""
        # In float64 and bounded: beside tiny live documents a dead one may be 1e75 times the average.
        slope = self.k1 * self.b / average if average else 0.0
        norms = lengths.astype(np.float64) * slope + self.k1 * (1 - self.b)
        return np.minimum(norms, _LARGE).astype(np.float32)


def _document_frequency(segment: Segment, low: NDArray[np.int64], high: NDArray[np.int64]) -> NDArray[np.int64]:
    if segment.live_count == len(segment.rows):
        return high - low
    # Counting at query time keeps removal free of any search for the removed documents' terms.
    return np.array([np.count_nonzero(segment.live[segment.documents[start:end]])
                     for start, end in zip(low.tolist(), high.tolist(), strict=True)], np.int64)


def _scores(segment: Segment, low: NDArray[np.int64], high: NDArray[np.int64], factors: Weights,
            norms: Weights) -> Scores:
    """The BM25 sum for every document of the segment (n,), dead ones included."""
    total = np.zeros(len(segment.rows), np.float32)
    for start, end, factor in zip(low.tolist(), high.tolist(), factors, strict=True):
        if end > start:
            documents, tf = segment.documents[start:end], segment.weights[start:end]
            impact = norms[documents]
            impact += tf
            np.divide(tf, impact, out=impact)
            impact *= factor
            total[documents] += impact
    return total


def _lengths(documents: Documents) -> Weights:
    sums = documents.sums(documents.weights)
    if sums.max() > _LARGE:
        raise InvalidInput(f"The weights of row {documents.rows[np.argmax(sums)]} add up to {sums.max():.3g}.",
                           remedy=f"Scale them down to at most {_LARGE:g}.")
    return sums.astype(np.float32)


def _checked_query(term_ids: ArrayLike, weights: ArrayLike) -> tuple[Keys, NDArray[np.float64]]:
    """Distinct terms, ascending, with the sum of their weights."""
    terms = integers("term_ids", term_ids)
    factors = floats("query_weights", weights, len(terms), "term_ids")
    if len(factors) and factors.min() < 0:
        raise InvalidInput(f"query_weights holds {factors.min()}.", remedy="Give numbers of at least 0.")
    if factors.sum(dtype=np.float64) > _LARGE:
        raise InvalidInput(f"query_weights add up to {factors.sum(dtype=np.float64):.3g}.",
                           remedy=f"Scale them down to at most {_LARGE:g}.")
    return distinct(terms, factors)
