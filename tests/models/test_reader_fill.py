"""Filling schemas from text: what is said is found, what is not said is missing, and never anything else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from madang.models.providers.reader_fill import fill


def _object(required: list[str] | None = None, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties,
            "required": list(properties) if required is None else required}


TEXT, INT, NUM, FLAG = {"type": "string"}, {"type": "integer"}, {"type": "number"}, {"type": "boolean"}
UNIT = {"type": "string", "enum": ["celsius", "fahrenheit"]}


@pytest.mark.parametrize(("schema", "text", "expected"), [
    (_object(city=TEXT), "What is the weather in Seoul?", {"city": "Seoul"}),
    (_object(location=TEXT), "How is the weather in New York, today?", {"location": "New York"}),
    (_object(["city"], city=TEXT, unit=UNIT), "Weather in Paris in celsius please", {"city": "Paris", "unit": "celsius"}),
    (_object(["city"], city=TEXT, unit=UNIT), "Weather in Paris", {"city": "Paris"}),
    (_object(city=TEXT), "서울의 날씨 알려줘", {"city": "서울"}),
    (_object(city=TEXT), "부산은 날씨가 어때요?", {"city": "부산"}),
    (_object(origin=TEXT, destination=TEXT), "서울에서 부산까지 가는 비행기 예약해줘", {"origin": "서울", "destination": "부산"}),
    (_object(origin=TEXT, destination=TEXT, date=TEXT), "Book a flight from Seoul to Tokyo on 2026-12-01",
     {"origin": "Seoul", "destination": "Tokyo", "date": "2026-12-01"}),
    (_object(a=INT, b=INT), "What is 12 plus 30?", {"a": 12, "b": 30}),
    (_object(a=NUM, b=NUM), "Add 1,234.5 and -2", {"a": 1234.5, "b": -2}),
    (_object(a=INT, b=INT), "셋 더하기 5", {"a": 3, "b": 5}),
    (_object(nights=INT, guests=INT), "a room for 2 guests, 3 nights", {"nights": 3, "guests": 2}),
    (_object(expression=TEXT), "Compute 3 * (4 + 5) for me", {"expression": "3 * (4 + 5)"}),
    (_object(to=TEXT, subject=TEXT), "Email alice@example.com with subject: Moved", {"to": "alice@example.com", "subject": "Moved"}),
    (_object(query=TEXT), "Search for vacation days", {"query": "vacation days"}),
    (_object(title=TEXT), 'Add a note called "Groceries"', {"title": "Groceries"}),
    (_object(participants={"type": "array", "items": TEXT}, date=TEXT),
     "Alice and Bob are going to a fair on Friday.", {"participants": ["Alice", "Bob"], "date": "Friday"}),
    (_object(numbers={"type": "array", "items": NUM}), "the mean of 1, 2.5 and 4", {"numbers": [1, 2.5, 4]}),
    (_object(colors={"type": "array", "items": {"enum": ["red", "green", "blue"]}}), "green then red", {"colors": ["green", "red"]}),
    (_object(url=TEXT), "Open https://example.com/a?b=1.", {"url": "https://example.com/a?b=1"}),
    (_object(verbose=FLAG), "run it, not verbose", {"verbose": False}),
    (_object(verbose=FLAG), "run it, verbose", {"verbose": True}),
    (_object(kind={"const": "x"}), "whatever", {"kind": "x"}),
    (_object(n={"type": "integer", "default": 3}), "some", {"n": 3}),
    (_object([], n={"type": "integer", "default": 3}), "some", {}),
    (_object(n={"anyOf": [{"type": "integer"}, {"type": "null"}]}), "some", {"n": None}),
    (_object(n={"type": ["integer", "null"]}), "take 4", {"n": 4}),
    ({**_object(step={"$ref": "#/$defs/Step"}), "$defs": {"Step": _object(count=INT)}}, "4 times", {"step": {"count": 4}}),
    (_object(), "anything", {}),
])
def test_what_is_said(schema: dict[str, Any], text: str, expected: dict[str, Any]) -> None:
    filled = fill(schema, text)
    assert filled.missing == []
    assert filled.value == expected


@pytest.mark.parametrize(("schema", "text", "missing"), [
    (_object(city=TEXT), "What is the weather like?", ["city"]),
    (_object(city=TEXT), "날씨 알려줘", ["city"]),
    (_object(a=INT, b=INT), "Add 3 to it", ["b"]),
    (_object(unit=UNIT), "in kelvin", ["unit"]),
    (_object(n={"type": "integer", "minimum": 10}), "take 4", ["n"]),
    (_object(date=TEXT), "Meet Alice", ["date"]),
    (_object(email=TEXT), "Write to Alice", ["email"]),
    (_object(inner=_object(x=INT)), "none", ["inner.x"]),
    (_object(verbose=FLAG), "run it", ["verbose"]),
])
def test_what_is_not_said(schema: dict[str, Any], text: str, missing: list[str]) -> None:
    assert fill(schema, text).missing == missing


def test_a_schema_that_refers_to_itself_ends() -> None:
    schema: dict[str, Any] = {**_object(next={"$ref": "#"})}
    assert fill(schema, "x").missing
    assert fill({"$ref": "#"}, "x").value in ({}, None)


_JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=8),
                     lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
                         ["type", "properties", "required", "items", "enum", "anyOf", "$ref", "default", "a", "city", "minimum"])
                         | st.text(max_size=5), inner, max_size=4), max_leaves=12)


@given(st.dictionaries(st.sampled_from(["type", "properties", "required", "items", "anyOf"]), _JSON), st.text(max_size=60))
def test_no_schema_and_no_text_is_too_odd(schema: dict[str, Any], text: str) -> None:
    fill(schema, text)


@given(st.integers(-10**9, 10**9), st.integers(0, 10**6))
def test_numbers_are_those_of_the_text(a: int, b: int) -> None:
    assert fill(_object(a=INT, b=INT), f"add {a} and {b}").value == {"a": a, "b": b}
