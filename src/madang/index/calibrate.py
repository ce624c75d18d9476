"""Finding the breadth of a search that reaches a wanted recall, by measuring it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from madang.base.errors import InvalidInput
from madang.index.protocol import Allow, Rows, Scores, Vectors

_KEPT = 256          # queries remembered for measuring
_ENOUGH = 64         # of them from which on no made-up ones are needed
_LOOKED_AT = 16      # one in so many, once there are as many
_DRIFT = 0.15        # the share of added and removed vectors after which to measure again
_WIDEST = 1 << 14


class Tunable(Protocol):
    """What is calibrated: a search whose breadth is one number."""

    changes: int

    def __len__(self) -> int: ...

    def run(self, queries: Vectors, k: int, ef: int, *, allow: Allow | None = None, threads: int = 1,
            plan: Any = None) -> tuple[Rows, Scores, int, bool]: ...

    def sample(self, n: int, seed: int = 0) -> tuple[Rows, Vectors]: ...


def check_target(value: float | None) -> float | None:
    """A wanted recall, above 0 and at most 1, or None."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1):
        raise InvalidInput(f"target_recall must be above 0 and at most 1, got {value!r}.",
                           remedy="0.95 and 0.99 are usual.")
    return None if value is None else float(value)


def recalls(found: Rows, truth: Rows) -> NDArray[np.float64]:
    """For each query the share of its true rows (q, k; -1: none) that were found (q, k')."""
    counts = np.maximum(np.count_nonzero(truth >= 0, axis=1), 1)
    hits = [len(np.intersect1d(mine[mine >= 0], true[true >= 0])) for mine, true in zip(found, truth, strict=True)]
    shares: NDArray[np.float64] = np.asarray(hits) / counts
    return shares


def stand_ins(index: Tunable, n: int, seed: int = 0) -> Vectors:
    """Queries made up from stored vectors: each moved a third of the way towards another, chosen at random.

    A stored vector itself would be too easy a query: it is its own nearest neighbour, and its links were made for it.
    """
    _, vectors = index.sample(n, seed)
    if len(vectors) == 0:
        return vectors
    others = vectors[np.random.default_rng(seed).permutation(len(vectors))]
    return (vectors + (others - vectors) * np.float32(1 / 3)).astype(np.float32)


def smallest(measure: Callable[[int], float], least: int, target: float, most: int) -> int:
    """The smallest breadth in [least, most] that measures at least the target, within 5 %."""
    low, high = least, least
    while measure(high) < target:
        if high >= most:
            return most
        low, high = high, min(2 * high, most)
    while high - low > max(1, low // 20):
        middle = (low + high) // 2
        low, high = (low, middle) if measure(middle) >= target else (middle, high)
    return high


class Calibration:
    """The breadths found so far, and the queries they were measured with.

    The queries are the latest different ones that were asked with a target; until there are enough, made-up ones stand
    in, and while there are few it is measured again whenever they have doubled: the first may be odd ones. Half of one
    standard error is added to the target, so that the true recall is more likely above it than below.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._asked = 0
        self._recent: dict[int, NDArray[np.float32]] = {}      # by their hashes, the latest last
        # By target and k: the breadth; size and changes so far when it was measured; with how many real queries.
        self._found: dict[tuple[float, int], tuple[int, int, int, int]] = {}

    def breadth(self, index: Tunable, target: float, k: int, queries: Vectors) -> int:
        """The calibrated breadth for a target and k, measured when there is none or much has changed."""
        # Once there are enough, one in so many is looked at, which takes as long as a third of a search. The others
        # wait for no lock; two that count at once may count as one.
        self._asked += 1
        known = self._found.get((target, k))
        if (known is not None and len(self._recent) >= _KEPT and self._asked % _LOOKED_AT
                and not self._outdated(known, index)):
            return known[0]
        with self._guard:
            self._remember(queries)
            known = self._found.get((target, k))
            if known is not None and not self._outdated(known, index):
                return known[0]
            real = len(self._recent) if len(self._recent) >= _ENOUGH else 0
            sample = np.stack(list(self._recent.values())) if real else stand_ins(index, _KEPT)
            found = self._measure(index, target, k, sample)
            self._found[(target, k)] = (found, len(index), index.changes, real)
            return found

    def _measure(self, index: Tunable, target: float, k: int, sample: Vectors) -> int:
        if len(sample) == 0:
            return k
        truth, _, _, _ = index.run(sample, k, k, threads=0, plan="exact")

        def measure(ef: int) -> float:
            mine = recalls(index.run(sample, k, ef, threads=0)[0], truth)
            return float(mine.mean() - 0.5 * mine.std() / np.sqrt(len(mine)))

        return smallest(measure, k, target, min(_WIDEST, max(k, len(index))))

    def _outdated(self, known: tuple[int, int, int, int], index: Tunable) -> bool:
        _, size, changes, real = known
        return index.changes - changes > _DRIFT * max(1, size) or len(self._recent) >= max(_ENOUGH, 2 * real)

    def _remember(self, queries: Vectors) -> None:
        for query in queries[:_KEPT]:
            mark = xxh3_64_intdigest(query.tobytes())
            if mark not in self._recent:
                self._recent[mark] = np.array(query)
                if len(self._recent) > _KEPT:
                    del self._recent[next(iter(self._recent))]
