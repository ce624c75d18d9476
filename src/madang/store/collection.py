"""A collection: records in namespaces, written durably, searched exactly by vector, by words, or both."""

from __future__ import annotations

import json
import sqlite3
import threading
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from madang.base.errors import Corrupt, InvalidInput, NotFound
from madang.base.records import Filter, Match, Plan, QueryResult, Record, Source, SourceInfo, SparseVector
from madang.index import Audit
from madang.index.graph import SmallWorld
from madang.index.specs import Spec
from madang.store import filters, schema, validate
from madang.store.derived import load as load_derived
from madang.store.derived import save as save_derived
from madang.store.fusion import Fusion, reciprocal_rank
from madang.store.lock import WriterLock
from madang.store.protocol import CollectionStats, IdPage
from madang.store.view import Slots, View
from madang.store.writing import Writer, indexed_text
from madang.text.analyzer import Analyzer, analyzer_for, default_analyzer


class Collection:
    """One collection of a workspace. Safe to use from several threads; made by `Database`, not directly.

    A write is acknowledged when it is committed and synced; every read sees all acknowledged writes, those of
    another process included.
    """

    def __init__(self, directory: Path, lock: WriterLock) -> None:
        self._path = directory / schema.FILE_NAME
        self._lock = lock
        self._file = _identity(self._path)
        self._guard = threading.RLock()
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
        self._view, self._fresh = View(self.dim, self.metric, self._spec), True
        self._generation: int = meta.get("generation", 0)
        self._analyzer: Analyzer | None = None
        self._writer: Writer | None = None

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
            found = self._records([validate.record_id(id)], namespace)
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
            schema.put_meta(self._db, "generation", (self._meta("generation") or 0) + 1)
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
        dense = None if vector is None else validate.vector(vector, self.dim, "vector")
        words = validate.text(text, "text")
        tree = None if filter is None else filters.parse(filter)
        with self._read():
            mask, candidates = self._view.allowed(self._db, namespace, tree)
            slots, scores, plan = self._search(dense, words, wanted, mask, candidates, fusion or Fusion(),
                                               target_recall)
            matches = self._matches(slots, scores, include_metadata, include_values, include_document)
        return QueryResult(matches, plan, namespace)

    def _search(self, dense: NDArray[np.float32] | None, words: str | None, k: int, mask: NDArray[np.bool_],
                candidates: int, fusion: Fusion,
                target_recall: float | None) -> tuple[Slots, Sequence[float], Plan]:
        if candidates == 0:
            return np.empty(0, dtype=np.int64), [], Plan(candidates=0)
        if words is None and dense is not None:
            slots, scores, how = self._view.nearest(dense, k, mask, target_recall)
            return slots, scores.tolist(), Plan(dense=how, candidates=candidates)
        depth = k if dense is None else max(fusion.depth, k)
        hits, lexical_scores = self._lexical(words or "", depth, mask)
        if dense is None:
            return hits, lexical_scores.tolist(), Plan(lexical="bm25", candidates=candidates)
        near, _, how = self._view.nearest(dense, depth, mask, target_recall)
        rankings = [near.tolist() if fusion.dense else [], hits.tolist() if fusion.lexical else []]
        fused = reciprocal_rank(rankings, [fusion.dense, fusion.lexical], fusion.k)[:k]
        plan = Plan(dense=how, lexical="bm25", fusion=str(fusion), candidates=candidates)
        return np.array([slot for slot, _ in fused], dtype=np.int64), [score for _, score in fused], plan

    def _lexical(self, words: str, k: int, mask: NDArray[np.bool_]) -> tuple[Slots, NDArray[np.float32]]:
        terms = self.analyzer.query_terms(words)
        known: dict[str, int] = {}
        names = list(terms)
        for start in range(0, len(names), 500):
            part = names[start:start + 500]
            marks = ",".join("?" * len(part))
            known |= dict(self._db.execute(f"SELECT term, term_id FROM terms WHERE term IN ({marks})", part))
        ids = np.fromiter(known.values(), dtype=np.int64, count=len(known))
        weights = np.fromiter((terms[name] for name in known), dtype=np.float32, count=len(known))
        return self._view.lexical.search(ids, weights, k, mask)

    def _matches(self, slots: Slots, scores: Sequence[float], with_metadata: bool, with_values: bool,
                 with_document: bool) -> list[Match]:
        matches = []
        for row, score in zip(self._view.rows_of(slots), scores, strict=True):
            identity, metadata, document = self._db.execute(
                "SELECT id, metadata, document FROM records WHERE row = ?", (row,)).fetchone()
            values = None
            if with_values:
                (data,) = self._db.execute("SELECT data FROM vectors WHERE row = ?", (row,)).fetchone()
                values = np.frombuffer(data, dtype="<f4")
            matches.append(Match(identity, float(score), json.loads(metadata) if with_metadata else None, values,
                                 document if with_document else None))
        return matches

    def fetch(self, ids: Sequence[str], namespace: str = "") -> dict[str, Record]:
        """Records by id; unknown ids are left out."""
        wanted = validate.ids(ids)
        validate.namespace_name(namespace)
        with self._guard, self._reporting():
            found = self._records(wanted, namespace)
        return {identity: found[identity][0] for identity in wanted if identity in found}

    def _records(self, ids: Sequence[str], namespace: str) -> dict[str, tuple[Record, int | None]]:
        """Each found record with the source it belongs to."""
        found: dict[str, tuple[Record, int | None]] = {}
        for identity in ids:
            stored = self._db.execute(
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
        with self._guard, self._reporting():
            found = [identity for (identity,) in self._db.execute(
                "SELECT id FROM records WHERE namespace = ? AND id >= ? AND id > ? AND substr(id, 1, ?) = ? "
                "ORDER BY id LIMIT ?", (namespace, prefix, cursor or "", len(prefix), prefix, limit + 1))]
        return IdPage(found[:limit], found[limit - 1] if len(found) > limit else None)

    def stats(self) -> CollectionStats:
        """Counts and settings."""
        with self._guard, self._reporting():
            namespaces = dict(self._db.execute("SELECT namespace, COUNT(*) FROM records GROUP BY namespace "
                                               "ORDER BY namespace"))
            (sources,) = self._db.execute("SELECT COUNT(*) FROM sources").fetchone()
            sequence, analyzer = self._meta("sequence"), self._meta("analyzer")
        size = sum(path.stat().st_size for path in self._path.parent.iterdir() if path.is_file())
        return CollectionStats(self.name, sum(namespaces.values()), namespaces, sources, self.dim, self.metric,
                               self.index, self.embedder, analyzer, size, sequence)

    def sources(self, namespace: str = "") -> dict[str, SourceInfo]:
        """The documents records were cut from, by uri."""
        with self._guard, self._reporting():
            rows = self._db.execute("SELECT uri, content_hash, media_type, title, size_bytes, "
                                    "(SELECT COUNT(*) FROM records r WHERE r.source = s.source), ingested_at "
                                    "FROM sources s WHERE namespace = ? ORDER BY uri", (namespace,))
            return {row[0]: SourceInfo(*row) for row in rows}

    def source(self, uri: str, namespace: str = "") -> Source | None:
        """A document with its text, or None."""
        with self._guard, self._reporting():
            row = self._db.execute("SELECT uri, content_hash, text, media_type, title, size_bytes, pages FROM sources "
                                   "WHERE namespace = ? AND uri = ?", (namespace, uri)).fetchone()
        if row is None:
            return None
        uri, content_hash, text, media_type, title, size_bytes, pages = row
        return Source(uri, content_hash, zlib.decompress(text).decode("utf-8"), media_type, title, size_bytes,
                      tuple(json.loads(pages)))

    def wait_until_indexed(self, timeout_s: float | None = None) -> None:
        """Bring the index up to date now; else the next query does."""
        with self._read():
            pass

    def audit(self, queries: Any = None, k: int = 10, ef_search: int | None = None, samples: int = 200) -> Audit:
        """Measure a graph index against exact search: recall by filter selectivity, and what cannot be reached.

        `queries` (q, dim): real ones if you have them. Raises `InvalidInput` for an exact index: it is always right.
        """
        with self._read():
            index = self._view.dense
            if not isinstance(index, SmallWorld):
                raise InvalidInput(f"collection {self.name!r} is searched exactly: there is nothing to measure.")
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
        if self._analyzer is None:
            self._analyzer = analyzer_for(self._meta("analyzer"), self.name)
        return self._analyzer

    def _meta(self, key: str) -> Any:
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else json.loads(row[0])

    @contextmanager
    def _write(self, analyzer: Analyzer | None = None) -> Iterator[Writer]:
        """A write transaction: everything inside is committed and synced, or nothing is."""
        with self._guard, self._reporting():
            self._lock.acquire()
            self._check_there()
            if analyzer is not None:
                self._analyzer, self._writer = analyzer, None
            if self._writer is None:
                self._writer = Writer(self._db, self.analyzer)
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                schema.put_meta(self._db, "sequence", self._meta("sequence") + 1)
                self._db.execute("COMMIT")
            except BaseException:
                self._writer, self._analyzer = None, None  # its vocabulary may hold terms that were never stored
                if self._db.in_transaction:  # on a full disk SQLite has rolled back already
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def _read(self) -> Iterator[None]:
        """A read transaction on a view that has caught up: one snapshot from search to metadata."""
        with self._guard, self._reporting():
            self._check_there()
            self._db.execute("BEGIN")
            try:
                generation = self._meta("generation") or 0
                if generation != self._generation:  # someone re-analyzed: all postings have changed
                    self._view, self._fresh = View(self.dim, self.metric, self._spec), True
                    self._generation, self._analyzer = generation, None
                try:
                    self._catch_up()
                except BaseException:  # half absorbed is worse than not at all
                    self._view, self._fresh = View(self.dim, self.metric, self._spec), True
                    raise
                yield
            finally:
                self._db.execute("COMMIT")

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

    def _catch_up(self) -> None:
        """Bring the view up to date, beginning with the graph on disk; a graph that grew by much is written there."""
        graph = self.index != "flat"
        if graph and self._fresh:
            derived = load_derived(self._path.parent, self._spec)
            if derived is not None:
                self._view.restore(self._db, derived)
        self._fresh = False
        self._view.catch_up(self._db)
        if graph and self._view.changed * 8 > len(self._view.dense) + 8000:
            self._save_graph()

    def _save_graph(self) -> None:
        """Only the process that writes to the workspace keeps the file."""
        if self._view.changed and self._lock.held and not self.dropped:
            save_derived(self._path.parent, self._spec, self._view.derived())

    def close(self) -> None:
        """Close the file; a closed collection raises on use."""
        with self._guard:
            if self.index != "flat":
                self._save_graph()
            self._db.close()


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells this file from another of its name; None when there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
