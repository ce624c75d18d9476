"""Haystack's filters as conditions of ours. They mean what they mean to Haystack's own store in memory, with one
difference: true and 1 are not equal, as everywhere in Madang."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from haystack.errors import FilterError

from madang.base.errors import InvalidInput
from madang.integrations import conditions
from madang.integrations.conditions import Condition
from madang.integrations.metadata import ID
from madang.store import filters as language

_FIELDS = ("content", "blob", "score", "embedding", "sparse_embedding")
_ORDER = {">": "$gt", ">=": "$gte", "<": "$lt", "<=": "$lte"}
_COMPARISONS = ("==", "!=", *_ORDER, "in", "not in")
_LOGIC = ("AND", "OR", "NOT")


def compiled(filters: Mapping[str, Any] | None) -> Condition:
    """The condition that a filter of Haystack's stands for; of an empty one, everything. Raises `FilterError`."""
    if not filters:
        return conditions.EVERYTHING
    try:
        condition = _compiled(filters)
        language.parsed(condition)
    except InvalidInput as error:
        raise FilterError(str(error)) from error
    except RecursionError:
        raise FilterError("The filter is nested too deeply.") from None
    return condition


def _compiled(node: Any) -> Condition:
    if not isinstance(node, Mapping):
        raise FilterError(f"A filter must be a dictionary, not {node!r:.80}.")
    if "field" in node:
        return _comparison(node)
    operator, parts = _required(node, "operator"), _required(node, "conditions")
    if operator not in _LOGIC:
        raise FilterError(f"Unknown logical operator {operator!r:.40}. Known: {', '.join(_LOGIC)}.")
    if not isinstance(parts, list | tuple):
        raise FilterError(f"'conditions' must be a list, not {parts!r:.80}.")
    inner = [_compiled(part) for part in parts]
    if operator == "OR":
        return conditions.either(inner)
    return conditions.both(inner) if operator == "AND" else conditions.negated(conditions.both(inner))


def _comparison(node: Mapping[str, Any]) -> Condition:
    operator, value = _required(node, "operator"), _required(node, "value")
    if operator not in _COMPARISONS:
        raise FilterError(f"Unknown comparison operator {operator!r:.40}. Known: {', '.join(_COMPARISONS)}.")
    if operator in ("in", "not in") and not isinstance(value, list):
        raise FilterError(f"Operator {operator!r} needs a list, not {value!r:.80}.")
    key = _key(node["field"])
    if key is None:                                # a field that no document has
        absent = operator in ("==", "in") and (value is None if operator == "==" else None in value)
        absent |= operator in ("!=", "not in") and (value is not None if operator == "!=" else None not in value)
        return conditions.EVERYTHING if absent else conditions.NOTHING
    if operator in _ORDER:
        return conditions.compared(key, _ORDER[operator], value)
    found = conditions.equal(key, value, dates=True) if operator in ("==", "!=") else \
        conditions.one_of(key, value, dates=True)
    return found if operator in ("==", "in") else conditions.negated(found)


def _key(field: Any) -> str | None:
    """The name that a field has in a record's metadata; None where no document can have it."""
    if not isinstance(field, str) or not field:
        raise FilterError(f"'field' must be the name of a field, not {field!r:.80}.")
    if field == "id":
        return ID
    if field in _FIELDS:
        raise FilterError(f"Filters are on 'id' and on metadata ('meta.NAME'), not on {field!r}.")
    root, dot, rest = field.partition(".")
    if not dot:
        return None if field == "meta" else field   # filters of Haystack 1 have no prefix
    return rest if root == "meta" else None


def _required(node: Mapping[str, Any], key: str) -> Any:
    if key not in node:
        raise FilterError(f"{key!r} key missing in {node!r:.200}")
    return node[key]
