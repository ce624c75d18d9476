"""A connection to PostgreSQL, its transactions, and its errors as ours."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import psycopg
from psycopg import errors

from madang.base.errors import InvalidInput, MadangError, NotFound, ServiceError
from madang.store.backends.postgresql_types import register_vector


class Session:
    """One connection, shared by the threads of a process, made when it is needed and again when it was lost."""

    def __init__(self, url: str, collection: str) -> None:
        self.url, self._collection = url, collection
        self._guard = threading.RLock()
        self._connection: psycopg.Connection[Any] | None = None

    @contextmanager
    def transaction(self, snapshot: bool = False) -> Iterator[psycopg.Connection[Any]]:
        """A transaction: everything inside is committed, or nothing is. `snapshot`: all of it reads one state."""
        with self._guard:
            try:
                connection = self._connected()
                with connection.transaction():
                    if snapshot:
                        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
                    yield connection
            except psycopg.Error as error:
                raise self._explained(error) from error

    def _connected(self) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed:
            # Statements are not prepared: poolers hand the connection on between transactions.
            self._connection = psycopg.connect(self.url, autocommit=True, client_encoding="utf8", connect_timeout=10,
                                               application_name="madang", prepare_threshold=None)
        register_vector(self._connection)
        return self._connection

    def _explained(self, error: psycopg.Error) -> MadangError:
        if isinstance(error, errors.UndefinedTable):
            return NotFound(f"collection {self._collection!r} was dropped.", remedy="Make it anew.")
        if isinstance(error, errors.InvalidPassword | errors.InsufficientPrivilege
                      | errors.InvalidAuthorizationSpecification):
            return ServiceError(f"PostgreSQL refused: {one_line(error)}.", kind="auth",
                                remedy="Check the user and the password in the URL, and what the user may do.")
        if isinstance(error, psycopg.OperationalError) and error.sqlstate is None:
            kind = "auth" if "authentication failed" in str(error) else "unreachable"
            return ServiceError(f"PostgreSQL cannot be reached: {one_line(error)}.", kind=kind,
                                retryable=kind != "auth",
                                remedy="Check the address in the URL, and that the server runs.")
        return ServiceError(f"PostgreSQL failed: {one_line(error)}.", kind="server",
                            retryable=isinstance(error, psycopg.OperationalError))

    def close(self) -> None:
        """Close the connection; the next transaction opens another."""
        with self._guard:
            if self._connection is not None:
                self._connection.close()


def split_url(url: str) -> tuple[str, str]:
    """libpq's URL, and the collection's name."""
    parts = urlsplit(url)
    query = parse_qsl(parts.query, keep_blank_values=True)
    names = [value for key, value in query if key == "collection"]
    if parts.scheme not in ("postgresql", "postgres") or len(names) != 1:
        raise InvalidInput("the URL of a collection in PostgreSQL must name it once, as collection=NAME.",
                           remedy="For example postgresql://user:password@localhost:5432/database?collection=docs.")
    rest = urlencode([(key, value) for key, value in query if key != "collection"])
    return urlunsplit(parts._replace(query=rest)), names[0]


def one_line(error: BaseException) -> str:
    """What the server said, short and without its final stop."""
    return " ".join(str(error).split())[:300].rstrip(".")
