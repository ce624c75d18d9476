"""`/v1/files` and `/v1/vector_stores`."""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

from madang.base.errors import NotFound
from madang.serve.access import Scope
from madang.serve.http import Handler, Reply, Request, as_json
from madang.serve.openai_shelf import Shelf
from madang.serve.routes import Routes
from madang.serve.uploads import receive
from madang.serve.work import Work
from madang.wire import openai_stores as wire
from madang.wire.openai_fields import Fields, Wrong

_MOST_RESULTS, _MOST_QUERIES, _MOST_SECONDS = 50, 20, 30 * 24 * 3600
_STORE, _FILE, _BATCH = "/vector_stores/{store}", "/vector_stores/{store}/files/{file}", \
    "/vector_stores/{store}/file_batches/{batch}"


class Stores:
    """Decode, one call in a thread, encode."""

    def __init__(self, shelf: Shelf, work: Work) -> None:
        self._shelf, self._work = shelf, work

    def add_to(self, routes: Routes) -> None:
        """Take the paths."""
        read: Callable[[Callable[[Request], Any]], Handler] = partial(self._handler, "read")
        write: Callable[[Callable[[Request], Any]], Handler] = partial(self._handler, "write")
        routes.add("POST", "/files", self._upload)
        routes.add("GET", "/files", read(self._files))
        routes.add("GET", "/files/{file}", read(lambda request: wire.encode_file(self._shelf.file(_file(request)))))
        routes.add("DELETE", "/files/{file}", write(self._delete_file))
        routes.add("GET", "/files/{file}/content", read(self._content))
        routes.add("POST", "/vector_stores", write(self._create))
        routes.add("GET", "/vector_stores", read(self._stores))
        routes.add("GET", _STORE, read(lambda request: self._store(_store(request))))
        routes.add("POST", _STORE, write(self._change))
        routes.add("DELETE", _STORE, write(self._delete))
        routes.add("POST", f"{_STORE}/search", read(self._search))
        routes.add("POST", f"{_STORE}/files", write(self._add))
        routes.add("GET", f"{_STORE}/files", read(lambda request: self._store_files(request, "")))
        routes.add("GET", _FILE, read(self._store_file))
        routes.add("POST", _FILE, write(self._set_attributes))
        routes.add("DELETE", _FILE, write(self._take_out))
        routes.add("GET", f"{_FILE}/content", read(self._text))
        routes.add("POST", f"{_STORE}/file_batches", write(self._add_batch))
        routes.add("GET", _BATCH, read(self._batch))
        routes.add("POST", f"{_BATCH}/cancel", write(self._cancel))
        routes.add("GET", f"{_BATCH}/files", read(lambda request: self._store_files(request, request.parts["batch"])))

    def _handler(self, scope: Scope, call: Callable[[Request], Any]) -> Handler:
        """A handler that asks for a scope, runs in a thread and answers JSON."""
        async def handle(request: Request) -> Reply:
            request.identity.require(scope)
            told = await self._work.long(partial(call, request))
            return told if isinstance(told, Reply) else as_json(told)

        return handle

    # Files

    async def _upload(self, request: Request) -> Reply:
        request.identity.require("write")
        incoming = await self._work.long(self._shelf.incoming)
        try:
            uploaded = await receive(request.header(b"content-type"), _once(request.body), incoming, 1)
            return as_json(await self._work.long(partial(self._keep, uploaded.files, uploaded.fields)))
        finally:
            await self._work.long(partial(shutil.rmtree, incoming, ignore_errors=True))

    def _keep(self, files: dict[str, Any], form: dict[str, str]) -> dict[str, Any]:
        fields = Fields(dict(form))
        if not files:
            raise fields.missing("file")
        purpose = fields.choice("purpose", wire.PURPOSES)
        fields.choice("expires_after[anchor]", ("created_at",), "created_at")
        seconds = form.get("expires_after[seconds]", "")
        if seconds and not (seconds.isdigit() and 3600 <= int(seconds[:12]) <= _MOST_SECONDS):
            raise fields.wrong("expires_after[seconds]", f"a whole number from 3600 to {_MOST_SECONDS}")
        (name, path), = files.items()
        return wire.encode_file(self._shelf.add_file(path, name.rpartition("/")[2], purpose,
                                                     int(seconds) if seconds else None))

    def _files(self, request: Request) -> dict[str, Any]:
        parameters = _parameters(request)
        found = self._shelf.files(parameters.text("purpose", ""))
        if not parameters.has("limit"):
            parameters.value["limit"] = 10_000
        return wire.page([wire.encode_file(file) for file in found], parameters, 10_000)

    def _delete_file(self, request: Request) -> dict[str, Any]:
        self._shelf.remove_file(_file(request))
        return {"id": _file(request), "object": "file", "deleted": True}

    def _content(self, request: Request) -> Reply:
        self._shelf.file(_file(request))
        return Reply(self._shelf.path(_file(request)).read_bytes(), type=b"application/octet-stream",
                     headers=((b"x-content-type-options", b"nosniff"),))

    # Stores

    def _create(self, request: Request) -> dict[str, Any]:
        fields = _body(request)
        chunking, name = wire.decode_chunking(fields), wire.decode_name(fields)
        days, metadata = wire.decode_days(fields), wire.decode_metadata(fields)
        adding = [wire.Adding(file, {}, chunking) for file in fields.texts("file_ids", most=wire.MOST_FILES)]
        for each in adding:
            self._shelf.file(each.file)
        store = self._shelf.create(name, metadata, days, fields.text("description", "", most=512))
        if adding:
            self._shelf.add(store, adding)
        return self._store(store)

    def _store(self, store: str) -> dict[str, Any]:
        return wire.encode_store(store, self._shelf.store(store), self._shelf.ledger.store_files(store), time.time())

    def _stores(self, request: Request) -> dict[str, Any]:
        now = time.time()
        return wire.page([wire.encode_store(store, kept, self._shelf.ledger.store_files(store), now)
                          for store, kept in self._shelf.stores()], _parameters(request))

    def _change(self, request: Request) -> dict[str, Any]:
        fields = _body(request)
        changes: dict[str, Any] = {}
        if fields.has("name"):
            changes["name"] = wire.decode_name(fields)
        if fields.has("metadata"):
            changes["metadata"] = wire.decode_metadata(fields)
        if "expires_after" in fields.value:
            changes["days"] = wire.decode_days(fields)
        self._shelf.change(_store(request), **changes)
        return self._store(_store(request))

    def _delete(self, request: Request) -> dict[str, Any]:
        self._shelf.remove_store(_store(request))
        return {"id": _store(request), "object": "vector_store.deleted", "deleted": True}

    def _search(self, request: Request) -> dict[str, Any]:
        fields = _body(request)
        queries = fields.texts("query", most=_MOST_QUERIES)
        if not queries or not all(query.strip() for query in queries):
            raise fields.missing("query") if not queries else fields.wrong("query", "something to look for")
        top_k = fields.whole("max_num_results", 1, _MOST_RESULTS) or 10
        least = fields.inner("ranking_options").number("score_threshold", 0, 1) or 0.0
        where = wire.decode_filter(fields.inner("filters")) if fields.has("filters") else None
        found = self._shelf.search(_store(request), queries, top_k, where)
        return wire.encode_found(queries, [each for each in found if each[2] >= least])

    # Files within stores

    def _add(self, request: Request) -> dict[str, Any]:
        adding = wire.decode_adding(_body(request))
        self._shelf.add(_store(request), [adding])
        return wire.encode_store_file(self._shelf.ledger.store_file(_store(request), adding.file))

    def _store_file(self, request: Request) -> dict[str, Any]:
        self._shelf.store(_store(request))
        return wire.encode_store_file(self._shelf.ledger.store_file(_store(request), _file(request)))

    def _store_files(self, request: Request, batch: str) -> dict[str, Any]:
        self._shelf.store(_store(request))
        parameters = _parameters(request)
        wanted = parameters.choice("filter", wire.STATUSES, "")
        found = self._shelf.ledger.store_files(_store(request), batch)
        return wire.page([wire.encode_store_file(file) for file in found if wanted in ("", file.status)], parameters)

    def _set_attributes(self, request: Request) -> dict[str, Any]:
        fields = _body(request)
        if not fields.has("attributes"):
            raise fields.missing("attributes")
        self._shelf.set_attributes(_store(request), _file(request), wire.decode_attributes(fields))
        return self._store_file(request)

    def _take_out(self, request: Request) -> dict[str, Any]:
        self._shelf.store(_store(request))
        self._shelf.take_out(_store(request), _file(request))
        return {"id": _file(request), "object": "vector_store.file.deleted", "deleted": True}

    def _text(self, request: Request) -> dict[str, Any]:
        text = self._shelf.text(_store(request), _file(request))
        return {"object": "vector_store.file_content.page", "data": [{"type": "text", "text": text}],
                "has_more": False, "next_page": None}

    def _add_batch(self, request: Request) -> dict[str, Any]:
        adding, batch = wire.decode_batch(_body(request)), f"vsfb_{uuid.uuid4().hex[:24]}"
        self._shelf.add(_store(request), adding, batch)
        return self._told(_store(request), batch)

    def _batch(self, request: Request) -> dict[str, Any]:
        return self._told(_store(request), request.parts["batch"])

    def _cancel(self, request: Request) -> dict[str, Any]:
        self._told(_store(request), request.parts["batch"])
        self._shelf.ledger.cancel(request.parts["batch"])
        return self._told(_store(request), request.parts["batch"])

    def _told(self, store: str, batch: str) -> dict[str, Any]:
        self._shelf.store(store)
        files = self._shelf.ledger.store_files(store, batch)
        if not files:
            raise NotFound(f"No file batch found with id {batch!r:.80} in vector store {store!r:.80}.")
        return wire.encode_batch(batch, store, files)


def _store(request: Request) -> str:
    return request.parts["store"]


def _file(request: Request) -> str:
    return request.parts["file"]


def _body(request: Request) -> Fields:
    return Fields(request.json() if request.body.strip() else {})


def _parameters(request: Request) -> Fields:
    """Of the query string; numbers as such."""
    found: dict[str, Any] = {key: values[-1] for key, values in request.parameters().items()}
    limit = found.get("limit")
    if limit is not None:
        if not (limit.isdigit() and len(limit) < 10):
            raise Wrong(f"Invalid value for 'limit': expected a whole number, but got {limit!r:.40}.", param="limit",
                        code="invalid_value")
        found["limit"] = int(limit)
    return Fields(found)


async def _once(body: bytes) -> AsyncIterator[bytes | None]:
    yield body

