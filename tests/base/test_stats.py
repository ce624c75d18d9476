"""Intervals and paired tests against published values, exact enumeration and properties."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from madang.base.errors import InvalidInput
from madang.base.stats import Interval, bootstrap_mean, paired_test, wilson

values = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=12)


# The last four: Newcombe, "Two-sided confidence intervals for the single proportion", 1998, table I.
@pytest.mark.parametrize(("successes", "n", "low", "high"), [
    (8, 10, 0.4902, 0.9433),
    (0, 10, 0.0, 0.2775),
    (10, 10, 0.7225, 1.0),
    (81, 263, 0.2553, 0.3662),
    (15, 148, 0.0624, 0.1605),
    (0, 20, 0.0, 0.1611),
    (1, 29, 0.0061, 0.1718),
])
def test_wilson_published(successes: int, n: int, low: float, high: float) -> None:
    interval = wilson(successes, n)
    assert interval.mean == successes / n
    assert interval.low == pytest.approx(low, abs=5.1e-5)
    assert interval.high == pytest.approx(high, abs=5.1e-5)
    assert interval.n == n


@given(st.integers(1, 10**6), st.data(), st.floats(0.01, 0.999))
def test_wilson_properties(n: int, data: st.DataObject, confidence: float) -> None:
    successes = data.draw(st.integers(0, n))
    interval = wilson(successes, n, confidence)
    assert 0 <= interval.low <= interval.mean <= interval.high <= 1
    mirrored = wilson(n - successes, n, confidence)
    assert mirrored.low == pytest.approx(1 - interval.high, abs=1e-9)
    wider = wilson(successes, n, (1 + confidence) / 2)
    assert wider.low <= interval.low
    assert wider.high >= interval.high


def test_bootstrap_mean_agrees_with_the_normal_interval() -> None:
    sample = np.random.default_rng(3).normal(10, 2, 400)
    interval = bootstrap_mean(sample)
    half = 1.959964 * sample.std(ddof=1) / 20
    assert interval.mean == pytest.approx(sample.mean())
    assert interval.low == pytest.approx(sample.mean() - half, abs=0.02)
    assert interval.high == pytest.approx(sample.mean() + half, abs=0.02)


def test_bootstrap_mean_against_every_resample() -> None:
    sample = [1.0, 2.0, 4.0, 9.0]
    means = [np.mean(resample) for resample in itertools.product(sample, repeat=4)]
    interval = bootstrap_mean(sample, confidence=0.8, resamples=50_000)
    assert interval.low == pytest.approx(np.quantile(means, 0.1), abs=0.26)
    assert interval.high == pytest.approx(np.quantile(means, 0.9), abs=0.26)


def test_bootstrap_coverage() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        interval = bootstrap_mean(rng.normal(0, 1, 40), seed=trial, resamples=400)
        hits += interval.low <= 0 <= interval.high
    assert wilson(hits, 200, 0.999).high > 0.95 > wilson(hits, 200, 0.999).low - 0.03


@given(values, st.integers(0, 2**32))
@settings(deadline=None)
def test_bootstrap_properties(sample: list[float], seed: int) -> None:
    interval = bootstrap_mean(sample, seed=seed, resamples=200)
    assert interval == bootstrap_mean(sample, seed=seed, resamples=200)
    if len(sample) == 1:
        assert interval == Interval(sample[0], -math.inf, math.inf, 1)
    else:
        slack = 1e-9 * max(1.0, max(map(abs, sample)))
        assert min(sample) - slack <= interval.low <= interval.high <= max(sample) + slack


def test_blocks_do_not_change_what_is_computed() -> None:
    sample = np.random.default_rng(1).uniform(0, 1, 70_000)  # more draws than one block holds
    interval = bootstrap_mean(sample, resamples=150)
    assert interval.low < interval.mean < interval.high
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * sample.std() / math.sqrt(70_000), rel=0.3)


def exact(difference: list[float]) -> float:
    observed = abs(math.fsum(difference))
    sums = [abs(math.fsum(s * d for s, d in zip(signs, difference, strict=True)))
            for signs in itertools.product((1, -1), repeat=len(difference))]
    return sum(total >= observed - 1e-9 for total in sums) / len(sums)


def test_paired_darwin() -> None:
    # Darwin's maize, Fisher, "The Design of Experiments", section 21: of the 2**15 sums of the fifteen
    # differences (in eighths of an inch) 1,726 are as far from 0 as the 314 observed: p = 0.0526733...
    difference = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]
    result = paired_test(difference, [0] * 15, resamples=2**15)
    assert result.p_value == 1726 / 2**15
    assert result.difference == pytest.approx(314 / 15)
    assert (result.low < 314 / 15 < result.high, result.n) == (True, 15)
    sampled = paired_test(difference, [0] * 15, resamples=2**15 - 1)
    assert sampled.p_value == pytest.approx(1726 / 2**15, abs=0.004)


@given(st.lists(st.tuples(st.integers(-20, 20), st.integers(-20, 20)), min_size=1, max_size=8),
       st.integers(0, 99))
@settings(deadline=None)
def test_paired_is_exact_for_few_items(pairs: list[tuple[int, int]], seed: int) -> None:
    a, b = [float(x) for x, _ in pairs], [float(y) for _, y in pairs]
    result = paired_test(a, b, seed=seed, resamples=256)
    assert result.p_value == pytest.approx(exact([x - y for x, y in zip(a, b, strict=True)]))
    assert result.difference == pytest.approx(np.mean(a) - np.mean(b))
    reverse = paired_test(b, a, seed=seed, resamples=256)
    assert reverse.p_value == result.p_value
    assert reverse.difference == pytest.approx(-result.difference)


def test_paired_extremes() -> None:
    same = paired_test([0.1] * 50, [0.1] * 50)
    assert (same.difference, same.p_value) == (0.0, 1.0)
    better = paired_test(np.arange(50.0) + 1, np.arange(50.0))
    assert better.p_value == 1 / 10_001
    assert better.low > 0
    assert paired_test([3.0], [1.0]).p_value == 1.0


def test_paired_p_values_are_uniform_without_a_difference() -> None:
    rng = np.random.default_rng(8)
    p = [paired_test(rng.normal(size=20), rng.normal(size=20), seed=seed, resamples=300).p_value
         for seed in range(300)]
    below = sum(value <= 0.1 for value in p)
    assert wilson(below, 300, 0.999).low <= 0.1 <= wilson(below, 300, 0.999).high


@pytest.mark.parametrize(("call", "message"), [
    (lambda: wilson(1, 0), "1 successes of 0"),
    (lambda: wilson(5, 4), "5 successes of 4"),
    (lambda: wilson(-1, 4), "-1 successes"),
    (lambda: wilson(1, 4, 1.0), "confidence is 1.0"),
    (lambda: wilson(1, 4, float("nan")), "confidence is nan"),
    (lambda: bootstrap_mean([]), r"values has shape \(0,\)"),
    (lambda: bootstrap_mean([[1.0]]), "values has shape"),
    (lambda: bootstrap_mean([1.0, float("nan")]), "not finite"),
    (lambda: bootstrap_mean(["a"]), "not a number"),
    (lambda: bootstrap_mean([1.0, 2.0], resamples=0), "resamples is 0"),
    (lambda: bootstrap_mean([1.0, 2.0], confidence=0), "confidence is 0"),
    (lambda: paired_test([1.0], [1.0, 2.0]), "a has 1 values, b has 2"),
    (lambda: paired_test([], []), "a has shape"),
    (lambda: paired_test([1.0, float("inf")], [1.0, 2.0]), "a holds a value that is not finite"),
])
def test_refused(call: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        call()
