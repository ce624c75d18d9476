"""BM25 over integer term ids: geometric segments of postings in NumPy.

A document's score for a query is (Robertson & Zaragoza, "The Probabilistic Relevance Framework: BM25 and
Beyond", 2009, eq. 3.15, with the idf of Lucene's `BM25Similarity`, which is never negative)

    sum over query terms t of  q_t * ln(1 + (N - df_t + 0.5) / (df_t + 0.5)) * tf / (tf + K)
    K = k1 * (1 - b + b * length / average_length)

where N counts live rows (also those without a term), df_t the live rows with term t, tf is the float weight
of the term in the document, and a document's length is the sum of its weights. There is no factor (k1 + 1) in
the numerator, as in the source and in Lucene since 8.0: it would not change any order.

Every `add` makes a segment, postings sorted by term; a segment that is not much larger than what came after
it is merged with it (O'Neil et al., "The Log-Structured Merge-Tree", 1996). So there are O(log n) segments,
each posting is copied O(log n) times, and a search between two adds costs no rebuild.

Segments are never changed in place and the state is replaced as a whole: searches may run in any number of
threads beside one writer, and each sees one consistent state.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from madang.base.errors import InvalidInput
from madang.index.protocol import Allow, Rows, Scores

TermIds: TypeAlias = NDArray[np.int64]
Weights: TypeAlias = NDArray[np.float32]

_RATIO = 3  # a segment is merged unless it is this many times larger than the one after it
_SMALL = 4096  # segments of fewer postings are always merged: their fixed cost per query outweighs the copy
_LARGE = 1e30  # sums of weights beyond this would overflow float32 scores


class Lexical:
    """An in-memory BM25 index.

    Rows are int64 >= 0, assigned by the caller; a row that was removed may be added again. Terms are integer
    ids >= 0; what they stand for is the caller's business. Whatever is refused raises
    `madang.base.errors.InvalidInput`, which is a `ValueError`, and leaves the index as it was.
    """

    def __init__(self, k1: float = 1.2, b: float = 0.75) -> None:
        """`k1` >= 0 saturates the term frequency (0: presence only); `b` in [0, 1] corrects for length."""
        if not (np.isfinite(k1) and k1 >= 0):
            raise InvalidInput(f"k1 is {k1}.", remedy="Give a finite number of at least 0.")
        if not 0 <= b <= 1:
            raise InvalidInput(f"b is {b}.", remedy="Give a number between 0 and 1.")
        self.k1 = float(k1)
        self.b = float(b)
        self._state = _State((), 0, 0.0)

    def __len__(self) -> int:
        """The number of live rows."""
        return self._state.live_count

    def add(self, rows: ArrayLike, indptr: ArrayLike, term_ids: ArrayLike, weights: ArrayLike) -> None:
        """Add n documents given as a CSR matrix.

        `rows` (n,) integers; `indptr` (n + 1,) integers, ascending from 0 to nnz; `term_ids` (nnz,) integers,
        no term twice in a document; `weights` (nnz,) finite and > 0. A document may be empty.
        """
        rows_, indptr_, terms, tf = _checked_csr(rows, indptr, term_ids, weights)
        if not len(rows_):
            return
        segment = _build(rows_, indptr_, terms, tf)
        for other in self._state.segments:
            position, found = other.find(segment.rows)
            if found.any():
                row = int(other.rows[position[found][0]])
                raise InvalidInput(f"Row {row} is already in the index.", remedy="Remove it first.")
        self._state = _State.of(_merged((*self._state.segments, segment)))

    def remove(self, rows: ArrayLike) -> int:
        """Remove rows (n,); unknown and already removed ones are ignored. Returns how many were live."""
        wanted = np.unique(_integers("rows", rows))
        before, segments = self._state.live_count, []
        for segment in self._state.segments:
            position, found = segment.find(wanted)
            segments.append(segment.without(position[found]) if found.any() else segment)
        self._state = _State.of(_merged(tuple(s for s in segments if s.live_count)))
        return before - self._state.live_count

    def search(self, term_ids: ArrayLike, query_weights: ArrayLike, k: int,
               allow: Allow | None = None) -> tuple[Rows, Scores]:
        """The k best live rows for a query of (t,) terms with (t,) weights, finite and >= 0.

        A term given twice counts with the sum of its weights; unknown terms count nothing. `allow` restricts
        the search: row numbers (int64), or a mask (bool) indexed by row, rows past its end being excluded.
        Returns rows (<= k,) int64 and their scores float32, > 0 only, best first, ties to the lower row.
        """
        _check_k(k)
        terms, factors = _checked_query(term_ids, query_weights)
        if allow is not None and not (allow.dtype == np.bool_ and allow.ndim == 1):
            allow = _integers("allow", allow)
        state = self._state
        segments, ranges = state.segments, [s.ranges(terms) for s in state.segments]
        found_rows, found_scores = [np.empty(0, np.int64)], [np.empty(0, np.float32)]
        if not segments or not len(terms):
            return found_rows[0], found_scores[0]
        df = np.sum([s.document_frequency(*r) for s, r in zip(segments, ranges, strict=True)], axis=0)
        idf = np.log1p((state.live_count - df + 0.5) / (df + 0.5))
        factors = (factors * idf).astype(np.float32)
        average = state.total_length / state.live_count
        for segment, (low, high) in zip(segments, ranges, strict=True):
            if not (high > low).any():
                continue
            scores = segment.scores(low, high, factors, self._norms(segment.lengths, average))
            best = _best(segment.masked(scores, allow), k)
            found_rows.append(segment.rows[best])
            found_scores.append(scores[best])
        all_rows, all_scores = np.concatenate(found_rows), np.concatenate(found_scores)
        order = np.lexsort((all_rows, -all_scores))[:k]
        return all_rows[order], all_scores[order]

    def stats(self) -> dict[str, Any]:
        """Counts and sizes: live rows, segments, postings (dead ones included), average length, bytes."""
        state = self._state
        return {
            "rows": state.live_count,
            "dead_rows": sum(len(s.rows) - s.live_count for s in state.segments),
            "segments": len(state.segments),
            "postings": sum(s.size for s in state.segments),
            "average_length": state.total_length / state.live_count if state.live_count else 0.0,
            "size_bytes": sum(s.size_bytes for s in state.segments),
            "k1": self.k1, "b": self.b,
        }

    def _norms(self, lengths: Weights, average: float) -> Weights:
        """K of the formula for each of the (n,) document lengths."""
        # In float64 and bounded: beside tiny live documents a dead one may be 1e75 times the average.
        slope = self.k1 * self.b / average if average else 0.0
        norms = lengths.astype(np.float64) * slope + self.k1 * (1 - self.b)
        return np.minimum(norms, _LARGE).astype(np.float32)


class _Segment(NamedTuple):
    """Postings of some documents, immutable. Documents are numbered by their place in `rows`."""

    rows: Rows  # (n,), ascending
    lengths: Weights  # (n,)
    live: NDArray[np.bool_]  # (n,)
    live_count: int
    live_length: float
    terms: TermIds  # (t,), ascending
    offsets: NDArray[np.int64]  # (t + 1,): the postings of terms[i] are [offsets[i], offsets[i + 1])
    documents: NDArray[np.int32]  # (nnz,), no document twice in a term's postings
    tf: Weights  # (nnz,)

    @property
    def size(self) -> int:
        return len(self.tf)

    @property
    def size_bytes(self) -> int:
        return sum(part.nbytes for part in self if isinstance(part, np.ndarray))

    def find(self, rows: Rows) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """The place of each row and whether a live document is there (else the place means nothing)."""
        position = np.minimum(np.searchsorted(self.rows, rows), len(self.rows) - 1)
        return position, (self.rows[position] == rows) & self.live[position]

    def without(self, positions: NDArray[np.intp]) -> _Segment:
        live = self.live.copy()  # a search that runs beside this one may be reading it
        live[positions] = False
        return self._replace(live=live, live_count=self.live_count - len(positions),
                             live_length=float(self.lengths[live].sum(dtype=np.float64)))

    def ranges(self, terms: TermIds) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where the postings of each term begin and end; (0, 0) for a term that does not occur."""
        if not len(self.terms):
            return np.zeros(len(terms), np.int64), np.zeros(len(terms), np.int64)
        position = np.minimum(np.searchsorted(self.terms, terms), len(self.terms) - 1)
        known = self.terms[position] == terms
        return np.where(known, self.offsets[position], 0), np.where(known, self.offsets[position + 1], 0)

    def document_frequency(self, low: NDArray[np.int64], high: NDArray[np.int64]) -> NDArray[np.int64]:
        if self.live_count == len(self.rows):
            return high - low
        # Counting at query time keeps removal free of any search for the removed documents' terms.
        return np.array([np.count_nonzero(self.live[self.documents[start:end]])
                         for start, end in zip(low.tolist(), high.tolist(), strict=True)], np.int64)

    def scores(self, low: NDArray[np.int64], high: NDArray[np.int64], factors: Weights,
               norms: Weights) -> Scores:
        """The BM25 sum for every document of the segment (n,), dead ones included."""
        total = np.zeros(len(self.rows), np.float32)
        for start, end, factor in zip(low.tolist(), high.tolist(), factors, strict=True):
            if end > start:
                documents, tf = self.documents[start:end], self.tf[start:end]
                impact = norms[documents]
                impact += tf
                np.divide(tf, impact, out=impact)
                impact *= factor
                total[documents] += impact
        return total

    def masked(self, scores: Scores, allow: Allow | None) -> Scores:
        """`scores` with 0 in place for dead and for excluded documents."""
        if self.live_count < len(self.rows):
            scores *= self.live
        if allow is None:
            return scores
        kept = np.zeros(len(scores), np.bool_)
        if allow.dtype == np.bool_:
            inside = int(np.searchsorted(self.rows, len(allow)))
            kept[:inside] = allow[self.rows[:inside]]
        else:
            position, found = self.find(allow.astype(np.int64, copy=False))
            kept[position[found]] = True
        scores *= kept
        return scores


