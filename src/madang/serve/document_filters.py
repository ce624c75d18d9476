"""Filters of documents: conditions on metadata, which the store knows, and on the words of texts, which it does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from madang.base.errors import InvalidInput
from madang.serve.document_text import holds_phrase, holds_words
from madang.text.analyzer import Analyzer
from madang.wire.pinecone_documents import Schema

_MATCH = ("$match_phrase", "$match_all", "$match_any")


@dataclass(frozen=True, slots=True)
class TextCondition:
    """What a field's text has to hold."""

    field: str
    operator: str
    words: str

    def met(self, texts: Mapping[str, str], analyzer: Analyzer) -> bool:
        """Whether a document's texts, by field, meet it."""
        text = texts.get(self.field, "")
        if self.operator == "$match_phrase":
            return holds_phrase(text, self.words, analyzer)
        return holds_words(text, self.words, analyzer, self.operator == "$match_all")


@dataclass(frozen=True, slots=True)
class Conditions:
    """`metadata` is a filter of the store, None for all; `texts` must be met besides."""

    metadata: Mapping[str, Any] | None = None
    texts: tuple[TextCondition, ...] = ()

    def met(self, texts: Mapping[str, str], analyzer: Analyzer) -> bool:
        """Whether a document's texts meet the conditions on them."""
        return all(condition.met(texts, analyzer) for condition in self.texts)


def split(where: Mapping[str, Any] | None, schema: Schema, texts: bool = True) -> Conditions:
    """A filter in its two parts; without `texts`, conditions on words are refused.

    Raises `InvalidInput` for words of a field that is not searched by them, and for any other condition on one that is.
    """
    plain: list[Mapping[str, Any]] = []
    words: list[TextCondition] = []

    def walk(node: Mapping[str, Any], alternatives: bool) -> None:
        for key, value in node.items():
            parts = value if key in ("$and", "$or") and isinstance(value, list) else ()
            for part in parts:
                if isinstance(part, Mapping):
                    walk(part, alternatives or key == "$or")
            if key.startswith("$"):
                if key != "$and" or not parts or not all(isinstance(part, Mapping) for part in parts):
                    (plain.append({key: value}) if not alternatives else None)
                continue
            found = _of_field(key, value, schema)
            if found and (alternatives or not texts):
                place = "within $or" if alternatives else "here"
                raise InvalidInput(f"filter: {found[0].operator} on {key!r:.60} is not served {place}.",
                                   remedy="Combine it by $and, in a search or a fetch.")
            words.extend(found)
            if not found and not alternatives:
                plain.append({key: value})

    walk(where or {}, False)
    return Conditions(None if not plain else plain[0] if len(plain) == 1 else {"$and": plain}, tuple(words))


def _of_field(name: str, value: object, schema: Schema) -> list[TextCondition]:
    """The conditions on words; none for a field of metadata."""
    operators = list(value) if isinstance(value, Mapping) else []
    asked = [each for each in operators if each in _MATCH]
    if name not in schema.searched:
        if asked:
            raise InvalidInput(f"filter: {asked[0]} needs a field that is searched by words; {name!r:.60} is not one.")
        return []
    assert isinstance(value, Mapping) or not operators
    if name not in schema.texts or not operators or len(asked) < len(operators):
        can = f"takes {', '.join(_MATCH)} only" if name in schema.texts else "cannot be filtered by"
        raise InvalidInput(f"filter: field {name!r:.60} is searched, and {can}.")
    found = []
    for operator in asked:
        words = value[operator]  # type: ignore[index]
        if not isinstance(words, str) or not words.strip():
            raise InvalidInput(f"filter: {operator} on {name!r:.60} needs words, not {words!r:.80}.")
        found.append(TextCondition(name, operator, words))
    return found
