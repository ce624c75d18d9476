"""PostgreSQL with pgvector: a collection is a table, searched by an HNSW index or exactly.

`postgresql://user:password@host:port/database?collection=NAME`; other parts of the query (`sslmode=...`) go to libpq.
Tables live in the schema `madang` of that database, one a collection, beside `_collections` (dimension, metric) and
`_sources`. The database must be UTF-8 and have pgvector 0.5 or later; `create` asks for the extension if it is absent.

Sources: https://github.com/pgvector/pgvector#hnsw (at most 2,000 dimensions are indexed, 16,000 stored; a filtered
search by index needs iterative scans, from 0.8 on) and https://www.postgresql.org/docs/current/datatype-json.html
(text holds no NUL).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, ClassVar, Self

import psycopg
from psycopg import errors, sql

from madang.base.errors import Conflict, InvalidInput, MadangError, NotFound
from madang.base.records import Match, Metadata, Record, Source, SourceInfo, SparseVector, Vector
from madang.store import validate
from madang.store.backends import postgresql_sources as documents
from madang.store.backends.capabilities import Capabilities
from madang.store.backends.engine import EngineCollection
from madang.store.backends.postgresql_filters import metadata_json, minus_zeros, where
from madang.store.backends.postgresql_session import Session, one_line, split_url
from madang.store.filters import Tree
from madang.store.protocol import CollectionStats, IdPage
from madang.store.updating import Change

MAX_DIM = 16_000                 # of pgvector's type
_INDEXED_DIM = 2_000             # of its HNSW index
_KEY_BYTES = 2_600               # of namespace and id together: an entry of a B-tree holds 2,704
_EXACT = 10_000                  # up to so many candidates, comparing all of them is quick and never wrong
_LONGEST_SCAN = 1_000            # of hnsw.ef_search

# The operator, the class of the index, and the score that grows with goodness, from the operator's distance.
_METRICS = {"cosine": ("<=>", "vector_cosine_ops"), "dot": ("<#>", "vector_ip_ops"),
            "euclidean": ("<->", "vector_l2_ops")}

_SETUP = """
CREATE EXTENSION IF NOT EXISTS vector;
CREATE SCHEMA IF NOT EXISTS madang;
CREATE TABLE IF NOT EXISTS madang._collections(
    name text COLLATE "C" PRIMARY KEY, dim int NOT NULL, metric text NOT NULL, embedder text,
    sequence bigint NOT NULL DEFAULT 0);
""" + documents.SETUP
_TABLE = """
CREATE TABLE {table}(
    namespace text COLLATE "C" NOT NULL, id text COLLATE "C" NOT NULL, "values" vector({dim}) NOT NULL,
    metadata jsonb NOT NULL, minus_zeros text[], document text, context text, sparse_indices bigint[],
    sparse_values real[], source text,
    PRIMARY KEY (namespace, id));
