"""Metadata filters in Pinecone's language, which ours is, but for three things.

Its numbers are doubles, so an operand between two doubles is moved to the neighbour that gives the same answer. Its
`$in` is documented for strings and numbers only, so booleans are asked one by one. And what is always or never true,
such as `$in` of nothing, is settled here and not sent.
"""

from __future__ import annotations

import math
from typing import Any

from madang.store.filters import All, Condition, Tree

RESERVED = "madang:"             # how the names of our own fields begin; no record has others of that kind
Wire = dict[str, Any] | bool     # a filter, or that all records match or none


def encode(tree: Tree) -> Wire:
    """The filter to send, or True where every record matches and False where none does."""
    if isinstance(tree, Condition):
        return _condition(tree)
    whole = isinstance(tree, All)
    parts = [encode(part) for part in tree.parts]
    if (not whole) in parts:
        return not whole
    sent = [part for part in parts if not isinstance(part, bool)]
    if not sent:
        return whole
    return sent[0] if len(sent) == 1 else {"$and" if whole else "$or": sent}


def _condition(condition: Condition) -> Wire:
    field, name, operand = condition.field, condition.name, condition.operand
    if field.startswith(RESERVED):
        return name in ("$ne", "$nin") or (name == "$exists" and not operand)
    match name:
        case "$exists":
            return {field: {"$exists": operand}}
        case "$eq" | "$in":
            return _one_of(field, [operand] if name == "$eq" else list(operand))
        case "$ne" | "$nin":
            return _none_of(field, [operand] if name == "$ne" else list(operand))
    return {field: _bound(name, operand)}


def _one_of(field: str, operands: list[Any]) -> Wire:
    plain, booleans = _sorted(operands)
    parts: list[Wire] = [{field: {"$eq": flag}} for flag in booleans]
    if plain:
        parts.insert(0, {field: {"$eq": plain[0]} if len(plain) == 1 else {"$in": plain}})
    return parts[0] if len(parts) == 1 else {"$or": parts} if parts else False


def _none_of(field: str, operands: list[Any]) -> Wire:
    plain, booleans = _sorted(operands)
    parts: list[Wire] = [{field: {"$ne": flag}} for flag in booleans]
    if plain:
        parts.insert(0, {field: {"$ne": plain[0]} if len(plain) == 1 else {"$nin": plain}})
    return parts[0] if len(parts) == 1 else {"$and": parts} if parts else True


def _sorted(operands: list[Any]) -> tuple[list[Any], list[bool]]:
    """What a stored value can equal: strings and numbers, and booleans."""
    booleans = sorted({value for value in operands if isinstance(value, bool)})
    return [value for value in operands if not isinstance(value, bool) and is_double(value)], booleans


def is_double(value: Any) -> bool:
    """Whether the service can hold the value exactly: all but whole numbers that no double is."""
    return not isinstance(value, int) or int(float(value)) == value


def _bound(name: str, operand: float) -> dict[str, float]:
    if is_double(operand):
        return {name: operand}
    nearest = float(operand)
    above = nearest if int(nearest) > operand else math.nextafter(nearest, math.inf)
    below = nearest if int(nearest) < operand else math.nextafter(nearest, -math.inf)
    return {"$gte": above} if name in ("$gt", "$gte") else {"$lte": below}
