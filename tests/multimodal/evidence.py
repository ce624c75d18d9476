"""Whether numbers drawn at random look as they should; the limits are generous, and the seeds are fixed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence


def assert_even(drawn: Sequence[Hashable], values: Sequence[Hashable]) -> None:
    """Every value as often as every other (chi-square)."""
    counts = Counter(drawn)
    assert set(counts) <= set(values)
    expected = len(drawn) / len(values)
    assert sum((counts[value] - expected) ** 2 / expected for value in values) < _limit(len(values) - 1), counts


def assert_independent(one: Sequence[Hashable], other: Sequence[Hashable]) -> None:
    """Neither tells anything about the other: their mutual information is what chance gives (G-test)."""
    pairs, ones, others = Counter(zip(one, other, strict=True)), Counter(one), Counter(other)
    shared = sum(count / len(one) * math.log(count * len(one) / (ones[a] * others[b])) for (a, b), count in pairs.items())
    assert 2 * len(one) * shared < _limit((len(ones) - 1) * (len(others) - 1)), f"{shared:.4f} nats"


def _limit(freedom: int) -> float:
    """Six deviations above the mean of a chi-square distribution, and a little for its tail."""
    return freedom + 6 * math.sqrt(2 * freedom) + 10
