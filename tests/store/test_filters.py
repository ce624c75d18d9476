"""One table of (filter, metadata, verdict) drives the evaluator."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from madang.base.errors import InvalidInput
from madang.store import filters

BOOK = {"genre": "drama", "year": 2020, "rating": 4.5, "out": True, "tags": ["a", "b"]}
TABLE: list[tuple[dict[str, Any], dict[str, Any], bool]] = [
    ({}, BOOK, True),
    ({"genre": "drama"}, BOOK, True),
    ({"genre": "comedy"}, BOOK, False),
    ({"genre": {"$eq": "drama"}}, {}, False),
    ({"genre": {"$ne": "drama"}}, BOOK, False),
    ({"genre": {"$ne": "comedy"}}, BOOK, True),
    ({"genre": {"$ne": "drama"}}, {}, True),
    ({"year": {"$gt": 2019}}, BOOK, True),
    ({"year": {"$gt": 2020}}, BOOK, False),
    ({"year": {"$gte": 2020}}, BOOK, True),
    ({"year": {"$lt": 2020}}, BOOK, False),
    ({"year": {"$lte": 2020.0}}, BOOK, True),
    ({"year": 2020.0}, BOOK, True),
    ({"year": {"$gt": 2000, "$lt": 2010}}, BOOK, False),
    ({"genre": {"$gt": 1}}, BOOK, False),
    ({"missing": {"$lt": 1}}, BOOK, False),
    ({"genre": {"$in": ["drama", "comedy"]}}, BOOK, True),
    ({"genre": {"$in": []}}, BOOK, False),
    ({"genre": {"$nin": ["drama"]}}, BOOK, False),
    ({"genre": {"$nin": ["comedy"]}}, BOOK, True),
    ({"missing": {"$nin": ["x"]}}, BOOK, True),
    ({"tags": "a"}, BOOK, True),
    ({"tags": {"$in": ["z", "b"]}}, BOOK, True),
    ({"tags": {"$nin": ["a"]}}, BOOK, False),
    ({"tags": {"$ne": "z"}}, BOOK, True),
    ({"out": True}, BOOK, True),
    ({"out": 1}, BOOK, False),
    ({"year": True}, {"year": 1}, False),
    ({"out": {"$gt": 0}}, BOOK, False),
    ({"genre": {"$exists": True}}, BOOK, True),
    ({"genre": {"$exists": False}}, BOOK, False),
    ({"missing": {"$exists": False}}, BOOK, True),
    ({"$and": [{"year": 2020}, {"genre": "drama"}]}, BOOK, True),
    ({"$and": [{"year": 2020}, {"genre": "comedy"}]}, BOOK, False),
    ({"$or": [{"year": 1}, {"genre": "drama"}]}, BOOK, True),
    ({"$or": [{"year": 1}, {"genre": "comedy"}]}, BOOK, False),
    ({"year": 2020, "genre": "comedy"}, BOOK, False),
    ({"$or": [{"$and": [{"year": {"$gte": 2020}}, {"out": True}]}, {"genre": "x"}], "rating": {"$gt": 4}}, BOOK, True),
]


@pytest.mark.parametrize(("tree", "metadata", "verdict"), TABLE)
def test_verdicts(tree: dict[str, Any], metadata: dict[str, Any], verdict: bool) -> None:
    assert filters.parse(tree).matches(metadata) is verdict


@pytest.mark.parametrize(("bad", "words"), [
    ("year > 3", "must be an object"),
    ({"year": {"$near": 1}}, "unknown operator '$near'"),
    ({"$gt": 3}, "has no field"),
    ({"year": {"$gt": "2020"}}, "needs a number"),
    ({"year": {"$gt": True}}, "needs a number"),
    ({"year": {"$in": "abc"}}, "needs a list"),
    ({"year": {"$in": [None]}}, "needs a list"),
    ({"year": {"$eq": None}}, "not None"),
    ({"year": ["a"]}, "use $in"),
    ({"year": {"$exists": 1}}, "true or false"),
    ({"year": {}}, "is empty"),
    ({"$and": []}, "non-empty list"),
    ({"$or": {"a": 1}}, "non-empty list"),
    ({"year": {"$gt": float("nan")}}, "needs a number"),
])
def test_refused_with_the_field_and_the_value(bad: Any, words: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        filters.parse(bad)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_depth_is_bounded() -> None:
    deep: dict[str, Any] = {"a": 1}
    for _ in range(40):
        deep = {"$and": [deep]}
    with pytest.raises(InvalidInput, match="nested deeper"):
        filters.parse(deep)


scalars = st.one_of(st.integers(-3, 3), st.booleans(), st.sampled_from(["a", "b"]))
metadatas = st.dictionaries(st.sampled_from("xy"), st.one_of(scalars, st.lists(st.sampled_from("ab"), max_size=2)))


@given(metadatas, st.sampled_from("xy"), scalars)
def test_ne_and_nin_are_complements(metadata: dict[str, Any], field: str, value: Any) -> None:
    def matches(operator: str, operand: Any) -> bool:
        return filters.parse({field: {operator: operand}}).matches(metadata)

    assert matches("$ne", value) is not matches("$eq", value)
    assert matches("$nin", [value]) is not matches("$in", [value])
    assert matches("$in", [value]) is matches("$eq", value)
