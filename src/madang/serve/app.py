"""The server as one ASGI application: dialects first, then our own routes."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from madang.base.errors import MadangError
from madang.base.settings import Serve
from madang.serve.access import LOCAL, Access, Identity, Keys
from madang.serve.fetching import Fetcher, Rules
from madang.serve.gate import Gate, preflight
from madang.serve.http import (
    COUNTED,
    Bodies,
    Dialect,
    Door,
    Handler,
    Receive,
    Refused,
    Reply,
    Scope,
    Send,
    refusal,
    send_reply,
)
from madang.serve.limits import Limits, Rates
from madang.serve.native import Native
from madang.serve.native_parts import Served
from madang.serve.openai import OpenAI
from madang.serve.pinecone import Pinecone
from madang.serve.ready import Ready
from madang.serve.watch import Log, Metrics, template
from madang.serve.work import Work
from madang.workspace import Workspace

_MB = 1_000_000
_REQUEST_ID = re.compile(rb"[\w.-]{1,64}")
# With one of these, an answer depends on more than the head and the body, or has more headers.
_NOT_AT_ONCE = frozenset({b"origin", b"expect", b"transfer-encoding", b"upgrade", b"connection", b"x-forwarded-for",
                          b"x-forwarded-proto"})
_UNKNOWN = "unknown"               # the route of a path that is none


class App:
    """`App(workspace)` is an ASGI application; `close` finishes its writes. The workspace stays open.

    Args:
        access: who may ask; default: the keys of the workspace.
        settings: default: [serve] of the workspace's settings.
        listens: the name or address that it is reached at.
        log: where requests are written; default: nowhere.
    """

    def __init__(self, workspace: Workspace, access: Access | None = None, settings: Serve | None = None,
                 listens: str = "", log: Log | None = None) -> None:
        self._run, self._numbers = os.urandom(4).hex().encode(), count(1)      # of requests
        self.workspace, self.settings = workspace, settings or workspace.settings.serve
        workspace.models.restrict()
        self.work = Work(self.settings.threads, self.settings.max_waiting)
        self.access = access or Access(Keys(workspace.path))
        self.log = log or Log("off")
        self.metrics = Metrics(workspace, self.work.waiting)
        self.ready = Ready(workspace, self.settings.warm)
        self._rates = Rates(self.settings.rate_per_s, self.settings.rate_burst)
        self._gate = Gate(self.settings, listens)
        bodies = self._bodies = Bodies(int(self.settings.max_body_mb * _MB), self.settings.body_timeout_s)
        self._door = Door(self._admit, bodies, self._cleaned)
        self._openai = OpenAI(workspace, self.work, Fetcher(Rules.of(self.settings)))
        self._dialects: Sequence[Dialect] = (self._openai, Pinecone(workspace, self.work))
        served = Served(workspace, self.work, Limits(self.settings), self.metrics, self.ready, self._cleaned)
        uploaded = Bodies(int(self.settings.max_upload_mb * _MB), self.settings.body_timeout_s, "max_upload_mb")
        self.native = Native(served, bodies, uploaded, self._admit)
        self._paths = tuple(sorted({str(workspace.path), str(workspace.path.resolve())}, key=len, reverse=True))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.native.elsewhere(scope, receive, send)
            return
        started = time.perf_counter()
        headers: Mapping[bytes, bytes] = dict(scope["headers"])
        answer = _Answer(send, self._request_id(headers))
        dialect, handler, parts = self._find(scope)
        key = ""
        try:
            answer.headers += self._gate.check(scope, headers, self.access.required)
            asked = preflight(headers, answer.headers) if scope["method"] == "OPTIONS" else None
            if asked is not None:
                await send_reply(Reply(status=204, type=b"", headers=asked), answer.send)
            elif handler is not None:
                key = await self._door.answer(dialect, handler, parts, scope, headers, receive, answer.send)
            else:
                key = await self.native.answer(scope, headers, receive, answer.send)
        except Refused as error:
            await send_reply(refusal(dialect, error, headers), answer.send)
        finally:
            route = self.native.route(scope) if handler is None else template(_path(scope), parts)
            self._note(answer.id, scope, route or _UNKNOWN, answer.status, started, answer.size, key)

    def known(self, scope: Scope) -> Known | None:
        """What requests with the head of this one, which was answered, have in common; None where they may not be
        answered by `at_once`."""
        headers = dict(scope["headers"])
        dialect, handler, parts = self._find(scope)
        if handler is None or headers.keys() & _NOT_AT_ONCE:
            return None
        try:
            self._gate.check(scope, headers, self.access.required)
            self._bodies.check(headers)
        except MadangError:
            return None
        return Known(dialect, handler, parts, scope, headers, template(_path(scope), parts))

    def at_once(self, known: Known, client: Any, body: bytes) -> tuple[bytes, Reply]:
        """The id of a request that is all there, and its reply, which is whole. Raises `NotAtOnce`."""
        started = time.perf_counter()
        scope = known.scope if known.scope["client"] == client else {**known.scope, "client": client}
        reply, key = self._door.at_once(known.dialect, known.handler, known.parts, scope, known.headers, body)
        request_id = self._request_id(known.headers)
        self._note(request_id, scope, known.route, reply.status, started, len(reply.body), key)     # type: ignore[arg-type]
        return request_id, reply

    def _request_id(self, headers: Mapping[bytes, bytes]) -> bytes:
        sent = headers.get(b"x-request-id", b"")
        return sent if _REQUEST_ID.fullmatch(sent) else b"%s-%x" % (self._run, next(self._numbers))

    def _note(self, request_id: bytes, scope: Scope, route: str, status: int, started: float, size: int,
              key: str) -> None:
        seconds = time.perf_counter() - started
        self.metrics.observe(scope["method"], route, status, seconds)
        self.log.request(request_id, scope["method"], route, status, seconds, size, key, _client(scope))

    def _find(self, scope: Scope) -> tuple[Dialect, Handler | None, Mapping[str, str]]:
        method, path = scope["method"], _path(scope)
        for dialect in self._dialects:
            found = dialect.find(method, path)
            if found is not None:
                return dialect, *found
        return self.native, None, {}

    def _admit(self, key: str, scope: Scope) -> Identity:
        """Raises `NotAllowed` or `TooMany`."""
        try:
            identity = self.access.identify(key)
        except MadangError:
            self._rates.take(_client(scope))     # whoever guesses is slowed down like everybody else
            raise
        if identity.name != LOCAL and COUNTED not in scope:
            self._rates.take(f"key {identity.name}" if identity.name else _client(scope))
        return identity

    def _cleaned(self, error: MadangError) -> MadangError:
        """Without the paths of this machine."""
        for path in self._paths:
            error.message = error.message.replace(path, "the workspace")
            error.remedy = error.remedy.replace(path, "the workspace") if error.remedy else error.remedy
        return error

    def stop(self) -> None:
        """No more long work: what runs ends at its next commit. `close` follows."""
        self.ready.stop()
        self.native.stop()

    def close(self) -> None:
        """Finish what was begun."""
        self.stop()
        self.native.close()
        self.work.close()
        self._openai.close()
        self.ready.close()
        self.access.save_use()


@dataclass(frozen=True, slots=True)
class Known:
    """What requests with the same head have in common; `route` is how they are counted."""

    dialect: Dialect
    handler: Handler
    parts: Mapping[str, str]
    scope: Scope
    headers: Mapping[bytes, bytes]
    route: str


class _Answer:
    """Adds headers to an answer on its way out, and remembers what it was."""

    __slots__ = ("_send", "headers", "id", "size", "status")

    def __init__(self, send: Send, request_id: bytes) -> None:
        self._send, self.id = send, request_id
        self.headers: tuple[tuple[bytes, bytes], ...] = ()
        self.status, self.size = 0, 0            # status 0: the caller went away before

    async def send(self, message: Mapping[str, object]) -> None:
        made = dict(message)
        if made["type"] == "http.response.start":
            self.status = int(str(made["status"]))
            made["headers"] = [*made.get("headers", ()), (b"x-request-id", self.id), *self.headers]  # type: ignore[misc]
        else:
            self.size += len(made.get("body", b""))      # type: ignore[arg-type]
        await self._send(made)


def _path(scope: Scope) -> str:
    """As it was sent, still encoded: an id may hold a slash."""
    raw: bytes | None = scope.get("raw_path")
    return raw.decode("latin-1") if raw else str(scope["path"])


def _client(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else "unknown"

