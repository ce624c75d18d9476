"""The vectors of a collection: an index, and for graphs a tail that it has not absorbed yet.

What is dead stays in the index for a while: a search asks for a few more and leaves out what is not allowed, and only
where that is not enough does it name all that is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

from madang.base.records import Vector
from madang.index import IVF, Metric
from madang.index.graph import Plan, SmallWorld
from madang.index.protocol import Scores, Vectors
from madang.index.specs import AnyIndex, Spec, index_of
from madang.store import bitmaps
from madang.store.tail import Chunk, Slots, Tail

_SPARE = 8             # asked for beyond k where some that would be found may be dead
_FREE = 0.9            # of what there is must be allowed, for a search to look at everything and leave out the rest
_NO_END = 2**62
_FEW = 64              # answers that are put in order faster without NumPy
_ALL_CELLS = 2**31 - 1
_AS_ROWS = 1 / 32      # up to this share, allowed slots are handed over as a list, else as a mask


@dataclass(frozen=True, slots=True)
class Found:
    """Slots and scores, best first; how they were found; how many vectors or codes were compared."""

    slots: Slots
    scores: Scores
    how: str
    compared: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a search runs on, while others write."""

    index: AnyIndex
    absorbed: int                  # slots below are in the index, and perhaps some above
    chunks: tuple[Chunk, ...]

    def nearest(self, query: Vector, k: int, allowed: BitMap, filtered: bool,
                target_recall: float | None = None, exact: bool = False) -> Found:
        """The k best of the allowed slots for a query (dim,); `exact`: all of them are compared."""
        queries = query[None, :]
        parts = [self._indexed(queries, k, allowed, filtered, target_recall, exact)] if self.absorbed else []
        tail = [chunk.search(queries, k, allowed) for chunk in self.chunks if len(chunk.slots)]
        if not tail:
            return parts[0] if parts else Found(np.empty(0, np.int64), np.empty(0, np.float32), "exact", 0)
        slots, scores = _best([*((part.slots, part.scores) for part in parts),
                               *((slots, scores) for slots, scores, _ in tail)], k)
        compared = sum(compared for _, _, compared in tail)
        how = " + ".join([*(part.how for part in parts), f"{compared:,} exactly" if parts else "exact"])
        return Found(slots, scores, how, compared + sum(part.compared for part in parts))

    def _indexed(self, queries: Vectors, k: int, allowed: BitMap, filtered: bool, target: float | None,
                 exact: bool) -> Found:
        live = len(self.index)
        count = allowed.range_cardinality(0, self.absorbed) if self.chunks else len(allowed)
        if count >= _FREE * live:
            # What comes back is looked at even where all seems allowed: by now the index may hold more.
            found = self._search(queries, k if count == live and not filtered else k + _SPARE, None, target,
                                 exact=exact)
            end = self.absorbed if self.chunks else _NO_END
            good = [place for place, slot in enumerate(found.slots.tolist()) if slot < end and slot in allowed]
            if len(good) == len(found.slots) <= k:
                return found
            if len(good) >= min(k, count):
                return Found(found.slots[good][:k], found.scores[good][:k], found.how, found.compared)
        mine = allowed if not self.chunks else allowed & _below(self.absorbed)
        if not mine:
            return Found(np.empty(0, np.int64), np.empty(0, np.float32), "exact", 0)
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
        slots, best = rows[0], scores[0]
        if len(slots) and slots[-1] < 0:        # fewer than were asked for
            real = slots >= 0
            slots, best = slots[real], best[real]
        return Found(slots, best, how, compared)


class Dense:
    """Changed by one thread at a time, but for `absorb`, which runs beside the rest."""

    def __init__(self, dim: int, metric: Metric, spec: Spec) -> None:
        self.index = index_of(spec, dim, metric)
        self.tail = Tail(dim, metric) if isinstance(self.index, SmallWorld) else None
        self.absorbed = 0
        self.gone = BitMap()            # dead slots that the index still holds

    def add(self, slots: Slots, vectors: Vectors) -> None:
        """Slots (n,), following those before, with vectors (n, dim)."""
        if self.tail is not None:
            self.tail.add(slots, vectors)
            return
        self.index.add(vectors)
        self.absorbed = int(slots[-1]) + 1

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
        return Snapshot(self.index, self.absorbed, () if self.tail is None else self.tail.chunks)


def _best(parts: Sequence[tuple[Slots, Scores]], k: int) -> tuple[Slots, Scores]:
    """The k best of several rankings, each best first; ties to the lower slot."""
    count = sum(len(slots) for slots, _ in parts)
    if count > _FEW:
        slots = np.concatenate([slots for slots, _ in parts])
        scores = np.concatenate([scores for _, scores in parts])
        order = np.lexsort((slots, -scores))[:k]
        return slots[order], scores[order]
    pairs = sorted((-score, slot) for slots, scores in parts
                   for slot, score in zip(slots.tolist(), scores.tolist(), strict=True))[:k]
    return (np.array([slot for _, slot in pairs], dtype=np.int64),
            np.array([-score for score, _ in pairs], dtype=np.float32))


def _below(end: int) -> BitMap:
    made = BitMap()
    made.add_range(0, end)
    return made
