"""Exact search over a matrix of vectors: every answer is right, at the price of reading every allowed vector.

Beside the float32 matrix lie codes, a byte per dimension. From a code follow bounds of the exact score, so that a
search for one or a few queries reads the codes, a quarter of the bytes, and then only the vectors that may be among
the k best (kernel/sieve.hpp). The answers are the same to the bit.
"""

from __future__ import annotations

import mmap
import os
import threading
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from madang.base.errors import InvalidInput
from madang.index import _kernel, flat_file
from madang.index.distance import Mask, as_allow, as_rows, as_vectors, check_count, check_metric
from madang.index.protocol import Allow, Metric, Rows, Scores, Vectors

_LINE = 64                                # bytes in a cache line: a vector register that crosses one loads slower
_CODED = range(64, 1 << 16)               # dimensions that codes are worth keeping for, and can be
_TOGETHER = 5                             # queries from which on they share so much that float32 is as fast
_OWN_PAGES = 64 << 10                     # bytes from which an array gets pages of its own
_HUGE_PAGES = 4 << 20                     # ... and is worth huge ones

Codes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class _View:
    """What a search sees. A writer publishes a new one and never changes what an older one covers."""

    data: Vectors                      # (capacity, dim); slots from `used` on are free
    used: int
    rows: Rows | None = None           # (capacity,) row number of each slot, ascending; None: the slot itself
    live: Mask | None = None           # (capacity,) False where removed; None: nothing is
    size: int = 0                      # live slots
    rows_ever: int = 0                 # the next row to give out
    codes: Codes | None = None         # (capacity, dim in whole lines) and, of each, what bounds follow from:
    facts: Scores | None = None        # (capacity, 4); None: there are no codes
    mapped: bool = False               # whether `data` lies in a file

    def slots_of(self, rows: Rows) -> tuple[Rows, Mask]:
        """The slots of rows, and which of the rows are live here (the other slots mean nothing)."""
        if self.used == 0:
            return rows, np.zeros(len(rows), dtype=np.bool_)
        if self.rows is None:
            slots, known = np.clip(rows, 0, self.used - 1), (rows >= 0) & (rows < self.used)
        else:
            slots = np.minimum(np.searchsorted(self.rows[:self.used], rows), self.used - 1).astype(np.int64)
            known = self.rows[slots] == rows
        return slots, known if self.live is None else known & self.live[slots]

    def live_slots(self) -> Rows:
        return np.arange(self.used) if self.live is None else np.flatnonzero(self.live[:self.used])

    def row_numbers(self, slots: Rows) -> Rows:
        return slots if self.rows is None else self.rows[slots]


