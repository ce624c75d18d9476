"""The ids of slots, and arrays that grow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray


class Growing:
    """Int64 numbers that are appended to. A view that was handed out stays as it is."""

    def __init__(self, start: NDArray[np.int64] | None = None) -> None:
        self._data = np.empty(0, dtype=np.int64) if start is None else start
        self._size = len(self._data)

    def __len__(self) -> int:
        return self._size

    def extend(self, values: NDArray[np.int64]) -> None:
        """Append values (n,)."""
        end = self._size + len(values)
        if end > len(self._data):
            grown = np.empty(max(end, len(self._data) * 5 // 4 + 1024), dtype=np.int64)
            grown[:self._size] = self._data[:self._size]
            self._data = grown
        self._data[self._size:end] = values
        self._size = end

    def view(self) -> NDArray[np.int64]:
        """All of them so far."""
        return self._data[:self._size]

    def of(self, places: Sequence[int]) -> list[int]:
        """Those at some places: of a few faster than through an array."""
        data = self._data.data
        return [data[place] for place in places]


class Names:
    """Ids by slot: those of a file as one text with offsets, later ones as they come."""

    def __init__(self, offsets: NDArray[np.int64] | None = None, text: NDArray[np.uint8] | None = None) -> None:
        self._offsets = np.zeros(1, dtype=np.int64) if offsets is None else offsets
        self._text = np.empty(0, dtype=np.uint8) if text is None else text
        self._places, self._bytes = self._offsets.data, self._text.data    # a tenth of what values of arrays cost
        self._later: list[str] = []

    def __len__(self) -> int:
        return len(self._offsets) - 1 + len(self._later)

    def extend(self, ids: Iterable[str]) -> None:
        self._later.extend(ids)

    def of(self, slots: Iterable[int]) -> list[str]:
        """The ids of slots."""
        places, text, later = self._places, self._bytes, self._later
        first = len(places) - 1
        return [later[slot - first] if slot >= first else str(text[places[slot]:places[slot + 1]], "utf-8")
                for slot in slots]

    def arrays(self) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """Offsets (n + 1,) and the text."""
        later = [name.encode() for name in self._later]
        lengths = np.fromiter((len(name) for name in later), dtype=np.int64, count=len(later))
        offsets = np.concatenate([self._offsets, self._offsets[-1] + np.cumsum(lengths)])
        return offsets, np.concatenate([self._text, np.frombuffer(b"".join(later), dtype=np.uint8)])
