"""The table of verdicts and refusals that ships in `madang.testing` drives the evaluator; properties do the rest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from madang.base.errors import InvalidInput
from madang.store import filters, validate
from madang.testing.filter_table import REFUSED, ROWS, TAGS, Refusal, Row


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_verdicts(row: Row) -> None:
    assert filters.parse(row.filter).matches(row.metadata) is row.verdict


@pytest.mark.parametrize("refusal", REFUSED, ids=lambda refusal: refusal.name)
def test_refused_with_the_field_and_the_value(refusal: Refusal) -> None:
    with pytest.raises(InvalidInput) as caught:
        filters.parse(refusal.filter)
    message = str(caught.value)
    assert [word for word in refusal.words if word not in message] == []
    assert "\n" not in message
    assert len(message) < 300


def test_the_table_is_whole() -> None:
    """Every operator meets every type of stored value, present and absent, with both verdicts where both can be."""
    assert len({row.name for row in ROWS}) == len(ROWS)
    assert len({refusal.name for refusal in REFUSED}) == len(REFUSED)
    assert {tag for row in ROWS for tag in row.tags} == set(TAGS)
    for row in ROWS:
        assert validate.metadata(row.metadata, "row") == row.metadata
    met: dict[str, set[str]] = {operator: set() for operator in filters.OPERATORS}
    verdicts: dict[str, set[bool]] = {operator: set() for operator in filters.OPERATORS}
    for row in ROWS:
        tree = filters.parse(row.filter)
        if isinstance(tree, filters.Condition):
            met[tree.name].add(type(row.metadata.get(tree.field)).__name__)
            verdicts[tree.name].add(row.verdict)
    assert all(types >= {"str", "int", "float", "bool", "list", "NoneType"} for types in met.values())
    assert all(both == {True, False} for both in verdicts.values())


def test_a_long_operand_is_not_quoted_whole() -> None:
    with pytest.raises(InvalidInput) as caught:
        filters.parse({"year": {"$gt": "x" * 10_000}})
    assert len(str(caught.value)) < 300


def test_32_levels_are_allowed_and_and_within_and_is_no_level_of_the_tree() -> None:
    tree: dict[str, Any] = {"a": 1}
    for _ in range(32):
        tree = {"$and": [tree, {"b": {"$gt": 1, "$lt": 3}}]}
    parsed = filters.parse(tree)
    assert isinstance(parsed, filters.All)
    assert len(parsed.parts) == 65
    assert parsed.matches({"a": 1, "b": 2})
    assert not parsed.matches({"a": 1, "b": 3})


@pytest.mark.parametrize(("given", "operand"), [
    (np.int64(3), 3), (np.float32(0.5), 0.5), (np.float64(2.0), 2.0), (np.bool_(True), True), (np.str_("a"), "a")])
def test_numpy_scalars_become_plain(given: Any, operand: Any) -> None:
    parsed = filters.parse({"a": given})
    assert isinstance(parsed, filters.Condition)
    assert parsed.operand == operand
    assert type(parsed.operand) is type(operand)
    assert filters.parse({"a": {"$in": [given]}}) == filters.Condition("a", "$in", (operand,))


scalars = st.one_of(st.integers(-3, 3), st.booleans(), st.sampled_from(["a", "b"]))
metadatas = st.dictionaries(st.sampled_from("xy"), st.one_of(scalars, st.lists(st.sampled_from("ab"), max_size=2)))


@given(metadatas, st.sampled_from("xy"), scalars)
def test_ne_and_nin_are_complements(metadata: dict[str, Any], field: str, value: Any) -> None:
    def matches(operator: str, operand: Any) -> bool:
        return filters.parse({field: {operator: operand}}).matches(metadata)

    assert matches("$ne", value) is not matches("$eq", value)
    assert matches("$nin", [value]) is not matches("$in", [value])
    assert matches("$in", [value]) is matches("$eq", value)


@given(metadatas, st.floats(-4, 4) | st.integers(-4, 4))
def test_of_two_bounds_one_holds_for_numbers_only(metadata: dict[str, Any], bound: float) -> None:
    def matches(operator: str) -> bool:
        return filters.parse({"x": {operator: bound}}).matches(metadata)

    is_number = isinstance(metadata.get("x"), int | float) and not isinstance(metadata.get("x"), bool)
    assert (matches("$gt") or matches("$lte")) is is_number
    assert (matches("$lt") or matches("$gte")) is is_number
    assert not (matches("$gt") and matches("$lte"))
