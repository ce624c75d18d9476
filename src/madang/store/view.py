"""What queries run on: the collection's records as indexes in memory, caught up from SQLite before each use."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from madang.base.records import Metadata, Vector
from madang.index import IVF, Lexical, Metric
from madang.index.graph import SmallWorld
from madang.index.specs import AnyIndex, Spec, index_of
from madang.store import filters
from madang.store.derived import Derived

Slots = NDArray[np.int64]


class View:
    """Slots 0..n-1 in row order; a slot is the row number of the vector index and of the lexical one.

    It holds nothing that cannot be rebuilt: `catch_up` reads the rows and tombstones above the last it has seen.
    """

    def __init__(self, dim: int, metric: Metric, spec: Spec | None = None) -> None:
        self.dense: AnyIndex = index_of(spec or {"kind": "flat"}, dim, metric)
        self.lexical = Lexical()
        self._rows: Slots = np.empty(0, dtype=np.int64)          # slot -> database row, ascending
        self._alive: NDArray[np.bool_] = np.empty(0, dtype=bool)
        self._spaces: NDArray[np.int32] = np.empty(0, dtype=np.int32)
        self._space_codes: dict[str, int] = {}
        self._metadata: list[Metadata] | None = None             # read at the first filtered query
        self._last_tombstone = 0
        self.changed = 0                                         # rows and tombstones absorbed since the last `derived`

    def restore(self, connection: sqlite3.Connection, derived: Derived) -> None:
        """Begin with an index from disk instead of nothing; runs inside the caller's read transaction."""
        self.dense, self._rows, self._last_tombstone = derived.index, derived.rows, derived.last_tombstone
        last = int(self._rows[-1]) if len(self._rows) else 0
        self._alive = np.zeros(len(self._rows), dtype=bool)
        self._spaces = np.zeros(len(self._rows), dtype=np.int32)
        stored = connection.execute("SELECT row, namespace FROM records WHERE row <= ? ORDER BY row",
                                    (last,)).fetchall()
        slots = np.searchsorted(self._rows, np.fromiter((row for row, _ in stored), dtype=np.int64))
        self._alive[slots] = True
        self._spaces[slots] = [self._space_codes.setdefault(space, len(self._space_codes)) for _, space in stored]
        self._absorb_postings(connection, 0, last)

    def derived(self) -> Derived:
        """What `restore` takes."""
        self.changed = 0
        return Derived(self.dense, self._rows, self._last_tombstone)

    def catch_up(self, connection: sqlite3.Connection) -> None:
        """Absorb what was committed since the last call; runs inside the caller's read transaction."""
        last = int(self._rows[-1]) if len(self._rows) else 0
        added = connection.execute("SELECT r.row, r.namespace, v.data FROM records r JOIN vectors v USING (row) "
                                   "WHERE r.row > ? ORDER BY r.row", (last,)).fetchall()
        if added:
            self._absorb(connection, added, last)
        gone = connection.execute("SELECT n, row FROM tombstones WHERE n > ? ORDER BY n",
                                  (self._last_tombstone,)).fetchall()
        if gone:
            self._last_tombstone = gone[-1][0]
            self._bury(np.fromiter((row for _, row in gone), dtype=np.int64))
        self.changed += len(added) + len(gone)

    def _absorb(self, connection: sqlite3.Connection, added: Sequence[tuple[int, str, bytes]], last: int) -> None:
        first = len(self._rows)
        vectors = np.frombuffer(b"".join(data for _, _, data in added), dtype="<f4").reshape(len(added), -1)
        self.dense.add(vectors.astype(np.float32, copy=False))
        codes = [self._space_codes.setdefault(space, len(self._space_codes)) for _, space, _ in added]
        self._rows = np.concatenate([self._rows, np.fromiter((row for row, _, _ in added), dtype=np.int64)])
        self._alive = np.concatenate([self._alive, np.ones(len(added), dtype=bool)])
        self._spaces = np.concatenate([self._spaces, np.array(codes, dtype=np.int32)])
        self._absorb_postings(connection, last, int(self._rows[-1]))
        if self._metadata is not None:
            self._metadata += self._read_metadata(connection, last)
        assert len(self._rows) == first + len(added)

    def _absorb_postings(self, connection: sqlite3.Connection, last: int, end: int) -> None:
        found = connection.execute("SELECT row, term_ids, weights FROM postings WHERE row > ? AND row <= ? "
                                   "ORDER BY row", (last, end)).fetchall()
        if not found:
            return
        slots = np.searchsorted(self._rows, np.fromiter((row for row, _, _ in found), dtype=np.int64))
        sizes = np.fromiter((len(ids) // 4 for _, ids, _ in found), dtype=np.int64)
        self.lexical.add(slots.astype(np.int64), np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
                         np.frombuffer(b"".join(ids for _, ids, _ in found), dtype="<u4").astype(np.int64),
                         np.frombuffer(b"".join(w for _, _, w in found), dtype="<f4").astype(np.float32))

    def _bury(self, rows: Slots) -> None:
        # A row written and replaced between two calls never reached this view; its tombstone finds no slot.
        slots = np.searchsorted(self._rows, rows)
        known = slots < len(self._rows)
        known[known] = self._rows[slots[known]] == rows[known]
        slots = slots[known].astype(np.int64)
        self._alive[slots] = False
        self.dense.remove(slots)
        self.lexical.remove(slots)

    def _read_metadata(self, connection: sqlite3.Connection, last: int) -> list[Metadata]:
        found = connection.execute("SELECT row, metadata FROM records WHERE row > ? ORDER BY row", (last,))
        by_row = {row: json.loads(text) for row, text in found}
        start = np.searchsorted(self._rows, last, side="right")
        return [by_row.get(row, {}) for row in self._rows[start:].tolist()]

    def allowed(self, connection: sqlite3.Connection, namespace: str,
                filter: filters.Tree | None) -> tuple[NDArray[np.bool_], int]:  # noqa: A002
        """The live slots of a namespace that pass the filter, as a mask, and how many they are."""
        code = self._space_codes.get(namespace)
        if code is None:
            return np.zeros(len(self._rows), dtype=bool), 0
        mask = self._alive & (self._spaces == code)
        if filter is not None:
            if self._metadata is None:
                self._metadata = self._read_metadata(connection, 0)
            metadata = self._metadata
            for slot in np.flatnonzero(mask).tolist():
                mask[slot] = filter.matches(metadata[slot])
        return mask, int(np.count_nonzero(mask))

    def rows_of(self, slots: Slots) -> list[int]:
        """Database rows of slots."""
        return [int(row) for row in self._rows[slots]]

    def nearest(self, query: Vector, k: int, mask: NDArray[np.bool_],
                target_recall: float | None = None) -> tuple[Slots, NDArray[np.float32], str]:
        """The k nearest allowed slots, best first, without padding, and how they were found."""
        allow = None if mask.all() else mask
        if isinstance(self.dense, SmallWorld):
            slots, scores, plan = self._nearest_by_links(self.dense, query[None, :], k, allow, target_recall)
        else:
            slots, scores = self.dense.search(query[None, :], k, allow=allow, threads=0)
            plan = "ivf" if isinstance(self.dense, IVF) else "exact"
        real = slots[0] >= 0
        return slots[0][real], scores[0][real], plan

    @staticmethod
    def _nearest_by_links(index: SmallWorld, queries: NDArray[np.float32], k: int, allow: NDArray[np.bool_] | None,
                          target_recall: float | None) -> tuple[Slots, NDArray[np.float32], str]:
        breadth = index.breadth(queries, k, target_recall=target_recall)
        slots, scores, _, scanned = index.run(queries, k, breadth, allow=allow)
        return slots, scores, f"{index.kind}: all that passed compared" if scanned else f"{index.kind}(ef={breadth})"
