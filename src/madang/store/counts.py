"""What an open collection is and did, for whoever watches it: cheap enough to be asked every few seconds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Counted:
    """`records` live ones; `waiting` vectors that the index has not absorbed; the rest since it was opened."""

    records: int
    waiting: int
    searches: int
    compared: int                  # vectors or codes of vectors


class Searches:
    """Counts searches. Without a lock: two threads that count at once may lose one, and a search costs no more."""

    def __init__(self) -> None:
        self.count = self.compared = 0

    def add(self, compared: int) -> None:
        """One search."""
        self.count += 1
        self.compared += compared
