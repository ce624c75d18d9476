"""`records.db`: the tables, how they are opened, and what the collection remembers about itself."""

from __future__ import annotations

import errno
import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, TypeVar

from madang.base.errors import Corrupt, InvalidInput, Locked, MadangError
from madang.store import checksums

FORMAT = 3
_EARLIER = 2                     # still read, and brought up to date by the first write
FILE_NAME = "records.db"
COPY_INFO = "info.json"         # beside the records of a snapshot
_T = TypeVar("_T")
_NEEDED = ("dim", "metric", "index", "embedder", "sequence", "next_row", "next_tombstone")
PAGE_SIZES = (8192, 16384, 32768)
_LOG_BYTES = 16 << 20            # what is kept of the write-ahead log between transactions
_COMPACTED = "compacted"         # the key of what `next_tombstone` was when the file was last written anew
_MANY_DELETED = 1000             # records since then that may be worth it
_LARGE_BYTES = 256 << 20         # a larger file would take seconds, in which writers wait
_LOG_CHECKPOINT_BYTES = 8 << 20  # ... and how much of it, at least, is written into the database at once

# Rows are never reused and a record is never changed in place: an update writes a new row and a tombstone for the
# old one. So a reader has caught up when it has seen every row and every tombstone above the last it knew. Columns
# ending in `sum` are what `checksums` says. Vectors are in one of two tables of one shape, and perhaps those of another
# model in the other (`embeddings`). A vector that its record was written with has `vector_sum`; one that was made later
# has a checksum of its own.
_TABLES = """
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL, checksum INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE records(row INTEGER PRIMARY KEY, namespace TEXT NOT NULL, id TEXT NOT NULL, source INTEGER,
                     vector_sum INTEGER NOT NULL, sparse_sum INTEGER, text_sum INTEGER, checksum INTEGER NOT NULL,
                     metadata TEXT NOT NULL, document TEXT, context TEXT, UNIQUE(namespace, id));
CREATE INDEX records_by_source ON records(source) WHERE source IS NOT NULL;
CREATE TABLE vectors(row INTEGER PRIMARY KEY, data BLOB NOT NULL, checksum INTEGER);
CREATE TABLE sparse(row INTEGER PRIMARY KEY, indices BLOB NOT NULL, data BLOB NOT NULL);
CREATE TABLE terms(term_id INTEGER PRIMARY KEY, term TEXT NOT NULL UNIQUE, checksum INTEGER NOT NULL);
CREATE TABLE postings(row INTEGER PRIMARY KEY, term_ids BLOB NOT NULL, weights BLOB NOT NULL,
                      checksum INTEGER NOT NULL);
CREATE TABLE tombstones(n INTEGER PRIMARY KEY, row INTEGER NOT NULL, checksum INTEGER NOT NULL);
CREATE TABLE sources(source INTEGER PRIMARY KEY, namespace TEXT NOT NULL, uri TEXT NOT NULL, content_hash TEXT NOT NULL,
                     media_type TEXT NOT NULL, title TEXT NOT NULL, size_bytes INTEGER NOT NULL, pages TEXT NOT NULL,
                     text BLOB NOT NULL, ingested_at TEXT NOT NULL, checksum INTEGER NOT NULL, UNIQUE(namespace, uri));
CREATE TABLE second_vectors(row INTEGER PRIMARY KEY, data BLOB NOT NULL, checksum INTEGER);
"""
VECTORS = ("vectors", "second_vectors")


def create(path: Path, meta: dict[str, Any], page: int | None = None) -> None:
    """Make a new `records.db` holding `meta`; its pages have `page` bytes, or what is best for the `dim` in `meta`."""
    first = {"format": FORMAT, "generation": 0, "next_tombstone": 1}
    with closing(connect(path, page or page_bytes(meta["dim"]))) as connection:
        connection.executescript("BEGIN;" + _TABLES)
        for key, value in {**first, **meta}.items():
            put_meta(connection, key, value)
        connection.execute("COMMIT")


def page_bytes(dim: int) -> int:
    """The smallest page on which vectors leave less than a tenth unused, else the one with least waste.

    Measured with 90,000 records of 384 dimensions: 196 MB with pages of 4 KB, 158 with 8 and 16, 152 with 32. Large
    pages make a small write larger, so they are taken only where they save something.
    """
    def waste(page: int) -> float:
        each = 4 * dim + 10  # with its row, its size and its place in the page
        return 1 - (page - 8) // each * each / page if each < page else (-each % page) / each

    return next((page for page in PAGE_SIZES if waste(page) < 0.1), min(PAGE_SIZES, key=waste))


