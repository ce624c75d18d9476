"""Vectors that the index has not absorbed yet: searched exactly, so that what was written is found at once.

They lie in chunks of consecutive slots, whose boundaries do not depend on when they came. The index absorbs one whole
chunk after the other, so the same records give the same graph, however they came and however fast it was built.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

from madang.index import Flat, Metric
from madang.index.protocol import Scores, Vectors
from madang.store import bitmaps

BLOCK = 1024            # slots of a chunk
Slots = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Chunk:
    """`slots` (n,), ascending, of the rows 0 to n - 1 of an exact index, which may get more until the block is full."""

    slots: Slots
    flat: Flat
    members: BitMap

    def search(self, query: Vectors, k: int, allowed: BitMap) -> tuple[Slots, Scores, int]:
        """The k best allowed slots for a query (1, dim), their scores, and how many were compared."""
        count = self.members.intersection_cardinality(allowed)
        if not count:
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32), 0
        allow = None
        if count < len(self.slots) or self.slots[-1] % BLOCK != BLOCK - 1:  # it may have grown since
            allow = np.searchsorted(self.slots, bitmaps.rows(self.members & allowed))
        rows, scores = self.flat.search(query, k, allow=allow)
        found = rows[0][:min(k, count)]
        return self.slots[found], scores[0][:len(found)], count


class Tail:
    """Changed by one thread at a time; `chunks` may be searched by others meanwhile."""

    def __init__(self, dim: int, metric: Metric) -> None:
        self._dim, self._metric = dim, metric
        self.chunks: tuple[Chunk, ...] = ()

    def __len__(self) -> int:
        """Vectors, dead ones among them."""
        return sum(len(chunk.slots) for chunk in self.chunks)

    def add(self, slots: Slots, vectors: Vectors) -> None:
        """Append slots (n,), above all there are, with their vectors (n, dim)."""
        at = 0
        while at < len(slots):
            end = int(np.searchsorted(slots, (slots[at] // BLOCK + 1) * BLOCK))
            last = self.chunks[-1] if self.chunks else None
            if last is None or last.slots[-1] // BLOCK != slots[at] // BLOCK:
                last = Chunk(np.empty(0, dtype=np.int64), Flat(self._dim, self._metric), BitMap())
                self.chunks = (*self.chunks, last)
            last.flat.add(vectors[at:end], threads=1)
            made = np.concatenate([last.slots, slots[at:end]])
            self.chunks = (*self.chunks[:-1], Chunk(made, last.flat, bitmaps.bitmap_of(made.astype(np.uint32))))
            at = end

    def ready(self, end: int) -> int:
        """Up to which slot the index may absorb now, where slots below `end` were given out; 0: nothing."""
        if not self.chunks:
            return 0
        cut = (int(self.chunks[0].slots[0]) // BLOCK + 1) * BLOCK
        return cut if cut <= end else 0

    def first(self, live: BitMap) -> tuple[Slots, Vectors]:
        """The live slots of the first chunk, and their vectors."""
        chunk = self.chunks[0]
        wanted = bitmaps.rows(live & chunk.members)
        return wanted, chunk.flat.vectors(np.searchsorted(chunk.slots, wanted))

    def drop_first(self) -> None:
        """Forget the first chunk."""
        self.chunks = self.chunks[1:]

