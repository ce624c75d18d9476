"""Which documents hold the words of a query, and how well: BM25 in each field by itself, added up over the fields.

The store's own index knows all texts of a document as one. It finds whatever may match; this scores what it found,
field by field. Counts of a term are exact, since nothing that holds one of the words is missing; the average length of
a field is that of the documents found. Formula: `madang.index.lexical`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from madang.text.analyzer import Analyzer
from madang.wire.lucene import Tree, Words

_K1, _B = 1.2, 0.75


@dataclass(frozen=True, slots=True)
class Found:
    """A document: its texts by field."""

    id: str
    texts: Mapping[str, str]


class Scoring:
    """Scores documents for one query. `total` counts all documents of the namespace, found or not."""

    def __init__(self, documents: Sequence[Found], fields: Sequence[str], analyzer: Analyzer, total: int) -> None:
        self._documents, self._fields, self._analyzer = documents, fields, analyzer
        self._total = max(total, len(documents))
        self._read: dict[str, tuple[list[dict[str, float]], list[float], float]] = {}

    def _field(self, name: str) -> tuple[list[dict[str, float]], list[float], float]:
        """The weighted terms of each document in a field, their lengths, and the average length of those it has."""
        if name not in self._read:
            rows = self._analyzer.index_terms([each.texts.get(name, "") for each in self._documents])
            lengths = [sum(row.values()) for row in rows]
            having = [length for length in lengths if length]
            self._read[name] = rows, lengths, sum(having) / len(having) if having else 1.0
        return self._read[name]

    def best(self, tree: Tree, top_k: int) -> list[tuple[str, float]]:
        """Ids and scores of the documents that match, best first; equal ones by id."""
        scores = self._score(tree)
        matched = [(each.id, score) for each, score in zip(self._documents, scores, strict=True) if score is not None]
        return sorted(matched, key=lambda pair: (-pair[1], pair[0]))[:top_k]

    def _score(self, tree: Tree) -> list[float | None]:
        """Of each document its score, None where it does not match."""
        if isinstance(tree, Words):
            return self._words(tree)
        may, must, never = ([self._score(part) for part in parts] for parts in (tree.may, tree.must, tree.never))
        result: list[float | None] = []
        for place in range(len(self._documents)):
            needed = [column[place] for column in must]
            there = [score for column in may if (score := column[place]) is not None]
            matches = (None not in needed and (bool(must) or bool(there))
                       and all(column[place] is None for column in never))
            result.append(sum(score or 0.0 for score in (*needed, *there)) if matches else None)
        return result

    def _words(self, words: Words) -> list[float | None]:
        fields = [name for name in self._fields if words.fields is None or name in words.fields]
        wanted = self._analyzer.query_terms(words.text)
        total: list[float | None] = [None] * len(self._documents)
        for name in fields:
            rows, lengths, average = self._field(name)
            rarity = {term: self._rarity(sum(term in row for row in rows)) for term in wanted}
            for place, row in enumerate(rows):
                shared = wanted.keys() & row.keys()
                if not shared or (words.phrase and not holds_phrase(self._documents[place].texts.get(name, ""),
                                                                    words.text, self._analyzer)):
                    continue
                room = _K1 * (1 - _B + _B * lengths[place] / average)
                score = sum(wanted[term] * rarity[term] * row[term] / (row[term] + room) for term in shared)
                total[place] = (total[place] or 0.0) + words.boost * score
        return total

    def _rarity(self, count: int) -> float:
        return math.log(1 + (self._total - count + 0.5) / (count + 0.5))


def holds_phrase(text: str, phrase: str, analyzer: Analyzer) -> bool:
    """Whether the phrase's words stand in the text one after another, however they are inflected."""
    wanted = [token.term for token in analyzer.tokens(phrase)]
    there = [token.term for token in analyzer.tokens(text)]
    return bool(wanted) and any(there[start:start + len(wanted)] == wanted
                                for start in range(len(there) - len(wanted) + 1))


def holds_words(text: str, words: str, analyzer: Analyzer, every: bool) -> bool:
    """Whether all, or any, of some words are in the text."""
    wanted = {token.term for token in analyzer.tokens(words)}
    there = {token.term for token in analyzer.tokens(text)}
    return bool(wanted) and (wanted <= there if every else bool(wanted & there))
