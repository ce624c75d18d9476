"""What a thread makes piece by piece, told to the event loop as it comes; stopped when nobody listens any more."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from typing import Any, Generic, Self, TypeVar

from madang.serve.work import Work

_AHEAD = 4096           # pieces that wait to be taken
_T = TypeVar("_T")


class _End(Exception):
    """The thread is through; `cause` is why, where it failed."""

    def __init__(self, cause: Exception | None) -> None:
        super().__init__()
        self.cause = cause


class FromThread(AsyncIterator[_T], Generic[_T]):
    """The pieces of `start()`, an iterator that a thread of `work` runs. An async context manager: leaving it stops it.

    An answer of an ordinary size never slows the thread down: one that waits for a slow caller is missing elsewhere.
    One without end does wait, so that it does not fill the memory.
    """

    def __init__(self, work: Work, start: Callable[[], Iterator[_T]]) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[_T | _End] = asyncio.Queue()
        self._start = start
        self._lock = threading.Lock()
        self._stopped = False
        self._room = threading.Semaphore(_AHEAD)
        self._pieces: Any = None
        self._ended = False
        self._done = asyncio.ensure_future(work.long(self._run))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> _T:
        if self._ended:
            raise StopAsyncIteration
        item = await self._queue.get()
        if not isinstance(item, _End):
            self._room.release()
            return item
        self._ended = True
        if item.cause is not None:
            raise item.cause
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Stop the thread, if it must be by closing what it reads from."""
        self._ended = True
        with self._lock:
            self._stopped = True
            pieces = self._pieces
        self._room.release()
        cancel = getattr(pieces, "cancel", None)
        if cancel is not None and not self._done.done():
            cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _run(self) -> None:
        cause: Exception | None = None
        try:
            self._read()
        except Exception as error:
            cause = error
        self._tell(_End(cause))

    def _read(self) -> None:
        with self._lock:
            if self._stopped:
                return
        pieces = self._start()
        with self._lock:
            self._pieces = pieces
        try:
            for piece in pieces:
                self._room.acquire()
                if self._stopped:
                    return
                self._tell(piece)
        finally:
            close = getattr(pieces, "close", None)
            if close is not None:
                close()

    def _tell(self, item: _T | _End) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._queue.put_nowait, item)


async def merged(streams: list[FromThread[_T]]) -> AsyncGenerator[tuple[int, _T], None]:
    """The pieces of several, each with the number of the stream it came from, as they come."""
    waiting = {asyncio.ensure_future(anext(stream)): number for number, stream in enumerate(streams)}
    try:
        while waiting:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in sorted(done, key=waiting.__getitem__):
                number = waiting.pop(task)
                try:
                    piece = task.result()
                except StopAsyncIteration:
                    continue
                yield number, piece
                waiting[asyncio.ensure_future(anext(streams[number]))] = number
    finally:
        for task in waiting:
            task.cancel()
        for stream in streams:
            await stream.aclose()
