"""Metadata filters: parsed once to a tree, then evaluated.

The language is Pinecone's: `$eq $ne $gt $gte $lt $lte $in $nin $exists $and $or`. `{"k": v}` means `$eq`, several
keys mean `$and`. `$ne` and `$nin` are the exact complements of `$eq` and `$in`, so they also match records without
the field. A list of strings equals a string when it contains it. Numbers and booleans never equal each other; numbers
compare by value, whole or not, without rounding; strings compare code point by code point, without normalisation.

`matches` says what a filter means, one record at a time; `madang.store.columns` finds the same records faster.
"""

from __future__ import annotations

import math
import operator
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from madang.base.errors import InvalidInput
from madang.base.records import Filter, Metadata
from madang.store import validate

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "$gt": operator.gt, "$gte": operator.ge, "$lt": operator.lt, "$lte": operator.le,
}
COMPARISONS = tuple(_COMPARE)
OPERATORS = ("$eq", "$ne", *COMPARISONS, "$in", "$nin", "$exists")
MAX_DEPTH = 32                   # of $and and $or within each other
MAX_VALUES = 10_000              # of one $in or $nin
MAX_CONDITIONS = 10_000          # of a filter

_RANGE = "Numbers are finite; whole ones are from -2**63 to 2**63 - 1."
_REMEMBERED, _REMEMBERED_CHARS = 256, 1000     # filters that need not be parsed again
_shown = reprlib.Repr()          # a refusal stays one short line, whatever was refused
_shown.maxstring = _shown.maxother = _shown.maxlong = 80


@dataclass(frozen=True, slots=True)
class Condition:
    """One operator on one field."""

    field: str
    name: str                      # of the operator
    operand: Any

    def matches(self, metadata: Metadata) -> bool:
        """Whether one record's metadata meets the condition."""
        value = metadata.get(self.field)
        match self.name:
            case "$exists":
                return (self.field in metadata) is self.operand
            case "$eq":
                return _equals(value, self.operand)
            case "$ne":
                return not _equals(value, self.operand)
            case "$in":
                return any(_equals(value, item) for item in self.operand)
            case "$nin":
                return not any(_equals(value, item) for item in self.operand)
        return _is_number(value) and bool(_COMPARE[self.name](value, self.operand))


@dataclass(frozen=True, slots=True)
class All:
    """Every part matches (`$and`); without parts, everything does."""

    parts: tuple[Tree, ...]

    def matches(self, metadata: Metadata) -> bool:
        """Whether one record's metadata meets every part."""
        return all(part.matches(metadata) for part in self.parts)


@dataclass(frozen=True, slots=True)
class Either:
    """At least one part matches (`$or`)."""

    parts: tuple[Tree, ...]

    def matches(self, metadata: Metadata) -> bool:
        """Whether one record's metadata meets any part."""
        return any(part.matches(metadata) for part in self.parts)


Tree = Condition | All | Either


@dataclass(frozen=True, slots=True)
class Parsed:
    """A filter as a tree, and a text that only filters of one meaning share."""

    tree: Tree
    text: str


_remembered: dict[str, Parsed] = {}


def parsed(filter: Filter) -> Parsed:  # noqa: A002
    """As `parse`; a filter that was asked before is not parsed again. `repr` tells 1, 1.0, True and "1" apart."""
    try:
        text = repr(filter)
    except RecursionError:         # `parse` says it better
        return Parsed(parse(filter), "")
    found = _remembered.get(text)
    if found is None:
        found = Parsed(parse(filter), text)
        if len(text) <= _REMEMBERED_CHARS and type(filter) is dict:
            if len(_remembered) >= _REMEMBERED:
                _remembered.clear()
            _remembered[text] = found
    return found


def parse(filter: Filter) -> Tree:  # noqa: A002 - the public parameter's name, after Pinecone's
    """Parse a filter. `$and` within `$and` becomes one `All`.

    Raises:
        InvalidInput: an unknown operator, an operand of the wrong type, `$and` and `$or` more than 32 deep, more than
            10,000 values in an `$in`, or more than 10,000 conditions.
    """
    tree = _parse(filter, 0)
    if (size := _size(tree)) > MAX_CONDITIONS:
        raise InvalidInput(f"filter has {size:,} conditions; at most {MAX_CONDITIONS:,} are allowed.",
                           remedy="To match several values of one field use $in.")
    return tree


