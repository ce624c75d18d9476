"""Connections for reading, so that readers wait neither for each other nor for the writer."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from madang.base.errors import InvalidInput
from madang.store import schema
from madang.store.reading import Reader


class Connections:
    """Lends connections to one `records.db` and keeps those that come back."""

    def __init__(self, path: Path, check: Callable[[], None]) -> None:
        """`check` raises where `path` is not the file any more that it was."""
        self._path, self._check = path, check
        self._idle: list[sqlite3.Connection] = []
        self._guard = threading.Lock()
        self._closed = False

    @contextmanager
    def reading(self, table: int | None = None) -> Iterator[Reader]:
        """A reader in a read transaction: one snapshot for all that is read; of a table of vectors as for `Reader`."""
        connection = self._take()
        try:
            connection.execute("BEGIN")
            try:
                connection.execute("SELECT 1 FROM meta LIMIT 1").fetchone()     # only now the transaction has begun
                self._check()
                yield Reader(connection, self._path, table)
            finally:
                connection.execute("COMMIT")
        finally:
            self._give_back(connection)

    def _take(self) -> sqlite3.Connection:
        with self._guard:
            if self._closed:
                raise InvalidInput(f"collection {self._path.parent.name!r} is closed.",
                                   remedy="Open the workspace again.")
            if self._idle:
                return self._idle.pop()
        return schema.connect(self._path)

    def _give_back(self, connection: sqlite3.Connection) -> None:
        with self._guard:
            if not self._closed and not connection.in_transaction:
                self._idle.append(connection)
                return
        connection.close()

    def close(self) -> None:
        """Close those that are idle, and the others when they come back."""
        with self._guard:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
