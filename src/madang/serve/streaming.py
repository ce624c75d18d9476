"""What a thread makes piece by piece, told to the event loop as it comes; stopped when nobody listens any more."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from typing import Any, Generic, Self, TypeVar

from madang.serve.handed import Handed
from madang.serve.work import Work

_T = TypeVar("_T")


class _End(Exception):
    """The thread is through; `cause` is why, where it failed."""

    def __init__(self, cause: Exception | None) -> None:
        super().__init__()
        self.cause = cause


class FromThread(AsyncIterator[_T], Generic[_T]):
    """The pieces of `start()`, an iterator that a thread of `work` runs. An async context manager: leaving it stops it.
    """

    def __init__(self, work: Work, start: Callable[[], Iterator[_T]]) -> None:
        self._handed: Handed[_T | _End] = Handed()
        self._start = start
        self._lock = threading.Lock()
        self._pieces: Any = None
        self._ended = False
        self._done = asyncio.ensure_future(work.long(self._run))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> _T:
        if self._ended:
            raise StopAsyncIteration
        item = await self._handed.get()
        if not isinstance(item, _End):
            return item
        self._ended = True
        if item.cause is not None:
            raise item.cause
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Stop the thread, if it must be by closing what it reads from."""
        self._ended = True
        with self._lock:
            self._handed.close()
            pieces = self._pieces
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
        self._handed.put_last(_End(cause))

    def _read(self) -> None:
        with self._lock:
            if self._handed.closed.is_set():
                return
        pieces = self._start()
        with self._lock:
            self._pieces = pieces
        try:
            for piece in pieces:
                if not self._handed.put(piece):
                    return
        finally:
            close = getattr(pieces, "close", None)
            if close is not None:
                close()


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