class _State(NamedTuple):
    """What one search sees."""

    segments: tuple[_Segment, ...]
    live_count: int
    total_length: float  # of the live documents

    @classmethod
    def of(cls, segments: tuple[_Segment, ...]) -> _State:
        return cls(segments, sum(s.live_count for s in segments), sum(s.live_length for s in segments))


def _build(rows: Rows, indptr: NDArray[np.int64], terms: TermIds, tf: Weights) -> _Segment:
    """A segment of CSR documents in any order of rows."""
    n = len(rows)
    order = np.argsort(rows, kind="stable")
    sorted_rows = rows[order]
    if (sorted_rows[1:] == sorted_rows[:-1]).any():
        twice = sorted_rows[int(np.argmax(sorted_rows[1:] == sorted_rows[:-1]))]
        raise InvalidInput(f"Row {twice} is given twice.", remedy="Give each row once.")
    place = np.empty(n, np.int32)
    place[order] = np.arange(n, dtype=np.int32)
    documents = np.repeat(place, np.diff(indptr))
    by_term = _argsort(terms)
    terms, documents, tf = terms[by_term], documents[by_term], tf[by_term]
    # Stable sorting keeps one document's entries of a term side by side, so that a repetition is seen here.
    again = (terms[1:] == terms[:-1]) & (documents[1:] == documents[:-1])
    if again.any():
        at = int(np.argmax(again))
        raise InvalidInput(f"Term {terms[at]} occurs twice in row {sorted_rows[documents[at]]}.",
                           remedy="Add its weights up.")
    starts = np.flatnonzero(np.diff(terms, prepend=-1))
    sums = np.bincount(documents, weights=tf, minlength=n)
    if sums.max() > _LARGE:
        raise InvalidInput(f"The weights of row {sorted_rows[np.argmax(sums)]} add up to {sums.max():.3g}.",
                           remedy=f"Scale them down to at most {_LARGE:g}.")
    lengths = sums.astype(np.float32)
    return _Segment(sorted_rows, lengths, np.ones(n, np.bool_), n, float(lengths.sum(dtype=np.float64)),
                    terms[starts], np.append(starts, len(terms)).astype(np.int64), documents, tf)


