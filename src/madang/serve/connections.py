"""Connections: with bounds that uvicorn leaves open (how long and how large the head of a request may be), and with a
short way for queries.

uvicorn makes a task for each request as soon as its head is there, which then waits for the body. A query's answer
takes less than that: so where the body comes with the head, the application is called at once. Only where it has to
wait for something after all does it become a task, from there on.

Nor is the head of such a request parsed again and again: a client sends the same one with each query. What was parsed
once is known by its bytes. And after an answer the server stays awake for a moment: the next query often comes at once,
and to be woken up takes as long as a third of it.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Coroutine, Generator, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from madang.serve.http import COUNTED, WHOLE, NotAtOnce, Reply, Scope

if TYPE_CHECKING:
    from madang.serve.app import App, Known

_MOST_HEAD_BYTES = 64 * 1024       # URL and headers; the application refuses less with a proper answer
_MOST_BODY_BYTES = 1024 * 1024     # of what is answered at once
_QUICK = b"POST /i/"               # how the head of a query begins
_MOST_KNOWN_BYTES = 4096           # of a head that is remembered
_MOST_KNOWN = 1024
_AWAKE_S = 0.0003


class Connection(HttpToolsProtocol):
    """Closes itself where a request's head does not come within `head_timeout_s`, or has no end."""

    head_timeout_s = 30.0
    _late: asyncio.TimerHandle | None = None       # runs while a head is awaited
    _head_bytes = 0
    heads: Heads | None = None                     # of all connections of a server
    _counted = False                               # the next request was counted against its caller's rate already
    _within = False                                # the parser has begun a request that has not come to its end
    _in_head = False                               # and is in its head
    _held: tuple[RequestResponseCycle, ASGI3Application] | None = None     # a query whose body is being read

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_came()
        self._held = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        head, body = self._split(data)
        if head:
            assert self.heads is not None
            known = self.heads.get(head)
            if known is not None and self._answered(known, head, body):
                return
        self._read(data)
        if head and self._is_idle() and not self.transport.is_closing():
            assert self.heads is not None
            self.heads.learn(head, len(body), dict(self.cycle.scope))

    def _is_idle(self) -> bool:
        """Whether nothing is under way: the next byte begins a request."""
        return not self._within and (self.cycle is None or self.cycle.response_complete) and not self.pipeline

    def _split(self, data: bytes) -> tuple[bytes, bytes]:
        """The head and the body of a query that may be answered by its head's bytes; empty where it is none."""
        if self.heads is None or not data.startswith(_QUICK) or not self._is_idle():
            return b"", b""
        if self.limit_concurrency is not None and len(self.connections) >= self.limit_concurrency:
            return b"", b""
        end = data.find(b"\r\n\r\n", 0, _MOST_KNOWN_BYTES) + 4
        return (data[:end], data[end:]) if end > 4 else (b"", b"")

    def _answered(self, known: _Head, head: bytes, body: bytes) -> bool:
        """Whether a request could be answered without more ado."""
        assert self.heads is not None
        if len(body) != known.length or self.flow.write_paused or self.transport.is_closing():
            return False
        try:
            request_id, reply = self.heads.app.at_once(known.what, self.client, body)
        except NotAtOnce:
            self.heads.forget(head)
            self._counted = True
            return False
        self._head_came()
        self.transport.write(start_of(reply, request_id, self.server_state.default_headers))
        if any(name == b"connection" for name, _ in reply.headers):
            self.transport.close()
        self.on_response_complete()
        self.heads.awake.stay(self.loop)
        return True

    def on_message_begin(self) -> None:
        self._within = self._in_head = True
        super().on_message_begin()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._in_head and self._late is None and not self.transport.is_closing():
            self._wait_for_head()          # the next one had begun to come

    def _read(self, data: bytes) -> None:
        if self._late is None and (self.cycle is None or self.cycle.response_complete):
            self._wait_for_head()          # another request on the same connection
        super().data_received(data)
        if self._held is not None:         # the rest of its body comes later, or never: the usual way knows what to do
            held, self._held = self._held, None
            super()._start_asgi_task(*held)
        if self._late is not None:
            self._head_bytes += len(data)
            if self._head_bytes > _MOST_HEAD_BYTES and not self.transport.is_closing():
                self.send_400_response("The head of the request is too large.")

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_came()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._within = False
        super().on_message_complete()
        if self._held is not None:
            held, self._held = self._held, None
            self._at_once(*held)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        if self._counted:
            self._counted, cycle.scope[COUNTED] = False, True      # type: ignore[literal-required]
        if not _is_quick(cycle):
            super()._start_asgi_task(cycle, app)
        elif cycle.more_body:
            self._held = cycle, app
        else:
            self._at_once(cycle, app)

    def _at_once(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        cycle.scope[WHOLE] = True      # type: ignore[literal-required]
        running = cycle.run_asgi(app)
        try:
            awaited = running.send(None)
        except StopIteration:
            return
        task = self.loop.create_task(_finished(running, awaited))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    def _wait_for_head(self) -> None:
        self._head_bytes = 0
        self._late = self.loop.call_later(self.head_timeout_s, self._too_late)

    def _head_came(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _too_late(self) -> None:
        self._late = None
        if not self.transport.is_closing():
            self.transport.close()


@dataclass(frozen=True, slots=True)
class _Head:
    """What is known of a head: how long the body is, and what the application made of it."""

    length: int
    what: Known


class Heads:
    """The heads of queries that were answered, by their bytes: at most `_MOST_KNOWN`, the oldest given up for new
    ones."""

    def __init__(self, app: App) -> None:
        self.app, self.awake = app, _Awake()
        self._known: dict[bytes, _Head] = {}

    def get(self, head: bytes) -> _Head | None:
        return self._known.get(head)

    def learn(self, head: bytes, length: int, scope: Scope) -> None:
        """`head` was parsed to `scope`, and a body of this length came with it and was all of it."""
        told = [value for name, value in scope["headers"] if name == b"content-length"]
        if head in self._known or told != [b"%d" % length] or scope["http_version"] != "1.1" or WHOLE not in scope:
            return
        what = self.app.known(scope)
        if what is not None:
            self._known[head] = _Head(length, what)
            if len(self._known) > _MOST_KNOWN:
                del self._known[next(iter(self._known))]

    def forget(self, head: bytes) -> None:
        self._known.pop(head, None)


class _Awake:
    """Keeps a loop from sleeping, where another core is left for whoever asks."""

    def __init__(self) -> None:
        self._until, self._stays, self._may = 0.0, False, (os.cpu_count() or 1) > 1

    def stay(self, loop: asyncio.AbstractEventLoop) -> None:
        """For `_AWAKE_S` from now."""
        self._until = time.monotonic() + _AWAKE_S
        if self._may and not self._stays:
            self._stays = True
            loop.call_soon(self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._stays = time.monotonic() < self._until
        if self._stays:
            loop.call_soon(self._look, loop)


def start_of(reply: Reply, request_id: bytes, usual: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A whole reply as it is sent; `usual` headers are those of every answer."""
    assert isinstance(reply.body, bytes)
    headers = [*usual, (b"content-type", reply.type), *reply.headers, (b"x-request-id", request_id)]
    lines = b"\r\n".join([b"%b: %b" % header for header in headers])
    return b"%b%b\r\ncontent-length: %d\r\n\r\n%b" % (STATUS_LINE[reply.status], lines, len(reply.body), reply.body)


def _is_quick(cycle: RequestResponseCycle) -> bool:
    """Whether it is a query of an index, whole and small."""
    scope = cycle.scope
    if scope["method"] != "POST" or cycle.waiting_for_100_continue:
        return False
    path = scope["raw_path"]
    if not (path.startswith(b"/i/") and path.endswith(b"/query")):
        return False
    told = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
    return told.isdigit() and len(told) < 9 and int(told) <= _MOST_BODY_BYTES


async def _finished(running: Coroutine[Any, Any, None], awaited: Any) -> None:
    """The rest of a coroutine that was begun outside a task and waits for `awaited`."""
    await _Rest(running, awaited)


class _Rest:
    def __init__(self, running: Coroutine[Any, Any, None], awaited: Any) -> None:
        self._running, self._awaited = running, awaited

    def __await__(self) -> Generator[Any, Any, None]:
        running, awaited = self._running, self._awaited
        while True:
            try:
                sent = yield awaited
            except BaseException as error:
                step = _throw(running, error)
            else:
                step = _send(running, sent)
            if step is None:
                return
            (awaited,) = step


def _send(running: Coroutine[Any, Any, None], sent: Any) -> tuple[Any] | None:
    try:
        return (running.send(sent),)
    except StopIteration:
        return None


def _throw(running: Coroutine[Any, Any, None], error: BaseException) -> tuple[Any] | None:
    try:
        return (running.throw(error),)
    except StopIteration:
        return None
