"""Intervals and paired tests: every number with its doubt. NumPy only."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from madang.base.errors import InvalidInput

_BLOCK = 1 << 22  # draws held in memory at once (32 MB)


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean of `n` values and its confidence interval [`low`, `high`], infinite where n is 1."""

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True)
class PairedResult:
    """mean(a) - mean(b) over `n` pairs, its interval as in `Interval`, and the p-value of no difference."""

    difference: float
    low: float
    high: float
    p_value: float
    n: int


def wilson(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """The share of `successes` among `n` trials, with Wilson's score interval.

    Sensible where the normal interval is not: few trials, shares near 0 and 1. E. B. Wilson, "Probable
    inference, the law of succession, and statistical inference", JASA 22 (1927).
    """
    if n < 1 or not 0 <= successes <= n:
        raise InvalidInput(f"{successes} successes of {n} trials.",
                           remedy="Give at least one trial, and successes from 0 to the trials.")
    z = NormalDist().inv_cdf(1 - _tail(confidence))
    share = successes / n
    scale = 1 + z * z / n
    centre = (share + z * z / (2 * n)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # Exact at the ends, where rounding would leave the interval short of the share itself.
    return Interval(share, 0.0 if successes == 0 else max(0.0, centre - half),
                    1.0 if successes == n else min(1.0, centre + half), n)


def bootstrap_mean(values: ArrayLike, confidence: float = 0.95, seed: int = 0,
                   resamples: int = 10000) -> Interval:
    """The mean of (n,) values with its percentile bootstrap interval; deterministic for a seed.

    Efron & Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13. It is too narrow for a handful
    of values, and of no width where all are equal: for yes and no use `wilson`.
    """
    array = _checked("values", values)
    tail = _tail(confidence)
    low, high = _bootstrap(array, tail, seed, resamples)
    return Interval(float(array.mean()), low, high, len(array))


def paired_test(a: ArrayLike, b: ArrayLike, seed: int = 0, resamples: int = 10000) -> PairedResult:
    """Whether two systems differ, from their (n,) scores on the same n items; positive: `a` is higher.

    The 95% interval is the paired bootstrap's. The p-value is that of the two-sided sign-flip permutation
    test (Fisher, "The Design of Experiments", 1935, section 21): exact if there are no more sign patterns
    than `resamples`, else (1 + extreme) / (1 + resamples), which is never 0 (Phipson & Smyth, "Permutation
    P-values should never be zero", 2010). Deterministic for a seed.
    """
    first, second = _checked("a", a), _checked("b", b)
    if len(first) != len(second):
        raise InvalidInput(f"a has {len(first)} values, b has {len(second)}.",
                           remedy="Give the scores of both on the same items, in one order.")
    difference = first - second
    low, high = _bootstrap(difference, _tail(0.95), seed, resamples)
    p_value = _sign_flip(difference, seed, resamples)
    return PairedResult(float(difference.mean()), low, high, p_value, len(difference))


def _bootstrap(values: NDArray[np.float64], tail: float, seed: int, resamples: int) -> tuple[float, float]:
    if resamples < 1:
        raise InvalidInput(f"resamples is {resamples}.", remedy="Give at least 1; 10000 is usual.")
    n = len(values)
    if n == 1:
        return -math.inf, math.inf  # every resample is the same: one value says nothing about its spread
    rng = np.random.default_rng(seed)
    means = np.empty(resamples)
    for start, end in _blocks(resamples, n):
        means[start:end] = values[rng.integers(0, n, (end - start, n))].mean(axis=1)
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def _sign_flip(difference: NDArray[np.float64], seed: int, resamples: int) -> float:
    magnitude = np.abs(difference)
    observed = abs(float(difference.sum()))
    # Sums that are equal on paper may differ in their last bits.
    threshold = observed - 1e-12 * float(magnitude.sum())
    magnitude = magnitude[magnitude > 0]
    n = len(magnitude)
    if n < 63 and 2**n <= resamples:
        patterns = (np.arange(2**n)[:, np.newaxis] >> np.arange(n)) & 1
        return float(np.mean(np.abs((2 * patterns - 1) @ magnitude) >= threshold))
    rng = np.random.default_rng(seed)
    extreme = 0
    for start, end in _blocks(resamples, n):
        signs = 2 * rng.integers(0, 2, (end - start, n), np.int8) - 1
        extreme += int(np.count_nonzero(np.abs(signs @ magnitude) >= threshold))
    return (1 + extreme) / (1 + resamples)


def _blocks(resamples: int, n: int) -> list[tuple[int, int]]:
    """Ranges of resamples, each of at most `_BLOCK` draws."""
    step = max(1, _BLOCK // n)
    return list(pairwise([*range(0, resamples, step), resamples]))


def _tail(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise InvalidInput(f"confidence is {confidence}.", remedy="Give a number between 0 and 1, like 0.95.")
    return (1 - confidence) / 2


def _checked(name: str, values: ArrayLike) -> NDArray[np.float64]:
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise InvalidInput(f"{name} holds something that is not a number.", remedy="Give numbers.") from None
    if array.ndim != 1 or not len(array):
        raise InvalidInput(f"{name} has shape {array.shape}.", remedy="Give a list of at least one number.")
    if not np.isfinite(array).all():
        raise InvalidInput(f"{name} holds a value that is not finite.",
                           remedy="Leave failed items out and report how many they are.")
    return array
