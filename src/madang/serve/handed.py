"""Items from a thread to the event loop, where who makes them waits for who takes them."""

from __future__ import annotations

import asyncio
import threading
from typing import Generic, TypeVar

AHEAD = 4096            # items that wait to be taken
_T = TypeVar("_T")


class Handed(Generic[_T]):
    """A queue from any thread to the loop it was made in.

    An answer of an ordinary size never slows the thread down: one that waits for a slow caller is missing elsewhere.
    One without end does wait, so that it neither fills the memory nor takes all the time of the loop.
    """

    def __init__(self) -> None:
        self._loop, self._queue = asyncio.get_running_loop(), asyncio.Queue[_T]()
        self._room = threading.Semaphore(AHEAD)
        self.closed = threading.Event()

    def put(self, item: _T) -> bool:
        """From a thread: wait until there is room. False where nobody takes anything any more."""
        self._room.acquire()
        if self.closed.is_set():
            self._room.release()       # for the next one who waits
            return False
        self.put_last(item)
        return True

    def put_last(self, item: _T) -> None:
        """From a thread: without waiting."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._queue.put_nowait, item)

    async def get(self) -> _T:
        """In the loop: the next one."""
        item = await self._queue.get()
        self._room.release()
        return item

    def close(self) -> None:
        """Nothing will be taken any more."""
        self.closed.set()
        self._room.release()