class Flat:
    """Exact nearest neighbours, on all instruction sets and any number of threads with the same tie-breaking.

    Vectors are kept as float32; for cosine, scaled to unit length (a zero vector stays zero: its cosine with
    everything is 0). Any number of threads may search while another one writes; a search sees the index as it was
    when the search began. Removed vectors stay in memory until the next growth after a quarter is gone, and are
    not saved.

    Args:
        dim: at least 1, or None to take it from the first vectors added.
        metric: "cosine", "dot" or "euclidean".
        quantization: "int8" keeps codes, from 64 dimensions on: a quarter more memory, several times as many answers a
            second to single queries. None keeps none. The answers are the same.

    Raises:
        InvalidInput: a parameter is out of range; the message names it.
    """

    kind: ClassVar[str] = "flat"

    def __init__(self, dim: int | None = None, metric: Metric = "cosine", *,
                 quantization: Literal["int8"] | None = "int8") -> None:
        self._metric = check_metric(metric)
        if quantization not in ("int8", None):
            raise InvalidInput(f"quantization {quantization!r} is unknown.", remedy='Choose "int8" or None.')
        self.quantization: Literal["int8"] | None = quantization
        width = 0 if dim is None else check_count(dim, "dim", 1, "the width of the vectors")
        self._view = _View(_aligned(0, width), 0)
        self._writing = threading.Lock()

    def __repr__(self) -> str:
        return f"Flat(dim={self.dim or None}, metric={self._metric!r})"

    def __len__(self) -> int:
        """The number of live rows."""
        return self._view.size

    @property
    def dim(self) -> int:
        """The width of the vectors; 0 until the first ones decide it."""
        return int(self._view.data.shape[1])

    @property
    def metric(self) -> Metric:
        return self._metric

    @property
    def rows_ever(self) -> int:
        """How many rows were ever given out."""
        return self._view.rows_ever

    def add(self, vectors: Vectors, threads: int = 0) -> Rows:
        """Add float32 vectors (n, dim) and return their rows (n,) int64, ascending; all of them or none.

        Raises InvalidInput for another shape or dtype, NaN, infinity, and (dot, euclidean) vectors so long that a
        score could overflow. `threads`: 0 means all cores.
        """
        threads = check_count(threads, "threads", 0, "0 for all cores")
        with self._writing:
            view = self._view
            vectors = as_vectors(vectors, self.dim or None, "vectors")
            n = len(vectors)
            if n == 0:
                return np.empty(0, dtype=np.int64)
            if self.dim == 0:
                view = replace(view, data=_aligned(0, vectors.shape[1]))
            if view.used + n > len(view.data):
                view = self._grown(view, n)
            end = view.used + n
            self._prepare(vectors, view.data[view.used:end], threads)
            self._encode(view, view.used, end, threads)
            new = np.arange(view.rows_ever, view.rows_ever + n, dtype=np.int64)
            if view.rows is not None:
                view.rows[view.used:end] = new
            if view.live is not None:
                view.live[view.used:end] = True
            self._view = replace(view, used=end, size=view.size + n, rows_ever=view.rows_ever + n)
        return new

    def remove(self, rows: Rows) -> int:
        """Remove rows; unknown or already removed rows are ignored. Returns how many were live."""
        numbers = np.unique(as_rows(rows, "rows"))
        with self._writing:
            view = self._view
            slots, known = view.slots_of(numbers)
            gone = int(np.count_nonzero(known))
            if gone:
                live = np.ones(len(view.data), dtype=np.bool_) if view.live is None else view.live.copy()
                live[slots[known]] = False
                self._view = replace(view, live=live, size=view.size - gone)
        return gone

    def search(self, queries: Vectors, k: int, *, allow: Allow | None = None,
               threads: int = 1) -> tuple[Rows, Scores]:
        """The k best live rows for each of q queries (q, dim), best first, ties to the lower row.

        Args:
            allow: only these rows: row numbers (int64, any order), or a mask (bool) with one entry per row ever
                added. Only allowed vectors are read.
            threads: 0 means all cores; the result is the same for any number.

        Returns:
            rows (q, k) int64 padded with -1, and scores (q, k) float32 padded with -inf.

        Raises:
            InvalidInput: another shape or dtype, NaN or infinity, k below 1, rows that were never added.
        """
        view = self._view
        k = check_count(k, "k", 1, "how many neighbours you want")
        threads = check_count(threads, "threads", 0, "0 for all cores")
        queries = as_vectors(queries, view.data.shape[1] or None, "queries")
        data = view.data[:view.used] if view.data.shape[1] else _aligned(0, queries.shape[1])
        slots, mask, sure = _candidates(view, allow)
        try:
            found, scores = self._kernel_search(view, data, queries, k, slots, mask, threads)
        except ValueError as error:
            if sure or not str(error).startswith("rows:"):
                raise InvalidInput(str(error)) from None
            assert allow is not None
            slots, mask = _checked(view, allow)
            found, scores = self._kernel_search(view, data, queries, k, slots, mask, threads)
        if view.rows is not None and view.used:
            found = np.where(found >= 0, view.rows[found], -1)
        return found, scores

    def _kernel_search(self, view: _View, data: Vectors, queries: Vectors, k: int, slots: Rows | None,
                       mask: Mask | None, threads: int) -> tuple[Rows, Scores]:
        candidates = view.used if slots is None else len(slots)
        if (view.codes is None or view.facts is None or len(queries) >= _TOGETHER or candidates < 8 * k + 64):
            return _kernel.search(data, queries, k, self._metric, slots, mask, threads)
        return _kernel.sieved_search(data, view.codes[:view.used], view.facts[:view.used], queries, k, self._metric,
                                     slots, mask, threads)

    def compared(self) -> Vectors:
        """What is compared, not to be changed: where nothing was removed, the vectors (n, dim) by row."""
        view = self._view
        return view.data[:view.used]

    def vectors(self, rows: Rows) -> Vectors:
        """The vectors (n, dim) of live rows, as compared: for cosine of unit length. Raises InvalidInput."""
        numbers, view = as_rows(rows, "rows"), self._view
        slots, known = view.slots_of(numbers)
        if not known.all():
            raise InvalidInput(f"rows contains {numbers[~known][0]}, which is not in the index.",
                               remedy="Pass rows that `add` returned and that were not removed.")
        return view.data[slots]

    def stats(self) -> dict[str, Any]:
        """Counts, sizes in bytes, and what the search runs on."""
        view = self._view
        parts = (view.data, view.rows, view.live, view.codes, view.facts)
        return {"index": "flat", "dim": self.dim, "metric": self._metric, "size": view.size,
                "rows_ever": view.rows_ever, "removed_in_memory": view.used - view.size,
                "coded": view.codes is not None,
                "size_bytes": sum(part.nbytes for part in parts if part is not None),
                "mapped": view.used > 0 and view.mapped, "isa": _kernel.isa()}

    def save(self, path: str | Path) -> None:
        """Write the live vectors to a file; either all of it replaces what was there, or nothing does."""
        view = self._view
        slots = slice(0, view.used) if view.size == view.used else view.live_slots()
        rows = None if view.size == view.rows_ever else view.row_numbers(view.live_slots())
        flat_file.save(path, flat_file.Stored(
            self._metric, view.data[slots], rows, view.rows_ever,
            None if view.codes is None else view.codes[slots], None if view.facts is None else view.facts[slots],
            self.quantization))

    @classmethod
    def load(cls, path: str | Path, mmap: bool = True) -> Self:
        """Read what `save` wrote; `mmap` maps the vectors and copies them only when something is added.

        The whole file is read once to compare its checksums. Raises NotFound, and Corrupt for a file that is
        truncated, changed or of an unknown version.
        """
        stored = flat_file.load(path, mmap)
        index = cls(int(stored.vectors.shape[1]) or None, stored.metric,
                    quantization="int8" if stored.quantization else None)
        n = len(stored.vectors)
        view = _View(stored.vectors, n, stored.rows, None, n, stored.rows_ever, stored.codes, stored.facts, mmap)
        if view.codes is None and n and stored.quantization and view.data.shape[1] in _CODED:  # version 1 has no codes
            view = replace(view, codes=_codes(n, view.data.shape[1]), facts=_aligned(n, 4))
            index._encode(view, 0, n, 0)
        index._view = view
        return index

    def _prepare(self, vectors: Vectors, out: Vectors, threads: int) -> None:
        try:
            _kernel.prepare(vectors, self._metric, out, threads)
        except ValueError as error:
            raise InvalidInput(str(error)) from None

    def _encode(self, view: _View, begin: int, end: int, threads: int) -> None:
        if view.codes is not None and view.facts is not None:
            _kernel.encode_codes(view.data[begin:end], self._metric, view.codes[begin:end], view.facts[begin:end],
                                 threads)

    def _grown(self, view: _View, n: int) -> _View:
        """A copy with room for n more vectors, without the removed ones where they are more than a quarter."""
        compact = view.used - view.size > view.used // 4
        slots = view.live_slots() if compact else np.arange(view.used)
        used, width = len(slots), view.data.shape[1]
        capacity = max(used + n, used * 3 // 2)
        coded = view.codes is not None or (view.used == 0 and self.quantization is not None and width in _CODED)
        data, codes, facts = _aligned(capacity, width), None, None
        rows, live = None, None
        np.take(view.data[:view.used], slots, axis=0, out=data[:used], mode="clip")
        if coded:
            codes, facts = _codes(capacity, width), _aligned(capacity, 4)
            if view.codes is not None and view.facts is not None:
                np.take(view.codes[:view.used], slots, axis=0, out=codes[:used], mode="clip")
                np.take(view.facts[:view.used], slots, axis=0, out=facts[:used], mode="clip")
        if compact or view.rows is not None:
            rows = np.empty(capacity, dtype=np.int64)
            rows[:used] = view.row_numbers(slots)
        if not compact and view.live is not None:
            live = np.ones(capacity, dtype=np.bool_)
            live[:used] = view.live[:used]
        return replace(view, data=data, used=used, rows=rows, live=live, codes=codes, facts=facts, mapped=False)


def _aligned(n: int, dim: int) -> Vectors:
    """An uninitialised float32 array (n, dim) that starts on a cache line."""
    size = n * dim * 4
    room = _pages(size) if size >= _OWN_PAGES and os.name == "posix" else np.empty(size + _LINE, dtype=np.uint8)
    start = -room.ctypes.data % _LINE
    return room[start:start + size].view(np.float32).reshape(n, dim)


def _pages(size: int) -> NDArray[np.uint8]:
    """Memory that goes back to the system with the array. What is given back to `malloc`, it mostly keeps: after a
    load that was twice what the index takes."""
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if size >= _HUGE_PAGES and hasattr(mmap, "MADV_HUGEPAGE"):      # as NumPy does
        with suppress(OSError):
            pages.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(pages, dtype=np.uint8)


def _codes(n: int, dim: int) -> Codes:
    """Room for the codes of n vectors, each in cache lines of its own."""
    width = -(-dim // _LINE) * _LINE
    return _aligned(n, width // 4).view(np.uint8)


def _candidates(view: _View, allow: Allow | None) -> tuple[Rows | None, Mask | None, bool]:
    """The slots to search (None: all), a mask over the slots (None: every one of them), and whether this was checked.

    Where rows are slots the kernel takes them as they come, since it finds out by itself whether they are in order.
    """
    if allow is None:
        return None, None if view.live is None else view.live[:view.used], True
    if (view.rows is None and type(allow) is np.ndarray and allow.dtype == np.int64 and allow.ndim == 1
            and allow.flags.c_contiguous):
        return allow.view(np.int64), None if view.live is None else view.live[:view.used], False
    return *_checked(view, allow), True


def _checked(view: _View, allow: Allow) -> tuple[Rows | None, Mask | None]:
    live = None if view.live is None else view.live[:view.used]
    rows, mask = as_allow(allow, view.rows_ever)
    if rows is not None:
        slots, known = view.slots_of(rows)
        return slots[known], None
    if mask is not None and view.rows is not None:
        mask = mask[view.rows[:view.used]]
    return None, mask if live is None or mask is None else mask & live
