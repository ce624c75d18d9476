"""Rows out of SQLite, each checked against the checksum it was written with.

What is damaged raises `Corrupt` naming the file, the record and the remedy. Callers hold a read transaction where they
need one snapshot of several reads.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from madang.base.errors import Corrupt
from madang.base.records import Record, Source, SparseVector, Vector
from madang.store import checksums
from madang.store.schema import VECTORS, damaged, get_meta, sums_in_vectors
from madang.store.schema import marks as _marks
from madang.store.schema import parts as _parts

_AT_ONCE = 8192
_HEAD = ", ".join(f"r.{column}" for column in checksums.HEAD)
_METADATA = checksums.HEAD.index("metadata")
_LAST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Block:
    """Some records in row order: `rows` (n,); of each its namespace, id and metadata (JSON); `vectors` (n, dim)."""

    rows: NDArray[np.int64]
    namespaces: list[str]
    ids: list[str]
    metadata: list[str]
    vectors: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class Postings:
    """Of n rows, ascending: row i has `term_ids` and `weights` from `starts[i]` to `starts[i + 1]`; starts (n + 1,)."""

    rows: NDArray[np.int64]
    starts: NDArray[np.int64]
    term_ids: NDArray[np.int64]
    weights: NDArray[np.float32]


class Reader:
    """Reads a `records.db`: the counterpart of `Writer`."""

    def __init__(self, connection: sqlite3.Connection, path: Path, table: int | None = None) -> None:
        """`table`: of `schema.VECTORS`; the one that is searched if None. Of the other one, records are read up to the
        first that has no vector in it."""
        self._db = connection
        self._path = path
        self._table = table
        self._told: tuple[str, str, bool] | None = None

    def meta(self, key: str) -> Any:
        """A key of the metadata, None where it was never set."""
        return get_meta(self._db, self._path, key)

    def check(self) -> None:
        """What no checksum tells: rows that are lost, and indexes that do not agree with their tables.

        Reads the whole file: about 1 microsecond a record when it is in memory.
        """
        (found,) = self._db.execute("PRAGMA integrity_check(1)").fetchone()
        if found != "ok":
            said = " ".join(found.replace("*** in database main ***", "").split())
            raise damaged(self._path, f"its structure ({said})")

    def records(self, after: int = 0, up_to: int = _LAST, vectors: bool = True) -> Iterator[Block]:
        """The records of rows above `after`, some thousands at a time."""
        data, join, complete = self._joined() if vectors else ("", "", True)
        if not complete:
            lacking = self.without_vector(after, 1)
            up_to = min(up_to, lacking[0][0] - 1) if lacking else up_to
        cursor = self._db.execute(f"SELECT {_HEAD}{data} FROM records r {join}WHERE r.row > ? AND r.row <= ? "
                                  "ORDER BY r.row", (after, up_to))
        while found := cursor.fetchmany(_AT_ONCE):
            self._check_heads(found)
            rows = np.fromiter((head[0] for head in found), dtype=np.int64, count=len(found))
            stored = self._vectors(found) if vectors else None
            yield Block(rows, [head[1] for head in found], [head[2] for head in found],
                        [head[_METADATA] for head in found], stored)

    def vectors(self, rows: Sequence[int]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The vectors of rows, ascending: which of the rows there still are (n,), and theirs (n, dim)."""
        data, join, _ = self._joined()
        found = [head for part in _parts(rows) for head in self._db.execute(
            f"SELECT {_HEAD}{data} FROM records r {join}WHERE r.row IN ({_marks(part)}) ORDER BY r.row", part)]
        self._check_heads(found)
        return np.fromiter((head[0] for head in found), dtype=np.int64, count=len(found)), self._vectors(found)

    def _joined(self) -> tuple[str, str, bool]:
        """Columns with a vector and its checksum, the join that gives them, and whether every record has one."""
        if self._told is not None:
            return self._told
        live = self.meta("table") or 0
        table = live if self._table is None else self._table
        own = table or sums_in_vectors(self._db, self._path)
        told = (f", v.data, {'COALESCE(v.checksum, r.vector_sum)' if own else 'r.vector_sum'}",
                f"LEFT JOIN {VECTORS[table]} v USING (row) ", table == live)
        if self._table is None:     # then it is for one transaction
            self._told = told
        return told

    def of(self, table: int) -> Reader:
        """Of another table of vectors."""
        return Reader(self._db, self._path, table)

    def without_vector(self, after: int, limit: int) -> list[tuple[int, str, Record]]:
        """Records of rows above `after` that have no vector in the table: row, namespace, and all but the vectors."""
        _, join, _ = self._joined()
        found = self._db.execute(f"SELECT {_HEAD}, r.document, r.context FROM records r {join}"
                                 "WHERE r.row > ? AND v.row IS NULL ORDER BY r.row LIMIT ?", (after, limit)).fetchall()
        self._check_heads(found)
        for head in found:
            self._check_text(head, *head[-2:])
        return [(head[0], head[1], Record(head[2], None, None, json.loads(head[_METADATA]), *head[-2:]))
                for head in found]

    def without_document(self) -> tuple[int, str | None]:
        """How many records have no document, and the id of one of them."""
        return self._db.execute("SELECT COUNT(*), MIN(id) FROM records WHERE document IS NULL").fetchone()  # type: ignore[no-any-return]

    def count_without_vector(self) -> int:
        """How many there are of those."""
        (count,) = self._db.execute(f"SELECT COUNT(*) FROM records r {self._joined()[1]}WHERE v.row IS NULL").fetchone()
        return int(count)

    def _vectors(self, found: Sequence[tuple[Any, ...]]) -> NDArray[np.float32]:
        """Of records whose last two columns are those of `_joined`."""
        data = [head[-2] for head in found]
        self._compare(found, "the vector", checksums.of_many, data, [head[0] for head in found],
                      stored=[head[-1] for head in found])
        if not data:
            return np.empty((0, 0), dtype=np.float32)
        return np.frombuffer(b"".join(data), dtype="<f4").reshape(len(found), -1).astype(np.float32, copy=False)

    def postings(self, after: int = 0, up_to: int = _LAST) -> Postings:
        """The words of the documents of rows above `after`."""
        found = self._db.execute("SELECT r.row, p.term_ids, p.weights, p.checksum FROM records r "
                                 "LEFT JOIN postings p USING (row) WHERE r.row > ? AND r.row <= ? "
                                 "AND r.document IS NOT NULL ORDER BY r.row", (after, up_to)).fetchall()
        return self._pairs(found, "the word index")

    def _pairs(self, found: Sequence[tuple[Any, ...]], what: str) -> Postings:
        try:
            wrong = next((row for row, *pair, checksum in found if checksums.of_pair(row, *pair) != checksum), None)
        except TypeError:
            wrong = next(row for row, *pair, _ in found if not all(isinstance(part, bytes) for part in pair))
        if wrong is not None:
            raise damaged(self._path, f"{what} of row {wrong}")
        sizes = np.fromiter((len(ids) // 4 for _, ids, _, _ in found), dtype=np.int64, count=len(found))
        return Postings(np.fromiter((row for row, *_ in found), dtype=np.int64, count=len(found)),
                        np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
                        np.frombuffer(b"".join(ids for _, ids, _, _ in found), dtype="<u4").astype(np.int64),
                        np.frombuffer(b"".join(w for _, _, w, _ in found), dtype="<f4").astype(np.float32))

    def sparse(self, after: int = 0, up_to: int = _LAST) -> Postings:
        """The sparse vectors of rows above `after`; `term_ids` are their indices."""
        found = self._db.execute("SELECT r.row, s.indices, s.data, r.sparse_sum FROM records r "
                                 "LEFT JOIN sparse s USING (row) WHERE r.row > ? AND r.row <= ? "
                                 "AND r.sparse_sum IS NOT NULL ORDER BY r.row", (after, up_to)).fetchall()
        return self._pairs(found, "the sparse vector")

    def terms(self, names: Sequence[str]) -> dict[str, int]:
        """The numbers of those terms that any document has."""
        known: dict[str, int] = {}
        for part in _parts(names):
            for term, number, checksum in self._db.execute(
                    f"SELECT term, term_id, checksum FROM terms WHERE term IN ({_marks(part)})", part):
                if checksums.of_entry(number, term) != checksum:
                    raise damaged(self._path, f"the term {term!r:.60}")
                known[term] = number
        return known

    def documents(self) -> Iterator[tuple[int, str, str | None]]:
        """Row, document and context of every record that has a document."""
        for row, text_sum, document, context in self._db.execute(
                "SELECT row, text_sum, document, context FROM records WHERE document IS NOT NULL ORDER BY row"):
            if not isinstance(document, str) or checksums.of_text(row, document, context) != text_sum:
                raise damaged(self._path, f"the document of row {row}")
            yield row, document, context

    def last_tombstone(self) -> int:
        """The number of the last one ever written."""
        return int(self.meta("next_tombstone")) - 1

    def tombstones(self, after: int) -> NDArray[np.int64] | None:
        """The rows deleted by the tombstones above `after`; None where one of those is forgotten or damaged.

        A view then begins anew: it needs no tombstone before the `last_tombstone` there was when it read the rows.
        """
        found = self._db.execute("SELECT n, row, checksum FROM tombstones WHERE n > ? ORDER BY n", (after,)).fetchall()
        if [n for n, _, _ in found] != list(range(after + 1, self.last_tombstone() + 1)):
            return None
        if any(checksums.of_entry(n, row) != checksum for n, row, checksum in found):
            return None
        return np.fromiter((row for _, row, _ in found), dtype=np.int64, count=len(found))

    def record(self, identity: str, namespace: str) -> tuple[Record, int | None] | None:
        """A whole record and the source it belongs to; None if there is none of this id."""
        found = self._db.execute(f"{self._whole()} WHERE r.namespace = ? AND r.id = ?",
                                 (namespace, identity)).fetchone()
        return None if found is None else self._record(found)

    def whole(self, rows: Sequence[int]) -> list[tuple[Record, int | None]]:
        """The records of rows, ascending, each with the source it belongs to; rows that are gone are left out."""
        return [self._record(found) for part in _parts(rows) for found in
                self._db.execute(f"{self._whole()} WHERE r.row IN ({_marks(part)}) ORDER BY r.row", part)]

    def _whole(self) -> str:
        data, join, _ = self._joined()
        return (f"SELECT {_HEAD}, r.document, r.context, s.indices, s.data{data} FROM records r "
                f"{join}LEFT JOIN sparse s USING (row)")

    def _record(self, found: tuple[Any, ...]) -> tuple[Record, int | None]:
        head, (document, context, indices, weights) = found[:len(checksums.HEAD)], found[len(checksums.HEAD):-2]
        self._check_heads([head])
        self._check_text(head, document, context)
        values = self._vectors([found])[0]
        return Record(head[2], values.copy(), self._sparse(head, indices, weights), json.loads(head[_METADATA]),
                      document, context), head[3]

    def matches(self, rows: Sequence[int], values: bool = False, document: bool = False,
                ) -> dict[int, tuple[str, str | None, Vector | None, SparseVector | None]]:
        """What an answer says of rows: metadata (JSON) and, where asked for, document and vectors; rows that are gone
        are left out."""
        found = {head[0]: head for part in _parts(rows) for head in self._db.execute(
            f"SELECT {_HEAD}{', r.document, r.context' if document else ''} FROM records r "
            f"WHERE r.row IN ({_marks(part)})", part)}
        self._check_heads(list(found.values()))
        if document:
            for head in found.values():
                self._check_text(head, *head[-2:])
        vectors = dict(zip(*self.vectors(list(found)), strict=True)) if values and found else {}
        sparse = self._sparse_of([head for head in found.values() if head[5] is not None]) if values else {}
        return {row: (head[_METADATA], head[-2] if document else None, vectors.get(row), sparse.get(row))
                for row, head in found.items()}

    def _sparse_of(self, heads: Sequence[Sequence[Any]]) -> dict[int, SparseVector]:
        """The sparse vectors of records that have one, by row."""
        stored = {row: pair for part in _parts([head[0] for head in heads]) for row, *pair in self._db.execute(
            f"SELECT row, indices, data FROM sparse WHERE row IN ({_marks(part)})", part)}
        read = {head[0]: self._sparse(head, *stored.get(head[0], (None, None))) for head in heads}
        return {row: vector for row, vector in read.items() if vector is not None}

    def ids(self, prefix: str, after: str, limit: int, namespace: str) -> list[str]:
        """Ids of a namespace in order, above `after`."""
        # Looked up in the index and then read from the table: either could be damaged.
        found = self._db.execute(
            f"SELECT {_HEAD}, i.id FROM records i CROSS JOIN records r ON r.row = i.row WHERE i.namespace = ? "
            "AND i.id >= ? AND i.id > ? AND substr(i.id, 1, ?) = ? ORDER BY i.id LIMIT ?",
            (namespace, prefix, after, len(prefix), prefix, limit)).fetchall()
        self._check_heads(found)
        for head in found:
            if head[2] != head[-1]:
                raise self._damaged_record(head, "the id")
        return [head[2] for head in found]

    def namespaces(self) -> dict[str, int]:
        """How many records each namespace has."""
        return dict(self._db.execute("SELECT namespace, COUNT(*) FROM records GROUP BY namespace ORDER BY namespace"))

    def source_count(self) -> int:
        """How many documents there are."""
        (count,) = self._db.execute("SELECT COUNT(*) FROM sources").fetchone()
        return int(count)

    def sources(self, namespace: str) -> list[tuple[str, str, str, str, int, int, str]]:
        """Of each document of a namespace: uri, content hash, media type, title, size in bytes, records, when."""
        return list(self._db.execute(
            "SELECT uri, content_hash, media_type, title, size_bytes, "
            "(SELECT COUNT(*) FROM records r WHERE r.source = s.source), ingested_at "
            "FROM sources s WHERE namespace = ? ORDER BY uri", (namespace,)))

    def source(self, uri: str, namespace: str) -> Source | None:
        """A document with its text, or None."""
        found = self._db.execute("SELECT source, namespace, uri, media_type, title, size_bytes, pages, text, "
                                 "ingested_at, checksum, content_hash FROM sources WHERE namespace = ? AND uri = ?",
                                 (namespace, uri)).fetchone()
        if found is None:
            return None
        *covered, checksum, content_hash = found
        try:
            if checksums.of_source(*covered) != checksum:
                raise damaged(self._path, f"source {uri!r:.100}")
        except (TypeError, ValueError) as error:
            raise damaged(self._path, f"source {uri!r:.100}") from error
        media_type, title, size_bytes, pages, text = covered[3:8]
        return Source(uri, content_hash, zlib.decompress(text).decode("utf-8"), media_type, title, size_bytes,
                      tuple(json.loads(pages)))

    def _sparse(self, head: Sequence[Any], indices: Any, weights: Any) -> SparseVector | None:
        if head[5] is None and indices is None:
            return None
        if not isinstance(indices, bytes) or not isinstance(weights, bytes) or (
                checksums.of_pair(head[0], indices, weights) != head[5]):
            raise self._damaged_record(head, "the sparse vector")
        return SparseVector(np.frombuffer(indices, dtype="<u4").tolist(), np.frombuffer(weights, dtype="<f4").tolist())

    def _check_text(self, head: Sequence[Any], document: Any, context: Any) -> None:
        try:
            right = checksums.of_text(head[0], document, context) == head[6]
        except TypeError:
            right = False
        if not right:
            raise self._damaged_record(head, "the document")

    def _check_heads(self, heads: Sequence[Sequence[Any]]) -> None:
        self._compare(heads, "the entry", checksums.of_heads, heads, stored=[head[8] for head in heads])

    def _compare(self, heads: Sequence[Sequence[Any]], what: str, sums: Any, *data: Any, stored: list[Any]) -> None:
        """Raise `Corrupt` naming the first record whose sum is not the stored one."""
        found: list[int | None]
        try:
            found = sums(*data)
            if found == stored:
                return
        except (TypeError, ValueError, OverflowError):  # not bytes, or not text, where it was once
            found = [self._sum_or_none(sums, *(part[i:i + 1] for part in data)) for i in range(len(heads))]
        wrong = next(i for i, (new, old) in enumerate(zip(found, stored, strict=True)) if new is None or new != old)
        raise self._damaged_record(heads[wrong], what)

    @staticmethod
    def _sum_or_none(sums: Any, *data: Any) -> int | None:
        try:
            (found,) = sums(*data)
            return int(found)
        except (TypeError, ValueError, OverflowError):
            return None

    def _damaged_record(self, head: Sequence[Any], what: str) -> Corrupt:
        space = f" in namespace {head[1]!r:.80}" if head[1] else ""
        return damaged(self._path, f"{what} of record {head[2]!r:.80}{space} (row {head[0]})")
