"""Filter trees as Milvus's expressions, over the shadow of the metadata (`madang.store.backends.shadow`).

Milvus has parameters for expressions, but the server inside milvus-lite does not know them. So nothing that a caller
gave is ever written into an expression: only digests and encodings of it, which are hexadecimal digits.
"""

from __future__ import annotations

from collections.abc import Iterable

from madang.store.backends import shadow
from madang.store.filters import All, Condition, Either, Tree

TOKENS, NUMBERS, SPACE, KEY = "tokens", "numbers", "space", "key"
EVERYTHING, NOTHING = f'{KEY} != ""', f'{KEY} == ""'
_SIGNS = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}


def space(namespace: str) -> str:
    """A namespace's digest: the column `space`, and the beginning of each key in it."""
    return shadow.digest(namespace)


def key(namespace: str, identity: str) -> str:
    """The primary key: keys of one namespace sort as its ids do, code point by code point."""
    return space(namespace) + identity.encode().hex()


def identity(key: str) -> str:
    """The id in a primary key."""
    return bytes.fromhex(key[32:]).decode()


def within(namespace: str, tree: Tree | None = None) -> str:
    """The records of a namespace that the tree matches."""
    only = f'{SPACE} == "{space(namespace)}"'
    return only if tree is None else f"{only} and ({compiled(tree)})"


def listed(namespace: str, prefix: str, after: str | None) -> str:
    """The records of a namespace whose ids begin so, after an id. "g" comes after every hexadecimal digit."""
    first = key(namespace, prefix)
    condition = f'{KEY} >= "{first}" and {KEY} < "{first}g"'
    return condition if after is None else f'{condition} and {KEY} > "{key(namespace, after)}"'


def compiled(tree: Tree) -> str:
    """The expression that passes exactly the records the tree matches."""
    if isinstance(tree, All):
        return " and ".join(f"({compiled(part)})" for part in tree.parts) or EVERYTHING
    if isinstance(tree, Either):
        return _either(tree)
    return _condition(tree)


def _either(tree: Either) -> str:
    """All equalities become one test, so that thousands of them do not exhaust the engine's parser."""
    equal = [part for part in tree.parts if isinstance(part, Condition) and part.name in ("$eq", "$in")]
    others = [part for part in tree.parts if not (isinstance(part, Condition) and part.name in ("$eq", "$in"))]
    parts = [compiled(part) for part in others]
    if equal:
        parts.append(_holds(token for part in equal for token in _equal_tokens(part)))
    return " or ".join(f"({part})" for part in parts)


def _equal_tokens(condition: Condition) -> list[str]:
    values = condition.operand if condition.name in ("$in", "$nin") else [condition.operand]
    return [shadow.token(condition.field, value) for value in values]


def _holds(tokens: Iterable[str]) -> str:
    digests = ", ".join(f'"{shadow.digest(token)}"' for token in dict.fromkeys(tokens))
    return f"array_contains_any({TOKENS}, [{digests}])" if digests else NOTHING


def _condition(condition: Condition) -> str:
    match condition.name:
        case "$exists":
            found, negated = _holds([shadow.exists(condition.field)]), not condition.operand
        case "$eq" | "$in":
            found, negated = _holds(_equal_tokens(condition)), False
        case "$ne" | "$nin":
            found, negated = _holds(_equal_tokens(condition)), True
        case _:
            name = shadow.digest(condition.field)
            return f'{NUMBERS}["{name}"] {_SIGNS[condition.name]} "{shadow.ordered(condition.operand)}"'
    return f"not ({found})" if negated else found
