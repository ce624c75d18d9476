"""What survives of a damaged `records.db`, copied into a new collection.

Each table is read by ranges of rows; a range that cannot be read is halved until what is left is single rows, so that
one bad page costs its own rows. Checksums decide which of the read rows are as they were written. Vectors of another
model beside those that are searched are not copied: they can be made again. A file of format 1
has none: its rows are believed, and this is how it becomes one of the present format.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import struct
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from madang.base.errors import Corrupt
from madang.base.records import Record, Source, SparseVector
from madang.index.protocol import METRICS
from madang.store import checksums, schema
from madang.store.writing import Writer
from madang.text.analyzer import default_analyzer

_AT_ONCE = 1024
_COLUMNS = {
    "records": ("row", "namespace", "id", "source", "vector_sum", "sparse_sum", "text_sum", "metadata", "checksum",
                "document", "context"),
    "vectors": ("row", "data", "checksum"),
    "second_vectors": ("row", "data", "checksum"),
    "sparse": ("row", "indices", "data"),
    "sources": ("source", "namespace", "uri", "media_type", "title", "size_bytes", "pages", "text", "ingested_at",
                "checksum", "content_hash"),
}

@dataclass(slots=True)
class Salvaged:
    """What was copied, and what was not."""

    records: int = 0  # copied, each of them whole
    sources: int = 0
    lost: list[tuple[str, str]] = field(default_factory=list)  # (namespace, id) of records that were not copied
    lost_unnamed: int = 0  # further such records, whose id cannot be read either
    lost_sources: list[tuple[str, str]] = field(default_factory=list)  # (namespace, uri): their records have no source
    assumed: dict[str, Any] = field(default_factory=dict)  # settings that could not be read, as they now are

    def __str__(self) -> str:
        parts = [f"{self.records:,} records and {self.sources:,} sources copied",
                 f"{len(self.lost) + self.lost_unnamed:,} damaged records left out",
                 *([f"{len(self.lost_sources):,} sources lost: ingest them again"] if self.lost_sources else []),
                 *(f"{key} could not be read, {value!r} is assumed" for key, value in self.assumed.items())]
        return "; ".join(parts)


def salvage(directory: Path, into: Path) -> Salvaged:
    """Read the collection in `directory`, which is left as it is, and write the directory `into`, which must not exist.

    Takes twice the room of the old `records.db` for a while. Raises `Corrupt` where nothing can be read.
    """
    into.mkdir()
    try:
        with tempfile.TemporaryDirectory(dir=into) as scratch:
            return _salvage(directory / schema.FILE_NAME, into / schema.FILE_NAME, Path(scratch) / schema.FILE_NAME)
    except BaseException:
        shutil.rmtree(into, ignore_errors=True)
        raise


def _salvage(path: Path, into: Path, copy: Path) -> Salvaged:
    """Works on a copy: SQLite must not touch the damaged files."""
    for file in path.parent.glob(f"{path.name}*"):
        if not file.name.endswith("-shm"):
            shutil.copyfile(file, copy.with_name(file.name))
    if not _begins_well(copy):
        _replace_first_page(copy)
    with closing(sqlite3.connect(copy, isolation_level=None)) as damaged:
        damaged.text_factory = lambda data: data.decode("utf-8", "replace")  # checksums decide
        return _Salvage(damaged, path).copy_into(into)


def _begins_well(copy: Path) -> bool:
    """Whether SQLite finds the tables."""
    with closing(sqlite3.connect(copy)) as connection:
        try:
            names = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
        except sqlite3.Error:
            return False
    return names >= _COLUMNS.keys() - {"second_vectors"}   # which format 2 did not have


def _replace_first_page(copy: Path) -> None:
    """Put the first page of a new file in place: it says what tables there are and where, always the same."""
    content, trial = copy.read_bytes(), copy.with_name("trial.db")
    for page in schema.PAGE_SIZES:
        trial.unlink(missing_ok=True)
        schema.create(trial, {"dim": 1}, page)
        first = bytearray(trial.read_bytes()[:page])
        first[28:40] = struct.pack(">III", len(content) // page, 0, 0)  # pages; none of them free
        trial.write_bytes(bytes(first) + content[page:])
        with closing(sqlite3.connect(trial)) as connection, suppress(sqlite3.Error, TypeError):
            if connection.execute("SELECT value FROM meta WHERE key = 'format'").fetchone()[0] == str(schema.FORMAT):
                copy.write_bytes(bytes(first) + content[page:])
                return


class _Survivor(NamedTuple):
    """A record that is whole, and where it was."""

    row: int
    namespace: str
    source: int | None
    record: Record


class _Salvage:
    """One run: reads `damaged`, writes a new file."""

    def __init__(self, damaged: sqlite3.Connection, path: Path) -> None:
        self._db = damaged
        self._path = path
        self._done = Salvaged()
        self._seen: set[int] = set()  # rows of which anything was read
        self._columns = {table: self._columns_of(table, names) for table, names in _COLUMNS.items()}
        if not self._columns["records"] or not self._columns["vectors"]:
            raise self._nothing()
        self._checked = "checksum" in self._columns["records"]
        self._meta = self._readable_meta()
        self._table = self._meta.pop("table", 0)     # of the vectors that are searched; others are left behind
        self._last = self._last_row()

    def _nothing(self) -> Corrupt:
        return Corrupt(f"nothing can be read of {self._path}.", remedy="Restore it from a backup.")

    def _columns_of(self, table: str, names: Sequence[str]) -> list[str]:
        """Those of the columns that the file has."""
        try:
            found = {name for _, name, *_ in self._db.execute(f"PRAGMA table_info({table})")}
        except sqlite3.Error:
            return []
        return [name for name in names if name in found]

    def _readable_meta(self) -> dict[str, Any]:
        """The settings that are as they were written."""
        meta = {}
        for key in ("dim", "metric", "index", "embedder", "created_at", "sequence", "next_row", "table"):
            with suppress(sqlite3.Error, ValueError, TypeError):
                _, value, *checksum = self._db.execute("SELECT * FROM meta WHERE key = ?", (key,)).fetchone()
                if checksum == [checksums.of_entry(key, value)] or not checksum:
                    meta[key] = json.loads(value)
        return meta

    def _last_row(self) -> int:
        if "next_row" in self._meta:
            return int(self._meta["next_row"]) - 1
        found = [0]
        for table in ("records", *schema.VECTORS, "sparse"):
            with suppress(sqlite3.Error):
                found.append(self._db.execute(f"SELECT MAX(row) FROM {table}").fetchone()[0] or 0)
        return min(max(found), self._path.stat().st_size)  # a damaged row can be any number

    def copy_into(self, path: Path) -> Salvaged:
        """Write the new file."""
        survivors = self._survivors()
        first = next(survivors, None)
        schema.create(path, self._settings(first))
        connection, _ = schema.open_existing(path)
        try:
            connection.execute("BEGIN IMMEDIATE")
            writer = Writer(connection, default_analyzer())
            sources = self._copy_sources(writer)
            if first is not None:
                self._copy_records(writer, chain([first], survivors), sources)
            self._name_the_lost(connection)
            if self._done.lost or self._done.lost_unnamed:  # a source that lacks a record must be ingested again
                connection.execute("UPDATE sources SET content_hash = ''")
            connection.execute("COMMIT")
        finally:
            schema.close(connection)
        return self._done

    def _settings(self, first: _Survivor | None) -> dict[str, Any]:
        meta = dict(self._meta)
        if "dim" not in meta and first is None:
            raise self._nothing()
        dim = 0 if first is None else len(np.asarray(first.record.values))
        for key, value in {"dim": dim, "metric": METRICS[0], "index": {"kind": "flat"}, "embedder": None}.items():
            if key not in meta:
                meta[key] = self._done.assumed[key] = value
        return {**meta, "sequence": meta.get("sequence", 0) + 1, "next_row": 1,
                "analyzer": default_analyzer().signature}

    def _read(self, table: str, first: int, last: int) -> Iterator[tuple[Any, ...]]:
        """The rows of a table that can be read, in order."""
        columns = self._columns[table]
        if not columns:
            return
        try:
            found = self._db.execute(f"SELECT {', '.join(columns)} FROM {table} WHERE {columns[0]} BETWEEN ? AND ? "
                                     f"ORDER BY {columns[0]}", (first, last)).fetchall()
        except sqlite3.Error:
            if first < last:
                middle = (first + last) // 2
                yield from self._read(table, first, middle)
                yield from self._read(table, middle + 1, last)
            return
        yield from found

    def _survivors(self) -> Iterator[_Survivor]:
        for first in range(1, self._last + 1, _AT_ONCE):
            last = min(first + _AT_ONCE - 1, self._last)
            vectors = {row: pair for row, *pair in self._read(schema.VECTORS[self._table], first, last)}
            sparse = {row: tuple(pair) for row, *pair in self._read("sparse", first, last)}
            self._seen |= vectors.keys()
            for found in self._read("records", first, last):
                entry = dict(zip(self._columns["records"], found, strict=True))
                row = entry["row"]
                self._seen.add(row)
                with suppress(TypeError, ValueError, OverflowError):  # what is damaged can be anything
                    if self._whole(entry, vectors.get(row), sparse.get(row)):
                        yield _Survivor(row, entry["namespace"], entry["source"],
                                        _record(entry, vectors[row][0], sparse.get(row)))

    def _whole(self, entry: dict[str, Any], stored: Any, sparse: Any) -> bool:
        """Whether every part of a record is as it was written."""
        vector: Any = stored[0] if stored else None
        own = stored[1] if stored and len(stored) > 1 else None      # format 2 had none
        if not self._checked:
            return isinstance(vector, bytes) and len(vector) == 4 * self._meta.get("dim", len(vector) // 4)
        row = entry["row"]
        return bool(checksums.of_heads([[entry[column] for column in checksums.HEAD]]) == [entry["checksum"]]
                    and checksums.of(vector, row) == (entry["vector_sum"] if own is None else own)
                    and (None if sparse is None else checksums.of_pair(row, *sparse)) == entry["sparse_sum"]
                    and checksums.of_text(row, entry["document"], entry["context"]) == entry["text_sum"])

    def _copy_sources(self, writer: Writer) -> dict[int, int]:
        """Copy the sources that are whole; their numbers, old to new."""
        numbers = {}
        most = self._path.stat().st_size // 64
        with suppress(sqlite3.Error):
            most = min(most, self._db.execute("SELECT MAX(source) FROM sources").fetchone()[0] or 0)
        for *covered, content_hash in self._read("sources", 1, most):
            number, namespace, uri, media_type, title, size_bytes, pages, text, _, *checksum = covered
            try:
                if checksum not in ([], [checksums.of_source(*covered[:9])]):
                    raise ValueError
                numbers[number] = writer.replace_source(
                    Source(uri, content_hash, zlib.decompress(text).decode("utf-8"), media_type, title, size_bytes,
                           tuple(json.loads(pages))), [], namespace)
                self._done.sources += 1
            except (TypeError, ValueError, zlib.error):
                self._done.lost_sources.append((str(namespace), str(uri)))
        return numbers

    def _copy_records(self, writer: Writer, survivors: Iterator[_Survivor], sources: dict[int, int]) -> None:
        """Copy, those of one namespace and source together."""
        while part := list(islice(survivors, _AT_ONCE)):
            groups: dict[tuple[str, int | None], list[Record]] = {}
            for _, namespace, source, record in part:
                groups.setdefault((namespace, sources.get(source or 0)), []).append(record)
            for (namespace, number), records in groups.items():
                writer.insert(records, namespace, number)
            self._done.records += len(part)
            self._seen -= {survivor.row for survivor in part}

    def _name_the_lost(self, connection: sqlite3.Connection) -> None:
        """What the index of ids names and was not copied: it is elsewhere in the file. Read from both of its ends."""
        known: set[tuple[str, str]] = set()
        for order in ("", "DESC"):
            with suppress(sqlite3.Error):
                for namespace, identity in self._db.execute(
                        f"SELECT namespace, id FROM records ORDER BY namespace {order}, id {order}"):
                    if isinstance(namespace, str) and isinstance(identity, str):  # it can be damaged as well
                        known.add((namespace, identity))
        self._done.lost = sorted(known - set(connection.execute("SELECT namespace, id FROM records")))
        self._done.lost_unnamed = max(0, len(self._seen) - len(self._done.lost))


def _record(entry: dict[str, Any], vector: bytes, sparse: Any) -> Record:
    weights = None if sparse is None else SparseVector(np.frombuffer(sparse[0], dtype="<u4").tolist(),
                                                       np.frombuffer(sparse[1], dtype="<f4").tolist())
    return Record(entry["id"], np.frombuffer(vector, dtype="<f4"), weights, json.loads(entry["metadata"]),
                  entry["document"], entry["context"])
