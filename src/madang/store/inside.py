"""What a collection is made of: its file, connections, the view that queries run on, and transactions."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from madang.base.errors import Corrupt, InvalidInput, NotFound
from madang.base.records import QueryResult
from madang.store import derived, embeddings, schema, search, validate
from madang.store.connections import Connections
from madang.store.counts import Searches
from madang.store.current import Current
from madang.store.embeddings import Embedding
from madang.store.lock import WriterLock
from madang.store.pulse import Pulse
from madang.store.sample import QuerySample
from madang.store.told import Told
from madang.store.view import View
from madang.store.writing import Writer
from madang.text.analyzer import Analyzer, analyzer_for

_REMEMBERED = 10_000           # deletions that readers left behind may still learn of; with more they begin anew


class Inside:
    """The part of `Collection` that its public methods stand on."""

    def __init__(self, directory: Path, lock: WriterLock | None, name: str | None = None) -> None:
        """Without a lock it can only be read: a snapshot."""
        self._path = directory / schema.FILE_NAME
        self._lock = lock
        self._file = _identity(self._path)
        self._writing = threading.RLock()      # around the connection that writes
        self._db, meta = schema.open_existing(self._path)
        self.name, self.metric = name or directory.name, meta["metric"]
        self._connections = Connections(self._path, self._check_there)
        self._pulse = Pulse(directory) if lock is not None else None
        self._told, self._searches, self._reports = Told(), Searches(), _Reporting(self._path)
        self._current = self._current_of(embeddings.live(meta.get))
        self._beside: Current | None = None                      # of the shadow, once it was asked for
        self._beside_guard, self._reembedding = threading.RLock(), threading.RLock()
        self._analyzer: tuple[int, Analyzer] | None = None       # with the generation that it belongs to
        self._writer: Writer | None = None
        keep = meta.get("keep_queries", True) and lock is not None
        self._sample = QuerySample(directory) if keep else None

    def _answered(self, asked: search.Asked, current: Current) -> QueryResult:
        with self._reporting():
            for _ in range(3):
                prepared = self._ready(asked, current)
                if prepared is None:
                    continue
                ranked = search.rank(asked, prepared)
                self._searches.add(ranked.plan.compared)
                if not (asked.metadata or asked.values or asked.document) or not len(ranked.slots):
                    return search.scored(asked, prepared, ranked)
                answer = search.described(asked, prepared, ranked, self._told)
                if answer is None:
                    with self._connections.reading(current.embedding.table) as reader:
                        answer = search.matches(asked, prepared, ranked, reader, self._told)
                if answer is not None:      # else somebody deleted one of them between the two
                    return answer
            with current.transaction() as (view, reader):     # slower: nobody can come between
                prepared = search.prepare(asked, view, reader, self.analyzer if asked.words is not None else None)
                last = search.matches(asked, prepared, search.rank(asked, prepared), reader, self._told)
        if last is None:
            raise Corrupt(f"{self._path} lacks a record that was found.", remedy="Run `repair` on the collection.")
        return last

    def _ready(self, asked: search.Asked, current: Current) -> search.Prepared | None:
        """As `_prepared`; what needs no words and no sparse vector is remembered for the next one."""
        if asked.vector is None or asked.several:
            with current.view() as view:
                return self._prepared(asked, view)
        key = asked.namespace, None if asked.filter is None else asked.filter.text
        known: search.Prepared | None = current.ready(key)
        if known is None or known.view.dim != len(asked.vector):
            with current.view() as view:
                known = self._prepared(asked, view)
                current.keep(key, known)
        return known

    def _prepared(self, asked: search.Asked, view: View) -> search.Prepared | None:
        """None where somebody re-analyzed since the view was brought up to date: its terms have other numbers."""
        if asked.vector is not None and len(asked.vector) != view.dim:      # re-embedded since it was checked
            validate.vector(asked.vector, view.dim, "vector")
        if asked.words is None:
            return search.prepare(asked, view, None, None)
        with self._connections.reading() as reader:
            if (reader.meta("generation") or 0) != view.generation:
                return None
            return search.prepare(asked, view, reader, self.analyzer)

    @property
    def dim(self) -> int:
        """Length of a vector; another one after a cut-over to another model, by whichever process."""
        return self._embedding().dim

    @property
    def embedder(self) -> str | None:
        """Signature of the model whose vectors are searched, None where they are the caller's own."""
        return self._embedding().embedder

    def _embedding(self) -> Embedding:
        with self._reporting(), self._connections.reading() as reader:
            return embeddings.live(reader.meta)

    def _current_of(self, embedding: Embedding, follows: bool = True) -> Current:
        return Current(self._path, embedding, self.metric, self._pulse, follows=follows, check_there=self._check_there,
                       may_save=self._may_save, mark=self._mark)

    @property
    def index(self) -> str:
        """The kind of vector index."""
        return str(self._current.spec["kind"])

    @property
    def analyzer(self) -> Analyzer:
        """The analyzer the word index was made with, or an error naming the command that rebuilds it."""
        with self._reporting(), self._connections.reading() as reader:
            generation = reader.meta("generation") or 0
            if self._analyzer is None or self._analyzer[0] != generation:
                self._analyzer = generation, analyzer_for(reader.meta("analyzer"), self.name)
            return self._analyzer[1]

    @contextmanager
    def _write(self, analyzer: Analyzer | None = None) -> Iterator[Writer]:
        """A write transaction: everything inside is committed and synced, or nothing is."""
        if self._lock is None:
            raise InvalidInput(f"{self.name!r} is a snapshot: it can only be read.",
                               remedy="Restore it, or write to the collection itself.")
        self._current.wait_for_room()
        with self._writing, self._reporting():
            self._lock.acquire()
            self._check_there()
            if analyzer is not None:
                self._writer = Writer(self._db, analyzer)
            if self._writer is None:
                self._writer = Writer(self._db, self.analyzer)
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._check_there()
                schema.upgrade(self._db, self._path)
                yield self._writer
                schema.put_meta(self._db, "sequence", self._meta("sequence") + 1)
                self._db.execute("COMMIT")
            except BaseException:
                self._writer = None          # its vocabulary may hold terms that were never stored
                if self._db.in_transaction:  # on a full disk SQLite has rolled back already
                    self._db.execute("ROLLBACK")
                raise
        self._current.written()

    def _meta(self, key: str) -> Any:
        return schema.get_meta(self._db, self._path, key)

    def _mark(self, table: int, tokens: list[str], last_tombstone: int) -> None:
        """Before the index is saved: which of its files belong to these records, and what nobody needs to know any more
        of what was deleted, the room it took included. Raises sqlite3.Error."""
        with self._writing:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                schema.put_meta(self._db, derived.TOKENS[table], tokens)
                schema.forget_tombstones(self._db, last_tombstone - _REMEMBERED)
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
            schema.compact(self._db, self._path)

    def _may_save(self) -> bool:
        return self._lock is not None and self._lock.held and not self.dropped

    def _reporting(self) -> AbstractContextManager[None]:
        """SQLite's errors as ours."""
        return self._reports

    @property
    def dropped(self) -> bool:
        """Whether the file this was opened from is gone: another process dropped the collection."""
        return _identity(self._path) != self._file

    @property
    def surely_there(self) -> bool:
        """Whether it was looked at a moment ago and nobody has changed anything since, a drop included: costs less than
        looking."""
        return self._current.trusted

    def _check_there(self) -> None:
        if self.dropped:
            raise NotFound(f"collection {self.name!r} was dropped, or restored, by another process.",
                           remedy="Open it again, or make it anew.")


class _Reporting(AbstractContextManager[None]):
    def __init__(self, path: Path) -> None:
        self._path = path

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, sqlite3.Error):
            raise schema.explained(self._path, error) from error


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells this file from another of its name; None when there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