def _argsort(terms: TermIds) -> NDArray[np.int64]:
    """A stable argsort. Sorting (term, place) packed into one integer is faster than an argsort."""
    bits = max(len(terms) - 1, 1).bit_length()
    if not len(terms) or int(terms.max()).bit_length() + bits > 63:
        return np.argsort(terms, kind="stable")
    packed = (terms << bits) | np.arange(len(terms), dtype=np.int64)
    packed.sort()
    return packed & ((1 << bits) - 1)


def _merged(segments: tuple[_Segment, ...]) -> tuple[_Segment, ...]:
    """The segments with the tail, and whatever is half dead, merged so that sizes fall geometrically."""
    kept = [_join((s,)) if 2 * s.live_count < len(s.rows) else s for s in segments]
    while len(kept) > 1:
        tail, size = 1, kept[-1].size
        # The whole tail is chosen first and merged once: a cascade of pairs would copy the last repeatedly.
        while tail < len(kept) and (kept[-tail - 1].size < _RATIO * size or kept[-tail - 1].size < _SMALL):
            tail += 1
            size += kept[-tail].size
        if tail == 1:
            break
        kept[-tail:] = [_join(tuple(kept[-tail:]))]
    return tuple(kept)


def _join(segments: tuple[_Segment, ...]) -> _Segment:
    """One segment of the live documents of all: linear, since every part is sorted by term already."""
    rows = np.concatenate([s.rows[s.live] for s in segments])
    order = np.argsort(rows, kind="stable")
    place = np.empty(len(rows), np.int32)
    place[order] = np.arange(len(rows), dtype=np.int32)
    firsts = np.cumsum([s.live_count for s in segments])[:-1]
    parts = [_renumbered(s, p) for s, p in zip(segments, np.split(place, firsts), strict=True)]
    terms = np.unique(np.concatenate([part.terms for part in parts]))
    places = [np.searchsorted(terms, part.terms) for part in parts]
    offsets = np.zeros(len(terms) + 1, np.int64)
    for part, at in zip(parts, places, strict=True):
        offsets[at + 1] += part.counts
    np.cumsum(offsets, out=offsets)
    documents, tf = np.empty(offsets[-1], np.int32), np.empty(offsets[-1], np.float32)
    free = offsets[:-1].copy()
    for part, at in zip(parts, places, strict=True):
        # A posting goes to the first free place of its term plus its distance from the term's first.
        begins = np.cumsum(part.counts) - part.counts
        target = np.repeat(free[at] - begins, part.counts) + np.arange(len(part.tf))
        documents[target], tf[target] = part.documents, part.tf
        free[at] += part.counts
    lengths = np.concatenate([s.lengths[s.live] for s in segments])[order]
    return _Segment(rows[order], lengths, np.ones(len(rows), np.bool_), len(rows),
                    float(lengths.sum(dtype=np.float64)), terms, offsets, documents, tf)