def connect(path: Path, page: int | None = None) -> sqlite3.Connection:
    """Open with the settings durability rests on: write-ahead log, every commit synced to disk.

    A file this process may not write is opened for reading only. `page`: bytes in one, for a file that is new.
    """
    if path.with_name(COPY_INFO).exists():      # a snapshot: nothing will change it
        return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True, isolation_level=None,
                               check_same_thread=False, timeout=10.0)
    if path.exists() and not (_writable(path) and _writable(path.parent)):
        # Without a log there is nothing another process could be changing, so no lock files are needed either.
        flags = "mode=ro" if path.with_name(path.name + "-wal").exists() else "mode=ro&immutable=1"
        return sqlite3.connect(f"{path.absolute().as_uri()}?{flags}", uri=True, isolation_level=None,
                               check_same_thread=False, timeout=10.0)
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10.0)
    try:
        if page is not None:
            connection.execute(f"PRAGMA page_size={page}")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(f"PRAGMA journal_size_limit={_LOG_BYTES}")
        (page_size,) = connection.execute("PRAGMA page_size").fetchone()
        connection.execute(f"PRAGMA wal_autocheckpoint={_LOG_CHECKPOINT_BYTES // page_size}")
    except BaseException:
        # Left open, it would be closed some time later, and SQLite then removes the log by its name: by then perhaps
        # that of another collection.
        connection.close()
        raise
    return connection


def _writable(path: Path) -> bool:
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def close(connection: sqlite3.Connection) -> None:
    """Close, after moving what is in the log into the database if nobody is in the way."""
    with suppress(sqlite3.Error):  # on a full disk, or beside a reader, the log stays: it is as durable there
        connection.execute("PRAGMA busy_timeout=0")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def open_existing(path: Path) -> tuple[sqlite3.Connection, dict[str, Any]]:
    """Open and read the metadata. Raises `Corrupt` when it is not a whole database of this format."""
    connection = None
    try:
        connection = connect(path)
        return connection, _checked_meta(connection, path)
    except BaseException as error:
        if connection is not None:
            connection.close()
        if isinstance(error, sqlite3.Error | OSError | ValueError | TypeError) and not isinstance(error, MadangError):
            raise explained(path, error) from error
        raise


def _checked_meta(connection: sqlite3.Connection, path: Path) -> dict[str, Any]:
    found = connection.execute("SELECT value FROM meta WHERE key = 'format'").fetchone()
    stored = json.loads(found[0]) if found else None
    if stored not in (FORMAT, _EARLIER):
        older = isinstance(stored, int) and stored < FORMAT
        raise Corrupt(f"{path} has format {stored!r}; this version reads format {FORMAT}.", remedy=(
            f"Copy its records into a new collection: madang collection salvage {path.parent.name}" if older
            else "Open it with the version of Madang that wrote it."))
    # In whatever order: `compact` leaves tables first and then indexes.
    if sorted(sql for (sql,) in connection.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL")
              ) != sorted(_statements(stored)):
        raise damaged(path, "its table of tables")
    meta = {}
    for key, value, checksum in connection.execute("SELECT key, value, checksum FROM meta"):
        meta[key] = _meta_value(path, key, value, checksum)
    for key in _NEEDED:
        if key not in meta:
            raise damaged(path, f"{key!r} of its metadata")
    return meta


def _statements(version: int) -> list[str]:
    """What makes the tables of a format."""
    made = [statement.strip() for statement in _TABLES.split(";")[:-1]]
    if version == _EARLIER:
        return [statement.replace("data BLOB NOT NULL, checksum INTEGER)", "data BLOB NOT NULL)")
                for statement in made[:-1]]
    return made


