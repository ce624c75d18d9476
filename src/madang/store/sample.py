"""Queries that were asked, a bounded sample of them, so that audits and comparisons measure what people really ask.

Vectors for audits of the index, and texts for comparing models, since no vector can be made another model's. Neither
filters nor who asked; each once, however often it came (by its hash). A sample is even over all that were asked (Vitter
1985, algorithm R), and it is kept in the collection's own directory.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from madang.base.errors import MadangError
from madang.base.records import Vector
from madang.index import container

SIZE = 512
_MOST_CHARS = 1000     # of a text; a longer one is no question
_NAME = "queries.bin"
_KIND, _VERSION = "queries", 1
_T = TypeVar("_T")


class _Reservoir(Generic[_T]):
    """At most `SIZE` of the distinct things that were offered."""

    def __init__(self) -> None:
        self.items: list[_T] = []
        self.offered = 0
        self._drawn: int | None = None
        self._random = random.Random(0)
        self._hashes: list[int] = []
        self._known: set[int] = set()

    def fill(self, items: list[tuple[_T, bytes]], offered: int) -> None:
        """What was kept before, each with the bytes that it is known by."""
        self.items = [item for item, _ in items[:SIZE]]
        self._hashes = [xxh3_64_intdigest(data) for _, data in items[:SIZE]]
        self._known, self.offered = set(self._hashes), max(offered, len(self.items))

    def passes(self) -> bool:
        """Whether the next one is not kept; it is counted then. Else `offer` it, to the place that was drawn here."""
        if len(self.items) < SIZE:
            return False
        place = int(self._random.random() * (self.offered + 1))
        if place < SIZE:
            self._drawn = place
            return False
        self.offered += 1
        return True

    def offer(self, item: _T, data: Callable[[_T], bytes], copied: Callable[[_T], _T]) -> bool:
        """Perhaps keep it; whether it was. Mostly not, so its bytes are made only where they are needed."""
        self.offered += 1
        place = self._drawn
        if place is None:
            place = len(self.items) if len(self.items) < SIZE else int(self._random.random() * self.offered)
        self._drawn = None
        if place >= SIZE:
            return False
        mark = xxh3_64_intdigest(data(item))
        if mark in self._known:
            return False
        if place == len(self.items):
            self.items.append(copied(item))
            self._hashes.append(mark)
        else:
            self._known.discard(self._hashes[place])
            self.items[place], self._hashes[place] = copied(item), mark
        self._known.add(mark)
        return True


class QuerySample:
    """At most `SIZE` vectors (dim,) of one embedding, named by its `made`, and at most `SIZE` texts."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / _NAME
        self._guard = threading.Lock()
        self._vectors, self._texts = _Reservoir[Vector](), _Reservoir[str]()
        self._made = ""
        self._changed = False
        self._load()

    def _load(self) -> None:
        try:
            settings, arrays = container.read(self._path, _KIND, _VERSION, mapped=False)
            vectors = arrays["vectors"].reshape(-1, int(settings["dim"]))
            self._vectors.fill([(vector, vector.tobytes()) for vector in vectors], int(settings["asked"]))
            self._made = str(settings["made"])
            self._texts.fill([(str(text), str(text).encode()) for text in settings["texts"]], int(settings["worded"]))
        except (MadangError, KeyError, ValueError, TypeError):     # there is none, or none that can be used
            return

    def offer(self, vector: Vector | None, text: str | None = None, made: str = "") -> None:
        """Perhaps keep a query's vector, of the embedding `made`, and its text."""
        if vector is not None and text is None and made == self._made and self._vectors.passes():
            return         # mostly, and without waiting for others
        with self._guard:
            if vector is not None:
                if made != self._made:      # those of another model, perhaps of another dimension
                    self._vectors, self._made = _Reservoir[Vector](), made
                self._changed |= self._vectors.offer(vector, np.ndarray.tobytes, np.ndarray.copy)
            if text is not None and text.strip() and len(text) <= _MOST_CHARS:
                self._changed |= self._texts.offer(text, str.encode, str)

    def vectors(self, made: str = "") -> NDArray[np.float32]:
        """What was kept of an embedding (n, dim); (0, 0) where there is nothing."""
        with self._guard:
            kept = self._vectors.items if made == self._made else []
            return np.array(kept, dtype=np.float32).reshape(len(kept), -1) if kept else np.empty((0, 0), np.float32)

    def texts(self) -> list[str]:
        """The texts that were kept."""
        with self._guard:
            return list(self._texts.items)

    def save(self) -> None:
        """Write them down, if there is anything new. Raises OSError."""
        with self._guard:
            if not self._changed:
                return
            vectors, self._changed = np.array(self._vectors.items, dtype=np.float32), False
            settings = {"asked": self._vectors.offered, "made": self._made,
                        "dim": vectors.shape[1] if len(vectors) else 1, "texts": list(self._texts.items),
                        "worded": self._texts.offered}
        container.write(self._path, _KIND, _VERSION, settings, {"vectors": vectors.reshape(-1)})

    def forget(self) -> None:
        """Remove all of them, the file included."""
        with self._guard:
            self._vectors, self._texts, self._changed = _Reservoir[Vector](), _Reservoir[str](), False
        self._path.unlink(missing_ok=True)
