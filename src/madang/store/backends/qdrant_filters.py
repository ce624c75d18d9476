"""Filter trees as Qdrant's filters, over the shadow of the metadata (`madang.store.backends.shadow`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qdrant_client import models

from madang.store.backends import shadow
from madang.store.filters import All, Condition, Either, Tree

TOKENS, NEAREST, REST = "tokens", "nearest", "rest"
_NO_TOKEN = "="                     # every token begins with a field's key


def compiled(tree: Tree) -> models.Filter:
    """The filter that passes exactly the records the tree matches."""
    if isinstance(tree, All):
        return models.Filter(must=[compiled(part) for part in tree.parts]) if tree.parts else _everything()
    if isinstance(tree, Either):
        return models.Filter(should=[compiled(part) for part in tree.parts])
    return _condition(tree)


def matching(namespace: str, tree: Tree | None) -> models.Filter:
    """The records of a namespace that the tree matches."""
    within: list[Any] = [of(("namespace", namespace))]
    return models.Filter(must=within if tree is None else [*within, compiled(tree)])


def of(*pairs: tuple[str, str]) -> models.Filter:
    """Exact values of payload fields."""
    return models.Filter(must=[models.FieldCondition(key=key, match=models.MatchValue(value=value))
                               for key, value in pairs])


def _everything() -> models.Filter:
    return models.Filter(must_not=[_holds([])])


def _holds(tokens: Sequence[str]) -> models.FieldCondition:
    return models.FieldCondition(key=TOKENS, match=models.MatchAny(any=list(tokens) or [_NO_TOKEN]))


def _condition(condition: Condition) -> models.Filter:
    field, operand = condition.field, condition.operand
    match condition.name:
        case "$exists":
            found, negated = _holds([shadow.exists(field)]), not operand
        case "$eq" | "$ne":
            found, negated = _holds([shadow.token(field, operand)]), condition.name == "$ne"
        case "$in" | "$nin":
            found, negated = _holds([shadow.token(field, item) for item in operand]), condition.name == "$nin"
        case _:
            return _compared(shadow.key(field), condition.name.removeprefix("$"), operand)
    return models.Filter(must_not=[found]) if negated else models.Filter(must=[found])


def _compared(key: str, name: str, operand: int | float) -> models.Filter:
    """A comparison by the nearest doubles; where whole numbers share one, by what is left of them."""
    nearest, rest = shadow.split(operand)
    if not shadow.has_rest(nearest):
        return models.Filter(must=[_range(NEAREST, key, **{name: nearest})])
    strictly = name.removesuffix("e")
    return models.Filter(should=[
        _range(NEAREST, key, **{strictly: nearest}),
        models.Filter(must=[_range(NEAREST, key, gte=nearest, lte=nearest), _range(REST, key, **{name: rest})])])


def _range(part: str, key: str, **bounds: float) -> models.FieldCondition:
    return models.FieldCondition(key=f"{part}.{key}", range=models.Range(**bounds))
