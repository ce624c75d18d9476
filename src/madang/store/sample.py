"""Queries that were asked, a bounded sample of them, so that an audit measures what people really ask.

Vectors only, neither texts nor filters nor who asked; each once, however often it came (by its hash). The sample is
even over all that were asked (Vitter 1985, algorithm R), and it is kept in the collection's own directory.
"""

from __future__ import annotations

import random
import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from madang.base.errors import MadangError
from madang.base.records import Vector
from madang.index import container

SIZE = 512
_NAME = "queries.bin"
_KIND, _VERSION = "queries", 1


class QuerySample:
    """At most `SIZE` vectors (dim,)."""

    def __init__(self, directory: Path, dim: int) -> None:
        self._path, self._dim = directory / _NAME, dim
        self._guard = threading.Lock()
        self._random = random.Random(0)
        self._vectors: list[Vector] = []
        self._hashes: list[int] = []
        self._known: set[int] = set()
        self._asked = 0
        self._changed = False
        self._load()

    def _load(self) -> None:
        try:
            settings, arrays = container.read(self._path, _KIND, _VERSION, mapped=False)
            vectors = arrays["vectors"].reshape(-1, self._dim)
            self._asked = max(int(settings["asked"]), len(vectors))
        except (MadangError, KeyError, ValueError, TypeError):     # there is none, or none that can be used
            return
        self._vectors = list(vectors[:SIZE])
        self._hashes = [xxh3_64_intdigest(vector.tobytes()) for vector in self._vectors]
        self._known = set(self._hashes)

    def offer(self, vector: Vector) -> None:
        """Perhaps keep a query."""
        with self._guard:
            self._asked += 1
            place = len(self._vectors) if len(self._vectors) < SIZE else int(self._random.random() * self._asked)
            if place >= SIZE:
                return
            mark = xxh3_64_intdigest(vector.tobytes())
            if mark in self._known:
                return
            if place == len(self._vectors):
                self._vectors.append(vector.copy())
                self._hashes.append(mark)
            else:
                self._known.discard(self._hashes[place])
                self._vectors[place], self._hashes[place] = vector.copy(), mark
            self._known.add(mark)
            self._changed = True

    def vectors(self) -> NDArray[np.float32]:
        """What was kept (n, dim)."""
        with self._guard:
            return np.array(self._vectors, dtype=np.float32).reshape(-1, self._dim)

    def save(self) -> None:
        """Write them down, if there is anything new. Raises OSError."""
        with self._guard:
            if not self._changed:
                return
            vectors, asked, self._changed = np.array(self._vectors, dtype=np.float32), self._asked, False
        container.write(self._path, _KIND, _VERSION, {"asked": asked}, {"vectors": vectors.reshape(-1)})

    def forget(self) -> None:
        """Remove all of them, the file included."""
        with self._guard:
            self._vectors, self._hashes, self._known, self._asked, self._changed = [], [], set(), 0, False
        self._path.unlink(missing_ok=True)
