"""Stopping an answer that another thread waits for: its connection is shut down, which wakes who reads from it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    import httpx

_T = TypeVar("_T")


class Cancelled:
    """Whether an answer is wanted no more, and the sockets it comes by."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sockets = set[socket.socket]()
        self._set = False

    def is_set(self) -> bool:
        return self._set

    def set(self) -> None:
        """Nobody wants it: shut down what is open, and what will be opened."""
        with self._lock:
            self._set = True
            for each in self._sockets:
                _shut_down(each)

    def add(self, opened: socket.socket) -> None:
        with self._lock:
            self._sockets.add(opened)
            if self._set:
                _shut_down(opened)

    def remove(self, opened: socket.socket) -> None:
        with self._lock:
            self._sockets.discard(opened)


@contextmanager
def watched(response: httpx.Response, cancelled: Cancelled | None) -> Iterator[None]:
    """While the block runs, `cancelled.set()` shuts the response's connection down."""
    stream = response.extensions.get("network_stream")
    opened = None if stream is None or cancelled is None else stream.get_extra_info("socket")
    if opened is None or cancelled is None:
        yield
        return
    cancelled.add(opened)
    try:
        yield
    finally:
        cancelled.remove(opened)


class Cancellable(Iterator[_T], Generic[_T]):
    """An answer, piece by piece. `close` is for the thread that reads it, `cancel` for any other."""

    def __init__(self, pieces: Generator[_T, None, None], cancelled: Cancelled) -> None:
        self._pieces, self._cancelled = pieces, cancelled

    def __next__(self) -> _T:
        return next(self._pieces)

    def close(self) -> None:
        """Stop it, and close its connection."""
        self._pieces.close()

    def cancel(self) -> None:
        """Let the thread that waits for the next piece fail at once."""
        self._cancelled.set()


def _shut_down(opened: socket.socket) -> None:
    with suppress(OSError):       # closed already
        opened.shutdown(socket.SHUT_RDWR)
