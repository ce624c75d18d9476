"""Pinecone's namespaces and counts. A namespace is there while it holds records, or once it was made."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Awaitable, Mapping
from typing import Any

from madang.base.errors import Conflict, InvalidInput, NotFound
from madang.serve.http import Reply, Request, as_json
from madang.serve.pinecone_indexes import NAMESPACES, VECTOR_TYPE, Indexes
from madang.serve.work import Work
from madang.store import Collection
from madang.wire import pinecone_answers as answers
from madang.wire import pinecone_requests as requests
from madang.wire.pinecone import DEFAULT_NAMESPACE, Stats


class Namespaces:
    """Handlers of namespaces and of describe_index_stats."""

    def __init__(self, indexes: Indexes, work: Work) -> None:
        self._indexes, self._work = indexes, work

    def stats(self, request: Request) -> Awaitable[Reply]:
        """POST and GET /describe_index_stats, of the namespaces that the key reaches."""
        where = requests.decode_stats_request(request.json() if request.body else None)
        allowed = request.identity.namespaces
        request.identity.require("read", min(allowed) if allowed else None)
        collection = self._indexes.named(request.parts["index"])

        def read() -> Reply:
            counts = {name: count for name, count in _counts(collection).items() if allowed is None or name in allowed}
            if where is not None:
                counts = {name: collection.count(where, name) for name in counts}
            dim = 0 if collection.attributes.get(VECTOR_TYPE) == "sparse" else collection.dim
            return as_json(answers.encode_stats(Stats(dim, collection.metric, counts)))

        return self._work.long(read)

    def create(self, request: Request) -> Awaitable[Reply]:
        """POST /namespaces."""
        name, schema = requests.decode_namespace_request(request.json())
        request.identity.require("write", name)
        collection = self._indexes.named(request.parts["index"])

        def write() -> Reply:
            made = _made(collection)
            if name in _counts(collection):
                raise Conflict(f"namespace {name or DEFAULT_NAMESPACE!r:.80} exists already.",
                               remedy="Use it, or choose another name.")
            if len(name) > 512 or "\0" in name:
                raise InvalidInput("a namespace has at most 512 characters, and none of them is NUL.")
            collection.set_attributes({NAMESPACES: {**made, name: None if schema is None else dict(schema)}})
            return as_json(answers.encode_namespace(name, 0, schema))

        return self._work.write(write)

    def describe(self, request: Request) -> Awaitable[Reply]:
        """GET /namespaces/{namespace}."""
        name = requests.named_namespace(request.parts["namespace"])
        request.identity.require("read", name)
        collection = self._indexes.named(request.parts["index"])

        def read() -> Reply:
            counts = _counts(collection)
            if name not in counts:
                raise _missing(name)
            return as_json(answers.encode_namespace(name, counts[name], _made(collection).get(name)))

        return self._work.long(read)

    def listing(self, request: Request) -> Awaitable[Reply]:
        """GET /namespaces, in the order of names."""
        asked = requests.decode_listing(request.parameters(), requests.NAMESPACES)
        allowed = request.identity.namespaces
        request.identity.require("read", min(allowed) if allowed else None)
        collection = self._indexes.named(request.parts["index"])

        def read() -> Reply:
            counts, made = _counts(collection), _made(collection)
            names = sorted(name for name in counts if (name or DEFAULT_NAMESPACE).startswith(asked.prefix)
                           and (allowed is None or name in allowed))
            start = 0 if asked.token is None else bisect_right(names, answers.decode_token(asked.token))
            page = names[start:start + asked.limit]
            token = answers.encode_token(page[-1]) if start + asked.limit < len(names) else None
            return as_json(answers.encode_namespaces(
                [answers.encode_namespace(name, counts[name], made.get(name)) for name in page], len(names), token))

        return self._work.long(read)

    def delete(self, request: Request) -> Awaitable[Reply]:
        """DELETE /namespaces/{namespace}, with all that it holds."""
        name = requests.named_namespace(request.parts["namespace"])
        request.identity.require("write", name)
        collection = self._indexes.named(request.parts["index"])

        def write() -> Reply:
            if name not in _counts(collection):
                raise _missing(name)
            collection.delete(delete_all=True, namespace=name)
            made = _made(collection)
            if name in made:
                collection.set_attributes({NAMESPACES: {key: made[key] for key in made if key != name}})
            return as_json({})

        return self._work.write(write)


def _made(collection: Collection) -> dict[str, Mapping[str, Any] | None]:
    """Those that were made, each with its schema."""
    made: dict[str, Mapping[str, Any] | None] = collection.attributes.get(NAMESPACES, {})
    return made


def _counts(collection: Collection) -> dict[str, int]:
    """The records of each namespace, empty ones that were made included."""
    return {**dict.fromkeys(_made(collection), 0), **collection.stats().namespaces}


def _missing(name: str) -> NotFound:
    return NotFound(f"namespace {name or DEFAULT_NAMESPACE!r:.80} was not found.", remedy="List those there are.")
