"""Server-sent events: what happens, told as it happens. https://html.spec.whatwg.org/multipage/server-sent-events.html"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
from starlette.responses import StreamingResponse

from madang.serve.handed import Handed

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
    """Events from a thread to the caller who reads them."""

    def __init__(self) -> None:
        self._handed: Handed[bytes | None] = Handed()

    def put(self, name: str, content: Any) -> bool:
        """From any thread, which waits while very many are unread. False where nobody reads them any more."""
        return self._handed.put(event(name, content))

    def end(self) -> None:
        """There will be no more."""
        self._handed.put_last(None)

    async def events(self) -> AsyncIterator[bytes]:
        """Until `end`; where it is quiet for long, a sign of life."""
        try:
            while True:
                try:
                    async with asyncio.timeout(_QUIET_S):
                        item = await self._handed.get()
                except TimeoutError:
                    item = KEEP_ALIVE
                if item is None:
                    return
                yield item
        finally:
            self._handed.close()
