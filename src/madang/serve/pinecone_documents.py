"""Pinecone's documents of 2026-07 over the collections of a workspace."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import islice
from typing import Any, TypeVar

from madang.serve import document_filters
from madang.serve.document_search import matching, search
from madang.serve.documents import Documents
from madang.serve.http import Reply, Request, as_json
from madang.serve.pinecone_inference import understood
from madang.serve.pinecone_records import index_named, space
from madang.serve.routes import Routes
from madang.serve.work import Work
from madang.wire import pinecone_documents as wire
from madang.wire.pinecone_documents import Delete, Fetch, Patch, Search, Update
from madang.workspace import Workspace

_T = TypeVar("_T")
_PATH = "/namespaces/{namespace}/documents/"


class DocumentRoutes:
    """`add_to` takes the paths of an index's data plane that are about documents."""

    def __init__(self, workspace: Workspace, work: Work) -> None:
        self._workspace, self._work = workspace, work

    def add_to(self, data: Routes) -> None:
        """Take the paths."""
        for name, handler in (("upsert", self._upsert), ("search", self._search), ("fetch", self._fetch),
                              ("list", self._list), ("update", self._update), ("delete", self._delete)):
            data.add("POST", _PATH + name, handler)

    def _documents(self, request: Request) -> Documents:
        return Documents(index_named(self._workspace, request.parts["index"]), self._workspace.models)

    async def _upsert(self, request: Request) -> Reply:
        namespace, asked = _read(request, "write", wire.decode_documents)
        documents = self._documents(request)
        records, tokens = await self._work.long(partial(documents.records, asked))
        await self._work.write(lambda: documents.collection.upsert(records, namespace))
        return as_json(wire.encode_written("upserted_count", len(records), tokens))

    async def _search(self, request: Request) -> Reply:
        namespace, asked = _read(request, "read", wire.decode_search)
        return await self._work.long(partial(self._found, self._documents(request), asked, namespace,
                                             request.parts["namespace"]))

    def _found(self, documents: Documents, asked: Search, namespace: str, named: str) -> Reply:
        documents.check_named(asked.fields)
        ranked, tokens = search(documents, asked, namespace)
        records = {}
        if asked.fields is None or asked.fields:
            records = documents.collection.fetch([identity for identity, _ in ranked], namespace) if ranked else {}
            ranked = [pair for pair in ranked if pair[0] in records]     # unless it was deleted meanwhile
        return as_json(wire.encode_found(
            [(identity, score, documents.fields(records[identity], asked.fields) if records else {})
             for identity, score in ranked], named, tokens))

    async def _fetch(self, request: Request) -> Reply:
        namespace, asked = _read(request, "read", wire.decode_fetch)
        return await self._work.long(partial(self._fetched, self._documents(request), asked, namespace,
                                             request.parts["namespace"]))

    def _fetched(self, documents: Documents, asked: Fetch, namespace: str, named: str) -> Reply:
        documents.check_named(asked.fields)
        after = None
        if asked.ids is not None:
            found = list(documents.collection.fetch(asked.ids, namespace).values())
        else:
            where = document_filters.split(asked.filter, documents.schema)
            found = list(islice(matching(documents, where, namespace, asked.after), asked.limit + 1))
            if len(found) > asked.limit:
                found = found[:asked.limit]
                after = found[-1].id
        return as_json(wire.encode_fetched({record.id: documents.fields(record, asked.fields) for record in found},
                                           named, after))

    async def _list(self, request: Request) -> Reply:
        namespace, (prefix, limit, after) = _read(request, "read", wire.decode_listing)
        collection = self._documents(request).collection
        page = await self._work.long(lambda: collection.list_ids(prefix, limit, after or None, namespace))
        return as_json(wire.encode_listed(page.ids, request.parts["namespace"], page.cursor))

    async def _update(self, request: Request) -> Reply:
        namespace, asked = _read(request, "write", wire.decode_update)
        return await self._work.write(partial(self._updated, self._documents(request), asked, namespace))

    def _updated(self, documents: Documents, asked: Update, namespace: str) -> Reply:
        """All in one transaction, in the thread of writes: nobody of this server comes between reading and writing."""
        if asked.filter is not None:
            where = document_filters.split(asked.filter, documents.schema, texts=False)
            found = {record.id: record for record in matching(documents, where, namespace)}
            patches = dict.fromkeys(found, asked.patch)
        else:
            found = documents.collection.fetch(list(asked.patches), namespace)
            patches = {identity: asked.patches[identity] for identity in found}      # others are no error
        changed = {identity: _patched(documents.fields(found[identity]), patch) for identity, patch in patches.items()}
        count = len(found) if asked.filter is not None else None
        if not changed:
            return as_json(wire.encode_written("matched_records", count, None))
        records, tokens = documents.records(changed, found)
        documents.collection.upsert(records, namespace)
        return as_json(wire.encode_written("matched_records", count, tokens))

    async def _delete(self, request: Request) -> Reply:
        namespace, asked = _read(request, "write", wire.decode_delete)
        return await self._work.write(partial(self._deleted, self._documents(request), asked, namespace))

    def _deleted(self, documents: Documents, asked: Delete, namespace: str) -> Reply:
        if asked.filter is None:
            documents.collection.delete(asked.ids, delete_all=asked.ids is None, namespace=namespace)
            return as_json({})
        where = document_filters.split(asked.filter, documents.schema, texts=False)
        count = documents.collection.delete(filter=where.metadata, namespace=namespace)
        return as_json(wire.encode_written("matched_records", count, None))


def _read(request: Request, scope: Any, decode: Callable[[object], _T]) -> tuple[str, _T]:
    """The namespace, which the key must reach, and what the body asks."""
    namespace = space(request.parts["namespace"])
    request.identity.require(scope, namespace)
    return namespace, understood(decode, request.json())


def _patched(fields: Mapping[str, Any], patch: Patch) -> dict[str, Any]:
    return {name: value for name, value in {**fields, **patch.set}.items() if name not in patch.remove}
