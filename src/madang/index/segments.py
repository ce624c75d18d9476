"""Postings in geometric segments: what the lexical and the sparse index are made of.

A document is a row with float weights of integer keys. Every addition makes a segment, postings sorted by key; a
segment that is not much larger than what came after it is merged with it (O'Neil et al., "The Log-Structured
Merge-Tree", 1996). So there are O(log n) segments, each posting is copied O(log n) times, and a search between two
additions costs no rebuild.

Segments are never changed in place: they may lie in a mapped file, and searches may read them beside one writer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from madang.base.errors import Corrupt, InvalidInput
from madang.index.container import Arrays
from madang.index.protocol import Allow, Rows, Scores

Keys: TypeAlias = NDArray[np.int64]
Weights: TypeAlias = NDArray[np.float32]

_RATIO = 3  # a segment is merged unless it is this many times larger than the one after it
_SMALL = 4096  # segments of fewer postings are always merged: their fixed cost per query outweighs the copy


class Segment(NamedTuple):
    """Postings of some documents, immutable. Documents are numbered by their place in `rows`."""

    rows: Rows  # (n,), ascending
    totals: Weights  # (n,): a number of each document of which the index wants the sum over live ones
    live: NDArray[np.bool_]  # (n,)
    live_count: int
    live_total: float
    keys: Keys  # (t,), ascending
    offsets: NDArray[np.int64]  # (t + 1,): the postings of keys[i] are [offsets[i], offsets[i + 1])
    documents: NDArray[np.int32]  # (nnz,), no document twice in a key's postings
    weights: Weights  # (nnz,)

    @classmethod
    def of(cls, rows: Rows, totals: Weights, keys: Keys, offsets: NDArray[np.int64], documents: NDArray[np.int32],
           weights: Weights, live: NDArray[np.bool_] | None = None) -> Segment:
        """A segment with its counts; all documents are live unless said otherwise."""
        live = np.ones(len(rows), np.bool_) if live is None else live
        return cls(rows, totals, live, int(np.count_nonzero(live)), float(totals[live].sum(dtype=np.float64)), keys,
                   offsets, documents, weights)

    @property
    def size(self) -> int:
        return len(self.weights)

    @property
    def size_bytes(self) -> int:
        return sum(part.nbytes for part in self if isinstance(part, np.ndarray))

    def find(self, rows: Rows) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """The place of each row and whether a live document is there (else the place means nothing)."""
        position = np.minimum(np.searchsorted(self.rows, rows), len(self.rows) - 1)
        return position, (self.rows[position] == rows) & self.live[position]

    def without(self, positions: NDArray[np.intp]) -> Segment:
        live = self.live.copy()  # a search that runs beside this one may be reading it
        live[positions] = False
        return self._replace(live=live, live_count=self.live_count - len(positions),
                             live_total=float(self.totals[live].sum(dtype=np.float64)))

    def ranges(self, keys: Keys) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where the postings of each key begin and end; (0, 0) for a key that does not occur."""
        if not len(self.keys):
            return np.zeros(len(keys), np.int64), np.zeros(len(keys), np.int64)
        position = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        known = self.keys[position] == keys
        return np.where(known, self.offsets[position], 0), np.where(known, self.offsets[position + 1], 0)

    def best(self, scores: Scores, found: NDArray[np.bool_], k: int, allow: Allow | None) -> tuple[Rows, Scores]:
        """Of the found documents that are live and allowed, rows and scores of the k best, in no order.

        `scores` and `found` (n,), the latter is overwritten; of equal scores the lower row is taken.
        """
        if self.live_count < len(self.rows):
            found &= self.live
        if allow is not None:
            found &= self._allowed(allow)
        candidates = np.flatnonzero(found)
        values = scores[candidates]
        if len(candidates) > k:
            threshold = np.partition(values, len(values) - k)[len(values) - k]
            above, equal = np.flatnonzero(values > threshold), np.flatnonzero(values == threshold)
            kept = np.concatenate((above, equal[:k - len(above)]))
            candidates, values = candidates[kept], values[kept]
        return self.rows[candidates], values

    def _allowed(self, allow: Allow) -> NDArray[np.bool_]:
        kept = np.zeros(len(self.rows), np.bool_)
        if allow.dtype == np.bool_:
            inside = int(np.searchsorted(self.rows, len(allow)))
            kept[:inside] = allow[self.rows[:inside]]
        else:
            position, found = self.find(allow.astype(np.int64, copy=False))
            kept[position[found]] = True
        return kept


