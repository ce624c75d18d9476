"""Where calls run: short ones at once, long ones and writes in threads, so that nobody waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_T = TypeVar("_T")


class Work:
    """Threads of one server. A search of microseconds needs none: a hop between threads costs more."""

    def __init__(self, threads: int = 32) -> None:
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="madang-write")   # commits come one after another
        self._long = ThreadPoolExecutor(threads, thread_name_prefix="madang-work")

    def write(self, call: Callable[[], _T]) -> Awaitable[_T]:
        """A write: it waits for the disk."""
        return asyncio.get_running_loop().run_in_executor(self._writing, call)

    def long(self, call: Callable[[], _T]) -> Awaitable[_T]:
        """What may take more than a millisecond or so: models, exact search of much, reading many records."""
        return asyncio.get_running_loop().run_in_executor(self._long, call)

    def close(self) -> None:
        """Finish what was begun."""
        self._writing.shutdown(wait=True)
        self._long.shutdown(wait=True)