class _Part(NamedTuple):
    """The live postings of a segment, with the document numbers of the segment it goes into."""

    terms: TermIds  # (t,)
    counts: NDArray[np.int64]  # (t,), > 0
    documents: NDArray[np.int32]
    tf: Weights


def _renumbered(segment: _Segment, place: NDArray[np.int32]) -> _Part:
    """`place` (live_count,): the new numbers of the live documents, in order."""
    counts = np.diff(segment.offsets)
    if segment.live_count == len(segment.rows):
        return _Part(segment.terms, counts, place[segment.documents], segment.tf)
    number = np.full(len(segment.rows), -1, np.int32)
    number[segment.live] = place
    documents = number[segment.documents]
    keep = documents >= 0
    counts = np.bincount(np.repeat(np.arange(len(counts)), counts)[keep], minlength=len(counts))
    return _Part(segment.terms[counts > 0], counts[counts > 0], documents[keep], segment.tf[keep])


def _best(scores: Scores, k: int) -> NDArray[np.intp]:
    """The places of the k highest scores > 0, in no order; of equal scores the first."""
    candidates = np.flatnonzero(scores > 0)
    if len(candidates) <= k:
        return candidates
    values = scores[candidates]
    threshold = np.partition(values, len(values) - k)[len(values) - k]
    above, equal = candidates[values > threshold], candidates[values == threshold]
    return np.concatenate((above, equal[:k - len(above)]))