class State(NamedTuple):
    """What one search sees; replaced as a whole by the writer."""

    segments: tuple[Segment, ...]
    live_count: int
    total: float  # of the live documents

    @classmethod
    def of(cls, segments: Sequence[Segment]) -> State:
        return cls(tuple(segments), sum(s.live_count for s in segments), sum(s.live_total for s in segments))

    def added(self, segment: Segment) -> State:
        """With the documents of a new segment; a row that is live already is refused."""
        for other in self.segments:
            position, found = other.find(segment.rows)
            if found.any():
                row = int(other.rows[position[found][0]])
                raise InvalidInput(f"Row {row} is already in the index.", remedy="Remove it first.")
        return State.of(_merged((*self.segments, segment)))

    def removed(self, rows: Rows) -> State:
        """Without these rows; unknown ones are ignored."""
        wanted, segments = np.unique(rows), []
        for segment in self.segments:
            position, found = segment.find(wanted)
            segments.append(segment.without(position[found]) if found.any() else segment)
        return State.of(_merged(tuple(s for s in segments if s.live_count)))

    def stats(self) -> dict[str, Any]:
        return {
            "rows": self.live_count,
            "dead_rows": sum(len(s.rows) - s.live_count for s in self.segments),
            "segments": len(self.segments),
            "postings": sum(s.size for s in self.segments),
            "size_bytes": sum(s.size_bytes for s in self.segments),
        }

    def to_arrays(self) -> Arrays:
        """All there is, under names like "0.rows" for the first segment; nothing is copied."""
        return {f"{number}.{name}": getattr(segment, name)
                for number, segment in enumerate(self.segments) for name in _DTYPES}

    @classmethod
    def from_arrays(cls, count: object, arrays: Mapping[str, NDArray[Any]]) -> State:
        """The state of `count` segments that `to_arrays` gave; the arrays are used as they are.

        Raises Corrupt where they are not such arrays. It reads each of them once and builds nothing.
        """
        if type(count) is not int or not 0 <= count <= len(arrays):
            raise _corrupt(f"its number of segments is {count!r}")
        names = {f"{number}.{name}" for number in range(count) for name in _DTYPES}
        if names != set(arrays):
            raise _corrupt(f"its arrays are not those of {count} segments: {sorted(names ^ set(arrays))[:3]}")
        return cls.of([_restored(number, {name: arrays[f"{number}.{name}"] for name in _DTYPES})
                       for number in range(count)])


def ranked(parts: Sequence[tuple[Rows, Scores]], k: int) -> tuple[Rows, Scores]:
    """The k best of what was found in the segments, best first, ties to the lower row."""
    rows = np.concatenate([np.empty(0, np.int64), *(rows for rows, _ in parts)])
    scores = np.concatenate([np.empty(0, np.float32), *(scores for _, scores in parts)])
    order = np.lexsort((rows, -scores))[:k]
    return rows[order], scores[order]


def build(rows: Rows, indptr: NDArray[np.int64], keys: Keys, weights: Weights, totals: Weights,
          key_name: str) -> Segment:
    """A segment of CSR documents in any order of rows; `totals` (n,) in the same order."""
    n = len(rows)
    order = np.argsort(rows, kind="stable")
    sorted_rows = rows[order]
    if (sorted_rows[1:] == sorted_rows[:-1]).any():
        twice = sorted_rows[int(np.argmax(sorted_rows[1:] == sorted_rows[:-1]))]
        raise InvalidInput(f"Row {twice} is given twice.", remedy="Give each row once.")
    place = np.empty(n, np.int32)
    place[order] = np.arange(n, dtype=np.int32)
    documents = np.repeat(place, np.diff(indptr))
    by_key = _argsort(keys)
    keys, documents, weights = keys[by_key], documents[by_key], weights[by_key]
    # Stable sorting keeps one document's entries of a key side by side, so that a repetition is seen here.
    again = (keys[1:] == keys[:-1]) & (documents[1:] == documents[:-1])
    if again.any():
        at = int(np.argmax(again))
        raise InvalidInput(f"{key_name} {keys[at]} occurs twice in row {sorted_rows[documents[at]]}.",
                           remedy="Add its weights up.")
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    return Segment.of(sorted_rows, totals[order], keys[starts], np.append(starts, len(keys)).astype(np.int64),
                      documents, weights)


def _argsort(keys: Keys) -> NDArray[np.int64]:
    """A stable argsort. Sorting (key, place) packed into one integer is faster than an argsort."""
    bits = max(len(keys) - 1, 1).bit_length()
    if not len(keys) or int(keys.max()).bit_length() + bits > 63:
        return np.argsort(keys, kind="stable")
    packed = (keys << bits) | np.arange(len(keys), dtype=np.int64)
    packed.sort()
    return packed & ((1 << bits) - 1)


