"""What is known of the files that were sent and of what vector stores hold of them: a SQLite file of the workspace."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from madang.base.errors import NotFound
from madang.wire.openai_stores import Adding, File, StoreFile

_SCHEMA = """
CREATE TABLE IF NOT EXISTS files (id TEXT PRIMARY KEY, name TEXT NOT NULL, purpose TEXT NOT NULL, size INTEGER NOT NULL,
  created_at INTEGER NOT NULL, expires_at INTEGER, suffix TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS store_files (number INTEGER PRIMARY KEY, store TEXT NOT NULL, file TEXT NOT NULL,
  created_at INTEGER NOT NULL, status TEXT NOT NULL, code TEXT NOT NULL, message TEXT NOT NULL,
  attributes TEXT NOT NULL, chunk_chars INTEGER NOT NULL, size INTEGER NOT NULL, batch TEXT NOT NULL,
  UNIQUE (store, file));
CREATE INDEX IF NOT EXISTS store_files_by_file ON store_files (file);
CREATE INDEX IF NOT EXISTS store_files_by_batch ON store_files (batch);
"""
_COLUMNS = "store, file, created_at, status, code, message, attributes, chunk_chars, size, batch"


class Ledger:
    """One connection, which threads take turns with. Each method that changes something is one transaction."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        with self._lock:
            self._db.close()

    # Files

    def add_file(self, file: File, suffix: str) -> None:
        with self._changing() as db:
            db.execute("INSERT INTO files VALUES (?, ?, ?, ?, ?, ?, ?)",
                       (file.id, file.name, file.purpose, file.size_bytes, file.created_at, file.expires_at, suffix))

    def file(self, id_: str) -> tuple[File, str]:
        """A file and the suffix that its content is kept under. Raises `NotFound`."""
        rows = self._rows("SELECT id, name, purpose, size, created_at, expires_at, suffix FROM files WHERE id = ?", id_)
        if not rows:
            raise NotFound(f"No such File object: {id_!r:.80}")
        *values, suffix = rows[0]
        return File(*values), suffix

    def files(self, purpose: str = "") -> list[File]:
        """All of them, oldest first."""
        return [File(*row) for row in self._rows(
            "SELECT id, name, purpose, size, created_at, expires_at FROM files WHERE ? IN ('', purpose) ORDER BY rowid",
            purpose)]

    def totals(self) -> tuple[int, int]:
        """How many files, and their bytes."""
        count, size = self._rows("SELECT count(*), coalesce(sum(size), 0) FROM files")[0]
        return int(count), int(size)

    def remove_file(self, id_: str) -> list[str]:
        """Forget a file; gives the stores that it was in."""
        with self._changing() as db:
            stores = [row[0] for row in db.execute("SELECT store FROM store_files WHERE file = ?", (id_,))]
            db.execute("DELETE FROM store_files WHERE file = ?", (id_,))
            db.execute("DELETE FROM files WHERE id = ?", (id_,))
        return stores

    # Files within stores

    def add(self, store: str, adding: Sequence[Adding], now: int, chunk_chars: int, batch: str) -> None:
        """Note that files are to be read into a store; what is there already is read again. Raises `NotFound`."""
        with self._changing() as db:
            for each in adding:
                if db.execute("SELECT 1 FROM files WHERE id = ?", (each.file,)).fetchone() is None:
                    raise NotFound(f"No such File object: {each.file!r:.80}")
                db.execute(f"INSERT OR REPLACE INTO store_files ({_COLUMNS}) VALUES (?, ?, ?, ?, '', '', ?, ?, 0, ?)",
                           (store, each.file, now, "in_progress", json.dumps(each.attributes),
                            each.chunk_chars or chunk_chars, batch))

    def settle(self, store: str, file: str, status: str, *, code: str = "", message: str = "", size: int = 0) -> bool:
        """Say what became of a file that was in progress; False where nobody waits for it any more."""
        with self._changing() as db:
            done = db.execute("UPDATE store_files SET status = ?, code = ?, message = ?, size = ? WHERE store = ? AND "
                              "file = ? AND status = 'in_progress'", (status, code, message, size, store, file))
            return done.rowcount > 0

    def set_attributes(self, store: str, file: str, attributes: dict[str, Any]) -> None:
        """Other attributes; the file is to be read again."""
        with self._changing() as db:
            db.execute("UPDATE store_files SET attributes = ?, status = 'in_progress' WHERE store = ? AND file = ?",
                       (json.dumps(attributes), store, file))

    def cancel(self, batch: str) -> None:
        """Do not begin what has not begun."""
        with self._changing() as db:
            db.execute("UPDATE store_files SET status = 'cancelled' WHERE batch = ? AND status = 'in_progress'",
                       (batch,))

    def store_file(self, store: str, file: str) -> StoreFile:
        """Raises `NotFound`."""
        found = self._store_files("store = ? AND file = ?", store, file)
        if not found:
            raise NotFound(f"No file found with id {file!r:.80} in vector store {store!r:.80}.")
        return found[0]

    def store_files(self, store: str, batch: str = "") -> list[StoreFile]:
        """Those of a store, or of one of its batches; in the order in which they were added."""
        return self._store_files("store = ? AND ? IN ('', batch)", store, batch)

    def unfinished(self) -> list[StoreFile]:
        """What was in progress when a server stopped."""
        return self._store_files("status = 'in_progress'")

    def remove(self, store: str, file: str = "") -> None:
        """Forget a file of a store, or all of them."""
        with self._changing() as db:
            db.execute("DELETE FROM store_files WHERE store = ? AND ? IN ('', file)", (store, file))

    def _store_files(self, where: str, *values: str) -> list[StoreFile]:
        rows = self._rows(f"SELECT {_COLUMNS} FROM store_files WHERE {where} ORDER BY number", *values)
        return [StoreFile(store, file, created, status, (code, message), json.loads(attributes), chars, size, batch)
                for store, file, created, status, code, message, attributes, chars, size, batch in rows]

    def _rows(self, query: str, *values: Any) -> list[Any]:
        with self._lock:
            return self._db.execute(query, values).fetchall()

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
