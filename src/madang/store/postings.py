"""Which slots hold which key, in sorted arrays: the numbers of a field, or the digests of its strings.

New pairs of key and slot wait unsorted. The next question sorts them into a run of their own and merges the runs that
are not much larger, so that there are few runs, and each pair is moved a logarithmic number of times (the logarithmic
method of Bentley and Saxe, Decomposable Searching Problems I, 1980). Runs are never changed, only replaced.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

from madang.store.bitmaps import Slots, bitmap_in_any_order, bitmap_of, mask, union

Keys = NDArray[Any]                  # float64, int64 or uint64
Checks = NDArray[np.uint64]          # the second halves of 128-bit digests

_GROWTH = 4                          # a run is merged with a newer one that has more than a fourth of its pairs
_LARGE = 4096                        # pairs of one key from which its bitmap is kept
_DIRECT = 8192                       # pairs that are sorted rather than looked up in prefixes
_PREFIXES = 32
_CLEANED = 65_536                    # pairs from which a merge drops dead slots: it costs a mask of all slots
_NO_SLOTS: Slots = np.empty(0, dtype=np.uint32)


class Run:
    """Pairs grouped by key: `keys` ascending, the slots of key i are `slots[starts[i]:starts[i + 1]]`, ascending.

    Without `starts` every key has one slot.
    """

    __slots__ = ("_bitmaps", "_prefixes", "checks", "keys", "slots", "starts")

    def __init__(self, keys: Keys, checks: Checks | None, starts: Slots | None, slots: Slots) -> None:
        self.keys, self.checks, self.starts, self.slots = keys, checks, starts, slots
        self._bitmaps: dict[int, BitMap] = {}
        self._prefixes: tuple[NDArray[np.int64], list[BitMap]] | None = None

    @classmethod
    def of(cls, keys: Keys, checks: Checks | None, slots: Slots) -> Run:
        """From pairs (n,) each; where keys are equal, slots must ascend."""
        order = np.argsort(keys)
        sorted_keys = keys[order]
        fresh = sorted_keys[1:] != sorted_keys[:-1]
        if not fresh.all():                      # the slots of equal keys must ascend
            order = _stable(order, fresh)
        if checks is not None:
            differ = checks[order][1:] != checks[order][:-1]
            if (differ & ~fresh).any():          # two strings agree in the first half of their digests
                order = np.lexsort((checks, keys))
                differ = checks[order][1:] != checks[order][:-1]
            fresh = fresh | differ
            checks = checks[order]
        slots = slots[order]
        if fresh.all():
            return cls(sorted_keys, checks, None, slots)
        first = np.flatnonzero(np.concatenate([[True], fresh]))
        starts = np.append(first, len(slots)).astype(np.uint32)
        return cls(sorted_keys[first], None if checks is None else checks[first], starts, slots)

    @classmethod
    def merged(cls, runs: Sequence[Run], dead: BitMap) -> Run:
        """One run of several, oldest first, without dead slots."""
        keys = np.concatenate([run._spread(run.keys) for run in runs])
        slots = np.concatenate([run.slots for run in runs])
        checks = None
        if runs[0].checks is not None:
            checks = np.concatenate([run._spread(run.checks) for run in runs])
        if dead and len(slots):
            keep = ~mask(dead, int(slots.max()) + 1)[slots]
            keys, slots, checks = keys[keep], slots[keep], None if checks is None else checks[keep]
        return cls.of(keys, checks, slots)

    def _spread(self, values: Any) -> Any:
        return values if self.starts is None else np.repeat(values, np.diff(self.starts))

    def _start(self, key: int) -> int:
        return key if self.starts is None else int(self.starts[key])

    def between(self, conditions: Iterable[tuple[str, int | float]]) -> BitMap:
        """Slots of the numbers that meet all of `$gt $gte $lt $lte`, compared as Python compares, without rounding."""
        low, high = 0, len(self.keys)
        number, places = self.keys.item, range(len(self.keys))
        for name, bound in conditions:
            if name in ("$gt", "$gte"):
                low = max(low, (bisect_right if name == "$gt" else bisect_left)(places, bound, key=number))
            else:
                high = min(high, (bisect_left if name == "$lt" else bisect_right)(places, bound, key=number))
        return self._range(low, high) if low < high else BitMap()

    def equal(self, keys: Keys, checks: Checks | None) -> BitMap:
        """Slots of any of the keys (k,)."""
        found = self._find(keys, checks)
        if self.starts is None:
            return bitmap_in_any_order(self.slots[found])
        start, end = self.starts[found].astype(np.int64), self.starts[found + 1].astype(np.int64)
        large = end - start > _LARGE
        parts = [self._bitmap(*key) for key in zip(*(a[large].tolist() for a in (found, start, end)), strict=True)]
        start, size = start[~large], (end - start)[~large]
        if len(size) == 1:
            parts.append(bitmap_of(self.slots[start[0]:start[0] + size[0]]))
        elif len(size):
            before = np.cumsum(size) - size
            places = np.arange(size.sum()) + np.repeat(start - before, size)
            parts.append(bitmap_in_any_order(self.slots[places]))
        return union(parts)

    def _find(self, keys: Keys, checks: Checks | None) -> NDArray[np.int64]:
        """The places of those of the keys (k,) that are there."""
        left = np.searchsorted(self.keys, keys)
        inside = left < len(self.keys)
        inside[inside] = self.keys[left[inside]] == keys[inside]
        left = left[inside]
        if checks is None or self.checks is None:
            return left
        wanted, right = checks[inside], np.searchsorted(self.keys, keys[inside], side="right")
        other = self.checks[left] != wanted      # another string with the same first half stands here
        more = [place for start, end, check in zip(left[other].tolist(), right[other].tolist(), wanted[other].tolist(),
                                                   strict=True)
                for place in range(start + 1, end) if self.checks[place] == check]
        return np.concatenate([left[~other], np.array(more, dtype=np.int64)])

    def _bitmap(self, key: int, start: int, end: int) -> BitMap:
        """The bitmap of one frequent key, kept: all of them take at most 2 bytes a pair."""
        if key not in self._bitmaps:
            self._bitmaps[key] = bitmap_of(self.slots[start:end])
        return self._bitmaps[key]

    def _range(self, low: int, high: int) -> BitMap:
        start, end = self._start(low), self._start(high)
        if end - start <= max(_DIRECT, len(self.slots) // _PREFIXES):
            return bitmap_in_any_order(self.slots[start:end])
        return self._prefix(end) - self._prefix(start) if start else self._prefix(end)

    def _prefix(self, end: int) -> BitMap:
        """The first `end` slots in the order of keys: the nearest kept prefix and what lies between."""
        if self._prefixes is None:
            self._prefixes = self._make_prefixes()
        ends, kept = self._prefixes
        right = int(np.searchsorted(ends, end))
        if right == len(ends) or (right and end - ends[right - 1] < ends[right] - end):
            right -= 1
        near, bitmap = int(ends[right]), kept[right]
        if near == end:
            return bitmap
        between = bitmap_in_any_order(self.slots[min(near, end):max(near, end)])
        return bitmap | between if near < end else bitmap - between

    def _make_prefixes(self) -> tuple[NDArray[np.int64], list[BitMap]]:
        """Bitmaps of the first slots, up to `_PREFIXES` ends: at most 4 bytes a pair, made at the first wide range."""
        if self.starts is not None and len(self.keys) <= _PREFIXES:
            ends = self.starts.astype(np.int64)
        else:
            ends = np.linspace(0, len(self.slots), _PREFIXES + 1).astype(np.int64)
        kept = [BitMap()]
        for start, end in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
            kept.append(kept[-1] | bitmap_in_any_order(self.slots[start:end]))
        return ends, kept

    def size_bytes(self) -> int:
        """Bytes of the arrays and of the bitmaps kept so far."""
        arrays = (self.keys, self.checks, self.starts, self.slots)
        bitmaps = [*self._bitmaps.values(), *(self._prefixes[1] if self._prefixes else ())]
        return sum(a.nbytes for a in arrays if a is not None) + sum(len(b.serialize()) for b in bitmaps)


class Postings:
    """Pairs of key and slot in a few runs, and those that wait."""

    __slots__ = ("_runs", "_waiting")

    def __init__(self, run: Run | None = None) -> None:
        self._runs: list[Run] = [] if run is None or not len(run.slots) else [run]
        self._waiting: list[tuple[Keys, Checks | None, Slots]] = []

    def add(self, keys: Keys, checks: Checks | None, slots: Slots) -> None:
        """Add pairs (n,) each; slots are larger than those of earlier questions."""
        if len(keys):
            self._waiting.append((keys, checks, slots))

    def runs(self, dead: BitMap) -> list[Run]:
        """All pairs in a few runs; dead slots may be missing."""
        if self._waiting:
            runs = [*self._runs, self._sorted()]
            size, first = len(runs[-1].slots), len(runs) - 1
            while first and len(runs[first - 1].slots) < _GROWTH * size:
                first -= 1
                size += len(runs[first].slots)
            if first < len(runs) - 1:
                runs[first:] = [Run.merged(runs[first:], dead if size > _CLEANED else BitMap())]
            self._runs, self._waiting = runs, []
        return self._runs

    def settled(self, dead: BitMap) -> Run | None:
        """All pairs in one run without dead slots; None where there are none."""
        runs = self.runs(dead)
        if len(runs) > 1 or (runs and dead):
            self._runs = runs = [Run.merged(runs, dead)]
        return runs[0] if runs else None

    def _sorted(self) -> Run:
        keys = np.concatenate([keys for keys, _, _ in self._waiting])
        slots = np.concatenate([slots for _, _, slots in self._waiting])
        given = [checks for _, checks, _ in self._waiting if checks is not None]
        checks = np.concatenate(given) if given else None
        if (slots[1:] < slots[:-1]).any():       # a field had strings here and lists there
            order = np.argsort(slots, kind="stable")
            keys, slots, checks = keys[order], slots[order], None if checks is None else checks[order]
        return Run.of(keys, checks, slots)

    def size_bytes(self) -> int:
        """Bytes of arrays and kept bitmaps."""
        waiting = sum(keys.nbytes * (2 if checks is not None else 1) + slots.nbytes
                      for keys, checks, slots in self._waiting)
        return waiting + sum(run.size_bytes() for run in self._runs)


def _stable(order: NDArray[np.int64], fresh: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Of an order (n,) that sorts, the stable one. Two unstable sorts are three times faster than a stable one."""
    group = np.cumsum(np.concatenate([[False], fresh]), dtype=np.uint64)
    packed = (group << np.uint64(32)) | order.astype(np.uint64)
    packed.sort()
    return (packed & np.uint64(0xFFFFFFFF)).astype(np.int64)
