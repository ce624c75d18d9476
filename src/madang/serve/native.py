"""Our own routes as a FastAPI application: its way in, its errors, its own description."""

from __future__ import annotations

import html
import logging
from collections.abc import Callable, Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, Response
from starlette.exceptions import HTTPException

from madang import __version__
from madang.base.errors import InvalidInput, MadangError
from madang.serve import http
from madang.serve.access import Identity, key_in
from madang.serve.errors import status_of, told
from madang.serve.http import Bodies, Handler, Receive, Reply, Scope, Send, as_json
from madang.serve.jobs import Jobs
from madang.serve.native_collections import collections, records, snapshots
from madang.serve.native_documents import UPLOADS, documents, questions
from madang.serve.native_images import images
from madang.serve.native_parts import ERRORS, IDENTITY, Served, Who, reply
from madang.serve.through import through
from madang.workspace.through import PATH

_OPEN = "/health"                  # the one route that never needs a key
_CODES = {404: "not_found", 405: "method_not_allowed"}
_log = logging.getLogger("madang.serve")


class Native:
    """Answers what no dialect does. Also speaks, as a dialect, where a request is refused before it is routed."""

    def __init__(self, served: Served, bodies: Bodies, uploaded: Bodies,
                 admit: Callable[[str, Scope], Identity]) -> None:
        self._bodies, self._uploaded, self._admit, self._cleaned = bodies, uploaded, admit, served.cleaned
        self._jobs = Jobs(served.workspace, served.cleaned)
        self.app = _application(served, self._jobs, uploaded)

    async def answer(self, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive, send: Send) -> str:
        """One request; returns the name of the key that asked."""
        identity = None
        try:
            if scope["path"] != _OPEN:
                identity = self._admit(key_in(headers), scope)
                scope[IDENTITY] = identity
            if not (scope["path"] in UPLOADS and scope["method"] == "POST"):       # that one is read as it comes
                bodies = self._uploaded if scope["path"] == PATH else self._bodies
                body = await bodies.whole(headers, receive)
                if body is None:
                    return identity.name if identity else ""
                receive = _again(body, receive)
            await self.app(scope, receive, send)
        except MadangError as error:
            await http.send_reply(http.refusal(self, self._cleaned(error), headers), send)
        except Exception:      # a defect, which has been answered
            _log.exception("%s %s failed", scope["method"], self.route(scope))
        return identity.name if identity else ""

    async def elsewhere(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A WebSocket: there are none here."""
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})

    def route(self, scope: Scope) -> str | None:
        """The template of the path, once it was answered; None where there is none."""
        found: str | None = getattr(scope.get("route"), "path", None)
        return found

    def find(self, method: str, path: str) -> tuple[Handler, Mapping[str, str]] | None:
        """Never: it answers itself."""
        return None

    def key(self, headers: Mapping[bytes, bytes]) -> str:
        return key_in(headers)

    def refused(self, error: MadangError, headers: Mapping[bytes, bytes]) -> Reply:
        return as_json({"error": told(error)}, status_of(error))

    def stop(self) -> None:
        """Cancel ingests."""
        self._jobs.stop()

    def close(self) -> None:
        """Wait for what was begun."""
        self._jobs.close()


def _application(served: Served, jobs: Jobs, uploaded: Bodies) -> FastAPI:
    # No pages of FastAPI's own: they load scripts from elsewhere.
    app = FastAPI(title="Madang", version=__version__, openapi_url="/api/openapi.json", docs_url=None, redoc_url=None,
                  summary="Collections, documents and questions of one workspace.", redirect_slashes=False)
    for part in (collections(served), snapshots(served), records(served), documents(served, jobs, uploaded),
                 questions(served), images(served, jobs, uploaded), through(served)):
        app.include_router(part, responses=ERRORS)
    _own(app, served)
    _failures(app, served.cleaned)
    _document(app)
    return app


def _own(app: FastAPI, served: Served) -> None:
    @app.get("/health", tags=["server"])
    async def health() -> dict[str, str]:
        """Alive. The one route that never needs a key."""
        return {"status": "alive"}

    @app.get("/ready", tags=["server"], responses={503: {"description": "Collections are still being opened"}})
    async def ready() -> Response:
        """Whether the collections that were used last are open."""
        yes = served.ready.yes
        return reply({"status": "ready" if yes else "starting", "collections": served.ready.opened},
                     200 if yes else 503)

    @app.get("/metrics", tags=["server"], response_class=Response)
    async def metrics(who: Who) -> Response:
        """Numbers in Prometheus's text format."""
        who.require("read")
        return Response(await served.work.long(served.metrics.text), media_type="text/plain; version=0.0.4")

    @app.get("/api/docs", include_in_schema=False)
    async def docs() -> Response:
        """The routes on a page that loads nothing from elsewhere."""
        return HTMLResponse(_page(app.openapi()))


def _failures(app: FastAPI, cleaned: Callable[[MadangError], MadangError]) -> None:
    @app.exception_handler(MadangError)
    async def ours(request: Request, error: MadangError) -> Response:
        shown = cleaned(error)
        answer = reply({"error": told(shown)}, status_of(shown))
        for name, value in http.headers_of(shown):
            answer.headers[name.decode()] = value.decode()
        return answer

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        syntax = first["type"] == "json_invalid"
        where = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path"))
        message = "the body is not JSON." if syntax else f"{where or 'the body'}: {first['msg']}."
        return reply({"error": told(InvalidInput(message))}, 400 if syntax else 422)

    @app.exception_handler(HTTPException)
    async def plain(request: Request, error: HTTPException) -> Response:
        answer = reply({"error": {"code": _CODES.get(error.status_code, "refused"), "message": f"{error.detail}.",
                                  "remedy": None}}, error.status_code)
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(Exception)
    async def defect(request: Request, error: Exception) -> Response:
        return reply({"error": {"code": "error", "message": f"the server failed ({type(error).__name__}); its log says "
                                "more.", "remedy": None}}, 500)


def _document(app: FastAPI) -> None:
    """Keys in the OpenAPI document: in either header."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        document = made()
        document.setdefault("components", {})["securitySchemes"] = {
            "key": {"type": "apiKey", "in": "header", "name": "Api-Key"},
            "bearer": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{}, {"key": []}, {"bearer": []}]
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _page(document: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><td>{method.upper()}</td><td><code>{html.escape(path)}</code></td><td>"
        f"{html.escape(told.get('description') or told.get('summary', ''))}</td></tr>"
        for path, methods in document["paths"].items() for method, told in methods.items())
    return ("<!doctype html><meta charset='utf-8'><title>Madang</title>"
            "<style>body{font:16px sans-serif;margin:2em}td{padding:.2em 1em .2em 0;vertical-align:top}</style>"
            f"<h1>Madang {html.escape(__version__)}</h1><p>The whole description: "
            f"<a href='openapi.json'>openapi.json</a></p><table>{rows}</table>")


def _again(body: bytes, receive: Receive) -> Receive:
    """A body that was read already; then whatever comes."""
    given = False

    async def again() -> Any:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
