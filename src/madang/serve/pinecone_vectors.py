"""Pinecone's data plane: vectors of one index. Each handler decodes, makes one call of the collection, and encodes."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from typing import Any

import numpy as np

from madang.base.errors import InvalidInput, NotFound
from madang.base.records import Match, Record, SparseVector
from madang.serve.http import NotAtOnce, Reply, Request, as_json
from madang.serve.padding import notice
from madang.serve.pinecone_indexes import HIDDEN_DIM, Indexes, Kind
from madang.serve.work import Work
from madang.store import Collection, Fusion
from madang.wire import pinecone_answers as answers
from madang.wire import pinecone_requests as requests
from madang.wire.pinecone import Vector

_SUM = Fusion(method="sum")       # of the inner products of a vector's two halves
_INLINE_NUMBERS = 1_000_000       # compared one by one, of a search that is answered at once
_INLINE_VALUES = 50_000           # numbers of vectors in such an answer
_INLINE_MATCHES = 1_000
_INLINE_BYTES = 50_000            # of a body that is read at once
_FETCHED_INLINE = 20


class Vectors:
    """Handlers of upsert, query, fetch, update, delete and list."""

    def __init__(self, indexes: Indexes, work: Work) -> None:
        self._indexes, self._work = indexes, work

    def query(self, request: Request) -> Reply | Awaitable[Reply]:
        """POST /query. A search that takes less than a hop to a thread is made at once."""
        asked = requests.decode_query(request.json())
        request.identity.require("read", asked.namespace)
        collection = self._indexes.named(request.parts["index"])
        kind = self._indexes.kind(collection)
        if kind is None or self._is_long(asked, collection, kind):
            if request.at_once:
                raise NotAtOnce
            return self._work.long(lambda: _answered(asked, collection, kind or self._indexes.learn(collection)))
        return _answered(asked, collection, kind)

    @staticmethod
    def _is_long(asked: requests.Query, collection: Collection, kind: Kind) -> bool:
        if asked.top_k > _INLINE_MATCHES or (asked.values and asked.top_k * collection.dim > _INLINE_VALUES):
            return True
        if asked.sparse is None and not kind.sparse and collection.index != "flat":
            return False
        return collection.count(namespace=asked.namespace) * collection.dim > _INLINE_NUMBERS

    def upsert(self, request: Request) -> Awaitable[Reply]:
        """POST /vectors/upsert. A large body is read in a thread, beside queries and beside the write before it."""
        if len(request.body) > _INLINE_BYTES:
            return self._large_upsert(request)
        return self._upsert(request, *requests.decode_upserts(request.json(), len(request.body)))

    async def _large_upsert(self, request: Request) -> Reply:
        read = await self._work.long(lambda: requests.decode_upserts(request.json(), len(request.body)))
        return await self._upsert(request, *read)

    def _upsert(self, request: Request, vectors: list[Vector], namespace: str) -> Awaitable[Reply]:
        request.identity.require("write", namespace)
        collection = self._indexes.named(request.parts["index"])

        def write() -> Reply:
            kind = self._indexes.kind(collection) or self._indexes.learn(collection)
            records = [_record(vector, collection, kind) for vector in vectors]
            collection.upsert(records, namespace)
            notice(collection, np.stack([np.asarray(record.values) for record in records]))
            collection.count()      # queries need not read what was written: here nobody waits but the writer
            return as_json(answers.encode_upserted(len(vectors)))

        return self._work.write(write)

    def fetch(self, request: Request) -> Reply | Awaitable[Reply]:
        """GET /vectors/fetch."""
        ids, namespace = requests.decode_fetch(request.parameters())
        request.identity.require("read", namespace)
        collection = self._indexes.named(request.parts["index"])
        kind = self._indexes.kind(collection)

        def read(kind: Kind) -> Reply:
            return as_json(answers.encode_fetched(_vectors(collection.fetch(ids, namespace).values(), kind), namespace))

        if kind is None or len(ids) > _FETCHED_INLINE:
            return self._work.long(lambda: read(kind or self._indexes.learn(collection)))
        return read(kind)

    def fetch_by_metadata(self, request: Request) -> Awaitable[Reply]:
        """POST /vectors/fetch_by_metadata, in the order of ids."""
        asked = requests.decode_fetch_by_metadata(request.json())
        request.identity.require("read", asked.namespace)
        collection = self._indexes.named(request.parts["index"])

        def read() -> Reply:
            kind = self._indexes.kind(collection) or self._indexes.learn(collection)
            page = collection.list_ids(limit=asked.limit, cursor=_cursor(asked.token), namespace=asked.namespace,
                                       filter=asked.filter)
            found = collection.fetch(page.ids, asked.namespace).values() if page.ids else ()
            return as_json(answers.encode_fetched(_vectors(found, kind), asked.namespace, _token(page.cursor)))

        return self._work.long(read)

    def update(self, request: Request) -> Awaitable[Reply]:
        """POST /vectors/update. An id that is not there is no error; by filter, the matches are counted."""
        asked = requests.decode_update(request.json())
        request.identity.require("write", asked.namespace)
        collection = self._indexes.named(request.parts["index"])

        def write() -> Reply:
            if asked.filter is not None:
                if asked.dry_run:
                    return as_json(answers.encode_updated(collection.count(asked.filter, asked.namespace)))
                return as_json(answers.encode_updated(collection.update(
                    filter=asked.filter, set_metadata=asked.metadata, namespace=asked.namespace)))
            kind = self._indexes.kind(collection) or self._indexes.learn(collection)
            _check_halves(asked.values is not None, asked.sparse is not None, kind, f"id {asked.id!r:.80}", True)
            try:
                collection.update(asked.id, None if asked.values is None else _dense(asked.values), asked.metadata,
                                  asked.namespace, sparse=_sparse(asked.sparse))
            except NotFound:
                self._indexes.named(collection.name)       # unless the index is gone, which is an error
            return as_json(answers.encode_updated(None))

        return self._work.write(write)

    def delete(self, request: Request) -> Awaitable[Reply]:
        """POST /vectors/delete. What is not there is no error."""
        asked = requests.decode_delete(request.json())
        request.identity.require("write", asked.namespace)
        collection = self._indexes.named(request.parts["index"])

        def write() -> Reply:
            collection.delete(asked.ids, asked.filter, asked.ids is None and asked.filter is None, asked.namespace)
            return as_json({})

        return self._work.write(write)

    def listing(self, request: Request) -> Awaitable[Reply]:
        """GET /vectors/list."""
        asked = requests.decode_listing(request.parameters())
        request.identity.require("read", asked.namespace)
        collection = self._indexes.named(request.parts["index"])

        def read() -> Reply:
            page = collection.list_ids(asked.prefix, asked.limit, _cursor(asked.token), asked.namespace)
            return as_json(answers.encode_ids(page.ids, asked.namespace, _token(page.cursor)))

        return self._work.long(read)


# --- a query ---


def _answered(asked: requests.Query, collection: Collection, kind: Kind) -> Reply:
    vector, sparse = None if asked.vector is None else _dense(asked.vector), _sparse(asked.sparse)
    if asked.id is not None:
        stored = collection.fetch([asked.id], asked.namespace).get(asked.id)
        if stored is None:
            return as_json(answers.encode_matches([], asked.namespace))
        vector, sparse = (None, stored.sparse) if kind.sparse else (stored.values, None)
    _check_halves(vector is not None, sparse is not None, kind, "the query", False)
    found = collection.query(vector=vector, sparse=sparse, top_k=asked.top_k, namespace=asked.namespace,
                             filter=asked.filter, include_metadata=asked.metadata, include_values=asked.values,
                             fusion=_SUM)
    return as_json(answers.encode_matches([_match(match, kind) for match in found.matches], asked.namespace))


def _match(match: Match, kind: Kind) -> dict[str, Any]:
    score = abs(match.score) if kind.distance else match.score
    if match.values is None:
        return answers.encode_match(match.id, score, (), match.metadata)
    return answers.encode_match(match.id, score, () if kind.sparse else match.values, match.metadata,  # type: ignore[arg-type]
                                _halves(match.sparse))


def _check_halves(dense: bool, sparse: bool, kind: Kind, what: str, part: bool) -> None:
    """Whether an index takes such vectors; `part`: one of two is enough."""
    if kind.sparse and (dense or not (sparse or part)):
        raise InvalidInput(f"{what}: this index is of sparse vectors; it takes no dense ones.",
                           remedy="Give sparse values only.")
    if not kind.sparse and not (dense or part):
        raise InvalidInput(f"{what}: this index is of dense vectors, and there is none.", remedy="Give values.")
    if sparse and not (kind.sparse or kind.both):
        raise InvalidInput(f"{what}: this index takes no sparse values beside dense ones.",
                           remedy="Use an index of metric dotproduct, or one of vector_type sparse.")


# --- records ---


def _record(vector: Vector, collection: Collection, kind: Kind) -> Record:
    what = f"vector {vector.id!r:.60}"
    _check_halves(bool(vector.values), vector.sparse is not None, kind, what, False)
    values = np.zeros(HIDDEN_DIM, dtype=np.float32) if kind.sparse else _dense(vector.values)
    if collection.metric == "cosine" and not values.any():
        raise InvalidInput(f"{what}: values are all zero, which has no direction.",
                           remedy="Leave the vector out, or use an index of metric dotproduct or euclidean.")
    return Record(vector.id, values, _sparse(vector.sparse), dict(vector.metadata))


def _vectors(records: Iterable[Record], kind: Kind) -> list[Vector]:
    return [Vector(record.id, () if kind.sparse else record.values, _halves(record.sparse),  # type: ignore[arg-type]
                   record.metadata) for record in records]


def _dense(values: Any) -> Any:
    return np.frombuffer(values, dtype=np.float32)


def _sparse(parts: requests.Sparse | None) -> SparseVector | None:
    return None if parts is None else SparseVector(parts[0], parts[1])


def _halves(sparse: SparseVector | None) -> Any:
    """Values as float32, so that they are written with no more digits than they have."""
    return None if sparse is None else (sparse.indices, np.asarray(sparse.values, dtype=np.float32))


def _cursor(token: str | None) -> str | None:
    return None if token is None else answers.decode_token(token)


def _token(cursor: str | None) -> str | None:
    return None if cursor is None else answers.encode_token(cursor)
