"""Fusion against values computed by hand, and what must hold for any rankings."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from madang.base.errors import InvalidInput
from madang.store.fusion import NAMES, Fusion, Ranking, floors, fuse, normalised, reciprocal_rank


def ranking(scores: dict[int, float]) -> Ranking:
    """Best first."""
    items = sorted(scores, key=lambda item: (-scores[item], item))
    return items, [scores[item] for item in items]


# Whole numbers of hundredths: what is written down twice in different ways is exactly the same.
values = st.integers(-100, 100).map(lambda hundredths: hundredths / 100)
found = st.dictionaries(st.integers(0, 12), values, max_size=8)
asked = st.dictionaries(st.sampled_from(NAMES), found, min_size=1)
positive = st.integers(1, 8).map(lambda quarters: quarters / 4)
fusions = st.builds(Fusion, k=st.integers(1, 80), dense=positive, lexical=positive, sparse=positive,
                    method=st.sampled_from(["rrf", "weighted", "sum"]))
bounds = st.fixed_dictionaries({name: st.sampled_from([None, -1.0, -1.5]) for name in NAMES})


def test_published_value() -> None:
    """RRF with k=5 and 1-based ranks; recomputed by hand from the formula."""
    fused = dict(reciprocal_rank([[1, 4, 3, 5, 6], [2, 1, 3, 6, 4]], k=5))
    assert {key: round(value, 6) for key, value in fused.items()} == {
        1: .309524, 3: .25, 4: .242857, 6: .211111, 2: .166667, 5: .111111}
    assert list(fused) == [1, 3, 4, 6, 2, 5]


def test_three_rankings_by_hand() -> None:
    # Item 7 is first, second and absent; item 9 second, absent and first; item 4 absent, first and second.
    rankings = {"dense": ([7, 9], [.9, .8]), "lexical": ([4, 7], [12., 3.]), "sparse": ([9, 4], [2., 1.])}
    fused = fuse(rankings, Fusion(60, dense=1, lexical=2, sparse=4))
    expected = {7: Fraction(1, 61) + Fraction(2, 62), 4: Fraction(2, 61) + Fraction(4, 62),
                9: Fraction(1, 62) + Fraction(4, 61)}
    assert [item for item, _ in fused] == [4, 9, 7]
    assert dict(fused) == pytest.approx({item: float(value) for item, value in expected.items()})


def test_weighted_by_hand() -> None:
    # Cosine, floor -1, best 0.6: 0.6 -> 1, 0.2 -> 1.2 / 1.6 = 0.75. BM25, floor 0, best 8: 8 -> 1, 2 -> 0.25.
    # With 0.8 and 0.2: item 1 is 0.8, item 2 is 0.8 * 0.75 + 0.2 * 0.25 = 0.65, item 3 is 0.2.
    rankings = {"dense": ([1, 2], [.6, .2]), "lexical": ([3, 2], [8., 2.])}
    fused = fuse(rankings, Fusion(dense=.8, lexical=.2, method="weighted"), floors("cosine"))
    assert fused == [(1, pytest.approx(.8)), (2, pytest.approx(.65)), (3, pytest.approx(.2))]
    # The weights are shares: 4 and 1 are the same.
    assert fuse(rankings, Fusion(dense=4, lexical=1, method="weighted"), floors("cosine")) == [
        (item, pytest.approx(score)) for item, score in fused]
    # Without a floor the least score found is it: item 2 counts 0 in both.
    assert fuse(rankings, Fusion(dense=.8, lexical=.2, method="weighted")) == [
        (1, pytest.approx(.8)), (3, pytest.approx(.2)), (2, 0.0)]


def test_three_weighted_rankings_by_hand() -> None:
    # Squared distance has no floor: -1 -> 1, -4 -> 1/3, -5.5 -> 0. Sparse, floor 0: 3 -> 1, 1.5 -> 0.5.
    rankings = {"sparse": ([6, 5], [3., 1.5]), "dense": ([5, 6, 7], [-1., -4., -5.5]), "lexical": ([], [])}
    fused = fuse(rankings, Fusion(dense=1, lexical=1, sparse=2, method="weighted"), floors("euclidean", 0.0))
    assert fused == [(6, pytest.approx((1 / 3 + 2) / 4)), (5, pytest.approx((1 + 1) / 4)), (7, 0.0)]


def test_sums_by_hand() -> None:
    # 2 * 0.5 + 3 * -4 = -11; 2 * -1 = -2; 3 * 5 = 15. Nothing is normalised, and weights are factors.
    rankings = {"dense": ([1, 2], [.5, -1.]), "sparse": ([3, 1], [5., -4.])}
    assert fuse(rankings, Fusion(dense=2, sparse=3, method="sum")) == [(3, 15.0), (2, -2.0), (1, -11.0)]


def test_floors() -> None:
    assert floors("cosine") == {"dense": -1.0, "lexical": 0.0, "sparse": None}
    assert floors("dot", 0.0) == {"dense": None, "lexical": 0.0, "sparse": 0.0}
    assert floors("euclidean")["dense"] is None


def test_scores_that_are_all_alike_count_in_full() -> None:
    assert normalised([2.5, 2.5]) == [1, 1]
    assert normalised([0.0], 0.0) == [1]
    assert normalised([-1.0000001, -1.0000001], -1.0) == [1, 1]     # a cosine, rounded
    assert normalised([-1.0, -1.0000001], -1.0) == [1, 0]
    assert normalised([3.0], 0.0) == [1]
    assert normalised([], 0.0) == normalised([]) == []


def test_infinite_scores_are_the_largest() -> None:
    assert normalised([math.inf, 0.0, -math.inf]) == [1, .5, 0]


def test_ties_keep_first_appearance_and_weights_count() -> None:
    assert [item for item, _ in reciprocal_rank([["a"], ["b"]])] == ["a", "b"]
    assert [item for item, _ in reciprocal_rank([["a"], ["b"]], [1, 2])] == ["b", "a"]


@given(asked, fusions, bounds)
def test_order_and_ties_do_not_depend_on_how_the_rankings_are_listed(
        scores: dict[str, dict[int, float]], fusion: Fusion, least: dict[str, float | None]) -> None:
    rankings = {name: ranking(given) for name, given in scores.items()}
    fused = fuse(rankings, fusion, least)
    assert fuse(dict(reversed(rankings.items())), fusion, least) == fused
    seen = [item for name in NAMES for item in rankings.get(name, ([], []))[0]]
    assert fused == sorted(fused, key=lambda pair: (-pair[1], seen.index(pair[0])))
    assert sorted(item for item, _ in fused) == sorted(set(seen))


@given(asked, fusions, bounds, found, st.sampled_from(NAMES))
def test_a_ranking_without_weight_changes_nothing(
        scores: dict[str, dict[int, float]], fusion: Fusion, least: dict[str, float | None],
        extra: dict[int, float], name: str) -> None:
    rankings = {other: ranking(given) for other, given in scores.items() if other != name}
    assume(rankings)
    weights = {other: getattr(fusion, other) for other in NAMES}
    without = Fusion(fusion.k, **{**weights, name: 0}, method=fusion.method)
    assert fuse({**rankings, name: ranking(extra)}, without, least) == fuse(rankings, fusion, least)


@given(asked, fusions, bounds, st.sampled_from(NAMES), st.integers(0, 12), values, positive)
def test_a_better_score_never_makes_it_worse(
        scores: dict[str, dict[int, float]], fusion: Fusion, least: dict[str, float | None],
        name: str, item: int, value: float, more: float) -> None:
    """When an item scores higher in one ranking, its fused score does not fall, and no other's rises."""
    scores.setdefault(name, {}).setdefault(item, value)
    before = dict(fuse({key: ranking(given) for key, given in scores.items()}, fusion, least))
    scores[name][item] += more
    after = dict(fuse({key: ranking(given) for key, given in scores.items()}, fusion, least))
    assert after[item] >= before[item] - 1e-9
    assert all(after[other] <= before[other] + 1e-9 for other in before if other != item)


