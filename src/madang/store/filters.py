"""Metadata filters: parsed once to a tree, then evaluated.

The language is Pinecone's: `$eq $ne $gt $gte $lt $lte $in $nin $exists $and $or`. `{"k": v}` means `$eq`, several
keys mean `$and`. `$ne` and `$nin` are the exact complements of `$eq` and `$in`, so they also match records without
the field. A list of strings equals a value when it contains it. Numbers and booleans never equal each other.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from madang.base.errors import InvalidInput
from madang.base.records import Filter, Metadata

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "$gt": operator.gt, "$gte": operator.ge, "$lt": operator.lt, "$lte": operator.le,
}
OPERATORS = ("$eq", "$ne", *_COMPARE, "$in", "$nin", "$exists")
_MAX_DEPTH = 32


@dataclass(frozen=True, slots=True)
class Condition:
    """One operator on one field."""

    field: str
    name: str                      # of the operator
    operand: Any

    def matches(self, metadata: Metadata) -> bool:
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
    """Every part matches (`$and`)."""

    parts: tuple[Tree, ...]

    def matches(self, metadata: Metadata) -> bool:
        return all(part.matches(metadata) for part in self.parts)


@dataclass(frozen=True, slots=True)
class Either:
    """At least one part matches (`$or`)."""

    parts: tuple[Tree, ...]

    def matches(self, metadata: Metadata) -> bool:
        return any(part.matches(metadata) for part in self.parts)


Tree = Condition | All | Either


def parse(filter: Filter) -> Tree:  # noqa: A002 - the public parameter's name, after Pinecone's
    """Parse a filter.

    Raises:
        InvalidInput: an unknown operator, an operand of the wrong type, or nesting deeper than 32.
    """
    return _parse(filter, 0)


def _parse(node: Any, depth: int) -> Tree:
    if depth > _MAX_DEPTH:
        raise InvalidInput(f"filter is nested deeper than {_MAX_DEPTH}.", remedy="Flatten it.")
    if not isinstance(node, Mapping):
        raise InvalidInput(f"filter must be an object, not {node!r}.", remedy='For example {"year": {"$gte": 2020}}.')
    parts: list[Tree] = []
    for key, value in node.items():
        if not isinstance(key, str):
            raise InvalidInput(f"filter key {key!r} must be text.")
        if key in ("$and", "$or"):
            if not isinstance(value, list | tuple) or not value:
                raise InvalidInput(f"filter {key} needs a non-empty list of filters, not {value!r}.")
            branches = tuple(_parse(item, depth + 1) for item in value)
            parts.append(All(branches) if key == "$and" else Either(branches))
        elif key.startswith("$"):
            raise InvalidInput(f"filter operator {key} has no field.",
                               remedy=f'Write {{"field": {{"{key}": ...}}}}; $and and $or stand alone.')
        else:
            parts.extend(_conditions(key, value))
    return parts[0] if len(parts) == 1 else All(tuple(parts))


def _conditions(field: str, value: Any) -> list[Tree]:
    if not isinstance(value, Mapping):
        return [_condition(field, "$eq", value)]
    if not value:
        raise InvalidInput(f"filter on {field!r} is empty.", remedy=f"Use one of {', '.join(OPERATORS)}.")
    return [_condition(field, name, operand) for name, operand in value.items()]


def _condition(field: str, name: str, operand: Any) -> Condition:
    if name not in OPERATORS:
        raise InvalidInput(f"filter on {field!r}: unknown operator {name!r}.",
                           remedy=f"Known: {', '.join((*OPERATORS, '$and', '$or'))}.")
    if name in _COMPARE and not _is_number(operand):
        raise InvalidInput(f"filter on {field!r}: {name} needs a number, not {operand!r}.")
    if name == "$exists" and not isinstance(operand, bool):
        raise InvalidInput(f"filter on {field!r}: $exists needs true or false, not {operand!r}.")
    if name in ("$in", "$nin"):
        if not isinstance(operand, list | tuple) or not all(map(_is_scalar, operand)):
            raise InvalidInput(f"filter on {field!r}: {name} needs a list of strings, numbers or booleans, "
                               f"not {operand!r}.")
        operand = tuple(operand)
    elif name in ("$eq", "$ne") and not _is_scalar(operand):
        raise InvalidInput(f"filter on {field!r}: {name} needs a string, number or boolean, not {operand!r}.",
                           remedy="To match several values use $in.")
    return Condition(field, name, operand)


def _equals(value: Any, operand: Any) -> bool:
    if isinstance(value, list):
        return operand in value
    if isinstance(value, bool) or isinstance(operand, bool):
        return value is operand
    return bool(value == operand)


def _is_number(value: Any) -> bool:
    if isinstance(value, float):
        return not math.isnan(value)
    return isinstance(value, int) and not isinstance(value, bool) and -2**63 <= value < 2**63


def _is_scalar(value: Any) -> bool:
    return isinstance(value, str | bool) or _is_number(value)
