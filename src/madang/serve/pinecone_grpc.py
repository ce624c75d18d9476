"""Pinecone's data plane over gRPC, for one index: the path of an address is lost in gRPC, so each index has a port.

A call is translated to the request that the REST protocol would send, answered by the same handler, and translated
back. Needs `madang[grpc]`.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from inspect import isawaitable
from typing import Any
from urllib.parse import quote, urlencode

import orjson

from madang.base.errors import InvalidInput, MadangError, MissingDependency
from madang.serve.access import Access, Identity
from madang.serve.http import Reply, Request
from madang.serve.pinecone import Pinecone
from madang.serve.work import Work
from madang.workspace import Workspace

try:
    import grpc
    from google.protobuf import json_format

    from madang.serve.pinecone_messages import MESSAGES
except ImportError as error:
    raise MissingDependency("Pinecone's protocol over gRPC", extra="grpc") from error

Identify = Callable[[str], Identity]
_log = logging.getLogger("madang.serve")
_MOST_BYTES = 64 * 2**20
_GRACE_S = 30
# Each call: the messages of its question and its answer, and the request that REST would send. What is in braces, or in
# the query string, comes from the question.
_CALLS = {
    "Upsert": ("UpsertRequest", "UpsertResponse", "POST", "/vectors/upsert"),
    "Query": ("QueryRequest", "QueryResponse", "POST", "/query"),
    "Fetch": ("FetchRequest", "FetchResponse", "GET", "/vectors/fetch"),
    "FetchByMetadata": ("FetchByMetadataRequest", "FetchByMetadataResponse", "POST", "/vectors/fetch_by_metadata"),
    "Update": ("UpdateRequest", "UpdateResponse", "POST", "/vectors/update"),
    "Delete": ("DeleteRequest", "DeleteResponse", "POST", "/vectors/delete"),
    "List": ("ListRequest", "ListResponse", "GET", "/vectors/list"),
    "DescribeIndexStats": ("DescribeIndexStatsRequest", "DescribeIndexStatsResponse", "POST", "/describe_index_stats"),
    "CreateNamespace": ("CreateNamespaceRequest", "NamespaceDescription", "POST", "/namespaces"),
    "ListNamespaces": ("ListNamespacesRequest", "ListNamespacesResponse", "GET", "/namespaces"),
    "DescribeNamespace": ("DescribeNamespaceRequest", "NamespaceDescription", "GET", "/namespaces/{}"),
    "DeleteNamespace": ("DeleteNamespaceRequest", "DeleteResponse", "DELETE", "/namespaces/{}"),
}
_Code = grpc.StatusCode
_CODES = {400: _Code.INVALID_ARGUMENT, 401: _Code.UNAUTHENTICATED, 403: _Code.PERMISSION_DENIED, 404: _Code.NOT_FOUND,
          409: _Code.ALREADY_EXISTS, 413: _Code.RESOURCE_EXHAUSTED, 429: _Code.RESOURCE_EXHAUSTED,
          501: _Code.UNIMPLEMENTED, 503: _Code.UNAVAILABLE}


@contextmanager
def listening(workspace: Workspace, index: str, host: str = "127.0.0.1", port: int = 0,
              identify: Identify | None = None) -> Iterator[str]:
    """Serve one index over gRPC while the block runs; gives HOST:PORT. Port 0 chooses a free one.

    `identify` tells who a key stands for, or refuses it. Raises `InvalidInput` for an address that cannot be had.
    """
    work = Work()
    service = _Service(Pinecone(workspace, work), index, identify or Access().identify)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="madang-grpc", daemon=True)
    thread.start()

    def run(call: Awaitable[Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(call, loop).result()  # type: ignore[arg-type]

    try:
        server, bound = run(_started(service, f"{host}:{port}"))
        try:
            yield f"{host}:{bound}"
        finally:
            run(server.stop(_GRACE_S))
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        work.close()


async def _started(service: _Service, address: str) -> tuple[Any, int]:
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", _MOST_BYTES), ("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("VectorService", {
        name: grpc.unary_unary_rpc_method_handler(service.handler(name), MESSAGES[asked].FromString,
                                                  MESSAGES[told].SerializeToString)
        for name, (asked, told, _, _) in _CALLS.items()}),))
    try:
        port = server.add_insecure_port(address)
    except RuntimeError:
        port = 0
    if not port:
        raise InvalidInput(f"cannot listen at {address}.", remedy="Choose another port, or stop what listens there.")
    await server.start()
    return server, port


class _Service:
    """The calls of one index."""

    def __init__(self, dialect: Pinecone, index: str, identify: Identify) -> None:
        self._dialect, self._index, self._identify = dialect, quote(index, safe=""), identify

    def handler(self, name: str) -> Callable[[Any, Any], Awaitable[Any]]:
        """Who answers a call."""
        _, told, method, path = _CALLS[name]

        async def call(message: Any, context: Any) -> Any:
            key = dict(context.invocation_metadata() or ()).get("api-key", "")
            reply = await self._reply(method, path, json_format.MessageToDict(message), key)
            if reply.status >= 400:
                said = orjson.loads(bytes(reply.body))["error"]["message"]  # type: ignore[arg-type]
                await context.abort(_CODES.get(reply.status, _Code.INTERNAL), said)
            return json_format.Parse(reply.body, MESSAGES[told](), ignore_unknown_fields=True)

        return call

    async def _reply(self, method: str, path: str, body: Mapping[str, Any], key: str) -> Reply:
        if "{}" in path:
            path = path.format(quote(body.get("namespace") or "__default__", safe=""))
        try:
            handler, parts = self._dialect.find(method, f"/i/{self._index}{path}") or (None, {})
            assert handler is not None
            query = urlencode(body, doseq=True) if method == "GET" else ""
            made = handler(Request(method, path, {}, query.encode(), orjson.dumps(body) if method == "POST" else b"",
                                   self._identify(key), "", parts))
            return await made if isawaitable(made) else made
        except MadangError as error:
            return self._dialect.refused(error, {})
        except Exception as error:  # a defect: told without what it may reveal, and written down
            _log.exception("%s over gRPC failed", path)
            told = f"the server failed ({type(error).__name__}); its log says more."
            return self._dialect.refused(MadangError(told), {})
