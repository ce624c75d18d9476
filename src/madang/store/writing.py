"""Rows into SQLite: the statements a write transaction is made of. Callers hold the writer lock and a transaction."""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from itertools import repeat
from pathlib import Path

import numpy as np

from madang.base.records import Metadata, Record, Source, SparseVector
from madang.store import checksums
from madang.store.schema import VECTORS, get_meta, marks, parts, put_meta
from madang.text.analyzer import Analyzer

_OF_ROWS = ("records", *VECTORS, "sparse", "postings")     # the tables with a row for each row


class Writer:
    """Writes records and their postings; keeps the vocabulary (term to id) in memory between transactions."""

    def __init__(self, connection: sqlite3.Connection, analyzer: Analyzer) -> None:
        self._db = connection
        self._analyzer = analyzer
        self._path = Path(connection.execute("PRAGMA database_list").fetchone()[2])
        self._vocabulary: dict[str, int] | None = None

    def forget(self) -> None:
        """After a rollback: the terms it added do not exist."""
        self._vocabulary = None

    def insert(self, records: Sequence[Record], namespace: str, source: int | None = None,
               by_hand: bool = False) -> None:
        """Insert new rows; earlier rows of the same ids are replaced."""
        self.delete_ids([record.id for record in records], namespace, by_hand)
        first = self._reserve("next_row", len(records))
        rows = range(first, first + len(records))
        vectors = [np.asarray(r.values, dtype="<f4").tobytes() for r in records]
        sparse = [(row, *_arrays(r.sparse)) for row, r in zip(rows, records, strict=True) if r.sparse is not None]
        sparse_sums = {row: checksums.of_pair(row, indices, data) for row, indices, data in sparse}
        text_sums = [checksums.of_text(row, r.document, r.context) for row, r in zip(rows, records, strict=True)]
        heads = list(zip(rows, repeat(namespace), [r.id for r in records], repeat(source),
                         checksums.of_many(vectors, rows), map(sparse_sums.get, rows), text_sums,
                         [_json(r.metadata) for r in records], strict=False))       # two of them are without an end
        self._db.executemany(
            f"INSERT INTO records({','.join(checksums.HEAD)}, document, context) VALUES({','.join('?' * 11)})",
            [(*head, checksum, r.document, r.context)
             for head, checksum, r in zip(heads, checksums.of_heads(heads), records, strict=True)])
        live = VECTORS[get_meta(self._db, self._path, "table") or 0]
        self._db.executemany(f"INSERT INTO {live}(row, data) VALUES(?, ?)", zip(rows, vectors, strict=True))
        self._db.executemany("INSERT INTO sparse VALUES(?, ?, ?)", sparse)
        self.index_text([(row, indexed_text(r.document, r.context)) for row, r in zip(rows, records, strict=True)
                         if r.document is not None])

    def index_text(self, texts: Sequence[tuple[int, str]]) -> None:
        """Analyze and store postings of rows."""
        if not texts:
            return
        analyzed = self._analyzer.index_terms([text for _, text in texts])
        self._add_terms({term for terms in analyzed for term in terms})
        vocabulary = self._terms()
        postings = [(row, np.array([vocabulary[term] for term in terms], dtype="<u4").tobytes(),
                     np.fromiter(terms.values(), dtype="<f4", count=len(terms)).tobytes())
                    for (row, _), terms in zip(texts, analyzed, strict=True)]
        self._db.executemany("INSERT INTO postings VALUES(?, ?, ?, ?)",
                             [(*posting, checksums.of_pair(*posting)) for posting in postings])

    def delete_ids(self, ids: Sequence[str], namespace: str, by_hand: bool = False) -> int:
        """Delete records by id; unknown ids are ignored. Returns how many there were."""
        rows = [row for part in parts(list(dict.fromkeys(ids))) for (row,) in self._db.execute(
            f"SELECT row FROM records WHERE namespace = ? AND id IN ({marks(part)})", (namespace, *part))]
        return self.delete_rows(rows, by_hand)

    def delete_namespace(self, namespace: str) -> int:
        """Delete its records and its sources. Returns how many records there were."""
        self._db.execute("DELETE FROM sources WHERE namespace = ?", (namespace,))
        rows = [row for (row,) in self._db.execute("SELECT row FROM records WHERE namespace = ?", (namespace,))]
        if self._db.execute("SELECT 1 FROM records WHERE namespace <> ? LIMIT 1", (namespace,)).fetchone():
            return self.delete_rows(rows)
        for table in _OF_ROWS:      # SQLite frees the pages without looking at the rows
            self._db.execute(f"DELETE FROM {table}")
        return self._bury(rows)

    def delete_rows(self, rows: Sequence[int], by_hand: bool = False) -> int:
        """Delete rows that there are, and leave a tombstone for each. Returns how many.

        `by_hand`: not by replacing their source. The source then no longer is what its hash says, and the next ingest
        must do it again.
        """
        for part in parts(sorted(rows)):
            chosen = f"row IN ({marks(part)})"
            if by_hand:
                self._db.execute("UPDATE sources SET content_hash = '' WHERE source IN "
                                 f"(SELECT source FROM records WHERE {chosen})", part)
            for table in _OF_ROWS:
                self._db.execute(f"DELETE FROM {table} WHERE {chosen}", part)
        return self._bury(rows)

    def _bury(self, rows: Sequence[int]) -> int:
        first = self._reserve("next_tombstone", len(rows))
        self._db.executemany("INSERT INTO tombstones VALUES(?, ?, ?)",
                             [(n, row, checksums.of_entry(n, row)) for n, row in enumerate(rows, start=first)])
        return len(rows)

    def replace_source(self, source: Source, records: Sequence[Record], namespace: str) -> int:
        """One source and its records, in place of what it had. Returns the source's number."""
        self.remove_source(source.uri, namespace)
        (number,) = self._db.execute("SELECT COALESCE(MAX(source), 0) + 1 FROM sources").fetchone()
        pages, text = json.dumps(source.pages), zlib.compress(source.text.encode("utf-8"), 1)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        checksum = checksums.of_source(number, namespace, source.uri, source.media_type, source.title,
                                       source.size_bytes, pages, text, now)
        self._db.execute("INSERT INTO sources VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                         (number, namespace, source.uri, source.content_hash, source.media_type, source.title,
                          source.size_bytes, pages, text, now, checksum))
        if records:
            self.insert(records, namespace, number)
        return int(number)

    def remove_source(self, uri: str, namespace: str) -> bool:
        """Remove a source and its records; False when it was not there."""
        found = self._db.execute("SELECT source FROM sources WHERE namespace = ? AND uri = ?",
                                 (namespace, uri)).fetchone()
        if found is None:
            return False
        self.delete_rows([row for (row,) in self._db.execute("SELECT row FROM records WHERE source = ?", found)])
        self._db.execute("DELETE FROM sources WHERE source = ?", found)
        return True

    def _reserve(self, counter: str, count: int) -> int:
        """The next numbers of `next_row` or `next_tombstone`: the first of so many."""
        first = int(get_meta(self._db, self._path, counter))
        if count:
            put_meta(self._db, counter, first + count)
        return first

    def _terms(self) -> dict[str, int]:
        if self._vocabulary is None:
            self._vocabulary = dict(self._db.execute("SELECT term, term_id FROM terms"))
        return self._vocabulary

    def _add_terms(self, terms: Iterable[str]) -> None:
        vocabulary = self._terms()
        new = sorted(term for term in terms if term not in vocabulary)  # sorted: the same input, the same ids
        fresh = {term: number for number, term in enumerate(new, start=len(vocabulary))}
        self._db.executemany("INSERT INTO terms(term, term_id, checksum) VALUES(?, ?, ?)",
                             [(term, number, checksums.of_entry(number, term)) for term, number in fresh.items()])
        vocabulary.update(fresh)


def _encoder() -> Callable[[Metadata], str]:
    """`json.dumps` that leaves text as it is, made once: `json` makes one for each call, and that takes longer than to
    use it."""
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:    # an interpreter other than CPython
        return json.JSONEncoder(ensure_ascii=False).encode
    encode = make(None, None, json.encoder.encode_basestring, None, ": ", ", ", False, False, False)
    return lambda metadata: "".join(encode(metadata, 0))


_json = _encoder()


def indexed_text(document: str, context: str | None) -> str:
    """What BM25 reads of a record, and embedders."""
    return f"{context}\n{document}" if context else document


def _arrays(sparse: SparseVector) -> tuple[bytes, bytes]:
    return np.asarray(sparse.indices, dtype="<u4").tobytes(), np.asarray(sparse.values, dtype="<f4").tobytes()