def sums_in_vectors(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether vectors can have checksums of their own: not in a file that was not written to since format 2."""
    return bool(get_meta(connection, path, "format") != _EARLIER)


def upgrade(connection: sqlite3.Connection, path: Path) -> None:
    """Bring a file of the format before this one up to date, inside the caller's write transaction."""
    if not sums_in_vectors(connection, path):
        connection.execute("ALTER TABLE vectors ADD COLUMN checksum INTEGER")
        connection.execute(_statements(FORMAT)[-1])
        put_meta(connection, "format", FORMAT)


def _meta_value(path: Path, key: str, value: str, checksum: int) -> Any:
    if checksums.of_entry(key, value) != checksum:
        raise damaged(path, f"{key!r:.40} of its metadata")
    return json.loads(value)


def put_meta(connection: sqlite3.Connection, key: str, value: Any) -> None:
    """Set one metadata key inside the caller's transaction."""
    text = json.dumps(value)
    connection.execute("INSERT INTO meta VALUES(?, ?, ?) ON CONFLICT(key) DO UPDATE SET value = excluded.value, "
                       "checksum = excluded.checksum", (key, text, checksums.of_entry(key, text)))


def get_meta(connection: sqlite3.Connection, path: Path, key: str) -> Any:
    """One metadata key, None where it was never set. Raises `Corrupt` for one that is damaged."""
    found = connection.execute("SELECT value, checksum FROM meta WHERE key = ?", (key,)).fetchone()
    return None if found is None else _meta_value(path, key, *found)


def parts(values: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """In parts that one statement can name: SQLite may be built for 999 values at most."""
    for start in range(0, len(values), 500):
        yield values[start:start + 500]


def marks(values: Sequence[object]) -> str:
    """A place in a statement for each."""
    return ",".join("?" * len(values))


def forget_tombstones(connection: sqlite3.Connection, up_to: int) -> None:
    """Remove the tombstones numbered up to this, inside the caller's write transaction.

    A view that has not seen them is read anew. So `up_to` should be what the derived files cover, less what a reader
    in another process may be behind.
    """
    connection.execute("DELETE FROM tombstones WHERE n <= ?", (up_to,))


def compact(connection: sqlite3.Connection, path: Path) -> bool:
    """Write the file anew, without what deleted records have left between the others, where that is worth it; whether
    it was. Readers go on meanwhile, writers wait. Raises sqlite3.Error; the file then is as it was.

    New records get new rows, at the end of every table, so that a page which is half empty stays so.
    """
    ever = int(get_meta(connection, path, "next_tombstone"))
    deleted = ever - int(get_meta(connection, path, _COMPACTED) or 1)
    (pages,), (page,) = (connection.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "page_size"))
    if deleted < _MANY_DELETED or pages * page > _LARGE_BYTES:
        return False
    (live,) = connection.execute("SELECT COUNT(*) FROM records").fetchone()
    if deleted <= live // 8:
        return False
    connection.execute("VACUUM")
    put_meta(connection, _COMPACTED, ever)
    return True


def damaged(path: Path, what: str) -> Corrupt:
    """Something that is not what was written."""
    return Corrupt(f"{path} cannot be opened or read: {what} is damaged.", remedy=_remedy(path))


def _remedy(path: Path) -> str:
    return (f"Restore it from a backup, save what can be read with: madang collection salvage {path.parent.name}, or "
            "drop the collection and ingest again.")


def explained(path: Path, error: Exception) -> MadangError:
    """What SQLite and the system say, as our errors: what the user can mend is told apart from a damaged file."""
    said = str(error)
    if isinstance(error, OSError):
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        return InvalidInput(f"{path} could not be written: {error.strerror or said}; nothing was changed.", remedy=(
            "Free some space on the disk and try again." if full else "Check its permissions and the disk."))
    if isinstance(error, sqlite3.ProgrammingError):
        return InvalidInput(f"collection {path.parent.name!r} is closed.", remedy="Open the workspace again.")
    if isinstance(error, sqlite3.OperationalError):
        if "locked" in said or "busy" in said:
            return Locked(f"{path} is in use by another process.", remedy="Try again when it has finished.")
        if "readonly" in said:
            return InvalidInput(f"{path} may not be written to.", remedy="Check its permissions.")
        read = "READ" in getattr(error, "sqlite_errorname", "")  # a bad sector; Python 3.10 does not say
        if "full" in said or ("disk I/O" in said and not read):
            return InvalidInput(f"{path} could not be written: {said}; nothing was changed.",
                                remedy="Free some space on the disk and try again.")
        if "unable to open" in said:
            return InvalidInput(f"{path} could not be opened: {said}; nothing was changed.",
                                remedy="Check its permissions and the space on the disk.")
    return Corrupt(f"{path} cannot be opened or read: {said}.", remedy=_remedy(path))
