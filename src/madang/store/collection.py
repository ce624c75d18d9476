"""A collection: records in namespaces, written durably, searched exactly by vector, by words, or both."""

from __future__ import annotations

import json
import sqlite3
import threading
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from madang.base.errors import Corrupt, InvalidInput, NotFound
from madang.base.records import Filter, Match, Plan, QueryResult, Record, Source, SourceInfo, SparseVector
from madang.index import Audit
from madang.index.graph import SmallWorld
from madang.index.specs import Spec
from madang.store import derived, filters, schema, validate
from madang.store.connections import Connections
from madang.store.fusion import Fusion, reciprocal_rank
from madang.store.indexer import Indexer
from madang.store.lock import WriterLock
from madang.store.protocol import CollectionStats, IdPage
from madang.store.tail import BLOCK, Slots
from madang.store.view import Reading, View
from madang.store.writing import Writer, indexed_text
from madang.text.analyzer import Analyzer, analyzer_for, default_analyzer

_MAX_WAITING = 100_000         # vectors that may wait for the index before writers wait for it, too


class _MovedOn(Exception):
    """A record that was found is gone: somebody wrote between the search and the reading of its answer."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """A query that was checked."""

    vector: NDArray[np.float32] | None
    words: str | None
    k: int
    namespace: str
    filter: filters.Tree | None
    fusion: Fusion
    target_recall: float | None
    metadata: bool
    values: bool
    document: bool


class Collection:
    """One collection of a workspace. Safe to use from several threads; made by `Database`, not directly.

    A write is acknowledged when it is committed and synced; every read sees all acknowledged writes, those of
    another process included.
    """

    def __init__(self, directory: Path, lock: WriterLock) -> None:
        self._path = directory / schema.FILE_NAME
        self._lock = lock
        self._file = _identity(self._path)
        self._writing = threading.RLock()      # around the connection that writes
        self._guard = threading.RLock()        # around the view and the connection it catches up with; never held long
        self._db, meta = schema.open_existing(self._path)
        try:
            self.name: str = directory.name
            self.dim: int = meta["dim"]
            self.metric = meta["metric"]
            stored = meta["index"]
            self._spec: Spec = {"kind": stored} if isinstance(stored, str) else stored
            self.embedder: str | None = meta["embedder"]
        except KeyError as error:
            self._db.close()
            raise Corrupt(f"{self._path} lacks {error} in its metadata.", remedy="Restore it from a backup.") from None
        self._connections = Connections(self._path)
        self._watch = schema.connect(self._path)
        self._view: View | None = None
        self._version = -1                     # SQLite's number for the state that the view has seen
        self._generation: int = meta.get("generation", 0)
        self._analyzer: Analyzer | None = None
        self._writer: Writer | None = None
        self._indexer = Indexer(self._index_some, self.name)
        self._closed = False

    # Writing

    def upsert(self, records: Iterable[Record | Mapping[str, Any]], namespace: str = "") -> int:
        """Insert or replace records by id. Returns how many were written; durable when it returns.

        Args:
            records: `Record`s or dicts with `id`, `values` (list or float32 array of length `dim`) and optionally
                `sparse`, `metadata`, `document` (searchable by words), `context` (indexed with the document).

        Raises:
            InvalidInput: a record is not acceptable; nothing was written.
            Locked: another process is writing to this workspace.
        """
        validate.namespace_name(namespace)
        checked = validate.records(records, self.dim)
        with self._write() as writer:
            writer.insert(checked, namespace, by_hand=True)
        return len(checked)

    def update(self, id: str, values: Any = None, set_metadata: Mapping[str, Any] | None = None,  # noqa: A002
               namespace: str = "") -> None:
        """Replace the vector and/or merge metadata keys of one record. Raises `NotFound` for an unknown id."""
        if values is None and set_metadata is None:
            raise InvalidInput(f"update of {id!r} changes nothing.", remedy="Give values or set_metadata.")
        validate.namespace_name(namespace)
        with self._write() as writer:
            found = self._records(self._db, [validate.record_id(id)], namespace)
            if id not in found:
                raise NotFound(f"collection {self.name!r} has no record {id!r} in namespace {namespace!r}.",
                               remedy="Use upsert to create it.")
            record, source = found[id]
            merged = {**record.metadata, **validate.metadata(set_metadata, f"record {id!r:.60}: set_metadata")}
            changed = Record(id, record.values if values is None else values, record.sparse, merged, record.document,
                             record.context)
            writer.insert(validate.records([changed], self.dim), namespace, source)

    def delete(self, ids: Sequence[str] | None = None, filter: Filter | None = None,  # noqa: A002
               delete_all: bool = False, namespace: str = "") -> int:
        """Delete by ids, by filter, or everything in a namespace. Returns how many records went; unknown ids are
        no error."""
        if sum([ids is not None, filter is not None, bool(delete_all)]) != 1:
            raise InvalidInput("delete needs exactly one of ids, filter and delete_all=True.")
        validate.namespace_name(namespace)
        wanted = validate.ids(ids) if ids is not None else None
        tree = filters.parse(filter) if filter is not None else None
        with self._write() as writer:
            if wanted is not None:
                return writer.delete_ids(wanted, namespace, by_hand=True)
            stored = self._db.execute("SELECT row, metadata FROM records WHERE namespace = ?", (namespace,))
            rows = [row for row, text in stored if tree is None or tree.matches(json.loads(text))]
            if delete_all:
                self._db.execute("DELETE FROM sources WHERE namespace = ?", (namespace,))
            return writer.delete_rows(rows, by_hand=True)

    def replace_sources(self, batch: Sequence[tuple[Source, Sequence[Record]]], namespace: str = "") -> int:
        """Store documents with the records cut from them, each in place of its earlier version; one transaction.

        Returns how many records were written.
        """
        validate.namespace_name(namespace)
        checked = [(source, validate.records(records, self.dim)) for source, records in batch]
        with self._write() as writer:
            for source, records in checked:
                writer.replace_source(source, records, namespace)
        return sum(len(records) for _, records in checked)

    def remove_sources(self, uris: Iterable[str], namespace: str = "") -> int:
        """Remove documents and their records in one transaction. Returns how many were there."""
        wanted = list(uris)
        if not wanted:
            return 0
        with self._write() as writer:
            return sum(writer.remove_source(uri, namespace) for uri in wanted)

    def reanalyze(self) -> int:
        """Rebuild the word index with the analyzer installed now. Returns how many documents it read."""
        with self._write(analyzer=default_analyzer()) as writer:
            stored = self._db.execute("SELECT row, document, context FROM records "
                                      "WHERE document IS NOT NULL ORDER BY row").fetchall()
            self._db.execute("DELETE FROM postings")
            self._db.execute("DELETE FROM terms")
            writer.forget()
            for start in range(0, len(stored), 1000):
                writer.index_text([(row, indexed_text(text, context))
                                   for row, text, context in stored[start:start + 1000]])
            schema.put_meta(self._db, "analyzer", default_analyzer().signature)
            schema.put_meta(self._db, "generation", (_meta(self._db, "generation") or 0) + 1)
        return len(stored)

    # Reading

    def query(self, vector: Any = None, text: str | None = None, sparse: Any = None, top_k: int = 10,
              namespace: str = "", filter: Filter | None = None, include_metadata: bool = True,  # noqa: A002
              include_values: bool = False, include_document: bool = False, target_recall: float | None = None,
              fusion: Fusion | None = None) -> QueryResult:
        """The best records: by vector, by words (BM25), or both fused by reciprocal ranks.

        Args:
            vector: `dim` numbers. text: words to search in the documents. At least one of the two.
            filter: a metadata filter, e.g. {"year": {"$gte": 2020}}; applied before the search.
            target_recall: the share of the true nearest records to find, for graph indexes: the search is widened
                until it is reached, by measuring. Exact search always reaches 1.0.

        Scores are higher for better matches: the metric's for a vector, BM25's for words, the fused one for both.
        """
        if sparse is not None:
            raise InvalidInput("query by sparse vector is not available yet.", remedy="Query by vector or text.")
        if vector is None and text is None:
            raise InvalidInput("query needs a vector, a text, or both.")
        if target_recall is not None and not 0 < target_recall <= 1:
            raise InvalidInput(f"target_recall must be above 0 and at most 1, not {target_recall!r}.")
        wanted = validate.top_k(top_k)
        validate.namespace_name(namespace)
        tree = None if filter is None else filters.parse(filter)
        asked = _Asked(None if vector is None else validate.vector(vector, self.dim, "vector"),
                       validate.text(text, "text"), wanted, namespace, tree, fusion or Fusion(), target_recall,
                       include_metadata, include_values, include_document)
        for _ in range(3):
            try:
                return self._answer(asked)
            except _MovedOn:
                continue
        with self._guard, self._reporting():   # the same in one transaction: slower, and nobody can come between
            self._refresh()
            self._watch.execute("BEGIN")
            try:
                self._catch_up()
                return self._answer(asked, self._watch)
            finally:
                self._watch.execute("COMMIT")

    def _answer(self, asked: _Asked, connection: sqlite3.Connection | None = None) -> QueryResult:
        """Search without holding anything, then read what was found: from `connection`, or a new snapshot."""
        depth = asked.k if asked.vector is None or asked.words is None else max(asked.fusion.depth, asked.k)
        words = None
        with self._guard, self._reporting():
            if connection is None:
                self._refresh()
            view = self._current
            reading = view.reading(asked.namespace, asked.filter)
            if asked.words is not None and reading.candidates:
                words = self._lexical(view, asked.words, depth, reading)
        if not reading.candidates:
            return QueryResult([], Plan(candidates=0), asked.namespace)
        near = None if asked.vector is None else reading.nearest(asked.vector, depth, asked.target_recall)
        if words is None and near is not None:
            slots, scores = near.slots, near.scores.tolist()
            plan = Plan(dense=near.how, candidates=reading.candidates, compared=near.compared)
        elif words is not None and near is None:
            slots, scores = words[0], words[1].tolist()
            plan = Plan(lexical="bm25", candidates=reading.candidates)
        else:
            assert words is not None
            assert near is not None
            fusion = asked.fusion
            rankings = [near.slots.tolist() if fusion.dense else [], words[0].tolist() if fusion.lexical else []]
            fused = reciprocal_rank(rankings, [fusion.dense, fusion.lexical], fusion.k)[:asked.k]
            slots, scores = np.array([slot for slot, _ in fused], dtype=np.int64), [score for _, score in fused]
            plan = Plan(dense=near.how, lexical="bm25", fusion=str(fusion), candidates=reading.candidates,
                        compared=near.compared)
        return QueryResult(self._matches(view, slots, scores, asked, connection), plan, asked.namespace)

    def _lexical(self, view: View, words: str, k: int, reading: Reading) -> tuple[Slots, NDArray[np.float32]]:
        terms = self.analyzer.query_terms(words)
        known: dict[str, int] = {}
        names = list(terms)
        for start in range(0, len(names), 500):
            part = names[start:start + 500]
            marks = ",".join("?" * len(part))
            known |= dict(self._watch.execute(f"SELECT term, term_id FROM terms WHERE term IN ({marks})", part))
        ids = np.fromiter(known.values(), dtype=np.int64, count=len(known))
        weights = np.fromiter((terms[name] for name in known), dtype=np.float32, count=len(known))
        return view.words(ids, weights, k, reading.allowed)

    def _matches(self, view: View, slots: Slots, scores: Sequence[float], asked: _Asked,
                 connection: sqlite3.Connection | None) -> list[Match]:
        ids = view.names.of(slots.tolist())
        if not (asked.metadata or asked.values or asked.document) or not ids:
            return [Match(identity, float(score)) for identity, score in zip(ids, scores, strict=True)]
        rows = view.rows.view()[slots].tolist()
        if connection is not None:
            found = self._stored(connection, rows, asked)
        else:
            with self._reporting(), self._connections.reading() as connection:
                found = self._stored(connection, rows, asked)
        if len(found) < len(rows):
            raise _MovedOn
        matches = []
        for identity, row, score in zip(ids, rows, scores, strict=True):
            metadata, document, values = found[row]
            matches.append(Match(identity, float(score), json.loads(metadata) if asked.metadata else None,
                                 np.frombuffer(values, dtype="<f4") if asked.values else None, document))
        return matches

    @staticmethod
    def _stored(connection: sqlite3.Connection, rows: list[int],
                asked: _Asked) -> dict[int, tuple[str, str | None, bytes]]:
        """Metadata, document and vector of rows, where they are asked for; rows that are gone are left out."""
        found: dict[int, tuple[str, str | None, bytes]] = {}
        document = "document" if asked.document else "NULL"
        tables = "records JOIN vectors USING (row)" if asked.values else "records"
        for start in range(0, len(rows), 500):
            part = rows[start:start + 500]
            for row, metadata, text, values in connection.execute(
                    f"SELECT row, metadata, {document}, {'data' if asked.values else 'NULL'} FROM {tables} "
                    f"WHERE row IN ({','.join('?' * len(part))})", part):
                found[row] = metadata, text, values
        return found

    def fetch(self, ids: Sequence[str], namespace: str = "") -> dict[str, Record]:
        """Records by id; unknown ids are left out."""
        wanted = validate.ids(ids)
        validate.namespace_name(namespace)
        with self._reporting(), self._connections.reading() as connection:
            found = self._records(connection, wanted, namespace)
        return {identity: found[identity][0] for identity in wanted if identity in found}

    @staticmethod
    def _records(connection: sqlite3.Connection, ids: Sequence[str],
                 namespace: str) -> dict[str, tuple[Record, int | None]]:
        """Each found record with the source it belongs to."""
        found: dict[str, tuple[Record, int | None]] = {}
        for identity in ids:
            stored = connection.execute(
                "SELECT r.metadata, r.document, r.context, r.source, v.data, s.indices, s.data FROM records r "
                "JOIN vectors v USING (row) LEFT JOIN sparse s USING (row) WHERE r.namespace = ? AND r.id = ?",
                (namespace, identity)).fetchone()
            if stored is not None:
                metadata, document, context, source, data, indices, weights = stored
                sparse = None if indices is None else SparseVector(np.frombuffer(indices, dtype="<u4").tolist(),
                                                                   np.frombuffer(weights, dtype="<f4").tolist())
                found[identity] = (Record(identity, np.frombuffer(data, dtype="<f4").copy(), sparse,
                                          json.loads(metadata), document, context), source)
        return found

    def list_ids(self, prefix: str = "", limit: int = 100, cursor: str | None = None, namespace: str = "") -> IdPage:
        """Ids in order, a page at a time; pass the page's `cursor` to get the next."""
        if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= validate.MAX_TOP_K:
            raise InvalidInput(f"limit must be a whole number from 1 to {validate.MAX_TOP_K:,}, not {limit!r}.")
        validate.namespace_name(namespace)
        prefix, cursor = validate.text(prefix, "prefix") or "", validate.text(cursor, "cursor")
        with self._reporting(), self._connections.reading() as connection:
            found = [identity for (identity,) in connection.execute(
                "SELECT id FROM records WHERE namespace = ? AND id >= ? AND id > ? AND substr(id, 1, ?) = ? "
                "ORDER BY id LIMIT ?", (namespace, prefix, cursor or "", len(prefix), prefix, limit + 1))]
        return IdPage(found[:limit], found[limit - 1] if len(found) > limit else None)

    def stats(self) -> CollectionStats:
        """Counts and settings."""
        with self._reporting(), self._connections.reading() as connection:
            namespaces = dict(connection.execute("SELECT namespace, COUNT(*) FROM records GROUP BY namespace "
                                                 "ORDER BY namespace"))
            (sources,) = connection.execute("SELECT COUNT(*) FROM sources").fetchone()
            sequence, analyzer = _meta(connection, "sequence"), _meta(connection, "analyzer")
        size = sum(path.stat().st_size for path in self._path.parent.iterdir() if path.is_file())
        return CollectionStats(self.name, sum(namespaces.values()), namespaces, sources, self.dim, self.metric,
                               self.index, self.embedder, analyzer, size, sequence)

    def sources(self, namespace: str = "") -> dict[str, SourceInfo]:
        """The documents records were cut from, by uri."""
        with self._reporting(), self._connections.reading() as connection:
            rows = connection.execute("SELECT uri, content_hash, media_type, title, size_bytes, "
                                    "(SELECT COUNT(*) FROM records r WHERE r.source = s.source), ingested_at "
                                    "FROM sources s WHERE namespace = ? ORDER BY uri", (namespace,))
            return {row[0]: SourceInfo(*row) for row in rows}

    def source(self, uri: str, namespace: str = "") -> Source | None:
        """A document with its text, or None."""
        with self._reporting(), self._connections.reading() as connection:
            row = connection.execute("SELECT uri, content_hash, text, media_type, title, size_bytes, pages "
                                     "FROM sources WHERE namespace = ? AND uri = ?", (namespace, uri)).fetchone()
        if row is None:
            return None
        uri, content_hash, text, media_type, title, size_bytes, pages = row
        return Source(uri, content_hash, zlib.decompress(text).decode("utf-8"), media_type, title, size_bytes,
                      tuple(json.loads(pages)))

    def wait_until_indexed(self, timeout_s: float | None = None) -> bool:
        """Until the index has absorbed what it can; fewer than 1,024 records stay outside a graph, searched exactly.
        False when the time is over first."""
        with self._guard, self._reporting():
            self._refresh()
        if self.index == "flat":
            return True
        self._indexer.wake()
        return self._indexer.wait(timeout_s)

    def audit(self, queries: Any = None, k: int = 10, ef_search: int | None = None, samples: int = 200) -> Audit:
        """Measure a graph index against exact search: recall by filter selectivity, and what cannot be reached.

        `queries` (q, dim): real ones if you have them. Raises `InvalidInput` where there is no graph: exact search is
        always right.
        """
        self.wait_until_indexed()
        with self._guard:
            index = self._current.dense.index
        if not isinstance(index, SmallWorld) or not len(index):
            raise InvalidInput(f"collection {self.name!r} is searched exactly: there is nothing to measure.",
                               remedy=f"A graph index starts with {BLOCK:,} records." if self.index != "flat" else None)
        asked = None if queries is None else np.ascontiguousarray(queries, dtype=np.float32)
        return index.audit(asked, k, ef_search=ef_search, samples=samples)

    # Plumbing

    @property
    def index(self) -> str:
        """The kind of vector index."""
        return str(self._spec["kind"])

    @property
    def analyzer(self) -> Analyzer:
        """The analyzer the word index was made with, or an error naming the command that rebuilds it."""
        found = self._analyzer
        if found is None:
            with self._reporting(), self._connections.reading() as connection:
                found = self._analyzer = analyzer_for(_meta(connection, "analyzer"), self.name)
        return found

    @contextmanager
    def _write(self, analyzer: Analyzer | None = None) -> Iterator[Writer]:
        """A write transaction: everything inside is committed and synced, or nothing is."""
        self._wait_for_room()
        with self._writing, self._reporting():
            self._lock.acquire()
            self._check_there()
            if analyzer is not None:
                self._analyzer, self._writer = analyzer, None
            if self._writer is None:
                self._writer = Writer(self._db, self.analyzer)
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                schema.put_meta(self._db, "sequence", _meta(self._db, "sequence") + 1)
                self._db.execute("COMMIT")
            except BaseException:
                self._writer, self._analyzer = None, None  # its vocabulary may hold terms that were never stored
                if self._db.in_transaction:  # on a full disk SQLite has rolled back already
                    self._db.execute("ROLLBACK")
                raise
        if self.index != "flat":
            self._indexer.wake()

    def _wait_for_room(self) -> None:
        """Where the index is far behind, writers wait for it: what it has not absorbed is in memory and compared one by
        one."""
        view = self._view
        if view is not None and view.dense.waiting() > _MAX_WAITING:
            self._indexer.wait_for(lambda: view.dense.waiting() <= _MAX_WAITING, timeout_s=600)

    @property
    def _current(self) -> View:
        assert self._view is not None
        return self._view

    def _refresh(self) -> None:
        """Bring the view up to date with what is committed, by whichever process; the caller holds the guard."""
        self._check_there()
        (version,) = self._watch.execute("PRAGMA data_version").fetchone()
        if version == self._version and self._view is not None:
            return
        self._watch.execute("BEGIN")
        try:
            self._catch_up()
        finally:
            self._watch.execute("COMMIT")
        self._version = version

    def _catch_up(self) -> None:
        """Inside a read transaction of `_watch`."""
        try:
            generation = _meta(self._watch, "generation") or 0
            if self._view is None:
                tokens = _meta(self._watch, derived.TOKENS) or []
                self._view = derived.load(self._path.parent, self._spec, self.dim, self.metric, tokens)
                if self._view is None:
                    self._view = View(self.dim, self.metric, self._spec)
                else:
                    self._view.after_loading(self._watch)
            elif generation != self._generation:  # someone re-analyzed: all postings have changed
                self._view.read_words(self._watch)
                self._analyzer = None
            self._generation = generation
            self._view.catch_up(self._watch)
        except BaseException:  # half absorbed is worse than not at all
            self._view = None
            raise
        if self._view.dense.waiting() >= BLOCK or self._view.dense.worth_removing():
            self._indexer.wake()

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        """SQLite's errors as ours."""
        try:
            yield
        except sqlite3.Error as error:
            raise schema.explained(self._path, error) from error

    @property
    def dropped(self) -> bool:
        """Whether the file this was opened from is gone: another process dropped the collection."""
        return _identity(self._path) != self._file

    def _check_there(self) -> None:
        if self.dropped:
            raise NotFound(f"collection {self.name!r} was dropped by another process.",
                           remedy="Open it again, or make it anew.")

    # Indexing, in a thread of its own

    def _index_some(self) -> bool:
        """One step: a block into the index, or what is dead out of it, or all of it to disk. Whether there is more."""
        with self._guard, self._reporting():
            if self._closed or self.dropped:
                return False
            self._refresh()
            view = self._current
            block = view.to_absorb()
            gone = view.dense.take_gone() if block is None and view.dense.worth_removing() else None
        if block is not None:
            cut, slots, vectors = block
            view.absorb(slots, vectors, threads=0)
            with self._guard:
                view.absorbed(cut, slots)
            return True
        if gone is not None:
            view.dense.cut_out(gone)
            return True
        if view.changed * 8 > len(view.rows) + 8000:
            self._save(view)
        return False

    def _save(self, view: View) -> None:
        """Only the process that writes to the workspace keeps the files. What cannot be written, on a full disk say, is
        made anew another time."""
        if not self._lock.held or self.dropped or not view.dense.absorbed:
            return
        try:
            with self._writing:
                mark = derived.token()
                known = _meta(self._db, derived.TOKENS) or []
                self._db.execute("BEGIN IMMEDIATE")
                schema.put_meta(self._db, derived.TOKENS, [mark, *known[:1]])
                self._db.execute("COMMIT")
            with self._guard:
                gone = view.dense.take_gone()
            view.dense.cut_out(gone)
            with self._guard:
                captured, view.changed = derived.capture(view), 0
            derived.save(self._path.parent, self._spec, view.dense.index, captured, mark)
        except (OSError, sqlite3.Error):
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def close(self) -> None:
        """Close the file; a closed collection raises on use."""
        self._indexer.stop()
        with self._writing, self._guard:
            if self._closed:
                return
            self._closed = True
            if self._view is not None and self._view.changed and self.index != "flat":
                self._save(self._view)
            self._connections.close()
            self._watch.close()
            self._db.close()


def _meta(connection: sqlite3.Connection, key: str) -> Any:
    row = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return None if row is None else json.loads(row[0])


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells this file from another of its name; None when there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