@given(asked, st.builds(Fusion, dense=positive, lexical=positive, sparse=positive),
       st.sampled_from([math.exp, math.atan, lambda score: score ** 3, lambda score: 7 * score - 3]))
def test_reciprocal_ranks_know_only_the_order(
        scores: dict[str, dict[int, float]], fusion: Fusion, transform: Callable[[float], float]) -> None:
    rankings = {name: ranking(given) for name, given in scores.items()}
    moved = {name: ranking({item: transform(score) for item, score in given.items()})
             for name, given in scores.items()}
    assert fuse(moved, fusion) == fuse(rankings, fusion)


@given(asked, st.builds(Fusion, dense=positive, lexical=positive, sparse=positive, method=st.just("weighted")), bounds,
       st.fixed_dictionaries({name: st.tuples(positive, values) for name in NAMES}))
def test_weighted_sums_do_not_depend_on_the_scale_of_a_ranking(
        scores: dict[str, dict[int, float]], fusion: Fusion, least: dict[str, float | None],
        scales: dict[str, tuple[float, float]]) -> None:
    def moved(name: str, score: float) -> float:
        factor, shift = scales[name]
        return factor * score + shift

    rankings = {name: ranking(given) for name, given in scores.items()}
    elsewhere = {name: ([*items], [moved(name, score) for score in given]) for name, (items, given) in rankings.items()}
    bounds = {name: None if floor is None else moved(name, floor) for name, floor in least.items()}
    expected = dict(fuse(rankings, fusion, least))
    assert dict(fuse(elsewhere, fusion, bounds)) == pytest.approx(expected, abs=1e-9)
    assert all(-1e-12 <= score <= 1 + 1e-12 for score in expected.values())


