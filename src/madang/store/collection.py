"""A collection: records in namespaces, written durably, searched by vector, by words, or both."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from datetime import datetime
from heapq import nsmallest
from pathlib import Path
from typing import Any

import numpy as np

from madang.base.errors import Conflict, InvalidInput, NotFound
from madang.base.records import Filter, QueryResult, Record, Source, SourceInfo
from madang.index.specs import spec_of
from madang.store import backup, bitmaps, embeddings, filters, schema, search, snapshots, validate
from madang.store.audit import CollectionAudit, Repaired, measured, repaired
from madang.store.backup import BackupInfo
from madang.store.copies import Progress
from madang.store.counts import Counted
from madang.store.fusion import Fusion
from madang.store.inside import Inside
from madang.store.protocol import CollectionStats, IdPage
from madang.store.reading import Reader
from madang.store.shadow import Shadow
from madang.store.snapshots import SnapshotInfo
from madang.store.updating import Change, change
from madang.store.writing import Writer, indexed_text
from madang.text.analyzer import default_analyzer

_REWRITTEN = 1_000             # records that an update by filter has in memory at once


class Collection(Inside):
    """One collection of a workspace. Safe to use from several threads; made by `Database`, not directly.

    A write is acknowledged when it is committed and synced; every read sees all acknowledged writes, those of
    another process included.
    """

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
            writer.insert(self._searchable(checked), namespace, by_hand=True)
        return len(checked)

    def update(self, id: str | None = None, values: Any = None,  # noqa: A002
               set_metadata: Mapping[str, Any] | None = None, namespace: str = "", *, sparse: Any = None,
               filter: Filter | None = None) -> int:  # noqa: A002
        """Replace the vector or the sparse vector and/or merge metadata keys of one record, by its id; or merge
        metadata keys of all records that a filter matches, in one transaction. Returns how many records changed.

        Raises `NotFound` for an unknown id; a filter may match nothing.
        """
        wanted = change(id, values, set_metadata, sparse, filter)
        validate.namespace_name(namespace)
        with self._write() as writer:
            if wanted.id is not None:
                found = Reader(self._db, self._path).record(wanted.id, namespace)
                if found is None:
                    raise NotFound(f"collection {self.name!r} has no record {wanted.id!r} in namespace {namespace!r}.",
                                   remedy="Use upsert to create it.")
                self._rewrite(writer, [found], wanted, namespace)
                return 1
            assert wanted.filter is not None
            rows = self._matching(wanted.filter, namespace)
            for start in range(0, len(rows), _REWRITTEN):
                part = Reader(self._db, self._path).whole(rows[start:start + _REWRITTEN])
                self._rewrite(writer, part, wanted, namespace)
        return len(rows)

    def _rewrite(self, writer: Writer, found: Sequence[tuple[Record, int | None]], wanted: Change,
                 namespace: str) -> None:
        """Records in place of themselves, changed; each stays with its source."""
        by_source: dict[int | None, list[Record]] = {}
        for record, source in found:
            by_source.setdefault(source, []).append(wanted.of(record))
        dim, beside = self._meta("dim"), wanted.values is None and embeddings.shadow(self._meta) is not None
        for source, records in by_source.items():
            with ExitStack() as kept:
                for record in records if beside else ():
                    kept.enter_context(embeddings.carried(self._db, self._path, record.id, namespace))
                writer.insert(self._searchable(validate.records(records, dim)), namespace, source)

    def delete(self, ids: Sequence[str] | None = None, filter: Filter | None = None,  # noqa: A002
               delete_all: bool = False, namespace: str = "") -> int:
        """Delete by ids, by filter, or everything in a namespace. Returns how many records went; unknown ids are
        no error."""
        if sum([ids is not None, filter is not None, bool(delete_all)]) != 1:
            raise InvalidInput("delete needs exactly one of ids, filter and delete_all=True.")
        validate.namespace_name(namespace)
        wanted = validate.ids(ids) if ids is not None else None
        tree = filters.parsed(filter) if filter is not None else None
        with self._write() as writer:
            if wanted is not None:
                return writer.delete_ids(wanted, namespace, by_hand=True)
            if tree is None:
                return writer.delete_namespace(namespace)
            return writer.delete_rows(self._matching(tree, namespace), by_hand=True)

    def replace_sources(self, batch: Sequence[tuple[Source, Sequence[Record]]], namespace: str = "",
                        embedder: str | None = None) -> int:
        """Store documents with the records cut from them, each in place of its earlier version; one transaction.

        Returns how many records were written. Raises `Conflict` where the vectors are from `embedder`, and the
        collection has another one by now.
        """
        validate.namespace_name(namespace)
        self._check_embedder(embedder, self.embedder)
        checked = [(source, validate.records(records, self.dim)) for source, records in batch]
        with self._write() as writer:
            self._check_embedder(embedder, self._meta("embedder"))
            for source, records in checked:
                writer.replace_source(source, self._searchable(records), namespace)
        return sum(len(records) for _, records in checked)

    def remove_sources(self, uris: Iterable[str], namespace: str = "") -> int:
        """Remove documents and their records in one transaction. Returns how many were there."""
        wanted = list(uris)
        if not wanted:
            return 0
        with self._write() as writer:
            return sum(writer.remove_source(uri, namespace) for uri in wanted)

    def _check_embedder(self, mine: str | None, theirs: str | None) -> None:
        if mine is not None and theirs not in (None, mine):
            raise Conflict(f"collection {self.name!r} was made with {theirs}, not {mine}.",
                           remedy="It was re-embedded meanwhile: begin again.")

    def _searchable(self, records: list[Record]) -> list[Record]:
        """The same, or InvalidInput where the index could not take one: what is acknowledged must be searchable. Inside
        the write, since `set_index` and a cut-over change what an index takes."""
        if records:
            first = records[0]
            validate.vector(first.values, self._meta("dim"), f"record {first.id!r:.60}: values")
        if records and self.metric != "cosine":
            vectors = np.stack([np.asarray(record.values) for record in records])
            validate.lengths([record.id for record in records], vectors, self.metric,
                             embeddings.live(self._meta).spec.get("precision"))
        return records

    def _matching(self, parsed: filters.Parsed, namespace: str) -> list[int]:
        """The rows of a namespace that a filter matches, ascending, inside the write transaction: nobody else can
        commit, so what the view says of the last commit is so."""
        with self._current.transaction() as (view, _):
            rows: list[int] = view.rows.view()[bitmaps.rows(view.allowed(namespace, parsed))].tolist()
        return rows

    def reanalyze(self) -> int:
        """Rebuild the word index with the analyzer installed now. Returns how many documents it read."""
        count = 0
        with self._write(analyzer=default_analyzer()) as writer:
            self._db.execute("DELETE FROM postings")
            self._db.execute("DELETE FROM terms")
            writer.forget()
            batch: list[tuple[int, str]] = []
            for row, text, context in list(Reader(self._db, self._path).documents()):
                batch.append((row, indexed_text(text, context)))
                count += 1
                if len(batch) == 1000:
                    writer.index_text(batch)
                    batch.clear()
            writer.index_text(batch)
            schema.put_meta(self._db, "analyzer", default_analyzer().signature)
            schema.put_meta(self._db, "generation", (self._meta("generation") or 0) + 1)
        return count

    def set_index(self, index: Any) -> None:
        """Search with another index from now on: as for `Database.create`. It is built in the background, and the one
        there is answers until then; `wait_until_indexed` waits for it.

        Raises `InvalidInput` for an index that does not fit. Other processes take it when they open the collection.
        """
        spec = spec_of(index, self.dim, self.metric)
        before = self._current.spec
        try:
            with self._write():
                for block in Reader(self._db, self._path).records() if self.metric != "cosine" else ():
                    assert block.vectors is not None
                    validate.lengths(block.ids, block.vectors, self.metric, spec.get("precision"))
                schema.put_meta(self._db, "index", spec)
                self._current.spec = spec      # before anybody else may write
        except BaseException:
            self._current.spec = before
            raise

    @property
    def attributes(self) -> dict[str, Any]:
        """What callers keep with the collection, e.g. tags: an object of JSON values."""
        with self._reporting(), self._connections.reading() as reader:
            kept: dict[str, Any] = reader.meta("attributes") or {}
            return kept

    def set_attributes(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Change some attributes (None removes one), in one transaction; returns all of them."""
        with self._write():
            kept = validate.attributes({**(self._meta("attributes") or {}), **changes})
            kept = {name: value for name, value in kept.items() if value is not None}
            schema.put_meta(self._db, "attributes", kept)
        return kept

    # Reading

    def query(self, vector: Any = None, text: str | None = None, sparse: Any = None, top_k: int = 10,
              namespace: str = "", filter: Filter | None = None, include_metadata: bool = True,  # noqa: A002
              include_values: bool = False, include_document: bool = False, target_recall: float | None = None,
              fusion: Fusion | None = None) -> QueryResult:
        """The best records: by vector, by words (BM25), by a sparse vector, or several of these fused.

        Args:
            vector: `dim` numbers. text: words to search in the documents. sparse: indices and values, compared with the
                records' own by inner product. At least one of the three.
            fusion: how several rankings are combined: reciprocal ranks unless you say `Fusion(method="weighted")`, or
                "sum" for scores that are added up.
            filter: a metadata filter, e.g. {"year": {"$gte": 2020}}; applied before the search.
            target_recall: the share of the true nearest records to find, for graph indexes: the search is widened
                until it is reached, by measuring. Exact search always reaches 1.0.

        Scores are higher for better matches: the metric's for a vector, BM25's for words, the inner product for a
        sparse vector, the fused one for several.
        """
        current = self._current
        with self._reporting():
            asked = search.asked(current, self.metric, vector, text, sparse, top_k, namespace, filter, include_metadata,
                                 include_values, include_document, target_recall, fusion)
        if self._sample is not None:
            self._sample.offer(asked.vector, asked.words, current.embedding.made)
        return self._answered(asked, current)

    def fetch(self, ids: Sequence[str], namespace: str = "") -> dict[str, Record]:
        """Records by id; unknown ids are left out."""
        wanted = validate.ids(ids)
        validate.namespace_name(namespace)
        with self._reporting(), self._connections.reading() as reader:
            found = {identity: reader.record(identity, namespace) for identity in dict.fromkeys(wanted)}
        return {identity: record[0] for identity, record in found.items() if record is not None}

    def list_ids(self, prefix: str = "", limit: int = 100, cursor: str | None = None, namespace: str = "",
                 filter: Filter | None = None) -> IdPage:  # noqa: A002
        """Ids in order, a page at a time, of the records that the filter matches; pass the page's `cursor` to get the
        next."""
        if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= validate.MAX_TOP_K:
            raise InvalidInput(f"limit must be a whole number from 1 to {validate.MAX_TOP_K:,}, not {limit!r}.")
        validate.namespace_name(namespace)
        prefix, cursor = validate.text(prefix, "prefix") or "", validate.text(cursor, "cursor") or ""
        if filter is not None:
            parsed = filters.parsed(filter)
            with self._reporting(), self._current.view() as view:
                names = view.names.of(bitmaps.rows(view.allowed(namespace, parsed)).tolist())
            found = nsmallest(limit + 1, (name for name in names if name > cursor and name.startswith(prefix)))
        else:
            with self._reporting(), self._connections.reading() as reader:
                found = reader.ids(prefix, cursor, limit + 1, namespace)
        return IdPage(found[:limit], found[limit - 1] if len(found) > limit else None)

    def count(self, filter: Filter | None = None, namespace: str = "") -> int:  # noqa: A002
        """How many records of a namespace there are, or match a filter."""
        validate.namespace_name(namespace)
        parsed = None if filter is None else filters.parsed(filter)
        with self._reporting(), self._current.view() as view:
            return len(view.allowed(namespace, parsed))

    def stats(self) -> CollectionStats:
        """Counts and settings."""
        with self._reporting(), self._connections.reading() as reader:
            namespaces, embedding = reader.namespaces(), embeddings.live(reader.meta)
            sources, sequence, analyzer = reader.source_count(), reader.meta("sequence"), reader.meta("analyzer")
        size = sum(path.stat().st_size for path in self._path.parent.iterdir() if path.is_file())
        return CollectionStats(self.name, sum(namespaces.values()), namespaces, sources, embedding.dim,
                               self.metric, str(embedding.spec["kind"]), embedding.embedder, analyzer, size, sequence)

    def counted(self) -> Counted:
        """Counts that cost little: records, what the index has not absorbed, searches since this was opened."""
        with self._reporting(), self._current.view() as view:
            return Counted(len(view.all_live()), view.dense.waiting(), self._searches.count, self._searches.compared)

    def sources(self, namespace: str = "") -> dict[str, SourceInfo]:
        """The documents records were cut from, by uri."""
        with self._reporting(), self._connections.reading() as reader:
            return {info[0]: SourceInfo(*info) for info in reader.sources(namespace)}

    def source(self, uri: str, namespace: str = "") -> Source | None:
        """A document with its text, or None."""
        with self._reporting(), self._connections.reading() as reader:
            return reader.source(uri, namespace)

    def wait_until_indexed(self, timeout_s: float | None = None) -> bool:
        """Until the index has absorbed what it can; fewer than 128 records stay outside a graph, searched exactly.
        False when the time is over first."""
        with self._reporting():
            with self._current.view():
                pass
            self._current.indexer.wake()
            return self._current.indexer.wait(timeout_s)

    def audit(self, queries: Any = None, k: int = 10, ef_search: int | None = None,
              samples: int = 200) -> CollectionAudit:
        """Measure the index against exact search: recall by filter selectivity, what cannot be reached, damaged files.

        `queries` (q, dim): else the sample of those that were asked if there are 30, else made-up ones.
        """
        self.wait_until_indexed()
        current = self._current
        kept = None if self._sample is None else self._sample.vectors(current.embedding.made)
        with self._reporting():
            return measured(current, self._path.parent, queries, kept, k, ef_search, samples)

    def repair(self) -> Repaired:
        """Link what no link leads to, build the index again where it lacks records, write damaged files again."""
        with self._write():
            pass            # only the process that writes repairs what is on disk
        self.wait_until_indexed()
        with self._reporting():
            return repaired(self._current, self._path.parent, self.wait_until_indexed)

    def questions(self) -> list[str]:
        """Texts of queries that were asked: a sample of at most 512, none where `keep_queries` is off."""
        return [] if self._sample is None else self._sample.texts()

    def forget_queries(self) -> None:
        """Remove the sample of queries, vectors and texts, that audits and comparisons measure with."""
        if self._sample is not None:
            self._sample.forget()

    @property
    def shadow(self) -> Shadow:
        """Vectors of another model beside the ones that are searched, if there are any: to build, compare, cut over."""
        return Shadow(self)

    # Versions

    def snapshot(self, name: str, progress: Progress | None = None) -> SnapshotInfo:
        """Keep the state of this moment under a name; writers go on. `progress` is told bytes done and bytes in all.

        Raises `Conflict` where there is one of that name, `Corrupt` where the records are damaged.
        """
        return snapshots.create(self._path.parent, name, progress)

    def snapshots(self) -> list[SnapshotInfo]:
        """The snapshots, oldest first."""
        return snapshots.listing(self._path.parent)

    def as_of(self, when: str | int | datetime) -> Collection:
        """A snapshot as a collection that can only be read: by name, or the newest one not later than a sequence number
        or a time (ISO 8601; UTC unless it says otherwise). Close it after use."""
        directory = self._path.parent
        found = snapshots.as_of(directory, when)
        return Collection(snapshots.path_of(directory, found.name), None, f"{self.name}@{found.name}")

    def delete_snapshot(self, name: str) -> None:
        """Raises `NotFound` where there is none of that name."""
        snapshots.delete(self._path.parent, name)

    def backup(self, path: str | Path, overwrite: bool = False, progress: Progress | None = None) -> BackupInfo:
        """Write all records and documents to one file, while writers go on."""
        return backup.create(self._path.parent, Path(path), overwrite, progress)

    def export(self, path: str | Path, overwrite: bool = False, progress: Progress | None = None) -> None:
        """Write all records to a Parquet file, and documents to another beside it. Needs `madang[parquet]`."""
        from madang.store import parquet

        parquet.export(self._path.parent, Path(path), overwrite, progress)

    def close(self, keep: bool = True) -> None:
        """Close the file; a closed collection raises on use. `keep`: write the index beside it, if that is worth it."""
        try:
            for current in (self._beside, self._current):
                if current is not None:
                    current.close(keep)
            if keep and self._sample is not None and self._may_save():
                with suppress(OSError):      # a sample is not worth an error
                    self._sample.save()
            if keep and self._may_save():
                with self._writing, suppress(sqlite3.Error):      # neither is the room
                    schema.compact(self._db, self._path)
        finally:
            self._connections.close()
            if self._pulse is not None:
                self._pulse.close()
            with self._writing:
                schema.close(self._db)
