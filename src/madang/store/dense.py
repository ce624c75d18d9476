"""The vectors of a collection: an index, and for graphs a tail that it has not absorbed yet.

What is dead stays in the index for a while: a search asks for a few more and leaves out what is not allowed, and only
where that is not enough does it name all that is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

from madang.base.records import Vector
from madang.index import IVF, Metric
from madang.index.graph import Apart, Plan, SmallWorld
from madang.index.protocol import Vectors
from madang.index.specs import AnyIndex, Spec, index_of
from madang.store import bitmaps
from madang.store.tail import Chunk, Slots, Tail, below

_SPARE = 8             # asked for beyond k where some that would be found may be dead
_FREE = 0.9            # of what there is must be allowed, for a search to look at everything and leave out the rest
_NO_END = 2**62
_APART = 1024          # vectors that a graph has not absorbed, up to which it compares them itself
_ALL_CELLS = 2**31 - 1
_AS_ROWS = 1 / 32      # up to this share, allowed slots are handed over as a list, else as a mask


@dataclass(frozen=True, slots=True)
class Found:
    """Slots and scores, best first; how they were found; how many vectors or codes were compared."""

    slots: list[int]
    scores: list[float]
    how: str
    compared: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a search runs on, while others write."""

    index: AnyIndex
    absorbed: int                  # slots below are in the index, and perhaps some above
    chunks: tuple[Chunk, ...]
    apart: Apart | None            # what is in the chunks, where it is so little that a graph compares it itself
    waiting: int                   # how much that is

    def nearest(self, query: Vector, k: int, allowed: BitMap, filtered: bool,
                target_recall: float | None = None, exact: bool = False) -> Found:
        """The k best of the allowed slots for a query (dim,); `exact`: all of them are compared."""
        if self.apart is not None and not exact and len(allowed) >= _FREE * (len(self.index) + self.waiting):
            found = self._together(query, k, allowed, filtered, target_recall)
            if found is not None:
                return found
        queries = query[None, :]
        parts = [self._indexed(queries, k, allowed, filtered, target_recall, exact)] if self.absorbed else []
        tail = [chunk.search(queries, k, allowed) for chunk in self.chunks if len(chunk.slots)]
        if not tail:
            return parts[0] if parts else Found([], [], "exact", 0)
        slots, scores = _best([*((part.slots, part.scores) for part in parts),
                               *((slots, scores) for slots, scores, _ in tail)], k)
        compared = sum(compared for _, _, compared in tail)
        how = " + ".join([*(part.how for part in parts), f"{compared:,} exactly" if parts else "exact"])
        return Found(slots, scores, how, compared + sum(part.compared for part in parts))

    def _together(self, query: Vector, k: int, allowed: BitMap, filtered: bool, target: float | None) -> Found | None:
        """The graph and what it has not absorbed in one call, where nearly all is allowed: the rest is left out of what
        comes back. None where that is not enough."""
        index = self.index
        assert isinstance(index, SmallWorld)
        assert self.apart is not None
        breadth = index.breadth(query[None, :], k, target_recall=target)
        all_are = not filtered and len(allowed) == len(index) + self.waiting
        slots, scores, compared, scanned, floor = index.nearest(
            query, k, breadth, self.absorbed if self.waiting else _NO_END, self.apart, 0 if all_are else _SPARE)
        # What comes back is looked at even where all seems allowed: by now the index may hold more.
        good = [slot in allowed for slot in slots]
        if not all(good):
            slots = [slot for slot, is_good in zip(slots, good, strict=True) if is_good]
            scores = [score for score, is_good in zip(scores, good, strict=True) if is_good]
        # What was left out may have kept others of the index from coming back.
        if floor > (scores[k - 1] if len(slots) >= k else -math.inf):
            return None
        how = f"{index.kind}: all that passed compared" if scanned else f"{index.kind}(ef={breadth})"
        return Found(slots[:k], scores[:k], f"{how} + {self.waiting:,} exactly" if self.waiting else how, compared)

    def _indexed(self, queries: Vectors, k: int, allowed: BitMap, filtered: bool, target: float | None,
                 exact: bool) -> Found:
        live = len(self.index)
        count = allowed.range_cardinality(0, self.absorbed) if self.chunks else len(allowed)
        if count >= _FREE * live:
            # What comes back is looked at even where all seems allowed: by now the index may hold more.
            found = self._search(queries, k if count == live and not filtered else k + _SPARE, None, target,
                                 exact=exact)
            end = self.absorbed if self.chunks else _NO_END
            good = [place for place, slot in enumerate(found.slots) if slot < end and slot in allowed]
            if len(good) == len(found.slots) <= k:
                return found
            if len(good) >= min(k, count):
                return Found([found.slots[place] for place in good[:k]], [found.scores[place] for place in good[:k]],
                             found.how, found.compared)
        mine = allowed if not self.chunks else allowed & below(self.absorbed)
        if not mine:
            return Found([], [], "exact", 0)
        size = mine.max() + 1
        # Only graphs take a mask that more rows may have outgrown meanwhile.
        few = len(mine) <= _AS_ROWS * size or not isinstance(self.index, SmallWorld)
        return self._search(queries, k, bitmaps.rows(mine) if few else bitmaps.mask(mine, size), target, len(mine),
                            exact)

    def _search(self, queries: Vectors, k: int, allow: NDArray[np.int64] | NDArray[np.bool_] | None,
                target: float | None, count: int | None = None, exact: bool = False) -> Found:
        index = self.index
        if isinstance(index, SmallWorld):
            breadth = k if exact else index.breadth(queries, k, target_recall=target)
            plan: Plan | None = "exact" if exact else None
            rows, scores, compared, scanned = index.run(queries, k, breadth, allow=allow, plan=plan)
            how = f"{index.kind}: all that passed compared" if scanned else f"{index.kind}(ef={breadth})"
        elif isinstance(index, IVF):
            rows, scores = index.search(queries, k, allow=allow, nprobe=_ALL_CELLS if exact else None)
            how, compared = "ivf", len(index) if count is None else count
        else:
            rows, scores = index.search(queries, k, allow=allow)
            how, compared = "exact", len(index) if count is None else count
        slots, best = rows[0].tolist(), scores[0].tolist()
        while slots and slots[-1] < 0:          # fewer than were asked for
            slots.pop()
            best.pop()
        return Found(slots, best, how, compared)


