"""Collections as Parquet files: out with everything, in from our own files and from other programs'.

`NAME.parquet` has a row per record: id, namespace, values, sparse_indices, sparse_values, metadata (JSON), document,
context, source_uri. Where the records were cut from documents, those stand in `NAME.sources.parquet` beside it. The
collection's settings are in the file's metadata under the key `madang`.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from madang.base.errors import Conflict, Corrupt, InvalidInput, NotFound
from madang.base.records import Record, Source
from madang.index import container
from madang.store import copies, parquet_columns, schema
from madang.store.parquet_columns import arrow

Progress = Callable[[int, int], None]   # records done, records in all

_KEY = b"madang"
_FORMAT = 1
_GROUP_BYTES = 32 << 20                 # of vectors in a row group
_GROUP_ROWS = 8192
_SELECT = ("SELECT r.namespace, r.id, r.metadata, r.document, r.context, s.uri, v.data, sp.indices, sp.data "
           "FROM records r JOIN {vectors} v USING (row) LEFT JOIN sparse sp USING (row) "
           "LEFT JOIN sources s ON s.source = r.source ")
# Two walks along an index instead of one sort of everything; the second in the order of the sources' file.
_ORDERS = ("WHERE r.source IS NULL ORDER BY r.row", "WHERE r.source IS NOT NULL ORDER BY r.source, r.row")
_SOURCES = ("SELECT namespace, uri, content_hash, media_type, title, size_bytes, pages, text, ingested_at FROM sources "
            "ORDER BY source")


@dataclass(frozen=True, slots=True)
class Settings:
    """What an exported collection was; `pair` is in both files of an export."""

    name: str
    dim: int
    metric: str
    index: dict[str, Any]
    embedder: str | None
    analyzer: str | None
    sequence: int
    records: int
    sources: int
    pair: str


@dataclass(frozen=True, slots=True)
class Item:
    """A record of a file, its namespace, and the uri of the document it was cut from."""

    record: Record
    namespace: str = ""
    source_uri: str | None = None


def sources_path(path: Path) -> Path:
    """The second file of an export."""
    return path.with_name(path.name.removesuffix(".parquet") + ".sources.parquet")


def export(directory: Path, path: Path, overwrite: bool = False, progress: Progress | None = None) -> Settings:
    """Write the collection (or snapshot) in `directory` as Parquet, a row group at a time, as of one commit.

    Raises `Conflict` where a file is there and `overwrite` is false; `MissingDependency` without pyarrow.
    """
    pa = arrow()
    if not overwrite and (found := next((p for p in (path, sources_path(path)) if p.exists()), None)):
        raise Conflict(f"{found} exists already.", remedy="Choose another name, or overwrite it.")
    with copies.writing(path), _as_ours(directory), closing(copies.connect(directory)) as connection:
        connection.execute("BEGIN")
        settings = _settings(connection, directory.name)
        vectors = schema.VECTORS[schema.get_meta(connection, directory / schema.FILE_NAME, "table") or 0]
        if settings.sources:
            with container.replacing(sources_path(path)) as file:
                _write_sources(pa, file, connection, settings)
        else:
            sources_path(path).unlink(missing_ok=True)
        with container.replacing(path) as file:
            _write_records(pa, file, connection, settings, vectors, progress)
        connection.execute("COMMIT")
    return settings


def _settings(connection: sqlite3.Connection, name: str) -> Settings:
    meta = {key: json.loads(value) for key, value in connection.execute("SELECT key, value FROM meta")}
    (records,) = connection.execute("SELECT COUNT(*) FROM records").fetchone()
    (sources,) = connection.execute("SELECT COUNT(*) FROM sources").fetchone()
    index = meta["index"]
    return Settings(name, meta["dim"], meta["metric"], {"kind": index} if isinstance(index, str) else index,
                    meta["embedder"], meta.get("analyzer"), meta["sequence"], records, sources, secrets.token_hex(8))


def _write_records(pa: Any, file: Any, connection: sqlite3.Connection, settings: Settings, vectors: str,
                   progress: Progress | None) -> None:
    kind = pa.schema([
        pa.field("id", pa.string(), nullable=False), pa.field("namespace", pa.string(), nullable=False),
        pa.field("values", pa.list_(pa.float32(), settings.dim), nullable=False),
        ("sparse_indices", pa.list_(pa.uint32())), ("sparse_values", pa.list_(pa.float32())),
        pa.field("metadata", pa.string(), nullable=False), ("document", pa.string()), ("context", pa.string()),
        ("source_uri", pa.string())], metadata=_told(settings))
    rows = max(1, min(_GROUP_ROWS, _GROUP_BYTES // (4 * settings.dim)))
    done = 0
    with _writer(pa, file, kind) as writer:
        for order in _ORDERS:
            cursor = connection.execute(_SELECT.format(vectors=vectors) + order)
            while found := cursor.fetchmany(rows):
                writer.write_batch(_batch(pa, kind, found, settings.dim))
                done += len(found)
                if progress is not None:
                    progress(done, settings.records)


def _batch(pa: Any, kind: Any, found: Sequence[tuple[Any, ...]], dim: int) -> Any:
    spaces, ids, metadata, documents, contexts, uris, vectors, indices, weights = zip(*found, strict=True)
    numbers = np.frombuffer(b"".join(vectors), dtype="<f4")
    if len(numbers) != len(ids) * dim:
        raise Corrupt(f"a vector of the records {ids[0]!r:.60} to {ids[-1]!r:.60} has not {dim} dimensions.",
                      remedy="Restore the collection from a snapshot or a backup.")
    dense = pa.FixedSizeListArray.from_arrays(pa.array(numbers), type=kind.field("values").type)
    pairs = [[None if data is None else np.frombuffer(data, dtype=width) for data in column]
             for column, width in ((indices, "<u4"), (weights, "<f4"))]
    columns = [pa.array(ids, pa.string()), pa.array(spaces, pa.string()), dense,
               pa.array(pairs[0], kind.field("sparse_indices").type),
               pa.array(pairs[1], kind.field("sparse_values").type),
               *(pa.array(column, pa.string()) for column in (metadata, documents, contexts, uris))]
    return pa.RecordBatch.from_arrays(columns, schema=kind)


def _write_sources(pa: Any, file: Any, connection: sqlite3.Connection, settings: Settings) -> None:
    kind = pa.schema([("namespace", pa.string()), ("uri", pa.string()), ("content_hash", pa.string()),
                      ("media_type", pa.string()), ("title", pa.string()), ("size_bytes", pa.int64()),
                      ("pages", pa.list_(pa.int64())), ("text", pa.string()), ("ingested_at", pa.string())],
                     metadata=_told(settings))
    with _writer(pa, file, kind) as writer:
        cursor = connection.execute(_SOURCES)
        while found := cursor.fetchmany(64):  # whole documents
            rows = [dict(zip(kind.names, (*row[:6], json.loads(row[6]), zlib.decompress(row[7]).decode(), row[8]),
                             strict=True)) for row in found]
            writer.write_batch(pa.RecordBatch.from_pylist(rows, schema=kind))


def _writer(pa: Any, file: Any, kind: Any) -> Any:
    # Floats barely repeat, so no dictionary for them; their bytes apart compress better than side by side.
    split = [f"{name}.list.element" for name in ("values", "sparse_values") if name in kind.names]
    words = [name for name in ("namespace", "source_uri", "context", "media_type") if name in kind.names]
    return pa.parquet.ParquetWriter(file, kind, compression="zstd", use_dictionary=words,
                                    use_byte_stream_split=split, write_page_checksum=True)


def _told(settings: Settings) -> dict[bytes, bytes]:
    text = json.dumps({"format": _FORMAT, **asdict(settings)}, ensure_ascii=False)
    return {_KEY: text.encode("utf-8")}


class Reader:
    """A Parquet file of records, ours or another program's; a context manager.

    A foreign file needs a column `id` and one of vectors, called `values`, `vector` or `embedding`. `namespace`,
    `document`, `context`, `metadata` (JSON or a struct), `sparse_indices` and `sparse_values` mean what they say;
    further columns become metadata, but for those in `skip`.

    Raises:
        NotFound: there is no such file. Corrupt: it is damaged, or no Parquet. InvalidInput: it lacks a column.
    """

    def __init__(self, path: Path, skip: Sequence[str] = ()) -> None:
        pa = arrow()
        self.path, self._skip = path, tuple(skip)
        if not path.is_file():
            raise NotFound(f"{path} does not exist.", remedy="Name a Parquet file.")
        with _as_ours(path):
            self._file = pa.parquet.ParquetFile(path, page_checksum_verification=True)
            kind = self._file.schema_arrow
        try:
            self.settings = _settings_of(path, kind)
            self.records: int = self._file.metadata.num_rows
            if "id" not in kind.names:
                raise InvalidInput(f"{path} has no column 'id'; the columns are: {', '.join(kind.names)}.",
                                   remedy="Rename the column that identifies a record.")
            self._vectors = parquet_columns.vector_column(kind)
            self.dim = self._dimension(pa, kind)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()

    def items(self, size: int = 2000) -> Iterator[list[Item]]:
        """Batches of at most `size` records, in the file's order. Raises InvalidInput naming the row and column."""
        first = 0
        batches = self._batches(size)
        while True:
            with _as_ours(self.path):
                batch = next(batches, None)
            if batch is None:
                return
            if batch.num_rows:
                yield self._items(batch, first)
            first += batch.num_rows

    def sources(self) -> Iterator[tuple[str, Source]]:
        """The documents of an export with their namespaces, in the order of their records."""
        if self.settings is None or not self.settings.sources:
            return
        beside, pa = sources_path(self.path), arrow()
        if not beside.is_file():
            raise NotFound(f"{beside} does not exist, but the records of {self.path.name} were cut from documents.",
                           remedy="Put it beside the first file, or import without the documents.")
        with _as_ours(beside), pa.parquet.ParquetFile(beside, page_checksum_verification=True) as file:
            other = _settings_of(beside, file.schema_arrow)
            if other is None or other.pair != self.settings.pair:
                raise Corrupt(f"{beside} belongs to another export than {self.path.name}.",
                              remedy="Put both files of one export side by side.")
            for batch in file.iter_batches(64):
                for row in batch.to_pylist():
                    yield row["namespace"], Source(row["uri"], row["content_hash"], row["text"], row["media_type"],
                                                   row["title"], row["size_bytes"], tuple(row["pages"]))

    def _batches(self, size: int) -> Iterator[Any]:
        yield from self._file.iter_batches(size)

    def _dimension(self, pa: Any, kind: Any) -> int | None:
        """The file's, None where it has no records and its type does not say."""
        vectors = kind.field(self._vectors).type
        if pa.types.is_fixed_size_list(vectors):
            return int(vectors.list_size)
        with _as_ours(self.path):
            for batch in self._file.iter_batches(1, columns=[self._vectors]):
                value = batch.column(0)[0].as_py()
                return None if value is None else len(value)
        return None

    def _items(self, batch: Any, first: int) -> list[Item]:
        count, named = batch.num_rows, set(batch.schema.names)
        vectors = parquet_columns.vectors(batch.column(self._vectors), self.dim, self._vectors, first)
        ids, spaces, documents, contexts, uris = (
            parquet_columns.texts(batch.column(name), name, first) if name in named else [None] * count
            for name in ("id", "namespace", "document", "context", "source_uri"))
        if None in ids:
            raise InvalidInput(f"row {first + ids.index(None)} has no id.", remedy="Leave out rows without an id.")
        sparse = (parquet_columns.sparse(batch.column("sparse_indices"), batch.column("sparse_values"))
                  if {"sparse_indices", "sparse_values"} <= named else [None] * count)
        metadata = parquet_columns.plain_metadata(batch, self._skip, first)
        if "metadata" in named and "metadata" not in self._skip:
            stored = parquet_columns.stored_metadata(batch.column("metadata"), first)
            metadata = [{**plain, **own} for plain, own in zip(metadata, stored, strict=True)]
        return [Item(Record(str(ids[n]), vectors[n], sparse[n], metadata[n], documents[n], contexts[n]),
                     spaces[n] or "", uris[n] if self.settings is not None else None) for n in range(count)]


def _settings_of(path: Path, kind: Any) -> Settings | None:
    """What an export says of itself; None for another program's file."""
    text = (kind.metadata or {}).get(_KEY)
    if text is None:
        return None
    try:
        stored = json.loads(text)
        if (number := stored.pop("format")) != _FORMAT:
            raise Corrupt(f"{path} has format {number!r}; this version reads format {_FORMAT}.",
                          remedy="Import it with the version of Madang that wrote it.")
        return Settings(**stored)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise Corrupt(f"{path} is damaged: its settings cannot be read.", remedy="Export it again.") from None


@contextmanager
def _as_ours(path: Path) -> Iterator[None]:
    """Arrow's errors, and SQLite's, as ours."""
    pa = arrow()
    try:
        yield
    except sqlite3.Error as error:
        raise schema.explained(path / schema.FILE_NAME, error) from error
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, PermissionError) or (isinstance(error, OSError) and error.errno is not None):
            raise schema.explained(path, error) from error
        raise Corrupt(f"{path} is damaged, or is no Parquet: {str(error).splitlines()[0] if str(error) else error!r}.",
                      remedy="Write the file again.") from error
