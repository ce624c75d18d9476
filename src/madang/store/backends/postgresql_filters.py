"""Metadata filters as PostgreSQL's jsonb conditions. Every value travels as a parameter; no text is spliced in.

Numbers are compared as `numeric`, without rounding. A float with a fraction is written in its shortest form, a whole
one with all its digits and ".0": so two numbers compare in SQL as they do in Python, and a float comes back a float.

Operators used: https://www.postgresql.org/docs/current/functions-json.html, table 9.49. `metadata @> {"f": x}` is
never null, whatever is stored, so `NOT` makes the exact complement.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from madang.base.records import Metadata
from madang.store.filters import All, Condition, Tree

_SIGNS = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}
SQL = tuple[str, list[Any]]      # a condition with %s for each parameter


def where(tree: Tree) -> SQL:
    """A condition on the column `metadata`, and its parameters in order. It is true or false, never null."""
    if isinstance(tree, Condition):
        return _condition(tree)
    if not tree.parts:
        return ("TRUE" if isinstance(tree, All) else "FALSE"), []
    parts = [where(part) for part in tree.parts]
    joined = (" AND " if isinstance(tree, All) else " OR ").join(text for text, _ in parts)
    return f"({joined})", [parameter for _, parameters in parts for parameter in parameters]


def _condition(condition: Condition) -> SQL:
    field, operand = condition.field, condition.operand
    match condition.name:
        case "$exists":
            there: SQL = ("FALSE", []) if "\0" in field else ("(metadata ? %s)", [field])
            return there if operand else _not(there)
        case "$eq" | "$ne":
            same = _one_of(field, [operand])
            return same if condition.name == "$eq" else _not(same)
        case "$in" | "$nin":
            same = _one_of(field, operand)
            return same if condition.name == "$in" else _not(same)
    if "\0" in field:
        return "FALSE", []
    # Within jsonb a number compares with a number as numeric; the type is asked because jsonb orders across types.
    return (f"COALESCE(jsonb_typeof(metadata -> %s) = 'number' AND metadata -> %s {_SIGNS[condition.name]} %s::jsonb, "
            "FALSE)", [field, field, value_json(operand)])


def _one_of(field: str, operands: Sequence[Any]) -> SQL:
    """The field equals one of the values; a list of strings equals each string it holds."""
    if "\0" in field:            # PostgreSQL stores no NUL, so nothing can equal it
        return "FALSE", []
    wanted = []
    for value in operands:
        if isinstance(value, str):
            if "\0" in value:
                continue
            wanted += [metadata_json({field: value}), metadata_json({field: [value]})]
        else:
            wanted.append(metadata_json({field: value}))
    if len(wanted) == 1:
        return "(metadata @> %s::jsonb)", wanted
    return ("(metadata @> ANY(%s::jsonb[]))", [wanted]) if wanted else ("FALSE", [])


def _not(condition: SQL) -> SQL:
    text, parameters = condition
    return f"(NOT {text})", parameters


def metadata_json(metadata: Metadata) -> str:
    """Flat metadata as JSON in which a whole float keeps its point, and with all its digits."""
    return "{" + ", ".join(f"{_text(key)}: {value_json(value)}" for key, value in metadata.items()) + "}"


def value_json(value: Any) -> str:
    """A string, number, boolean or list of strings as JSON."""
    if isinstance(value, float) and value.is_integer():
        return f"{Decimal(value):f}.0"
    return json.dumps(value, ensure_ascii=False)


def minus_zeros(metadata: Metadata) -> list[str] | None:
    """The fields that hold -0.0, which jsonb does not tell from 0.0; None where there are none."""
    return [field for field, value in metadata.items()
            if isinstance(value, float) and value == 0 and math.copysign(1, value) < 0] or None


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)
