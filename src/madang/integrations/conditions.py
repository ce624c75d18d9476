"""Other libraries' conditions as filters of ours, over metadata as `madang.integrations.metadata` keeps it.

Our language has no `$not`, but each operator has its complement, so `negated` is exact; it has one bound: a number's
`not (field > 5)` finds what is at most 5 and what lacks the field, and not a field that holds something else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from madang.base.errors import InvalidInput
from madang.integrations.metadata import CLOCK, HAS, JSON, TIME, Moment, as_json, is_plain, moment

Condition = dict[str, Any]

EVERYTHING: Condition = {}
NOTHING: Condition = {JSON: {"$in": []}}
_COMPLEMENT = {"$eq": "$ne", "$ne": "$eq", "$in": "$nin", "$nin": "$in"}
_OPPOSITE = {"$gt": "$lte", "$gte": "$lt", "$lt": "$gte", "$lte": "$gt"}


def both(parts: Iterable[Condition]) -> Condition:
    """All of them."""
    return _joined("$and", [part for part in parts if part != EVERYTHING], EVERYTHING)


def either(parts: Iterable[Condition]) -> Condition:
    """At least one of them; of none, nothing."""
    listed = list(parts)
    return EVERYTHING if EVERYTHING in listed else _joined("$or", listed, NOTHING)


def _joined(name: str, parts: list[Condition], empty: Condition) -> Condition:
    """Without nesting that says nothing: filters may be 32 deep."""
    flat = [inner for part in parts for inner in (part[name] if set(part) == {name} else [part])]
    return empty if not flat else flat[0] if len(flat) == 1 else {name: flat}


def negated(condition: Condition) -> Condition:
    """What `condition` does not match."""
    if condition == EVERYTHING:
        return NOTHING
    (key, value), = condition.items()
    if key == "$and":
        return either(map(negated, value))
    if key == "$or":
        return both(map(negated, value))
    (name, operand), = value.items()
    if name == "$exists":
        return {key: {"$exists": not operand}}
    if name in _COMPLEMENT:
        return {key: {_COMPLEMENT[name]: operand}}
    return either([{key: {_OPPOSITE[name]: operand}}, {key: {"$exists": False}}])


def equal(key: str, value: Any, dates: bool = False) -> Condition:
    """The field is `value`; None stands for a field that is missing, too. A list equals only the same list.

    `dates`: two spellings of one moment are equal; where only one of the two names a zone, their clocks are compared.
    """
    if value is None:
        return missing(key)
    when = moment(value) if dates else None
    if when is not None:
        return either([equal(key, value), _compared_moment(key, "$eq", when)])
    if isinstance(value, str):                     # a list that holds it is not equal to it
        return both([{key: {"$eq": value}}, {JSON + key: {"$exists": False}}])
    if is_plain(value):
        return {key: {"$eq": value}}
    if isinstance(value, float):                   # NaN and infinity are never kept
        return NOTHING
    return {JSON + key: {"$eq": as_json(value)}}


def one_of(key: str, values: Iterable[Any], dates: bool = False) -> Condition:
    """The field equals one of these."""
    listed = list(values)
    moments = [value for value in listed if dates and moment(value) is not None]
    if moments:
        rest = [value for value in listed if moment(value) is None]
        return either([one_of(key, rest), *(equal(key, value, dates) for value in moments)])
    texts = [value for value in listed if isinstance(value, str)]
    plain = [value for value in listed if is_plain(value) and not isinstance(value, str)]
    parts: list[Condition] = []
    if texts:
        parts.append(both([{key: {"$in": texts}}, {JSON + key: {"$exists": False}}]))
    if plain:
        parts.append({key: {"$in": plain}})
    return either(parts + [equal(key, value) for value in listed if not is_plain(value)])


def missing(key: str) -> Condition:
    """The field is not there, or None."""
    return either([{JSON + key: {"$eq": "null"}},
                   both([{key: {"$exists": False}}, {JSON + key: {"$exists": False}}])])


def contains(key: str, value: Any) -> Condition:
    """The field is a list with `value` in it."""
    inside: Condition = {key: {"$eq": value}} if isinstance(value, str) else {HAS + key: {"$eq": as_json(value)}}
    mixed: Condition = {HAS + key: {"$eq": as_json(value)}}
    return both([{JSON + key: {"$exists": True}}, either([inside, mixed] if inside != mixed else [inside])])


def compared(key: str, name: str, value: Any) -> Condition:
    """`$gt`, `$gte`, `$lt` or `$lte` with a number or a date; nothing compares with None.

    Raises `InvalidInput` for anything else.
    """
    if value is None:
        return NOTHING
    when = moment(value)
    if when is not None:
        return _compared_moment(key, name, when)
    if isinstance(value, bool | str | Mapping) or not is_plain(value):
        raise InvalidInput(f"filter on {key!r:.80}: {name} needs a number or a date, not {value!r:.80}.",
                           remedy="Dates are ISO 8601 text or datetime objects.")
    return {key: {name: value}}


def _compared_moment(key: str, name: str, when: Moment) -> Condition:
    """By UTC where both name their zone; else as their clocks show."""
    by_clock: Condition = {CLOCK + key: {name: when.clock}}
    if when.utc is None:
        return by_clock
    return either([{TIME + key: {name: when.utc}}, both([{TIME + key: {"$exists": False}}, by_clock])])