CREATE INDEX ON {table} USING gin (metadata jsonb_path_ops);
CREATE INDEX ON {table} (namespace, source) WHERE source IS NOT NULL;
"""
# `minus_zeros` names the fields that hold -0.0: jsonb's numbers have no such zero, which otherwise comes back as 0.0.
_COLUMNS = 'id, "values", metadata, minus_zeros, document, context, sparse_indices, sparse_values'
_UPSERT = (f"INSERT INTO {{table}}(namespace, {_COLUMNS}, source) "
           "VALUES(%s, %s, %s, %s::jsonb, %s, %s, %s, %s, %s, %s) "
           "ON CONFLICT (namespace, id) DO UPDATE SET " + ", ".join(
               f"{column} = EXCLUDED.{column}" for column in (*_COLUMNS.split(", ")[1:], "source")))


class PostgreSQL(EngineCollection):
    """A collection in PostgreSQL. One connection, shared by the threads of a process; every call is a transaction."""

    engine: ClassVar[str] = "postgresql"
    capabilities: ClassVar[Capabilities] = Capabilities(sparse=True, sources=True)

    def __init__(self, url: str) -> None:
        address, name = split_url(url)
        super().__init__(validate.collection_name(name), 0, "cosine")
        self._session = Session(address, self.name)
        self._table = sql.Identifier("madang", _table_name(self.name))

    @classmethod
    def create(cls, url: str, dim: int, metric: str = "cosine") -> Self:
        """Make the table and its indexes. Raises `Conflict` if the collection exists, `ServiceError`."""
        cls.check_new(dim, metric)
        if dim > MAX_DIM:
            raise cls._cannot(f"dim {dim:,}", f"pgvector stores at most {MAX_DIM:,}.")
        new = cls(url)
        try:
            with new._transaction() as connection:
                new._make(connection, dim, metric)
        finally:
            new.close()
        return cls.open(url)

    def _make(self, connection: psycopg.Connection[Any], dim: int, metric: str) -> None:
        (encoding,) = _one(connection.execute("SELECT current_setting('server_encoding')"))
        if encoding != "UTF8":
            raise Conflict(f"the database is encoded in {encoding}, not UTF8.", remedy="Make one in UTF8.")
        # Two programs that make their first collection at once would stumble over each other's IF NOT EXISTS.
        connection.execute("SELECT pg_advisory_xact_lock(7236838)")
        try:
            connection.execute(_SETUP)
        except (errors.UndefinedFile, errors.FeatureNotSupported, errors.InsufficientPrivilege) as error:
            raise Conflict(f"this database has no pgvector: {one_line(error)}.",
                           remedy="Install pgvector on the server and run CREATE EXTENSION vector.") from error
        try:
            connection.execute("INSERT INTO madang._collections(name, dim, metric) VALUES(%s, %s, %s)",
                               (self.name, dim, metric))
        except errors.UniqueViolation:
            raise Conflict(f"collection {self.name!r} exists already in this database.",
                           remedy="Open it, or drop it first.") from None
        connection.execute(sql.SQL(_TABLE).format(table=self._table, dim=sql.Literal(dim)))
        if dim <= _INDEXED_DIM:
            connection.execute(sql.SQL('CREATE INDEX ON {} USING hnsw ("values" {})').format(
                self._table, sql.SQL(_METRICS[metric][1])))

    @classmethod
    def open(cls, url: str) -> Self:
        """Open the collection that the URL names. Raises `NotFound` with the names there are, `ServiceError`."""
        found = cls(url)
        try:
            with found._transaction() as connection:
                (there,) = _one(connection.execute("SELECT to_regclass('madang._collections') IS NOT NULL"))
                rows = connection.execute("SELECT name, dim, metric, embedder FROM madang._collections ORDER BY name"
                                          ).fetchall() if there else []
        except MadangError:
            found.close()
            raise
        for name, dim, metric, embedder in rows:
            if name == found.name:
                found._dim, found.metric, found.embedder = dim, metric, embedder
                return found
        found.close()
        raise NotFound(f"no collection is called {found.name!r} in this database.",
                       remedy=f"There are: {', '.join(row[0] for row in rows) or 'none yet'}.")

    # Writing

    def check_record(self, record: Record) -> None:
        """Refuses NUL, which PostgreSQL's text cannot hold."""
        super().check_record(record)
        where_ = f"record {record.id!r:.60}"
        for field, value in record.metadata.items():
            for part in (field, *(value if isinstance(value, list) else [value])):
                if isinstance(part, str) and "\0" in part:
                    raise self._cannot(f"{where_}: metadata {field!r:.80}: the character NUL", "Remove it.")
        for field, text in (("document", record.document), ("context", record.context)):
            if text is not None and "\0" in text:
                raise self._cannot(f"{where_}: {field}: the character NUL", "Remove it.")

    def _check_keys(self, records: Iterable[Record], namespace: str) -> None:
        room = _KEY_BYTES - len(namespace.encode())
        for record in records:
            if len(record.id.encode()) > room:
                raise self._cannot(f"record {record.id!r:.60}: an id of more than {room:,} bytes in this namespace",
                                   "Shorten the id or the name of the namespace.")

    def _put(self, records: list[Record], namespace: str) -> None:
        self._check_keys(records, namespace)
        with self._write() as connection:
            documents.forget_hashes(connection, self.name, self._table, namespace, [record.id for record in records])
            self._insert(connection, records, namespace, None)

    def _insert(self, connection: psycopg.Connection[Any], records: Sequence[Record], namespace: str,
                source: str | None) -> None:
        rows = [(namespace, r.id, r.values, metadata_json(r.metadata), minus_zeros(r.metadata), r.document, r.context,
                 None if r.sparse is None else list(r.sparse.indices),
                 None if r.sparse is None else list(r.sparse.values), source) for r in records]
        with connection.cursor() as cursor:
            cursor.executemany(sql.SQL(_UPSERT).format(table=self._table), rows)

    def _update(self, wanted: Change, namespace: str) -> int:
        """In place: the record stays part of its document."""
        with self._write() as connection:
            found = self._read(connection, [wanted.id or ""], namespace)
            changed = self._changed(wanted, found, namespace)
            sparse = changed.sparse
            connection.execute(sql.SQL('UPDATE {} SET "values" = %s, metadata = %s::jsonb, minus_zeros = %s, '
                                       "sparse_indices = %s, sparse_values = %s WHERE namespace = %s AND id = %s"
                                       ).format(self._table),
                               (changed.values, metadata_json(changed.metadata), minus_zeros(changed.metadata),
                                None if sparse is None else list(sparse.indices),
                                None if sparse is None else list(sparse.values), namespace, changed.id))
        return 1

    def _delete_ids(self, ids: list[str], namespace: str) -> int:
        with self._write() as connection:
            documents.forget_hashes(connection, self.name, self._table, namespace, ids)
            return connection.execute(sql.SQL("DELETE FROM {} WHERE namespace = %s AND id = ANY(%s)").format(
                self._table), (namespace, ids)).rowcount

    def _delete_matching(self, tree: Tree | None, namespace: str) -> int:
        condition, parameters = ("TRUE", []) if tree is None else where(tree)
        with self._write() as connection:
            ids = [row[0] for row in connection.execute(
                self._select("SELECT id", condition), (namespace, *parameters))]
            if tree is None:
                documents.remove_all(connection, self.name, namespace)
            else:
                documents.forget_hashes(connection, self.name, self._table, namespace, ids)
            return connection.execute(sql.SQL("DELETE FROM {} WHERE namespace = %s AND id = ANY(%s)").format(
                self._table), (namespace, ids)).rowcount

    def drop(self) -> None:
        """Remove the table, its documents and its entry."""
        with self._write() as connection:
            documents.remove_all(connection, self.name)
            connection.execute(sql.SQL("DROP TABLE {}").format(self._table))
            connection.execute("DELETE FROM madang._collections WHERE name = %s", (self.name,))

    # Reading

    def _get(self, ids: list[str], namespace: str) -> dict[str, Record]:
        with self._transaction() as connection:
            return self._read(connection, ids, namespace)

    def _read(self, connection: psycopg.Connection[Any], ids: Sequence[str], namespace: str) -> dict[str, Record]:
        found = connection.execute(self._select(f"SELECT {_COLUMNS}", "id = ANY(%s)"), (namespace, list(ids)),
                                   binary=True)
        return {id_: Record(id_, values, None if indices is None else SparseVector(indices, weights),
                            _metadata(metadata, zeros), document, context)
                for id_, values, metadata, zeros, document, context, indices, weights in found}

    def _search(self, vector: Vector, k: int, namespace: str, tree: Tree | None, with_values: bool) -> list[Match]:
        condition, parameters = ("TRUE", []) if tree is None else where(tree)
        wanted = (namespace, *parameters)
        with self._transaction(snapshot=True) as connection:
            (candidates,) = _one(connection.execute(sql.SQL("SELECT count(*) FROM ({} LIMIT {}) AS few").format(
                self._select("SELECT", condition), sql.Literal(_EXACT + 1)), wanted))
            rows: list[Any] = []
            if candidates > _EXACT and self.dim <= _INDEXED_DIM:
                rows = self._nearest(connection, vector, k, condition, wanted, with_values, by_index=True)
            if self._doubtful(rows, min(k, candidates)):
                rows = self._nearest(connection, vector, k, condition, wanted, with_values, by_index=False)
        return [Match(row[0], self._score(row[1]), _metadata(row[2], row[3]), row[5] if with_values else None, row[4])
                for row in rows]

    def _doubtful(self, rows: Sequence[Any], wanted: int) -> bool:
        """Whether all must be compared: there are few, the index gave up before it found enough, or it went beyond the
        cosine 0, where vectors of zeros belong, which it does not hold."""
        return len(rows) < wanted or (self.metric == "cosine" and bool(rows) and not rows[-1][1] < 1)

    def _nearest(self, connection: psycopg.Connection[Any], vector: Vector, k: int, condition: str,
                 wanted: Sequence[Any], with_values: bool, by_index: bool) -> list[Any]:
        distance = f'("values" {_METRICS[self.metric][0]} %s)'
        if by_index:
            connection.execute("SELECT set_config('hnsw.ef_search', %s, true)",
                               (str(min(max(2 * k, 100), _LONGEST_SCAN)),))
            if self._iterates(connection):
                connection.execute("SELECT set_config('hnsw.iterative_scan', 'strict_order', true)")
            order = distance
        else:
            # Not the index's expression, so all are compared. A zero vector's cosine, which has no direction, is 0.
            order = f"COALESCE(NULLIF({distance}, 'NaN'), 1), id" if self.metric == "cosine" else f"{distance} + 0, id"
        return connection.execute(sql.SQL(f"SELECT id, {distance}, metadata, minus_zeros, document{{}} FROM {{}} "
                                          f"WHERE namespace = %s AND {condition} ORDER BY {order} LIMIT %s").format(
            sql.SQL(', "values"' if with_values else ""), self._table), (vector, *wanted, vector, k),
            binary=True).fetchall()

    def _score(self, distance: float) -> float:
        if self.metric == "dot":
            return -distance
        if self.metric == "euclidean":
            return -distance * distance
        return 1.0 - distance if distance == distance else 0.0

    @staticmethod
    def _iterates(connection: psycopg.Connection[Any]) -> bool:
        (version,) = _one(connection.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'"))
        return tuple(map(int, version.split(".")[:2])) >= (0, 8)

    def _list(self, prefix: str, limit: int, cursor: str | None, namespace: str) -> IdPage:
        if "\0" in prefix or "\0" in (cursor or ""):
            raise InvalidInput("prefix and cursor must not hold the character NUL.")
        with self._transaction() as connection:
            found = [row[0] for row in connection.execute(
                sql.SQL("{} ORDER BY id LIMIT %s").format(
                    self._select("SELECT id", "id >= %s AND id > %s AND starts_with(id, %s)")),
                (namespace, prefix, cursor or "", prefix, limit + 1))]
        return IdPage(found[:limit], found[limit - 1] if len(found) > limit else None)

    def _counts(self) -> dict[str, int]:
        with self._transaction() as connection:
            return dict(connection.execute(sql.SQL("SELECT namespace, count(*) FROM {} GROUP BY namespace").format(
                self._table)).fetchall())

    def stats(self) -> CollectionStats:
        """Counts and settings. `size_bytes` is the table's with its indexes, documents aside."""
        with self._transaction(snapshot=True) as connection:
            counts = dict(connection.execute(sql.SQL(
                "SELECT namespace, count(*) FROM {} GROUP BY namespace ORDER BY namespace").format(self._table)))
            (size,) = _one(connection.execute("SELECT pg_total_relation_size(%s)",
                                              (self._table.as_string(connection),)))
            (sequence,) = _one(connection.execute("SELECT sequence FROM madang._collections WHERE name = %s",
                                                  (self.name,)))
            sources = documents.count(connection, self.name)
        index = "hnsw" if self.dim <= _INDEXED_DIM else "flat"
        return CollectionStats(self.name, sum(counts.values()), counts, sources, self.dim, self.metric, index,
                               self.embedder, "", size, sequence)

    # Documents that records were cut from

    def replace_sources(self, batch: Sequence[tuple[Source, Sequence[Record]]], namespace: str = "",
                        embedder: str | None = None) -> int:
        """Store documents with the records cut from them, each in place of its earlier version; one transaction.

        Raises `Conflict` where the vectors are from `embedder`, and the collection was made with another one.
        """
        if embedder is not None and self.embedder not in (None, embedder):
            raise Conflict(f"collection {self.name!r} was made with {self.embedder}, not {embedder}.",
                           remedy="Ingest into another collection.")
        space = self._space(namespace)
        checked = [(source, validate.records(records, self.dim)) for source, records in batch]
        for source, records in checked:
            documents.check(source, space, _KEY_BYTES)
            for record in records:
                self.check_record(record)
            self._check_keys(records, space)
        with self._write() as connection:
            for source, records in checked:
                documents.remove(connection, self.name, self._table, [source.uri], space)
                documents.forget_hashes(connection, self.name, self._table, space, [r.id for r in records])
                documents.insert(connection, self.name, source, space)
                self._insert(connection, records, space, source.uri)
        return sum(len(records) for _, records in checked)

    def remove_sources(self, uris: Iterable[str], namespace: str = "") -> int:
        """Remove documents and their records in one transaction. Returns how many were there."""
        space, wanted = self._space(namespace), list(uris)
        if not wanted:
            return 0
        with self._write() as connection:
            return documents.remove(connection, self.name, self._table, wanted, space)

    def sources(self, namespace: str = "") -> dict[str, SourceInfo]:
        """The documents records were cut from, by uri."""
        with self._transaction() as connection:
            return documents.listing(connection, self.name, self._table, self._space(namespace))

    def source(self, uri: str, namespace: str = "") -> Source | None:
        """A document with its text, or None."""
        with self._transaction() as connection:
            return documents.read(connection, self.name, uri, self._space(namespace))

    # Plumbing

    def _select(self, what: str, condition: str) -> sql.Composed:
        """A query of one namespace, which is its first parameter."""
        return sql.SQL(f"{what} FROM {{}} WHERE namespace = %s AND {condition}").format(self._table)

    @contextmanager
    def _write(self) -> Iterator[psycopg.Connection[Any]]:
        """A transaction that writes: one at a time in a collection, so that no two wait for each other's rows."""
        with self._transaction() as connection:
            raised = connection.execute("UPDATE madang._collections SET sequence = sequence + 1 WHERE name = %s",
                                        (self.name,)).rowcount
            if not raised:
                raise NotFound(f"collection {self.name!r} was dropped.", remedy="Make it anew.")
            yield connection

    def _transaction(self, snapshot: bool = False) -> AbstractContextManager[psycopg.Connection[Any]]:
        return self._session.transaction(snapshot)

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        self._session.close()


def _table_name(name: str) -> str:
    """PostgreSQL cuts names after 63 bytes; a longer one, in Hangul 21 characters, ends with its digest instead."""
    data = name.encode()
    if len(data) <= 63:
        return name
    return data[:46].decode(errors="ignore") + "_" + hashlib.sha256(data).hexdigest()[:16]


def _metadata(stored: Metadata, negative: Sequence[str] | None) -> Metadata:
    return {**stored, **dict.fromkeys(negative, -0.0)} if negative else stored


def _one(cursor: psycopg.Cursor[Any]) -> tuple[Any, ...]:
    row = cursor.fetchone()
    assert row is not None
    return tuple(row)
