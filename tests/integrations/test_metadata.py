"""Metadata there and back, and conditions over it, against what they mean in Python."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from madang.base.errors import InvalidInput
from madang.integrations import conditions
from madang.integrations.metadata import moment, packed, unpacked
from madang.store import filters, validate

ZONES = st.sampled_from([None, UTC, timezone(timedelta(hours=9)), timezone(-timedelta(hours=3, minutes=30))])
DATES = st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1), timezones=ZONES)
PLAIN = st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.integers(), st.floats(allow_nan=False, allow_infinity=False),
                  st.sampled_from(["", "a", "b", "null", "[]", "2026-11-25", "2026-11-25T00:00:00"]), DATES, st.dates())
KEYS = st.sampled_from(["a", "b", "c", "마당"])
VALUES = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=8)
METADATA = st.dictionaries(KEYS, VALUES, max_size=4)


@given(METADATA)
def test_what_is_packed_can_be_kept_and_comes_back(metadata: dict[str, Any]) -> None:
    kept = validate.metadata(packed(metadata), "test")
    assert _typed(unpacked(kept)) == _typed(metadata)


def _typed(value: Any) -> Any:
    """1, 1.0 and True are different values of metadata."""
    if isinstance(value, dict):
        return {key: _typed(item) for key, item in value.items()}
    return [_typed(item) for item in value] if isinstance(value, list) else (type(value), value)


@pytest.mark.parametrize("metadata", [{"a": float("nan")}, {"a": [math.inf]}, {"a": object()}, {"a": b"bytes"},
                                      {"$a": 1}, {"a": {"$b": 1}}, {"_json:a": "1"}, {1: 2}, {"a": {1: 2}},
                                      {"a.b": 1, "a": {"b": 2}}, {"a": {"b": {"c": 1}, "b.c": 1}}])
def test_what_cannot_come_back_is_refused(metadata: dict[Any, Any]) -> None:
    with pytest.raises(InvalidInput):
        packed(metadata)


def test_nesting_has_an_end() -> None:
    deep: dict[str, Any] = {}
    for _ in range(40):
        deep = {"a": deep}
    with pytest.raises(InvalidInput, match="nested deeper"):
        packed(deep)
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(InvalidInput, match="cannot be kept as JSON"):
        packed({"a": loop})


def _holds(condition: conditions.Condition, metadata: dict[str, Any]) -> bool:
    return filters.parse(condition).matches(packed(metadata))


def _same(one: Any, other: Any) -> bool:
    """Equal, and neither true or false where the other is a number."""
    return one == other and isinstance(one, bool) is isinstance(other, bool) and isinstance(one, str) is isinstance(other, str)


FLAT = st.one_of(PLAIN, st.lists(st.sampled_from(["a", "b", ""]), max_size=3), st.lists(st.integers(-2, 2), max_size=3))
ROWS = st.one_of(st.just({}), st.fixed_dictionaries({"a": FLAT}))


@given(ROWS, st.lists(FLAT, max_size=4))
@example({"a": ["a"]}, ["a"])
@example({"a": None}, [None])
@example({}, [None])
def test_equality(row: dict[str, Any], values: list[Any]) -> None:
    expected = [_same(row.get("a"), value) for value in values]
    for value, truth in zip(values, expected, strict=True):
        if isinstance(value, float | int) and not isinstance(value, bool) and not -2**63 <= value < 2**63 and not isinstance(row.get("a"), type(value)):
            return                     # a whole float and an int beyond 64 bits: kept as texts
        condition = conditions.equal("a", value)
        assert _holds(condition, row) is truth
        assert _holds(conditions.negated(condition), row) is not truth
    found = conditions.one_of("a", values)
    assert _holds(found, row) is any(expected)
    assert _holds(conditions.negated(found), row) is not any(expected)


@given(st.one_of(st.integers(-3, 3), st.floats(-3, 3), st.none()), st.integers(-3, 3),
       st.sampled_from(filters.COMPARISONS))
def test_numbers_compare(value: float | None, operand: int, name: str) -> None:
    compare = {"$gt": "__gt__", "$gte": "__ge__", "$lt": "__lt__", "$lte": "__le__"}[name]
    expected = value is not None and bool(getattr(float(value), compare)(float(operand)))
    condition = conditions.compared("a", name, operand)
    assert _holds(condition, {"a": value}) is expected
    assert _holds(conditions.negated(condition), {"a": value}) is not expected
    assert not _holds(condition, {})
    assert _holds(conditions.negated(condition), {})


@given(DATES, DATES, st.sampled_from(filters.COMPARISONS), st.booleans())
def test_dates_compare(value: datetime, operand: datetime, name: str, as_text: bool) -> None:
    one, other = value, operand
    if (one.tzinfo is None) != (other.tzinfo is None):
        one, other = one.replace(tzinfo=None), other.replace(tzinfo=None)
    compare = {"$gt": "__gt__", "$gte": "__ge__", "$lt": "__lt__", "$lte": "__le__"}[name]
    expected = bool(getattr(one, compare)(other))
    row = {"a": value.isoformat() if as_text else value}
    condition = conditions.compared("a", name, operand.isoformat() if not as_text else operand)
    assert _holds(condition, row) is expected
    assert _holds(conditions.negated(condition), row) is not expected
    assert _holds(conditions.equal("a", operand.isoformat(), dates=True), row) is (one == other)
    assert _holds(conditions.one_of("a", [1, operand], dates=True), row) is (one == other)


@given(st.lists(FLAT.filter(lambda value: not isinstance(value, list)), max_size=4), FLAT)
def test_lists_contain(items: list[Any], value: Any) -> None:
    if isinstance(value, list | float):
        return
    condition = conditions.contains("a", value)
    expected = any(type(item) is type(value) and item == value and getattr(item, "tzinfo", 0) == getattr(value, "tzinfo", 0) for item in items)
    assert _holds(condition, {"a": items}) is expected
    assert _holds(conditions.negated(condition), {"a": items}) is not expected
    assert not _holds(condition, {"a": value})


def test_everything_and_nothing() -> None:
    for row in ({}, {"a": 1}):
        assert _holds(conditions.EVERYTHING, row)
        assert not _holds(conditions.NOTHING, row)
        assert _holds(conditions.negated(conditions.NOTHING), row)
        assert not _holds(conditions.negated(conditions.EVERYTHING), row)
        assert _holds(conditions.both([]), row)
        assert not _holds(conditions.either([]), row)
        assert _holds(conditions.either([{}, conditions.NOTHING]), row)


@pytest.mark.parametrize("value", ["1", "abc", True, [1], {"a": 1}, float("nan"), 2**63])
def test_what_does_not_compare_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInput, match="needs a number or a date"):
        conditions.compared("a", "$gt", value)


def test_moments() -> None:
    assert moment("2026-11-25") == moment(date(2026, 11, 25)) == moment(datetime(2026, 11, 25))
    assert moment("2026-11-25T09:00:00+09:00").utc == moment("2026-11-25T00:00:00Z").utc  # type: ignore[union-attr]
    for value in ("2026", "20261125", "2026-11-25x", "2026-13-01", "text", 5, None, ["2026-11-25"]):
        assert moment(value) is None
