"""Qdrant as a store: a server, or the client's local mode in a directory or in memory.

    qdrant://HOST:6333/COLLECTION[?tls=true]      the key from QDRANT_API_KEY
    qdrant:///path/to/dir?collection=NAME         one process at a time
    qdrant://:memory:/NAME                        gone with the process

Qdrant's ids are UUIDs, so a point's id is derived from namespace and record id, and both are kept in its payload beside
the metadata (as JSON text: it comes back with its types) and the metadata's shadow that filters ask.
"""

from __future__ import annotations

import json
import os
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, ClassVar, Self

import numpy as np
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from madang.base.errors import Conflict, InvalidInput, NotFound, ServiceError
from madang.base.records import Match, Record, SparseVector, Vector
from madang.store.backends import address, shadow
from madang.store.backends.address import Address
from madang.store.backends.capabilities import Capabilities
from madang.store.backends.engine import EngineCollection
from madang.store.backends.qdrant_filters import NEAREST, REST, TOKENS, matching, of
from madang.store.backends.sharing import Shared
from madang.store.filters import Tree
from madang.store.protocol import IdPage

DISTANCES = {"cosine": models.Distance.COSINE, "dot": models.Distance.DOT, "euclidean": models.Distance.EUCLID}
_SPACE = uuid.UUID("5b0e2c0e-6d59-4f55-8a80-0f5a7a2d0c4b")      # of the points' ids; never change it
_MARK = {"madang": 1}               # on collections laid out as here
_MOST_NUMBERS = 500_000             # of vectors in one request; a server takes 32 MB
_MOST_POINTS = 200
_MOST_NAMESPACES = 100_000          # that stats counts
_MOST_READ = 1000
_TIMEOUT_S = 60


