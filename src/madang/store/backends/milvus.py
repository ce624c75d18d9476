"""Milvus as a store: a server, or milvus-lite in a file's place. One client for both.

    milvus://HOST:19530/COLLECTION[?tls=true]     the token from MILVUS_TOKEN
    milvus:///path/to/file.db?collection=NAME     one process at a time

The primary key is the namespace's digest with the id in hexadecimal, so that ids are listed in order. The metadata is
kept as JSON text (it comes back with its types) beside its shadow, which filters ask.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Self

import numpy as np
from pymilvus import DataType, MilvusClient
from pymilvus.exceptions import MilvusException

from madang.base.errors import Conflict, InvalidInput, NotFound, ServiceError
from madang.base.records import Match, Record, Vector
from madang.store.backends import address, shadow
from madang.store.backends import milvus_filters as expressions
from madang.store.backends.address import Address
from madang.store.backends.capabilities import Capabilities
from madang.store.backends.engine import EngineCollection
from madang.store.backends.sharing import Shared
from madang.store.filters import Tree
from madang.store.protocol import IdPage

METRICS = {"cosine": "COSINE", "dot": "IP", "euclidean": "L2"}
MAX_TEXT_BYTES = 65_535             # of a VARCHAR
MAX_TOKENS = 4_096                  # elements of an ARRAY
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_COLUMNS = {"key", "space", "namespace", "vector", "metadata", "document", "context", "tokens", "numbers"}
_MOST_NUMBERS, _MOST_RECORDS = 2_000_000, 500   # in one request; a server takes 64 MB
_MOST_READ = 1000
_CONNECT_S = 10.0
_FIELDS = ["key", "metadata", "document", "context"]


class MilvusCollection(EngineCollection):
    """A collection of Milvus, read with strong consistency. A batch larger than one request (500 records, or two
    million numbers) is not written all or none when the connection breaks."""

    engine: ClassVar[str] = "milvus"
    capabilities: ClassVar[Capabilities] = Capabilities()

    def __init__(self, where: Address, client: MilvusClient, dim: int, metric: str) -> None:
        super().__init__(where.collection, dim, metric)
        self._where, self._client, self._closed = where, client, False

    @classmethod
    def create(cls, url: str, dim: int, metric: str = "cosine") -> Self:
        """Make the collection. Raises `Conflict` if it exists already."""
        where = _address(url)
        cls.check_new(dim, metric)
        if dim < 2:
            raise cls._cannot("a vector of one number", "Add a zero to each.")
        with _connected(where) as client:
            if client.has_collection(where.collection):
                raise Conflict(f"collection {where.collection!r} exists already.", remedy="Open it, or drop it first.")
            indexes = client.prepare_index_params()
            indexes.add_index("vector", index_type="AUTOINDEX" if where.host else "FLAT", metric_type=METRICS[metric])
            client.create_collection(where.collection, schema=_schema(client, dim), index_params=indexes,
                                     consistency_level="Strong")
            client.load_collection(where.collection)
        return cls(where, client, dim, metric)

    @classmethod
    def open(cls, url: str) -> Self:
        """Open the collection. Raises `NotFound`, or `InvalidInput` if Madang did not make it."""
        where = _address(url)
        with _connected(where) as client:
            if not client.has_collection(where.collection):
                raise NotFound(f"no collection is called {where.collection!r} in Milvus.", remedy="Create it first.")
            fields = {one["name"]: one for one in client.describe_collection(where.collection)["fields"]}
            if set(fields) != _COLUMNS:
                raise InvalidInput(f"collection {where.collection!r} was not made by Madang.",
                                   remedy="Create a new one and upsert the records.")
            index = client.describe_index(where.collection, client.list_indexes(where.collection, "vector")[0])
            client.load_collection(where.collection)
        (metric,) = [name for name, theirs in METRICS.items() if theirs == index["metric_type"]]
        return cls(where, client, int(fields["vector"]["params"]["dim"]), metric)

    def check_record(self, record: Record) -> None:
        """Refuse also what does not fit into Milvus's fields."""
        super().check_record(record)
        where = f"record {record.id!r:.60}"
        for name, text in (("document", record.document), ("context", record.context),
                           ("metadata as JSON", _json(record.metadata))):
            if text is not None and len(text.encode()) > MAX_TEXT_BYTES:
                raise self._cannot(f"{where}: {name} of more than {MAX_TEXT_BYTES:,} bytes", "Cut it into several.")
        if len(shadow.tokens(record.metadata)) > MAX_TOKENS:
            raise self._cannot(f"{where}: metadata of more than {MAX_TOKENS:,} fields and values", "Store fewer.")

    def _put(self, records: list[Record], namespace: str) -> None:
        size = max(1, min(_MOST_RECORDS, _MOST_NUMBERS // self.dim))
        rows = [_row(record, namespace) for record in records]
        with _reporting(self._where):
            for start in range(0, len(rows), size):
                self._client.upsert(self.name, rows[start:start + size])

    def _get(self, ids: list[str], namespace: str) -> dict[str, Record]:
        found = {}
        for start in range(0, len(ids), _MOST_READ):
            for row in self._rows(ids[start:start + _MOST_READ], namespace, [*_FIELDS, "vector"]):
                record = Record(expressions.identity(row["key"]), _values(row["vector"]), None,
                                json.loads(row["metadata"]), row["document"], row["context"])
                found[record.id] = record
        return found

    def _rows(self, ids: list[str], namespace: str, fields: list[str]) -> list[dict[str, Any]]:
        with _reporting(self._where):
            return list(self._client.query(self.name, output_fields=fields,
                                           ids=[expressions.key(namespace, identity) for identity in ids]))

    def _search(self, vector: Vector, k: int, namespace: str, tree: Tree | None, with_values: bool) -> list[Match]:
        with _reporting(self._where):
            (hits,) = self._client.search(
                self.name, data=[vector.tolist()], limit=k, filter=expressions.within(namespace, tree),
                anns_field="vector", search_params={"metric_type": METRICS[self.metric]},
                output_fields=_FIELDS + (["vector"] if with_values else []))
        sign = -1.0 if self.metric == "euclidean" else 1.0
        return [Match(expressions.identity(hit["entity"]["key"]), sign * float(hit["distance"]),
                      json.loads(hit["entity"]["metadata"]), _values(hit["entity"]["vector"]) if with_values else None,
                      hit["entity"].get("document")) for hit in hits]

    def _delete_ids(self, ids: list[str], namespace: str) -> int:
        gone = 0
        for start in range(0, len(ids), _MOST_READ):
            keys = [row["key"] for row in self._rows(ids[start:start + _MOST_READ], namespace, ["key"])]
            if keys:
                with _reporting(self._where):
                    self._client.delete(self.name, ids=keys)
            gone += len(keys)
        return gone

    def _delete_matching(self, tree: Tree | None, namespace: str) -> int:
        chosen = expressions.within(namespace, tree)
        gone = self._count(chosen)
        if gone:
            with _reporting(self._where):
                self._client.delete(self.name, filter=chosen)
        return gone

    def _count(self, condition: str) -> int:
        with _reporting(self._where):
            return int(self._client.query(self.name, filter=condition, output_fields=["count(*)"])[0]["count(*)"])

    def _first(self, condition: str, limit: int, fields: list[str]) -> list[dict[str, Any]]:
        """The first rows by key: only Milvus's iterators promise an order."""
        with _reporting(self._where):
            rows = self._client.query_iterator(self.name, batch_size=limit, limit=limit, filter=condition,
                                               output_fields=fields)
            try:
                return list(rows.next())
            finally:
                rows.close()

    def _list(self, prefix: str, limit: int, cursor: str | None, namespace: str) -> IdPage:
        rows = self._first(expressions.listed(namespace, prefix, cursor), limit + 1, ["key"])
        found = [expressions.identity(row["key"]) for row in rows]
        return IdPage(found[:limit], found[limit - 1] if len(found) > limit else None)

    def _counts(self) -> dict[str, int]:
        """One namespace after the other, from the first key of each; Milvus does not group."""
        counts: dict[str, int] = {}
        rest = expressions.EVERYTHING
        while rows := self._first(rest, 1, ["key", "namespace"]):
            counts[rows[0]["namespace"]] = self._count(expressions.within(rows[0]["namespace"]))
            rest = f'{expressions.KEY} >= "{expressions.space(rows[0]["namespace"])}g"'
        return counts

    def drop(self) -> None:
        """Remove the collection and all it holds."""
        with _reporting(self._where):
            self._client.drop_collection(self.name)
        self.close()

    def close(self) -> None:
        """Let go of the client; a file is closed with the last collection in it."""
        if not self._closed:
            _shared.release(_place(self._where))
        self._closed = True


def _schema(client: MilvusClient, dim: int) -> Any:
    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("key", DataType.VARCHAR, is_primary=True, max_length=5_000)   # 32 + 2 * 4 * 512
    schema.add_field("space", DataType.VARCHAR, max_length=32)
    schema.add_field("namespace", DataType.VARCHAR, max_length=2_048)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dim)
    schema.add_field("metadata", DataType.VARCHAR, max_length=MAX_TEXT_BYTES)
    schema.add_field("document", DataType.VARCHAR, max_length=MAX_TEXT_BYTES, nullable=True)
    schema.add_field("context", DataType.VARCHAR, max_length=MAX_TEXT_BYTES, nullable=True)
    schema.add_field("tokens", DataType.ARRAY, element_type=DataType.VARCHAR, max_capacity=MAX_TOKENS, max_length=32)
    schema.add_field("numbers", DataType.JSON)
    return schema


def _row(record: Record, namespace: str) -> dict[str, Any]:
    numbers = {shadow.digest(field): shadow.ordered(value) for field, value in record.metadata.items()
               if isinstance(value, int | float) and not isinstance(value, bool)}
    return {"key": expressions.key(namespace, record.id), "space": expressions.space(namespace),
            "namespace": namespace, "vector": np.asarray(record.values).tolist(), "metadata": _json(record.metadata),
            "document": record.document, "context": record.context, "numbers": numbers,
            "tokens": [shadow.digest(token) for token in shadow.tokens(record.metadata)]}


def _json(metadata: Any) -> str:
    return json.dumps(metadata, ensure_ascii=False)


def _values(vector: Any) -> Vector:
    return np.asarray(vector, dtype=np.float32)


def _address(url: str) -> Address:
    where = address.parse(url, "milvus", 19530)
    if not where.host and not where.path.endswith(".db"):
        raise InvalidInput(f"url {url!r:.80} must name a file that ends in .db.",
                           remedy="For example milvus:///data/store.db?collection=docs.")
    if not _NAME.fullmatch(where.collection):
        raise InvalidInput(f"collection name {where.collection!r} is not allowed in Milvus.",
                           remedy="Use ASCII letters, digits and '_', not starting with a digit.")
    return where


def _place(where: Address) -> str:
    return f"{'https' if where.options.get('tls') == 'true' else 'http'}://{where.host}:{where.port}" \
        if where.host else os.path.abspath(where.path)


def _close(place: str, client: MilvusClient) -> None:
    client.close()
    if "://" not in place:
        from milvus_lite.server_manager import server_manager_instance  # the client leaves its server running

        server_manager_instance.release_server(place)


_shared: Shared[MilvusClient] = Shared(_close)


@contextmanager
def _connected(where: Address) -> Iterator[MilvusClient]:
    """A client, given back if what follows fails."""
    place = _place(where)
    with _reporting(where):
        client = _shared.acquire(place, lambda: MilvusClient(
            place, token=os.environ.get("MILVUS_TOKEN", ""), timeout=_CONNECT_S))
        try:
            yield client
        except BaseException:
            _shared.release(place)
            raise


@contextmanager
def _reporting(where: Address) -> Iterator[None]:
    """The client's errors as ours."""
    try:
        yield
    except MilvusException as error:
        raise ServiceError(f"Milvus at {_place(where)} failed: {error.message}", kind="server",
                           remedy="Check the address and that the server runs.") from error
