"""`records.db`: the tables, how they are opened, and what the collection remembers about itself."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path
from typing import Any

from madang.base.errors import Corrupt, InvalidInput, Locked, MadangError

FORMAT = 1
FILE_NAME = "records.db"

# Rows are never reused and a record is never changed in place: an update writes a new row and a tombstone for the
# old one. So a reader has caught up when it has seen every row and every tombstone above the last it knew.
_TABLES = """
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE records(row INTEGER PRIMARY KEY, namespace TEXT NOT NULL, id TEXT NOT NULL, metadata TEXT NOT NULL,
                     document TEXT, context TEXT, source INTEGER, UNIQUE(namespace, id));
CREATE INDEX records_by_source ON records(source) WHERE source IS NOT NULL;
CREATE TABLE vectors(row INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE sparse(row INTEGER PRIMARY KEY, indices BLOB NOT NULL, data BLOB NOT NULL);
CREATE TABLE terms(term_id INTEGER PRIMARY KEY, term TEXT NOT NULL UNIQUE);
CREATE TABLE postings(row INTEGER PRIMARY KEY, term_ids BLOB NOT NULL, weights BLOB NOT NULL);
CREATE TABLE tombstones(n INTEGER PRIMARY KEY AUTOINCREMENT, row INTEGER NOT NULL);
CREATE TABLE sources(source INTEGER PRIMARY KEY, namespace TEXT NOT NULL, uri TEXT NOT NULL, content_hash TEXT NOT NULL,
                     media_type TEXT NOT NULL, title TEXT NOT NULL, size_bytes INTEGER NOT NULL, pages TEXT NOT NULL,
                     text BLOB NOT NULL, ingested_at TEXT NOT NULL, UNIQUE(namespace, uri));
"""


def create(path: Path, meta: dict[str, Any]) -> None:
    """Make a new `records.db` holding `meta`."""
    connection = connect(path)
    with connection:
        connection.executescript(_TABLES)
        connection.executemany("INSERT INTO meta VALUES(?, ?)",
                               [(key, json.dumps(value)) for key, value in {"format": FORMAT, **meta}.items()])
    connection.close()


def connect(path: Path) -> sqlite3.Connection:
    """Open with the settings durability rests on: write-ahead log, every commit synced to disk.

    A file this process may not write is opened for reading only.
    """
    if path.exists() and not (_writable(path) and _writable(path.parent)):
        # Without a log there is nothing another process could be changing, so no lock files are needed either.
        flags = "mode=ro" if path.with_name(path.name + "-wal").exists() else "mode=ro&immutable=1"
        return sqlite3.connect(f"{path.absolute().as_uri()}?{flags}", uri=True, isolation_level=None,
                               check_same_thread=False, timeout=10.0)
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10.0)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    return connection


def _writable(path: Path) -> bool:
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def open_existing(path: Path) -> tuple[sqlite3.Connection, dict[str, Any]]:
    """Open and read the metadata. Raises `Corrupt` when it is not a database of this format."""
    connection = None
    try:
        connection = connect(path)
        meta = {key: json.loads(value) for key, value in connection.execute("SELECT key, value FROM meta")}
    except (sqlite3.Error, ValueError) as error:
        if connection is not None:
            connection.close()
        raise explained(path, error) from error
    if meta.get("format") != FORMAT:
        connection.close()
        raise Corrupt(f"{path} has format {meta.get('format')!r}; this version reads format {FORMAT}.",
                      remedy="Open it with the version of Madang that wrote it.")
    return connection, meta


def put_meta(connection: sqlite3.Connection, key: str, value: Any) -> None:
    """Set one metadata key inside the caller's transaction."""
    connection.execute("INSERT INTO meta VALUES(?, ?) ON CONFLICT(key) DO UPDATE SET value = excluded.value",
                       (key, json.dumps(value)))


def explained(path: Path, error: Exception) -> MadangError:
    """SQLite's errors as ours: what the user can mend is told apart from a damaged file."""
    said = str(error)
    if isinstance(error, sqlite3.ProgrammingError):
        return InvalidInput(f"collection {path.parent.name!r} is closed.", remedy="Open the workspace again.")
    if isinstance(error, sqlite3.OperationalError):
        if "locked" in said or "busy" in said:
            return Locked(f"{path} is in use by another process.", remedy="Try again when it has finished.")
        if "readonly" in said:
            return InvalidInput(f"{path} may not be written to.", remedy="Check its permissions.")
        if "full" in said or "disk I/O" in said:
            return InvalidInput(f"{path} could not be written: {said}; nothing was changed.",
                                remedy="Free some space on the disk and try again.")
    return Corrupt(f"{path} cannot be opened or read: {said}.",
                   remedy="Restore it from a backup, or drop the collection and ingest again.")
