"""A Parquet file into a collection, in batches; what is there already as it is in the file is not written again, so an
import that was interrupted goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from madang.base.errors import Corrupt, InvalidInput
from madang.base.records import Record, Source, SourceInfo
from madang.store.parquet import Item, Progress, Reader
from madang.store.protocol import CollectionProtocol

_BATCH = 2000           # records per transaction
_Group = tuple[str, str | None, list[Record]]          # namespace, uri of the source, records


@dataclass(frozen=True, slots=True)
class Loaded:
    """Records written, records that were there already, and documents written with their records."""

    written: int
    skipped: int
    sources: int


def load(collection: CollectionProtocol, reader: Reader, sources: bool = True,
         progress: Progress | None = None) -> Loaded:
    """Write every record of a file into a collection. Each batch is one transaction.

    Args:
        sources: with the documents that the records of an export were cut from; without, the records alone.
        progress: called with records done and records in all.

    Raises:
        InvalidInput: another dimension, or a record the store refuses; batches before it stay.
        Corrupt: the file is damaged; batches before the damage stay. NotFound: the documents' file is missing.
    """
    if reader.dim is not None and reader.dim != collection.dim:
        raise InvalidInput(f"{reader.path} has vectors of dimension {reader.dim}, collection {collection.name!r} of "
                           f"{collection.dim}.", remedy="Import into a new collection.")
    return _Load(collection, reader, progress).run(sources)


class _Load:
    def __init__(self, collection: CollectionProtocol, reader: Reader, progress: Progress | None) -> None:
        self._collection, self._reader, self._progress = collection, reader, progress
        stats = collection.stats()
        self._empty = stats.records == 0 and stats.sources == 0
        self._known: dict[str, dict[str, SourceInfo]] = {}
        self._written = self._skipped = self._sources = 0

    def run(self, with_sources: bool) -> Loaded:
        exported = self._reader.sources() if with_sources else iter(())
        waiting: list[tuple[str, Source, list[Record]]] = []
        for namespace, uri, records in _grouped(self._reader.items(_BATCH), with_sources):
            if uri is None:
                self._upsert(namespace, records)
                continue
            for space, source in exported:   # in the order of the records; some have none
                mine = (space, source.uri) == (namespace, uri)
                waiting = self._hold(waiting, space, source, records if mine else [])
                if mine:
                    break
            else:
                raise Corrupt(f"{self._reader.path} has records of {uri!r:.80}, which is not among its documents.",
                              remedy="Export it again, or import without the documents.")
        for space, source in exported:
            waiting = self._hold(waiting, space, source, [])
        self._replace(waiting)
        return Loaded(self._written, self._skipped, self._sources)

    def _upsert(self, namespace: str, records: list[Record]) -> None:
        found = {} if self._empty else self._collection.fetch([record.id for record in records], namespace)
        new = [record for record in records if record.id not in found or not _same(found[record.id], record)]
        if new:
            self._collection.upsert(new, namespace)
        self._count(len(new), len(records) - len(new))

    def _hold(self, waiting: list[tuple[str, Source, list[Record]]], namespace: str, source: Source,
              records: list[Record]) -> list[tuple[str, Source, list[Record]]]:
        """Keep a document back until there are enough for a transaction."""
        if not self._empty and self._there(namespace, source, records):
            self._count(0, len(records))
            return waiting
        if waiting and (waiting[0][0] != namespace or sum(len(held) for _, _, held in waiting) >= _BATCH):
            self._replace(waiting)
            waiting = []
        return [*waiting, (namespace, source, records)] if waiting else [(namespace, source, records)]

    def _replace(self, waiting: Sequence[tuple[str, Source, list[Record]]]) -> None:
        if waiting:
            batch = [(source, records) for _, source, records in waiting]
            self._collection.replace_sources(batch, waiting[0][0])
            self._sources += len(batch)
            self._count(sum(len(records) for _, records in batch), 0)

    def _there(self, namespace: str, source: Source, records: Sequence[Record]) -> bool:
        if namespace not in self._known:
            self._known[namespace] = self._collection.sources(namespace)
        known = self._known[namespace].get(source.uri)
        if known is None or known.chunks != len(records) or self._collection.source(source.uri, namespace) != source:
            return False
        found = self._collection.fetch([record.id for record in records], namespace)
        return all(record.id in found and _same(found[record.id], record) for record in records)

    def _count(self, written: int, skipped: int) -> None:
        self._written += written
        self._skipped += skipped
        if self._progress is not None:
            self._progress(self._written + self._skipped, self._reader.records)


def _same(one: Record, other: Record) -> bool:
    """Whether two records are the same to the bit, and their metadata of the same types."""
    return _content(one) == _content(other)


def _content(record: Record) -> tuple[object, ...]:
    sparse = None if record.sparse is None else [
        (int(i), float(v)) for i, v in sorted(zip(record.sparse.indices, record.sparse.values, strict=True))]
    return (np.asarray(record.values, dtype="<f4").tobytes(), sparse, json.dumps(record.metadata, sort_keys=True),
            record.document, record.context)


def _grouped(batches: Iterator[list[Item]], with_sources: bool) -> Iterator[_Group]:
    """Neighbours of one namespace and source: all records of a source together, others at most a batch at a time."""
    group: _Group = "", None, []
    for batch in batches:
        for item in batch:
            uri = item.source_uri if with_sources else None
            if (item.namespace, uri) != group[:2]:
                if group[2]:
                    yield group
                group = item.namespace, uri, []
            group[2].append(item.record)
        if group[1] is None and group[2]:
            yield group
            group = group[0], None, []
    if group[2]:
        yield group
