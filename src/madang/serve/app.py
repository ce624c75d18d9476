"""The server as one ASGI application: dialects first, then our own routes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI

from madang.serve.access import Access
from madang.serve.http import Dialect, Door, Receive, Scope, Send
from madang.serve.pinecone import Pinecone
from madang.serve.work import Work
from madang.workspace import Workspace

_MOST_BYTES = 64 * 2**20


class App:
    """`App(workspace)` is an ASGI application; `close` finishes its writes. The workspace stays open."""

    def __init__(self, workspace: Workspace, access: Access | None = None, most_bytes: int = _MOST_BYTES) -> None:
        self.workspace, self.work = workspace, Work()
        self._door = Door(access or Access(), most_bytes)
        self._dialects: Sequence[Dialect] = (Pinecone(workspace, self.work),)
        self.native = _native()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            method, raw = scope["method"], scope.get("raw_path")
            path = raw.decode("latin-1") if raw else scope["path"]      # as it was sent: an id may hold a slash
            for dialect in self._dialects:
                found = dialect.find(method, path)
                if found is not None:
                    await self._door.answer(dialect, *found, scope, receive, send)
                    return
        await self.native(scope, receive, send)

    def close(self) -> None:
        """Finish what was begun."""
        self.work.close()


def _native() -> FastAPI:
    app = FastAPI(title="Madang")

    @app.get("/health")
    def health() -> dict[str, Any]:
        return {"status": "alive"}

    return app
