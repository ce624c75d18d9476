"""Vectors that the index has not absorbed yet: searched exactly, so that what was written is found at once.

They lie in chunks of consecutive slots. The index absorbs them in blocks, whose boundaries do not depend on when the
vectors came, so the same records give the same graph, however they came and however fast it was built. A chunk is
several blocks: many vectors are searched faster in few large chunks, few wait in small blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

from madang.index import Flat, Metric
from madang.index.protocol import Vectors
from madang.store import bitmaps

BLOCK = 128             # slots that the index absorbs at a time
_CHUNK = 8 * BLOCK
Slots = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Chunk:
    """`slots` (n,), ascending, of the rows 0 to n - 1 of an exact index, which may get more until the chunk is full.
    `members` are those that are not absorbed."""

    slots: Slots
    flat: Flat
    members: BitMap
    rows: Slots                # of the members, ascending

    @classmethod
    def of(cls, slots: Slots, flat: Flat, members: BitMap) -> Chunk:
        return cls(slots, flat, members, np.searchsorted(slots, bitmaps.rows(members)).astype(np.int64))

    def apart(self) -> tuple[Vectors, Slots, Slots]:
        """The vectors, the slots that they are, and the rows of the members among them: see `SmallWorld.nearest`."""
        return self.flat.compared(), self.slots, self.rows

    def search(self, query: Vectors, k: int, allowed: BitMap) -> tuple[list[int], list[float], int]:
        """The k best allowed slots for a query (1, dim), their scores, and how many were compared."""
        count = self.members.intersection_cardinality(allowed)
        if not count:
            return [], [], 0
        allow: Slots | None = self.rows
        if count < len(self.members):
            allow = np.searchsorted(self.slots, bitmaps.rows(self.members & allowed)).astype(np.int64)
        elif count == _CHUNK:                                        # else it may have grown since
            allow = None
        rows, scores = self.flat.search(query, k, allow=allow)
        found = rows[0][:min(k, count)]
        return self.slots[found].tolist(), scores[0][:len(found)].tolist(), count


class Tail:
    """Changed by one thread at a time; `chunks` may be searched by others meanwhile."""

    def __init__(self, dim: int, metric: Metric) -> None:
        self._dim, self._metric = dim, metric
        self.chunks: tuple[Chunk, ...] = ()

    def __len__(self) -> int:
        """Vectors, dead ones among them."""
        return sum(len(chunk.members) for chunk in self.chunks)

    def add(self, slots: Slots, vectors: Vectors) -> None:
        """Append slots (n,), above all there are, with their vectors (n, dim)."""
        at = 0
        while at < len(slots):
            end = int(np.searchsorted(slots, (slots[at] // _CHUNK + 1) * _CHUNK))
            last = self.chunks[-1] if self.chunks else None
            if last is None or last.slots[-1] // _CHUNK != slots[at] // _CHUNK:
                last = Chunk.of(np.empty(0, dtype=np.int64), Flat(self._dim, self._metric), BitMap())
                self.chunks = (*self.chunks, last)
            last.flat.add(vectors[at:end], threads=1)
            made = np.concatenate([last.slots, slots[at:end]])
            members = last.members | bitmaps.bitmap_of(slots[at:end].astype(np.uint32))
            self.chunks = (*self.chunks[:-1], Chunk.of(made, last.flat, members))
            at = end

    def ready(self, end: int) -> int:
        """Up to which slot the index may absorb now, where slots below `end` were given out; 0: nothing. Several blocks
        of one chunk."""
        if not self.chunks:
            return 0
        first = int(self.chunks[0].members.min())
        cut = min(end // BLOCK * BLOCK, (first // _CHUNK + 1) * _CHUNK)
        return cut if cut > first else 0

    def first(self, live: BitMap, cut: int) -> tuple[Slots, Vectors]:
        """The live slots of the first chunk below `cut`, and their vectors."""
        chunk = self.chunks[0]
        wanted = bitmaps.rows(live & chunk.members & below(cut))
        return wanted, chunk.flat.vectors(np.searchsorted(chunk.slots, wanted))

    def drop_first(self, cut: int) -> None:
        """Forget what is below `cut` in the first chunk."""
        chunk = self.chunks[0]
        left = chunk.members - below(cut)
        self.chunks = ((Chunk.of(chunk.slots, chunk.flat, left),) if left else ()) + self.chunks[1:]


def below(end: int) -> BitMap:
    """All slots below one."""
    made = BitMap()
    made.add_range(0, end)
    return made


def blocks(slots: Slots) -> list[slice]:
    """Where each block of some slots, ascending, is among them."""
    starts = np.flatnonzero(np.diff(slots // BLOCK, prepend=-1)).tolist()
    return [slice(start, end) for start, end in zip(starts, [*starts[1:], len(slots)], strict=True)]