def _parse(node: Any, depth: int) -> Tree:
    if depth > MAX_DEPTH:
        raise InvalidInput(f"filter is nested deeper than {MAX_DEPTH}.", remedy="Flatten it.")
    if not isinstance(node, Mapping):
        raise InvalidInput(f"filter must be an object, not {_shown.repr(node)}.",
                           remedy='For example {"year": {"$gte": 2020}}.')
    parts: list[Tree] = []
    for key, value in node.items():
        if not isinstance(key, str) or not key:
            raise InvalidInput(f"filter key {_shown.repr(key)} must be the name of a field.")
        if key in ("$and", "$or"):
            if not isinstance(value, list | tuple) or not value:
                raise InvalidInput(f"filter {key} needs a non-empty list of filters, not {_shown.repr(value)}.")
            branches = [_parse(item, depth + 1) for item in value]
            parts += branches if key == "$and" else [Either(tuple(branches))]
        elif key in OPERATORS:
            raise InvalidInput(f"filter operator {key} has no field.",
                               remedy=f'Write {{"field": {{"{key}": ...}}}}; $and and $or stand alone.')
        elif key.startswith("$"):
            raise _unknown("filter", key)
        else:
            parts += _conditions(key, value)
    flat = [part for each in parts for part in (each.parts if isinstance(each, All) else (each,))]
    return flat[0] if len(flat) == 1 else All(tuple(flat))


def _size(tree: Tree) -> int:
    return 1 if isinstance(tree, Condition) else sum(map(_size, tree.parts))


def _conditions(field: str, value: Any) -> list[Tree]:
    where = f"filter on {_shown.repr(validate.text(field, 'filter key'))}"
    if not isinstance(value, Mapping):
        return [_condition(where, field, "$eq", value)]
    if not value:
        raise InvalidInput(f"{where} is empty.", remedy=f"Use one of {', '.join(OPERATORS)}.")
    return [_condition(where, field, name, operand) for name, operand in value.items()]


def _condition(where: str, field: str, name: Any, operand: Any) -> Condition:
    if name not in OPERATORS:
        raise _unknown(where, name)
    if name in ("$in", "$nin"):
        return Condition(field, name, _values(where, name, operand))
    plain = _plain(operand)
    if name in COMPARISONS and not _is_number(plain):
        raise InvalidInput(f"{where}: {name} needs a number, not {_shown.repr(operand)}.", remedy=_RANGE)
    if name == "$exists" and not isinstance(plain, bool):
        raise InvalidInput(f"{where}: $exists needs true or false, not {_shown.repr(operand)}.")
    if not _is_scalar(plain):
        raise InvalidInput(f"{where}: {name} needs a string, number or boolean, not {_shown.repr(operand)}.",
                           remedy="To match several values use $in." if isinstance(operand, list | tuple) else
                           "For a field that is missing use $exists." if operand is None else _RANGE)
    if isinstance(plain, str):
        validate.text(plain, f"{where}: {name}")
    return Condition(field, name, plain)


def _values(where: str, name: str, operand: Any) -> tuple[Any, ...]:
    if not isinstance(operand, list | tuple):
        raise InvalidInput(f"{where}: {name} needs a list of strings, numbers or booleans, not {_shown.repr(operand)}.")
    if len(operand) > MAX_VALUES:
        raise InvalidInput(f"{where}: {name} has {len(operand):,} values; at most {MAX_VALUES:,} are allowed.",
                           remedy="Ask in several queries, or store a field that groups these values.")
    values = tuple(map(_plain, operand))
    for value, given in zip(values, operand, strict=True):
        if not _is_scalar(value):
            raise InvalidInput(f"{where}: {name} needs a list of strings, numbers or booleans; it holds "
                               f"{_shown.repr(given)}.", remedy=_RANGE if isinstance(value, int | float) else None)
        if isinstance(value, str):
            validate.text(value, f"{where}: {name}")
    return values


def _unknown(where: str, name: Any) -> InvalidInput:
    return InvalidInput(f"{where}: unknown operator {_shown.repr(name)}.",
                        remedy=f"Known: {', '.join((*OPERATORS, '$and', '$or'))}.")


def _plain(value: Any) -> Any:
    """Python's own number or text for NumPy's and for subclasses, which compare in their own ways."""
    if isinstance(value, np.generic):
        value = value.item()
    for kind in (str, float, int):
        if isinstance(value, kind) and not isinstance(value, bool):
            return kind(value)
    return value


def _equals(value: Any, operand: Any) -> bool:
    if isinstance(value, list):
        return isinstance(operand, str) and operand in value
    if isinstance(value, bool) or isinstance(operand, bool):
        return value is operand
    return bool(value == operand)


def _is_number(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool) and -2**63 <= value < 2**63


def _is_scalar(value: Any) -> bool:
    return isinstance(value, str | bool) or _is_number(value)
