"""LlamaIndex's metadata filters as conditions of ours. They mean what they mean to LlamaIndex's own store in memory,
and more: `MetadataFilters` may stand within each other; dates compare; a value of None asks for fields that are missing
or None; `contains`, `any` and `all` look into lists, and a text counts as a list of itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from llama_index.core.vector_stores.types import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters

from madang.base.errors import InvalidInput
from madang.integrations import conditions
from madang.integrations.conditions import Condition
from madang.integrations.metadata import ID, JSON

REF_DOC = "_ref_doc:"        # the id of the document that a node was cut from
_NAMES = dict.fromkeys(("doc_id", "document_id", "ref_doc_id"), REF_DOC)      # as other stores call it
_ORDER = {FilterOperator.GT: "$gt", FilterOperator.GTE: "$gte", FilterOperator.LT: "$lt", FilterOperator.LTE: "$lte"}
Texts = Callable[[str], Iterable[str]]      # every text that a field has in the store

_IN_TEXT: dict[Any, Callable[[str], str]] = {FilterOperator.TEXT_MATCH: str,
                                             FilterOperator.TEXT_MATCH_INSENSITIVE: str.lower}


def compiled(filters: MetadataFilters | None, texts: Texts, node_ids: Sequence[str] | None = None,
             doc_ids: Sequence[str] | None = None) -> Condition:
    """The condition that filters, and lists of ids, stand for.

    Args:
        texts: asked for `text_match`, which no index serves: the texts that match are looked for one by one.

    Raises:
        InvalidInput: an operator with a value that it cannot take.
    """
    parts = [] if filters is None else [_several(filters, texts)]
    parts += [{key: {"$in": list(ids)}} for key, ids in ((ID, node_ids), (REF_DOC, doc_ids)) if ids is not None]
    return conditions.both(parts)


def _several(filters: MetadataFilters, texts: Texts) -> Condition:
    parts = [_several(part, texts) if isinstance(part, MetadataFilters) else _one(part, texts)
             for part in filters.filters]
    if not parts:
        return conditions.EVERYTHING
    condition = filters.condition or FilterCondition.AND
    if condition == FilterCondition.AND:
        return conditions.both(parts)
    found = conditions.either(parts)
    return found if condition == FilterCondition.OR else conditions.negated(found)


def _one(part: MetadataFilter, texts: Texts) -> Condition:
    key, value, operator = _NAMES.get(part.key, part.key), part.value, part.operator
    if operator in _ORDER:
        return conditions.compared(key, _ORDER[operator], value)
    if operator in _IN_TEXT:
        if not isinstance(value, str):
            raise InvalidInput(f"filter on {key!r:.80}: {operator.value} needs text, not {value!r:.80}.")
        form = _IN_TEXT[operator]
        return conditions.one_of(key, [text for text in texts(key) if form(value) in form(text)])
    if operator == FilterOperator.IS_EMPTY:
        return conditions.either([conditions.missing(key), conditions.equal(key, ""), {JSON + key: {"$eq": "[]"}}])
    if operator in (FilterOperator.EQ, FilterOperator.NE):
        found = conditions.equal(key, value)
        return found if operator == FilterOperator.EQ else conditions.negated(found)
    if operator == FilterOperator.CONTAINS:
        return _inside(key, value)
    if not isinstance(value, list):
        raise InvalidInput(f"filter on {key!r:.80}: {operator.value} needs a list, not {value!r:.80}.")
    if operator in (FilterOperator.ANY, FilterOperator.ALL):
        inside = [_inside(key, item) for item in value]
        return conditions.either(inside) if operator == FilterOperator.ANY else conditions.both(inside)
    found = conditions.one_of(key, value)
    return found if operator == FilterOperator.IN else conditions.negated(found)


def _inside(key: str, value: Any) -> Condition:
    return conditions.either([conditions.contains(key, value), conditions.equal(key, value)]) \
        if isinstance(value, str) else conditions.contains(key, value)
