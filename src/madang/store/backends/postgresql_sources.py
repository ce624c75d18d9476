"""The documents that records were cut from, in PostgreSQL: one table for all collections of the database.

Callers hold a transaction that writes, except for the readings at the end. `table` is that of the records.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias

from psycopg import Connection, sql

from madang.base.errors import InvalidInput
from madang.base.records import Source, SourceInfo

Transaction: TypeAlias = Connection[Any]

SETUP = """
CREATE TABLE IF NOT EXISTS madang._sources(
    collection text COLLATE "C" NOT NULL, namespace text COLLATE "C" NOT NULL, uri text COLLATE "C" NOT NULL,
    content_hash text NOT NULL, text text NOT NULL, media_type text NOT NULL, title text NOT NULL,
    size_bytes bigint NOT NULL, pages bigint[] NOT NULL, ingested_at text NOT NULL,
    PRIMARY KEY (collection, namespace, uri));
"""


def check(source: Source, namespace: str, most_bytes: int) -> None:
    """Refuse NUL, which PostgreSQL's text cannot hold, and a name too long for its indexes."""
    if len(source.uri.encode()) + len(namespace.encode()) > most_bytes - 256:     # the collection's name is there too
        raise InvalidInput(f"source {source.uri!r:.80}: the address and the namespace take more than "
                           f"{most_bytes - 256:,} bytes.", remedy="Shorten one of them.")
    for field in ("uri", "content_hash", "text", "media_type", "title"):
        if "\0" in getattr(source, field):
            raise InvalidInput(f"source {source.uri!r:.80}: {field} holds the character NUL, which PostgreSQL does "
                               "not store.", remedy="Remove it.")


def insert(connection: Transaction, collection: str, source: Source, namespace: str) -> None:
    """Store a document that is not there."""
    connection.execute(
        "INSERT INTO madang._sources VALUES(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        (collection, namespace, source.uri, source.content_hash, source.text, source.media_type, source.title,
         source.size_bytes, list(source.pages), datetime.now(UTC).isoformat(timespec="seconds")))


def remove(connection: Transaction, collection: str, table: sql.Identifier, uris: Sequence[str],
           namespace: str) -> int:
    """Remove documents and their records; how many documents were there."""
    wanted = [uri for uri in uris if "\0" not in uri]
    connection.execute(sql.SQL("DELETE FROM {} WHERE namespace = %s AND source = ANY(%s)").format(table),
                       (namespace, wanted))
    return connection.execute("DELETE FROM madang._sources WHERE collection = %s AND namespace = %s "
                              "AND uri = ANY(%s)", (collection, namespace, wanted)).rowcount


def remove_all(connection: Transaction, collection: str, namespace: str | None = None) -> None:
    """Forget the documents of a namespace, or of the whole collection; their records are the caller's matter."""
    connection.execute("DELETE FROM madang._sources WHERE collection = %s AND namespace = COALESCE(%s, namespace)",
                       (collection, namespace))


def forget_hashes(connection: Transaction, collection: str, table: sql.Identifier, namespace: str,
                  ids: Sequence[str]) -> None:
    """Records are about to be changed by hand: their documents no longer are what their hashes say."""
    connection.execute(
        sql.SQL("UPDATE madang._sources SET content_hash = '' WHERE collection = %s AND namespace = %s AND uri IN "
                "(SELECT source FROM {} WHERE namespace = %s AND id = ANY(%s) AND source IS NOT NULL)").format(table),
        (collection, namespace, namespace, list(ids)))


def count(connection: Transaction, collection: str) -> int:
    """How many documents the collection has."""
    row = connection.execute("SELECT count(*) FROM madang._sources WHERE collection = %s", (collection,)).fetchone()
    return int(row[0]) if row else 0


def listing(connection: Transaction, collection: str, table: sql.Identifier, namespace: str) -> dict[str, SourceInfo]:
    """The documents of a namespace, by uri."""
    rows = connection.execute(
        sql.SQL("SELECT uri, content_hash, media_type, title, size_bytes, (SELECT count(*) FROM {} r "
                "WHERE r.namespace = s.namespace AND r.source = s.uri), ingested_at FROM madang._sources s "
                "WHERE collection = %s AND namespace = %s ORDER BY uri").format(table), (collection, namespace))
    return {row[0]: SourceInfo(*row) for row in rows}


def read(connection: Transaction, collection: str, uri: str, namespace: str) -> Source | None:
    """A document with its text, or None."""
    if "\0" in uri:
        return None
    row = connection.execute(
        "SELECT uri, content_hash, text, media_type, title, size_bytes, pages FROM madang._sources "
        "WHERE collection = %s AND namespace = %s AND uri = %s", (collection, namespace, uri)).fetchone()
    if row is None:
        return None
    uri, content_hash, text, media_type, title, size_bytes, pages = row
    return Source(uri, content_hash, text, media_type, title, size_bytes, tuple(pages))
