"""Pinecone's protocol over the collections of a workspace: an index is a collection, reached at `/i/NAME`.

Served as the clients 3 to 10 speak it, by the version in the header `X-Pinecone-Api-Version`; without one as 2025-04.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from functools import partial
from urllib.parse import unquote

from madang.base.errors import InvalidInput, MadangError, NotFound, Unsupported
from madang.serve.embedding import index_embedder
from madang.serve.errors import status_of
from madang.serve.http import Handler, Reply, Request, as_json
from madang.serve.pinecone_documents import DocumentRoutes
from madang.serve.pinecone_indexes import Indexes, Protected, reads
from madang.serve.pinecone_inference import Inference
from madang.serve.pinecone_namespaces import Namespaces
from madang.serve.pinecone_records import Records
from madang.serve.pinecone_vectors import Vectors
from madang.serve.routes import Routes
from madang.serve.work import Work
from madang.wire import pinecone_answers as answers
from madang.wire.pinecone import Malformed
from madang.workspace import Workspace

_PREFIX = "/i/"
# What a service of many machines has, and one machine answers in another way: there are none of these, under the name
# that a listing gives them, and how what they are for is done here.
_ELSEWHERE = {"collections": ("collections", "Copies of an index are made with: madang collection copy."),
              "backups": ("data", "Backups are made with: madang collection backup."),
              "restore-jobs": ("data", "Backups are restored with: madang collection restore."),
              "bulk/imports": ("data", "Files are imported with: madang collection import.")}


class Pinecone:
    """The dialect. The control plane is at the root, each index's data plane below `/i/NAME`."""

    def __init__(self, workspace: Workspace, work: Work) -> None:
        self.control, self.data = Routes(), Routes()
        self.indexes = Indexes(workspace, work, partial(index_embedder, workspace.models))
        self._add_control(self.indexes)
        self._add_data(Vectors(self.indexes, work), Namespaces(self.indexes, work))
        Inference(workspace, work).add_to(self.control)
        Records(workspace, work).add_to(self.data)
        DocumentRoutes(workspace, work).add_to(self.data)

    def _add_control(self, indexes: Indexes) -> None:
        for method, path, handler in (
                ("POST", "/indexes", indexes.create), ("GET", "/indexes", indexes.listing),
                ("POST", "/indexes/create-for-model", indexes.create_for_model),
                ("GET", "/indexes/{name}", indexes.describe), ("PATCH", "/indexes/{name}", indexes.configure),
                ("DELETE", "/indexes/{name}", indexes.delete)):
            self.control.add(method, path, checked(handler))
        for what in ("collections", "backups", "restore-jobs"):
            _none(self.control, f"/{what}", what)
        _none(self.control, "/indexes/{name}/backups", "backups")

    def _add_data(self, vectors: Vectors, namespaces: Namespaces) -> None:
        for method, path, handler in (
                ("POST", "/query", vectors.query), ("POST", "/vectors/upsert", vectors.upsert),
                ("GET", "/vectors/fetch", vectors.fetch), ("GET", "/vectors/list", vectors.listing),
                ("POST", "/vectors/fetch_by_metadata", vectors.fetch_by_metadata),
                ("POST", "/vectors/update", vectors.update), ("POST", "/vectors/delete", vectors.delete),
                ("POST", "/describe_index_stats", namespaces.stats), ("GET", "/describe_index_stats", namespaces.stats),
                ("POST", "/namespaces", namespaces.create), ("GET", "/namespaces", namespaces.listing),
                ("GET", "/namespaces/{namespace}", namespaces.describe),
                ("DELETE", "/namespaces/{namespace}", namespaces.delete)):
            self.data.add(method, path, checked(handler))
        _none(self.data, "/bulk/imports", "bulk/imports")

    def find(self, method: str, path: str) -> tuple[Handler, Mapping[str, str]] | None:
        if not path.startswith(_PREFIX):
            return self.control.find(method, path)
        name, slash, rest = path[len(_PREFIX):].partition("/")
        found = self.data.find(method, slash + rest)
        return None if found is None else (found[0], {**found[1], "index": unquote(name)})

    def key(self, headers: Mapping[bytes, bytes]) -> str:
        return headers.get(b"api-key", b"").decode("latin-1")

    def refused(self, error: MadangError, headers: Mapping[bytes, bytes]) -> Reply:
        status = 403 if isinstance(error, Protected) else status_of(error)
        return as_json(answers.encode_failure(status, str(error)), status)


def checked(handler: Handler) -> Handler:
    """The handler; what is not this dialect is the caller's mistake then."""
    def call(request: Request) -> Reply | Awaitable[Reply]:
        try:
            made = handler(request)
        except Malformed as error:
            raise InvalidInput(f"{error}.") from None
        return made if isinstance(made, Reply) else _awaited(made)

    return call


async def _awaited(made: Awaitable[Reply]) -> Reply:
    try:
        return await made
    except Malformed as error:
        raise InvalidInput(f"{error}.") from None


def _none(routes: Routes, path: str, what: str) -> None:
    """Serve that there are none, and that none can be made."""
    listed, remedy = _ELSEWHERE[what]

    def listing(request: Request) -> Reply:
        reads(request.identity)
        return as_json({listed: []})

    def missing(request: Request) -> Reply:
        reads(request.identity)
        raise NotFound(f"{what}: {request.parts['one']!r:.80} was not found.", remedy=remedy)

    def making(request: Request) -> Reply:
        request.identity.require("admin")
        raise Unsupported(f"{what} are not made over this protocol.", remedy=remedy)

    routes.add("GET", path, listing)
    routes.add("POST", path, making)
    for method in ("GET", "DELETE"):
        routes.add(method, f"{path}/{{one}}", missing)