class QdrantCollection(EngineCollection):
    """A collection of Qdrant. Writes are visible when they return. A batch larger than one request (200 records, or
    500,000 numbers) is not written all or none when the connection breaks."""

    engine: ClassVar[str] = "qdrant"
    capabilities: ClassVar[Capabilities] = Capabilities(sparse=True, ordered_ids=False, exact_values=False)

    def __init__(self, where: Address, client: QdrantClient, dim: int, metric: str) -> None:
        super().__init__(where.collection, dim, metric)
        self._where, self._client, self._closed = where, client, False

    @classmethod
    def create(cls, url: str, dim: int, metric: str = "cosine") -> Self:
        """Make the collection. Raises `Conflict` if it exists already."""
        where = address.parse(url, "qdrant", 6333)
        cls.check_new(dim, metric)
        client = _connected(where)
        with _closing_on_error(where), _reporting(where):
            if client.collection_exists(where.collection):
                raise Conflict(f"collection {where.collection!r} exists already.", remedy="Open it, or drop it first.")
            client.create_collection(where.collection, metadata=dict(_MARK), vectors_config=models.VectorParams(
                size=dim, distance=DISTANCES[metric]))
            if where.host:          # local mode has no indexes, and warns
                for key in ("namespace", TOKENS):
                    client.create_payload_index(where.collection, key, models.PayloadSchemaType.KEYWORD)
        return cls(where, client, dim, metric)

    @classmethod
    def open(cls, url: str) -> Self:
        """Open the collection. Raises `NotFound`, or `InvalidInput` if Madang did not make it."""
        where = address.parse(url, "qdrant", 6333)
        client = _connected(where)
        with _closing_on_error(where), _reporting(where):
            if not client.collection_exists(where.collection):
                raise NotFound(f"no collection is called {where.collection!r} in Qdrant.", remedy="Create it first.")
            config = client.get_collection(where.collection).config
            vectors = config.params.vectors
            if (config.metadata or {}).get("madang") != 1 or not isinstance(vectors, models.VectorParams):
                raise InvalidInput(f"collection {where.collection!r} was not made by Madang.",
                                   remedy="Create a new one and upsert the records.")
        (metric,) = [name for name, distance in DISTANCES.items() if distance == vectors.distance]
        return cls(where, client, vectors.size, metric)

    def _put(self, records: list[Record], namespace: str) -> None:
        size = max(1, min(_MOST_POINTS, _MOST_NUMBERS // self.dim))
        points = [self._point(record, namespace) for record in records]
        with _reporting(self._where):
            for start in range(0, len(points), size):
                self._client.upsert(self.name, points[start:start + size], wait=True)

    def _point(self, record: Record, namespace: str) -> models.PointStruct:
        nearest, rest = shadow.split_numbers(record.metadata)
        values, norm = self._scaled(record.values)
        payload: dict[str, Any] = {"id": record.id, "namespace": namespace, TOKENS: shadow.tokens(record.metadata),
                                   "metadata": json.dumps(record.metadata, ensure_ascii=False), NEAREST: nearest,
                                   REST: rest, "norm": norm, "document": record.document, "context": record.context}
        if record.sparse is not None:
            payload["sparse"] = [list(record.sparse.indices), list(record.sparse.values)]
        return models.PointStruct(id=_point_id(namespace, record.id), vector=values, payload=payload)

    def _scaled(self, values: Any) -> tuple[list[float], float]:
        """What to send, and the length to multiply by: Qdrant keeps only directions for cosine."""
        if self.metric != "cosine":
            return values.tolist(), 1.0
        exact = values.astype(np.float64)
        norm = float(np.linalg.norm(exact))
        return (exact / (norm or 1.0)).tolist(), norm

    def _values(self, point: Any) -> Vector:
        values: Vector = (np.asarray(point.vector, dtype=np.float64) * point.payload["norm"]).astype(np.float32)
        return values

    def _get(self, ids: list[str], namespace: str) -> dict[str, Record]:
        found = {}
        with _reporting(self._where):
            for start in range(0, len(ids), _MOST_READ):
                points = self._client.retrieve(self.name, [_point_id(namespace, identity) for identity in
                                                           ids[start:start + _MOST_READ]], with_vectors=True)
                found.update({record.id: record for record in map(self._record, points)})
        return found

    def _record(self, point: Any) -> Record:
        payload = point.payload
        sparse = payload.get("sparse")
        return Record(payload["id"], self._values(point), SparseVector(*sparse) if sparse else None,
                      json.loads(payload["metadata"]), payload["document"], payload["context"])

    def _search(self, vector: Vector, k: int, namespace: str, tree: Tree | None, with_values: bool) -> list[Match]:
        with _reporting(self._where):
            points: list[Any] = self._client.query_points(
                self.name, self._scaled(vector)[0], limit=k, query_filter=matching(namespace, tree),
                with_payload=["id", "metadata", "document", "norm"], with_vectors=with_values).points
        return [Match(point.payload["id"], self._score(point.score), json.loads(point.payload["metadata"]),
                      self._values(point) if with_values else None, point.payload.get("document"))
                for point in points]

    def _score(self, score: float) -> float:
        return -float(score) ** 2 if self.metric == "euclidean" else float(score)

    def _delete_ids(self, ids: list[str], namespace: str) -> int:
        gone = 0
        with _reporting(self._where):
            for start in range(0, len(ids), _MOST_READ):
                points: list[Any] = [_point_id(namespace, identity) for identity in ids[start:start + _MOST_READ]]
                gone += len(self._client.retrieve(self.name, points, with_payload=False))
                self._client.delete(self.name, models.PointIdsList(points=points), wait=True)
        return gone

    def _delete_matching(self, tree: Tree | None, namespace: str) -> int:
        chosen = matching(namespace, tree)
        with _reporting(self._where):
            gone = int(self._client.count(self.name, chosen, exact=True).count)
            self._client.delete(self.name, models.FilterSelector(filter=chosen), wait=True)
        return gone

    def _list(self, prefix: str, limit: int, cursor: str | None, namespace: str) -> IdPage:
        """In the order of the points' ids. A prefix is looked for on this side, page by page: Qdrant's own prefix
        match came late, and its text match folds case."""
        found: list[tuple[str, str]] = []
        offset: Any = _cursor(cursor)
        with _reporting(self._where):
            while len(found) <= limit:
                points, offset = self._client.scroll(self.name, of(("namespace", namespace)), offset=offset,
                                                     limit=limit + 1 if not prefix else max(limit + 1, _MOST_READ),
                                                     with_payload=["id"])
                found += [(str(point.id), point.payload["id"]) for point in points if point.payload is not None
                          and point.payload["id"].startswith(prefix)]
                if offset is None:
                    break
        return IdPage([identity for _, identity in found[:limit]], found[limit][0] if len(found) > limit else None)

    def _counts(self) -> dict[str, int]:
        with _reporting(self._where):
            hits = self._client.facet(self.name, "namespace", limit=_MOST_NAMESPACES, exact=True).hits
        return {str(hit.value): hit.count for hit in hits}

    def drop(self) -> None:
        """Remove the collection and all it holds."""
        with _reporting(self._where):
            self._client.delete_collection(self.name)
        self.close()

    def close(self) -> None:
        """Let go of the client; a directory is closed with the last collection in it."""
        if self._where.host:
            self._client.close()
        elif not self._closed:
            _release(self._where)
        self._closed = True


def _point_id(namespace: str, identity: str) -> str:
    return str(uuid.uuid5(_SPACE, f"{namespace}\0{identity}"))


def _cursor(cursor: str | None) -> str | None:
    try:
        return None if cursor is None else str(uuid.UUID(cursor))
    except ValueError:
        raise InvalidInput(f"cursor {cursor!r:.80} is none of this collection's.",
                           remedy="Pass the cursor of the page before.") from None


# Local mode locks its directory for one client, and memory is one client's own: collections of a process share it. It
# is not safe to use from several threads at once.

_one_thread = threading.RLock()
_local: Shared[QdrantClient] = Shared(lambda place, client: client.close())


def _connected(where: Address) -> QdrantClient:
    if where.host:
        return QdrantClient(host=where.host, port=where.port, timeout=_TIMEOUT_S,
                            https=where.options.get("tls") == "true",
                            api_key=os.environ.get("QDRANT_API_KEY"), check_compatibility=False)
    try:
        return _local.acquire(where.path, lambda: QdrantClient(location=address.MEMORY)
                              if where.path == address.MEMORY else
                              QdrantClient(path=where.path, force_disable_check_same_thread=True))
    except (OSError, RuntimeError) as error:
        raise Conflict(f"{where.path} cannot be opened: {error}",
                       remedy="Close it in the other process, or run a Qdrant server.") from error


def _release(where: Address) -> None:
    if where.path != address.MEMORY:  # what is in memory lasts as long as the process
        _local.release(where.path)


@contextmanager
def _closing_on_error(where: Address) -> Iterator[None]:
    try:
        yield
    except BaseException:
        _release(where)
        raise


@contextmanager
def _reporting(where: Address) -> Iterator[None]:
    """The client's errors as ours; in local mode, one thread at a time."""
    try:
        with nullcontext() if where.host else _one_thread:
            yield
    except ResponseHandlingException as error:
        raise ServiceError(f"Qdrant at {where.host}:{where.port} does not answer: {error}", kind="unreachable",
                           remedy="Check the address and that the server runs.", retryable=True) from error
    except UnexpectedResponse as error:
        denied = error.status_code in (401, 403)
        raise ServiceError(f"Qdrant answered {error.status_code}: {error.content[:200]!r}",
                           kind="auth" if denied else "server", status=error.status_code,
                           remedy="Set QDRANT_API_KEY." if denied else None,
                           retryable=(error.status_code or 0) >= 500) from error
