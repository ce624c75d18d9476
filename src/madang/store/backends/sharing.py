"""Clients that a process may have only once for a place, shared by the collections there."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Client = TypeVar("Client")


class Shared(Generic[Client]):
    """Clients by place, each closed when its last user lets go."""

    def __init__(self, close: Callable[[str, Client], None]) -> None:
        self._close = close
        self._guard = threading.Lock()
        self._users: dict[str, tuple[Client, int]] = {}

    def acquire(self, place: str, make: Callable[[], Client]) -> Client:
        """The place's client, made if nobody uses it yet."""
        with self._guard:
            client, users = self._users[place] if place in self._users else (make(), 0)
            self._users[place] = (client, users + 1)
            return client

    def release(self, place: str) -> None:
        """Let go once; more often than acquired does nothing."""
        with self._guard:
            client, users = self._users.get(place, (None, 0))
            if client is None:
                return
            if users > 1:
                self._users[place] = (client, users - 1)
                return
            del self._users[place]
            self._close(place, client)
