"""The numbers that two rankings are compared by, against their definitions."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from madang.workspace.ranking import ndcg, overlap, rank_biased_overlap

RANKINGS = st.permutations([str(n) for n in range(12)]).flatmap(
    lambda whole: st.integers(0, 12).map(lambda count: list(whole[:count])))


def test_ndcg_of_known_rankings() -> None:
    assert ndcg(["a", "b", "c"], {"a"}, 10) == 1.0
    assert ndcg(["a", "b", "c"], {"c"}, 10) == pytest.approx(0.5)
    assert ndcg(["a", "b", "c"], {"c"}, 2) == 0.0
    ideal = 1 + 1 / math.log2(3)
    assert ndcg(["a", "x", "b"], {"a", "b"}, 3) == pytest.approx((1 + 0.5) / ideal)
    assert ndcg(["x"], set(), 3) == 0.0


@given(RANKINGS, st.integers(1, 12))
def test_of_a_ranking_and_itself(ranking: list[str], k: int) -> None:
    assert overlap(ranking, ranking, k) == 1.0
    assert rank_biased_overlap(ranking, ranking) == pytest.approx(1.0)


@given(st.permutations([str(n) for n in range(12)]), st.permutations([str(n) for n in range(6, 18)]),
       st.floats(0.5, 0.95))
def test_rank_biased_overlap_is_the_sum_of_its_definition(a: list[str], b: list[str], p: float) -> None:
    """Agreement at each depth, weighed by (1 - p) p^(d - 1), and that of the last depth for all below it."""
    agreement = [len(set(a[:d]) & set(b[:d])) / d for d in range(1, 13)]
    expected = sum((1 - p) * p ** d * agreement[min(d, 11)] for d in range(1000))
    assert rank_biased_overlap(a, b, p) == pytest.approx(expected, abs=1e-9)
    assert rank_biased_overlap(a, b, p) == pytest.approx(rank_biased_overlap(b, a, p))
    assert overlap(a, b, 12) == 0.5


def test_of_nothing() -> None:
    assert overlap([], [], 5) == rank_biased_overlap([], []) == 1.0
    assert overlap(["a"], [], 5) == rank_biased_overlap(["a"], []) == 0.0