@given(st.dictionaries(st.integers(0, 12), values, min_size=1), st.sampled_from([None, -1.0, -3.0]))
def test_normalised_is_monotone_from_floor_to_one(scores: dict[int, float], floor: float | None) -> None:
    _, given = ranking(scores)
    result = normalised(given, floor)
    assert result[0] == 1
    assert result == sorted(result, reverse=True)
    assert all(0 <= score <= 1 for score in result)
    assert len(set(result)) == len(set(given))
    if floor == -3:
        assert result == pytest.approx([(score + 3) / (given[0] + 3) for score in given])


def test_a_fusion_names_its_method_and_weights() -> None:
    assert str(Fusion()) == "rrf(k=60, dense=1, lexical=1, sparse=1)"
    assert Fusion().named(["lexical", "dense"]) == "rrf(k=60, dense=1, lexical=1)"
    weighted = Fusion(dense=.75, lexical=.25, sparse=0, method="weighted")
    assert str(weighted) == "weighted(dense=0.75, lexical=0.25, sparse=0)"
    assert weighted.named(["dense", "sparse"]) == "weighted(dense=0.75, sparse=0)"


@pytest.mark.parametrize(("bad", "message"), [
    ({"k": 0}, "k is 0"), ({"k": True}, "k is True"), ({"k": 1.5}, "k is 1.5"),
    ({"depth": 0}, "depth is 0"), ({"dense": -1.0}, "weight dense is -1.0"),
    ({"sparse": math.nan}, "weight sparse is nan"), ({"lexical": math.inf}, "weight lexical is inf"),
    ({"lexical": "1"}, "weight lexical is '1'"), ({"dense": True}, "weight dense is True"),
    ({"dense": 0.0, "lexical": 0.0, "sparse": 0}, "all fusion weights are 0"),
    ({"method": "max"}, "method 'max' is unknown"),
])
def test_refused(bad: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        Fusion(**bad)


@pytest.mark.parametrize(("rankings", "message"), [
    ({"bm25": ([1], [1.0])}, "ranking 'bm25' is unknown"),
    ({"dense": ([1, 2], [1.0])}, "dense ranking has 2 items and 1 scores"),
    ({"lexical": ([1], [math.nan])}, "lexical ranking has a score that is not a number"),
    ({"sparse": ([1], [1.0])}, "weights of sparse are 0"),
])
@pytest.mark.parametrize("method", ["rrf", "weighted"])
def test_refused_rankings(rankings: dict[str, Ranking], message: str, method: Any) -> None:
    with pytest.raises(InvalidInput, match=message):
        fuse(rankings, Fusion(sparse=0, method=method))


def test_nothing_fuses_to_nothing() -> None:
    assert fuse({}, Fusion()) == fuse({"dense": ([], []), "lexical": ([], [])}, Fusion(method="weighted")) == []
