"""Where calls run: short ones at once, long ones and writes in threads, so that nobody waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from madang.serve.limits import Busy

_T = TypeVar("_T")


class Work:
    """Threads of one server. A search of microseconds needs none: a hop between threads costs more.

    At most `most` calls are under way or in line, of writes and of long work each; more are refused with `Busy`.
    """

    def __init__(self, threads: int = 8, most: int = 64) -> None:
        self._writing = _Line(1, most, "madang-write")      # commits come one after another
        self._long = _Line(threads, most, "madang-work")

    def write(self, call: Callable[[], _T]) -> Awaitable[_T]:
        """A write: it waits for the disk. Raises `Busy`."""
        return asyncio.wrap_future(self._writing.submit(call))

    def long(self, call: Callable[[], _T]) -> Awaitable[_T]:
        """What may take more than a millisecond or so: models, exact search of much, reading many records. Raises
        `Busy`."""
        return asyncio.wrap_future(self._long.submit(call))

    def waiting(self) -> dict[str, int]:
        """How many calls are under way or in line, by kind."""
        return {"write": self._writing.count, "long": self._long.count}

    def close(self) -> None:
        """Finish what was begun."""
        self._writing.close()
        self._long.close()


class _Line:
    """Threads with a bounded line in front of them. `submit` is called by one thread only, the event loop's."""

    def __init__(self, threads: int, most: int, name: str) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._most, self._under_way = most, set[Future[object]]()

    @property
    def count(self) -> int:
        return len(self._under_way)

    def submit(self, call: Callable[[], _T]) -> Future[_T]:
        if self.count >= self._most:
            raise Busy(f"{self.count} calls are under way or in line already.", 1,
                       remedy="Try again, or raise max_waiting in [serve] of madang.toml.")
        future = self._threads.submit(call)
        self._under_way.add(future)      # type: ignore[arg-type]
        future.add_done_callback(self._under_way.discard)
        return future

    def close(self) -> None:
        self._threads.shutdown(wait=True)