def _merged(segments: tuple[Segment, ...]) -> tuple[Segment, ...]:
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


def _join(segments: tuple[Segment, ...]) -> Segment:
    """One segment of the live documents of all: linear, since every part is sorted by key already."""
    rows = np.concatenate([s.rows[s.live] for s in segments])
    order = np.argsort(rows, kind="stable")
    place = np.empty(len(rows), np.int32)
    place[order] = np.arange(len(rows), dtype=np.int32)
    firsts = np.cumsum([s.live_count for s in segments])[:-1]
    parts = [_renumbered(s, p) for s, p in zip(segments, np.split(place, firsts), strict=True)]
    keys = np.unique(np.concatenate([part.keys for part in parts]))
    places = [np.searchsorted(keys, part.keys) for part in parts]
    offsets = np.zeros(len(keys) + 1, np.int64)
    for part, at in zip(parts, places, strict=True):
        offsets[at + 1] += part.counts
    np.cumsum(offsets, out=offsets)
    documents, weights = np.empty(offsets[-1], np.int32), np.empty(offsets[-1], np.float32)
    free = offsets[:-1].copy()
    for part, at in zip(parts, places, strict=True):
        # A posting goes to the first free place of its key plus its distance from the key's first.
        begins = np.cumsum(part.counts) - part.counts
        target = np.repeat(free[at] - begins, part.counts) + np.arange(len(part.weights))
        documents[target], weights[target] = part.documents, part.weights
        free[at] += part.counts
    totals = np.concatenate([s.totals[s.live] for s in segments])[order]
    return Segment.of(rows[order], totals, keys, offsets, documents, weights)


class _Part(NamedTuple):
    """The live postings of a segment, with the document numbers of the segment it goes into."""

    keys: Keys  # (t,)
    counts: NDArray[np.int64]  # (t,), > 0
    documents: NDArray[np.int32]
    weights: Weights


def _renumbered(segment: Segment, place: NDArray[np.int32]) -> _Part:
    """`place` (live_count,): the new numbers of the live documents, in order."""
    counts = np.diff(segment.offsets)
    if segment.live_count == len(segment.rows):
        return _Part(segment.keys, counts, place[segment.documents], segment.weights)
    number = np.full(len(segment.rows), -1, np.int32)
    number[segment.live] = place
    documents = number[segment.documents]
    keep = documents >= 0
    counts = np.bincount(np.repeat(np.arange(len(counts)), counts)[keep], minlength=len(counts))
    return _Part(segment.keys[counts > 0], counts[counts > 0], documents[keep], segment.weights[keep])


_DTYPES: Mapping[str, Any] = {"rows": np.int64, "totals": np.float32, "live": np.bool_, "keys": np.int64,
                              "offsets": np.int64, "documents": np.int32, "weights": np.float32}


def _restored(number: int, arrays: Mapping[str, NDArray[Any]]) -> Segment:
    """Segment `number` from its arrays."""
    for name, array in arrays.items():
        if array.ndim != 1 or array.dtype != _DTYPES[name]:
            raise _corrupt(f"its {number}.{name} has shape {array.shape} and type {array.dtype}")
    rows, keys, offsets, documents = arrays["rows"], arrays["keys"], arrays["offsets"], arrays["documents"]
    n, size = len(rows), len(documents)
    good = {
        "rows": n > 0 and _ascending(rows),
        "totals": len(arrays["totals"]) == n and bool(np.isfinite(arrays["totals"]).all()),
        "live": len(arrays["live"]) == n and int(arrays["live"].view(np.uint8).max(initial=0)) <= 1,
        "keys": _ascending(keys),
        "offsets": len(offsets) == len(keys) + 1 and offsets[0] == 0 and offsets[-1] == size
        and bool((offsets[1:] > offsets[:-1]).all()),
        "documents": size == 0 or (documents.min() >= 0 and documents.max() < n),
        "weights": len(arrays["weights"]) == size and bool(np.isfinite(arrays["weights"]).all()),
    }
    for name, is_good in good.items():
        if not is_good:
            raise _corrupt(f"its {number}.{name} makes no sense")
    return Segment.of(**arrays)


def _ascending(values: NDArray[np.int64]) -> bool:
    return len(values) == 0 or bool(values[0] >= 0 and (values[1:] > values[:-1]).all())


def _corrupt(what: str) -> Corrupt:
    return Corrupt(f"a saved index of postings is not usable: {what}.", remedy="Build it again.")