class Dense:
    """Changed by one thread at a time, but for `absorb`, which runs beside the rest."""

    def __init__(self, dim: int, metric: Metric, spec: Spec) -> None:
        self.index = index_of(spec, dim, metric)
        self.tail = Tail(dim, metric) if isinstance(self.index, SmallWorld) else None
        self.absorbed = 0
        self.gone = BitMap()            # dead slots that the index still holds
        self._last: Snapshot | None = None

    def add(self, slots: Slots, vectors: Vectors) -> None:
        """Slots (n,), following those before, with vectors (n, dim)."""
        if self.tail is not None:
            self.tail.add(slots, vectors)
            return
        self.index.add(vectors)
        self.absorbed = int(slots[-1]) + 1

    def absorb_first(self, cut: int) -> None:
        """What the tail holds first, up to slot `cut`, is in the index by now."""
        assert self.tail is not None
        self.tail.drop_first(cut)
        self.absorbed, self._last = cut, None      # which would keep what was dropped in memory

    def remove(self, slots: Slots) -> None:
        """Slots that are dead from now on."""
        self.gone |= bitmaps.bitmap_of(np.sort(slots[slots < self.absorbed]).astype(np.uint32))
        if self.tail is None and self.worth_removing():
            self.cut_out(self.take_gone())

    def worth_removing(self) -> bool:
        """Whether so much is dead that it costs more to leave it out than to cut it out."""
        return len(self.gone) > 64 + len(self.index) // 64

    def take_gone(self) -> BitMap:
        """What is dead, for `cut_out`, which needs no guard."""
        gone, self.gone = self.gone, BitMap()
        return gone

    def cut_out(self, gone: BitMap) -> None:
        """Cut dead slots out of the index; a search meanwhile leaves them out itself."""
        if not gone:      # nothing else may change the graph: when this is called depends on time
            return
        self.index.remove(bitmaps.rows(gone))
        if isinstance(self.index, SmallWorld):
            self.index.repair()

    def waiting(self) -> int:
        """Vectors that the index has not absorbed."""
        return 0 if self.tail is None else len(self.tail)

    def coverage(self, live: BitMap) -> tuple[int, int]:
        """Of the live slots, how many wait for the index, and how many neither it nor what waits for it has."""
        waiting = bitmaps.union([chunk.members for chunk in self.tail.chunks]) & live if self.tail else BitMap()
        have = live
        if isinstance(self.index, SmallWorld):
            have = bitmaps.bitmap_of(self.index.live_rows().astype(np.uint32))
        return len(waiting), len(live - have - waiting)

    def snapshot(self) -> Snapshot:
        """What a search may go on using after the guard is let go."""
        chunks = () if self.tail is None else self.tail.chunks
        last = self._last
        if last is None or last.chunks is not chunks or last.absorbed != self.absorbed:
            waiting = self.waiting()
            whole = isinstance(self.index, SmallWorld) and self.absorbed > 0 and waiting <= _APART
            last = self._last = Snapshot(self.index, self.absorbed, chunks,
                                         tuple(chunk.apart() for chunk in chunks) if whole else None, waiting)
        return last


def _best(parts: Sequence[tuple[list[int], list[float]]], k: int) -> tuple[list[int], list[float]]:
    """The k best of several rankings, each best first; ties to the lower slot."""
    pairs = sorted((-score, slot) for slots, scores in parts for slot, score in zip(slots, scores, strict=True))[:k]
    return [slot for _, slot in pairs], [-score for score, _ in pairs]
