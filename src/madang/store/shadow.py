"""`collection.shadow`: vectors of another model beside those that are searched.

They are written in batches while others read and write, asked like the collection itself, and made what is searched by
one transaction; what was searched then is the shadow, so that the same transaction leads back. A record that is written
meanwhile has no vector in the shadow until it gets one, and as long as one lacks there is no way over.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from madang.base.errors import Conflict, InvalidInput, NotFound
from madang.base.records import Filter, QueryResult, Record
from madang.index import Metric
from madang.index.distance import as_vectors
from madang.index.specs import spec_of
from madang.store import derived, embeddings, search, validate
from madang.store.audit import CollectionAudit, measured
from madang.store.connections import Connections
from madang.store.current import Current
from madang.store.embeddings import Embedding
from madang.store.fusion import Fusion
from madang.store.reading import Reader

AT_ONCE = 64       # records that may be given their vectors inside the transaction of a cut-over


@dataclass(frozen=True, slots=True)
class ShadowStats:
    """A shadow: what made it, how it is searched, how many records have a vector in it and how many do not.

    `previous`: it was searched before the last cut-over, and can be again. `size_bytes`: of its vectors and index.
    """

    embedder: str | None
    dim: int
    index: str
    records: int
    missing: int
    previous: bool
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Lacking:
    """A record without a vector in the shadow; `record` has all but its vectors."""

    row: int
    namespace: str
    record: Record


class Beside(Protocol):
    """The inside of a collection, as far as its shadow takes part in it."""

    name: str
    metric: Metric
    _db: sqlite3.Connection
    _path: Path
    _connections: Connections
    _current: Current
    _beside: Current | None
    _beside_guard: threading.RLock      # around `_beside`
    _reembedding: threading.RLock       # held by whoever builds, drops or swaps

    def _meta(self, key: str) -> Any: ...

    def _write(self) -> AbstractContextManager[object]: ...

    def _reporting(self) -> AbstractContextManager[None]: ...

    def _current_of(self, embedding: Embedding, follows: bool = True) -> Current: ...

    def _answered(self, asked: search.Asked, current: Current) -> QueryResult: ...


class Live:
    """The vectors that are searched, asked without a word being kept: `Collection.shadow.live`."""

    def __init__(self, collection: Beside) -> None:
        self._of = collection

    def query(self, vector: Any = None, text: str | None = None, sparse: Any = None, top_k: int = 10,
              namespace: str = "", filter: Filter | None = None, include_metadata: bool = True,  # noqa: A002
              include_values: bool = False, include_document: bool = False, target_recall: float | None = None,
              fusion: Fusion | None = None) -> QueryResult:
        """As `Collection.query`; of a shadow, of the records up to the first that has no vector in it."""
        current = self._current()
        with self._of._reporting():
            asked = search.asked(current, self._of.metric, vector, text, sparse, top_k, namespace, filter,
                                 include_metadata, include_values, include_document, target_recall, fusion)
        return self._of._answered(asked, current)

    def audit(self, queries: Any = None, k: int = 10, ef_search: int | None = None,
              samples: int = 200) -> CollectionAudit:
        """As `Collection.audit`."""
        self.wait_until_indexed()
        with self._of._reporting():
            return measured(self._current(), self._of._path.parent, queries, None, k, ef_search, samples)

    def wait_until_indexed(self, timeout_s: float | None = None) -> bool:
        """As `Collection.wait_until_indexed`."""
        current = self._current()
        with self._of._reporting():
            with current.view():
                pass
            current.indexer.wake()
            return current.indexer.wait(timeout_s)

    def size_bytes(self) -> int:
        """What its vectors and its index take on disk."""
        with self._of._reporting(), self._of._connections.reading() as reader:
            found, records = embeddings.live(reader.meta), sum(reader.namespaces().values())
        return 4 * found.dim * records + derived.size_bytes(self._of._path.parent, found.table)

    def _current(self) -> Current:
        return self._of._current


class Shadow(Live):
    """Made by `Collection.shadow`; it holds nothing itself."""

    @property
    def live(self) -> Live:
        """What is searched, to be compared with the shadow."""
        return Live(self._of)

    # Building

    @contextmanager
    def working(self) -> Iterator[None]:
        """Nobody else of this process builds, drops or swaps meanwhile. Raises `Conflict` where somebody does."""
        if not self._of._reembedding.acquire(blocking=False):
            raise Conflict(f"collection {self._of.name!r} is being re-embedded.",
                           remedy="Wait until that is done.")
        try:
            yield
        finally:
            self._of._reembedding.release()

    def begin(self, dim: int, embedder: str | None, index: Any = None) -> ShadowStats:
        """Go on with the shadow of this embedder, dimension and index, or begin one in place of another unfinished one.

        Args:
            embedder: signature of the model; None for vectors of your own. index: as for `Database.create`; that of the
                collection if None.

        Raises:
            Conflict: the shadow there is was searched before: it would be lost. Locked: another process is writing.
        """
        if isinstance(dim, bool) or not isinstance(dim, int) or not 1 <= dim <= validate.MAX_DIM:
            raise InvalidInput(f"dim must be a whole number from 1 to {validate.MAX_DIM:,}, not {dim!r}.")
        with self.working():
            if self._begun(dim, embedder, index):
                self._leave()       # not inside the write: its thread may be waiting to write
            return self._needed()

    def _begun(self, dim: int, embedder: str | None, index: Any) -> bool:
        """Whether it is a new one."""
        of = self._of
        with of._write():
            there = embeddings.shadow(of._meta)
            spec = embeddings.live(of._meta).spec if index is None else spec_of(index, dim, of.metric)
            same = there is not None and (there.dim, there.embedder) == (dim, embedder)
            if there is not None and same and (index is None or there.spec == spec):
                return False
            if there is not None and there.previous:
                raise Conflict(f"collection {of.name!r} can still be rolled back to {there.embedder}.",
                               remedy=f"Give that up first: madang collection forget-shadow {of.name}")
            embeddings.begin(of._db, of._path, dim, embedder, spec)
        return True

    def lacking(self, limit: int = 256, after: int = 0) -> list[Lacking]:
        """Records without a vector in the shadow, in the order of their rows, above the row `after`."""
        with self._reading() as (_, reader):
            return [Lacking(*found) for found in reader.without_vector(after, limit)]

    def put(self, rows: Sequence[int], vectors: ArrayLike) -> int:
        """Store the vectors (n, dim) of rows that lacked one; durable when it returns. Rows that are gone by now, or
        have one already, are left out. Returns how many were stored."""
        of = self._of
        with self.working(), of._write():
            stored = self._put(self._found(of._meta), rows, vectors)
        if of._beside is not None:
            of._beside.written()
        return stored

    def _put(self, embedding: Embedding, rows: Sequence[int], vectors: ArrayLike) -> int:
        checked = as_vectors(np.asarray(vectors, dtype=np.float32), embedding.dim, "vectors")
        if len(checked) != len(rows):
            raise InvalidInput(f"{len(rows)} rows need as many vectors, not {len(checked)}.")
        if not np.isfinite(checked).all():
            raise InvalidInput("vectors contain NaN or infinity.")
        if len(rows):
            validate.lengths([f"row {row}" for row in rows], checked, self._of.metric, embedding.spec.get("precision"))
        return embeddings.put(self._of._db, embedding.table, rows, checked)

    # Reading

    def stats(self) -> ShadowStats | None:
        """Counts and settings; None where there is no shadow."""
        with self._of._reporting(), self._of._connections.reading() as told:
            found = embeddings.shadow(told.meta)
            if found is None:
                return None
            records, missing = sum(told.namespaces().values()), told.of(found.table).count_without_vector()
        size = 4 * found.dim * (records - missing) + derived.size_bytes(self._of._path.parent, found.table)
        return ShadowStats(found.embedder, found.dim, str(found.spec["kind"]), records - missing, missing,
                           found.previous, size)

    def size_bytes(self) -> int:
        found = self.stats()
        return 0 if found is None else found.size_bytes

    def without_document(self) -> tuple[int, str | None]:
        """How many records have no text to embed, and the id of one of them."""
        with self._of._reporting(), self._of._connections.reading() as reader:
            return reader.without_document()

    # Over and back

    def swap(self, finish: Callable[[list[Record]], ArrayLike] | None = None) -> int:
        """Search with the shadow from now on, and make what was searched the shadow: one transaction.

        `finish` gives vectors (n, dim) of records that were written a moment ago, inside that transaction, for at most
        `AT_ONCE` of them. Returns how many it gave.

        Raises:
            NotFound: there is no shadow. Conflict: records lack a vector in it; nothing was changed.
        """
        of = self._of
        with self.working(), ExitStack() as held:
            with of._write():
                shadow = self._found(of._meta)
                lacking = Reader(of._db, of._path, shadow.table).without_vector(0, AT_ONCE + 1)
                if lacking and (finish is None or len(lacking) > AT_ONCE):
                    count = Reader(of._db, of._path, shadow.table).count_without_vector()
                    raise Conflict(f"{count:,} records of collection {of.name!r} have no vector by {shadow.embedder}.",
                                   remedy="They were written since: embed them first.")
                if lacking and finish is not None:
                    self._put(shadow, [row for row, _, _ in lacking], finish([record for _, _, record in lacking]))
                new = embeddings.swap(of._db, of._meta, previous=not shadow.previous)
                # Nobody may look between the commit and the exchange of the two views.
                for current in (of._current, of._beside):
                    if current is not None:
                        held.enter_context(current.held())
            if of._beside is not None and of._beside.embedding.made == new.made:
                of._current, of._beside = of._beside, of._current
                of._current.follows, of._beside.follows = True, False
        of._current.written()
        return len(lacking)

    def drop(self) -> None:
        """Remove the shadow, its vectors and its index. Raises `NotFound` where there is none."""
        of = self._of
        with self.working():
            with of._write():
                shadow = self._found(of._meta)
                embeddings.drop(of._db, of._path)
            self._leave()
            with suppress(OSError):      # files that nobody reads
                derived.remove(of._path.parent, shadow.table)

    # Plumbing

    def _missing(self) -> NotFound:
        return NotFound(f"collection {self._of.name!r} has no shadow.",
                        remedy=f"Make one with: madang collection reembed {self._of.name} --embedder MODEL")

    def _found(self, meta: embeddings.Meta) -> Embedding:
        found = embeddings.shadow(meta)
        if found is None:
            raise self._missing()
        return found

    def _needed(self) -> ShadowStats:
        found = self.stats()
        if found is None:
            raise self._missing()
        return found

    @contextmanager
    def _reading(self) -> Iterator[tuple[Embedding, Reader]]:
        with self._of._reporting(), self._of._connections.reading() as told:
            found = self._found(told.meta)
            yield found, told.of(found.table)

    def _current(self) -> Current:
        """What the shadow is searched with; made when it is first asked for."""
        of = self._of
        with self._reading() as (found, _):
            pass
        with of._beside_guard:
            if of._beside is None or of._beside.embedding.made != found.made:
                self._leave()
                of._beside = of._current_of(found, follows=False)
            return of._beside

    def _leave(self) -> None:
        """Let go of what the shadow is searched with."""
        of = self._of
        with of._beside_guard:
            beside, of._beside = of._beside, None
        if beside is not None:
            beside.close(keep=False)


__all__ = ["AT_ONCE", "Lacking", "Shadow", "ShadowStats"]

