"""What queries run on: the collection's records as indexes in memory, caught up from SQLite before each use."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

from madang.base.records import SparseVector, Vector
from madang.index import Lexical, Metric, Sparse
from madang.index.graph import SmallWorld
from madang.index.specs import Spec
from madang.store import bitmaps, filters
from madang.store.columns import Columns
from madang.store.dense import Dense, Found, Snapshot
from madang.store.names import Growing, Names
from madang.store.reading import Block, Reader
from madang.store.tail import Slots, blocks

_KEPT = 64             # filters whose slots are remembered
_FEW_DEAD = 4096       # slots that are not worth making anything anew for


@dataclass(frozen=True, slots=True)
class Reading:
    """One state of the collection for one query: what may be found, and where to look."""

    dense: Snapshot
    allowed: BitMap
    filtered: bool

    @property
    def candidates(self) -> int:
        return len(self.allowed)

    def nearest(self, query: Vector, k: int, target_recall: float | None = None) -> Found:
        """The k nearest allowed slots."""
        return self.dense.nearest(query, k, self.allowed, self.filtered, target_recall)

    def among(self, query: Vector, k: int, slots: BitMap, target_recall: float | None = None,
              exact: bool = False) -> Found:
        """The k nearest of some of the allowed slots; `exact`: each is compared."""
        return self.dense.nearest(query, k, slots, True, target_recall, exact)


class View:
    """Slots 0 to n - 1 are records in the order of their database rows; dead ones keep their number.

    It holds nothing that cannot be rebuilt: `catch_up` reads the rows and tombstones above the last it has seen.
    Whoever calls a method holds the collection's guard, but for `absorb`.
    """

    def __init__(self, dim: int, metric: Metric, spec: Spec | None = None) -> None:
        self.dim = dim
        self.spec: Spec = spec or {"kind": "flat"}
        self.dense = Dense(dim, metric, self.spec)
        self.lexical, self.sparse = Lexical(), Sparse()
        self.token = ""                                     # of the files that it was read from
        self.generation = 0                                 # of the analyzer that `lexical` was made with
        self.columns = Columns()
        self.rows, self.names = Growing(), Names()          # of slots; rows ascend
        self.codes, self.spaces = Growing(), list[str]()    # the namespace of a slot, as a place in `spaces`
        self.live: list[BitMap] = []                        # slots by namespace
        self.last_tombstone = 0
        self.changed = 0                                    # rows and tombstones absorbed since it was last saved
        self._selected: OrderedDict[tuple[str, str], BitMap] = OrderedDict()

    def catch_up(self, reader: Reader) -> bool:
        """Absorb what was committed since the last call; runs inside the caller's read transaction.

        False where that is not known any more: make a new view.
        """
        before = self.changed
        gone = reader.tombstones(self.last_tombstone)
        if gone is None:
            return False
        last = int(self.rows.view()[-1]) if len(self.rows) else 0
        for block in reader.records(after=last):
            self._absorb(block)
        if self.changed != before:
            self._absorb_postings(reader, last)
            self._absorb_sparse(reader, last)
        if len(gone):
            self.last_tombstone += len(gone)
            self._bury(gone)
            self.changed += len(gone)
        if self.changed != before:
            self._selected.clear()
        return True

    def _absorb(self, block: Block) -> None:
        assert block.vectors is not None
        slots = np.arange(len(self.rows), len(self.rows) + len(block.rows), dtype=np.int64)
        self.dense.add(slots, block.vectors)
        self.rows.extend(block.rows)
        self.names.extend(block.ids)
        self.columns.add_json(block.metadata)
        self._place(slots, block.namespaces)
        self.changed += len(slots)

    def _place(self, slots: Slots, spaces: Sequence[str]) -> None:
        known = {space: code for code, space in enumerate(self.spaces)}
        for space in spaces:
            if space not in known:
                known[space] = len(self.spaces)
                self.spaces.append(space)
                self.live.append(BitMap())
        codes = np.fromiter((known[space] for space in spaces), dtype=np.int64, count=len(spaces))
        self.codes.extend(codes)
        for code in np.unique(codes).tolist():
            self.live[code] = self.live[code] | bitmaps.bitmap_of(slots[codes == code].astype(np.uint32))

    def _absorb_postings(self, reader: Reader, last: int) -> None:
        if not len(self.rows):
            return
        found = reader.postings(after=last, up_to=int(self.rows.view()[-1]))
        if len(found.rows):
            slots = np.searchsorted(self.rows.view(), found.rows).astype(np.int64)
            self.lexical.add(slots, found.starts, found.term_ids, found.weights)

    def _absorb_sparse(self, reader: Reader, last: int) -> None:
        found = reader.sparse(after=last, up_to=int(self.rows.view()[-1]))
        if len(found.rows):
            slots = np.searchsorted(self.rows.view(), found.rows).astype(np.int64)
            self.sparse.add(slots, found.starts, found.term_ids, found.weights)

    def _bury(self, rows: Slots) -> None:
        # A row written and replaced between two calls never reached this view; its tombstone finds no slot.
        mine = self.rows.view()
        slots = np.searchsorted(mine, rows)
        known = slots < len(mine)
        known[known] = mine[slots[known]] == rows[known]
        slots = slots[known].astype(np.int64)
        if not len(slots):
            return
        codes = self.codes.view()[slots]
        for code in np.unique(codes).tolist():
            self.live[code] = self.live[code] - bitmaps.bitmap_of(np.sort(slots[codes == code]).astype(np.uint32))
        self.dense.remove(slots)
        self.lexical.remove(slots)
        self.sparse.remove(slots)
        self.columns.remove(slots)

    def after_loading(self, reader: Reader) -> None:
        """What a file does not hold: the vectors that the index had not absorbed."""
        tail = bitmaps.rows(self.all_live())
        tail = tail[tail >= self.dense.absorbed]
        if len(tail):
            mine = self.rows.view()
            rows, vectors = reader.vectors(mine[tail].tolist())     # others are dead: their tombstones come next
            if len(rows):
                self.dense.add(np.searchsorted(mine, rows).astype(np.int64), vectors)

    def read_words(self, reader: Reader) -> None:
        """Read all postings anew."""
        self.lexical = Lexical()
        self._absorb_postings(reader, 0)
        if len(self.rows):
            self.lexical.remove(np.flatnonzero(~bitmaps.mask(self.all_live(), len(self.rows))))

    # Reading

    def reading(self, namespace: str, filter: filters.Parsed | None) -> Reading:  # noqa: A002
        """What a query of a namespace may find."""
        allowed = self.allowed(namespace, filter)
        return Reading(self.dense.snapshot(), allowed, filter is not None)

    def allowed(self, namespace: str, filter: filters.Parsed | None) -> BitMap:  # noqa: A002
        """The live slots of a namespace that pass the filter."""
        if namespace not in self.spaces:
            return BitMap()
        live = self.live[self.spaces.index(namespace)]
        if filter is None:
            return live
        key = (namespace, filter.text)
        found = self._selected.get(key)
        if found is None:
            found = self._selected[key] = self.columns.select(filter.tree) & live
            if len(self._selected) > _KEPT:
                self._selected.popitem(last=False)
        return found

    def all_live(self) -> BitMap:
        """The live slots of all namespaces."""
        return bitmaps.union(self.live)

    def words(self, term_ids: NDArray[np.int64], weights: NDArray[np.float32], k: int,
              allowed: BitMap) -> tuple[Slots, NDArray[np.float32]]:
        """The k best allowed slots by BM25."""
        return self.lexical.search(term_ids, weights, k, self._allow(allowed))

    def sparsely(self, vector: SparseVector, k: int, allowed: BitMap) -> tuple[Slots, NDArray[np.float32]]:
        """The k best allowed slots by the inner product with a sparse vector."""
        return self.sparse.search(vector.indices, vector.values, k, self._allow(allowed))

    def _allow(self, allowed: BitMap) -> NDArray[np.int64] | NDArray[np.bool_]:
        few = len(allowed) * 32 < len(self.rows)
        return bitmaps.rows(allowed) if few else bitmaps.mask(allowed, len(self.rows))

    # Indexing

    def worn(self) -> bool:
        """Whether so much of it is dead that a new one is worth its making: ids and columns take the room of all slots
        there ever were, an index that of as many as it ever had at once."""
        return len(self.rows) > _FEW_DEAD and len(self.rows) > 2 * sum(map(len, self.live)) + _FEW_DEAD

    def to_absorb(self) -> tuple[int, Slots, NDArray[np.float32]] | None:
        """The next blocks for the index: up to which slot, their live slots and the vectors of these."""
        if self.dense.tail is None:
            return None
        cut = self.dense.tail.ready(len(self.rows))
        return (cut, *self.dense.tail.first(self.all_live(), cut)) if cut else None

    def absorb(self, slots: Slots, vectors: NDArray[np.float32], threads: int) -> None:
        """Add blocks to the index, one by one; without the guard, while others read and write."""
        index = self.dense.index
        if not isinstance(index, SmallWorld):
            return
        for block in blocks(slots):
            mine = slots[block]
            plain = mine[0] == index.rows_ever and mine[-1] - mine[0] + 1 == len(mine)
            index.add(vectors[block], threads, rows=None if plain else mine)

    def absorbed(self, cut: int, slots: Slots) -> None:
        """Blocks are in the index: they need not be searched exactly any more."""
        self.dense.absorb_first(cut)
        self.dense.gone |= bitmaps.bitmap_of(slots.astype(np.uint32)) - self.all_live()

    def stats(self) -> dict[str, Any]:
        """Counts for whoever watches the index."""
        return {"slots": len(self.rows), "waiting": self.dense.waiting(), "gone": len(self.dense.gone)}