def _check_k(k: object) -> None:
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
        raise InvalidInput(f"k is {k!r}.", remedy="Give a whole number of at least 1.")


def _integers(name: str, values: ArrayLike) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise InvalidInput(f"{name} has shape {array.shape} and type {array.dtype}.",
                           remedy="Give a one-dimensional array of integers.")
    result = array.astype(np.int64, copy=False)
    if array.size and result.min() < 0:
        raise InvalidInput(f"{name} holds {array[int(np.argmin(result))]}.",
                           remedy="Give integers from 0 to 2**63 - 1.")
    return result


def _floats(name: str, values: ArrayLike, length: int) -> Weights:
    array = np.asarray(values)
    if array.shape != (length,) or (array.size and array.dtype.kind not in "fiu"):
        raise InvalidInput(f"{name} has shape {array.shape} and type {array.dtype}.",
                           remedy=f"Give {length} numbers, one for each term.")
    with np.errstate(over="ignore"):
        result = array.astype(np.float32, copy=False)
    if not np.isfinite(result).all():
        raise InvalidInput(f"{name} holds a value not finite as float32.", remedy="Give finite numbers.")
    return result


def _checked_csr(rows: ArrayLike, indptr: ArrayLike, term_ids: ArrayLike,
                 weights: ArrayLike) -> tuple[Rows, NDArray[np.int64], TermIds, Weights]:
    rows_, indptr_ = _integers("rows", rows), _integers("indptr", indptr)
    terms = _integers("term_ids", term_ids)
    if len(indptr_) != len(rows_) + 1:
        raise InvalidInput(f"indptr has {len(indptr_)} entries for {len(rows_)} rows.",
                           remedy="Give one more than there are rows.")
    if indptr_[0] != 0 or indptr_[-1] != len(terms) or (np.diff(indptr_) < 0).any():
        raise InvalidInput(f"indptr does not ascend from 0 to {len(terms)}, the number of terms.",
                           remedy="Give the CSR row pointers.")
    tf = _floats("weights", weights, len(terms))
    if (tf <= 0).any():
        raise InvalidInput(f"weights holds {tf.min()}.", remedy="Give numbers greater than 0.")
    return rows_, indptr_, terms, tf


def _checked_query(term_ids: ArrayLike, weights: ArrayLike) -> tuple[TermIds, NDArray[np.float64]]:
    """Distinct terms, ascending, with the sum of their weights."""
    terms = _integers("term_ids", term_ids)
    factors = _floats("query_weights", weights, len(terms))
    if len(factors) and factors.min() < 0:
        raise InvalidInput(f"query_weights holds {factors.min()}.", remedy="Give numbers of at least 0.")
    if factors.sum(dtype=np.float64) > _LARGE:
        raise InvalidInput(f"query_weights add up to {factors.sum(dtype=np.float64):.3g}.",
                           remedy=f"Scale them down to at most {_LARGE:g}.")
    distinct, inverse = np.unique(terms, return_inverse=True)
    return distinct, np.bincount(inverse, weights=factors, minlength=len(distinct)).astype(np.float64)
