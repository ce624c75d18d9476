"""Connections: with bounds that uvicorn leaves open (how long and how large the head of a request may be), and with a
short way for queries.

uvicorn makes a task for each request as soon as its head is there, which then waits for the body. A query's answer
takes less than that: so where the body comes with the head, the application is called at once. Only where it has to
wait for something after all does it become a task, from there on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from madang.serve.http import WHOLE

_MOST_HEAD_BYTES = 64 * 1024       # URL and headers; the application refuses less with a proper answer
_MOST_BODY_BYTES = 1024 * 1024     # of what is answered at once


class Connection(HttpToolsProtocol):
    """Closes itself where a request's head does not come within `head_timeout_s`, or has no end."""

    head_timeout_s = 30.0
    _late: asyncio.TimerHandle | None = None       # runs while a head is awaited
    _head_bytes = 0
    _held: tuple[RequestResponseCycle, ASGI3Application] | None = None     # a query whose body is being read

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_came()
        self._held = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
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
        self._head_came()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        if self._held is not None:
            held, self._held = self._held, None
            self._at_once(*held)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
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
