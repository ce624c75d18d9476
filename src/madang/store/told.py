"""What answers said of records lately, so that the next ones need not ask SQLite.

The record of a row never changes (a change makes another row), so what was read once, and checked, stays true.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

_MOST_BYTES = 16 * 2**20
_EACH = 150            # about what one takes beside its text


class Told:
    """Metadata (JSON) by row, the oldest given up for new ones. Safe to use from several threads."""

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        self._most, self._size = most_bytes, 0
        self._texts: dict[int, str] = {}
        self._guard = threading.Lock()      # around changes

    def of(self, rows: Sequence[int]) -> list[str] | None:
        """Of each row; None where one of them is not known."""
        texts = self._texts
        try:
            return [texts[row] for row in rows]
        except KeyError:
            return None

    def keep(self, found: Mapping[int, str]) -> None:
        """Remember what was read."""
        with self._guard:
            for row, text in found.items():
                if row not in self._texts:
                    self._size += len(text) + _EACH
                    self._texts[row] = text
            while self._size > self._most:
                self._size -= len(self._texts.pop(next(iter(self._texts)))) + _EACH
