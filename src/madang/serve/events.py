"""Server-sent events: what happens, told as it happens. https://html.spec.whatwg.org/multipage/server-sent-events.html"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import orjson
from starlette.responses import StreamingResponse

KEEP_ALIVE = b": still here\n\n"
_QUIET_S = 15.0


def event(name: str, content: Any) -> bytes:
    """One event with JSON in it."""
    body = orjson.dumps(content, default=str, option=orjson.OPT_SERIALIZE_NUMPY)
    return b"event: %b\ndata: %b\n\n" % (name.encode(), body)


def streamed(events: AsyncIterator[bytes]) -> StreamingResponse:
    """An answer of events."""
    return StreamingResponse(events, media_type="text/event-stream",
                             headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})


class Feed:
    """Events from a thread to the caller who reads them. `gone` tells the thread that nobody does any more."""

    def __init__(self) -> None:
        self._loop, self._queue = asyncio.get_running_loop(), asyncio.Queue[bytes | None]()
        self.gone = threading.Event()

    def put(self, name: str, content: Any) -> None:
        """From any thread."""
        self._hand(event(name, content))

    def end(self) -> None:
        """There will be no more."""
        self._hand(None)

    def _hand(self, item: bytes | None) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._queue.put_nowait, item)

    async def events(self) -> AsyncIterator[bytes]:
        """Until `end`; where it is quiet for long, a sign of life."""
        try:
            while True:
                try:
                    async with asyncio.timeout(_QUIET_S):
                        item = await self._queue.get()
                except TimeoutError:
                    item = KEEP_ALIVE
                if item is None:
                    return
                yield item
        finally:
            self.gone.set()
