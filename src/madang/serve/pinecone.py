"""Pinecone's protocol over the collections of a workspace: an index is a collection, reached at `/i/NAME`."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import unquote

import numpy as np

from madang.base.errors import MadangError
from madang.serve.errors import status_of
from madang.serve.http import Handler, Reply, Request, as_json
from madang.serve.pinecone_documents import DocumentRoutes
from madang.serve.pinecone_inference import Inference
from madang.serve.pinecone_records import Records
from madang.serve.routes import Routes
from madang.serve.work import Work
from madang.workspace import Workspace

_PREFIX = "/i/"
_CODES = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "FORBIDDEN", 404: "NOT_FOUND", 409: "ALREADY_EXISTS",
          413: "PAYLOAD_TOO_LARGE", 429: "RESOURCE_EXHAUSTED", 501: "UNIMPLEMENTED", 503: "UNAVAILABLE"}


class Pinecone:
    """The dialect. The control plane is at the root, each index's data plane below `/i/NAME`."""

    def __init__(self, workspace: Workspace, work: Work) -> None:
        self._workspace, self._work = workspace, work
        self._control, self._data = Routes(), Routes()
        self._data.add("POST", "/query", self._query)
        Inference(workspace, work).add_to(self._control)
        Records(workspace, work).add_to(self._data)
        DocumentRoutes(workspace, work).add_to(self._data)

    def find(self, method: str, path: str) -> tuple[Handler, Mapping[str, str]] | None:
        if not path.startswith(_PREFIX):
            return self._control.find(method, path)
        name, slash, rest = path[len(_PREFIX):].partition("/")
        found = self._data.find(method, slash + rest)
        return None if found is None else (found[0], {**found[1], "index": unquote(name)})

    def key(self, headers: Mapping[bytes, bytes]) -> str:
        return headers.get(b"api-key", b"").decode("latin-1")

    def refused(self, error: MadangError, headers: Mapping[bytes, bytes]) -> Reply:
        status = status_of(error)
        return as_json({"error": {"code": _CODES.get(status, "UNKNOWN"), "message": str(error)}, "status": status},
                       status)

    def _query(self, request: Request) -> Reply:
        body = request.json()
        namespace = body.get("namespace") or ""
        request.identity.require("read", namespace)
        collection = self._workspace.collection(request.parts["index"])
        found = collection.query(vector=np.array(body["vector"], dtype=np.float32), top_k=body["topK"],
                                 namespace=namespace, filter=body.get("filter"),
                                 include_metadata=bool(body.get("includeMetadata")))
        return as_json({"matches": [{"id": match.id, "score": match.score, "values": [],
                                     **({"metadata": match.metadata} if match.metadata else {})}
                                    for match in found.matches], "namespace": namespace, "usage": {"readUnits": 1}})
