"""Texts to sparse vectors without a model: the analyzer's terms, weighed as BM25 weighs them.

An index is a hash of its term, so that it needs no vocabulary and is the same in every process. A passage's values are
BM25's saturated term frequencies (Robertson & Zaragoza, "The Probabilistic Relevance Framework", 2009, section 3.5) for
a fixed average length, since a text by itself knows no others; a query's are the weights of its terms, without those
that only ask. Their inner product is BM25 without the rarity of terms: a text by itself does not know what is rare.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

from madang.models.folder import checked_texts
from madang.models.protocol import EmbedKind
from madang.models.providers.extractive import content_terms
from madang.text.analyzer import Analyzer, default_analyzer

SPARSE_MODELS = ("pinecone-sparse-english-v0",)      # names of services that it stands for
_K1, _B = 1.2, 0.75
_AVERAGE = 100.0        # terms of a passage; of the guide's chunks: 96


@dataclass(frozen=True, slots=True)
class SparseText:
    """Parallel lists, by ascending index; `tokens` are the terms behind the indices."""

    indices: list[int]
    values: list[float]
    tokens: list[str]


class TermEmbedder:
    """`bundled/terms`. Deterministic; follows the installed analyzer, Korean included."""

    name = "bundled/terms"

    def __init__(self, analyzer: Analyzer | None = None) -> None:
        self._given_analyzer = analyzer

    def embed(self, texts: Sequence[str], kind: EmbedKind = "document") -> list[SparseText]:
        """One for each text; empty where a text has no terms. Raises `InvalidInput` for what is not text."""
        analyzer = self._given_analyzer or default_analyzer()
        kept = checked_texts(texts)
        if kind == "query":
            return [_sparse(content_terms(text, analyzer)) for text in kept]
        return [_sparse(_saturated(terms)) for terms in analyzer.index_terms(kept)]


def term_index(term: str) -> int:
    """The index of a term: 32 bits of BLAKE2b."""
    return int.from_bytes(blake2b(term.encode("utf-8", "replace"), digest_size=4).digest(), "little")


def _saturated(terms: dict[str, float]) -> dict[str, float]:
    length = sum(terms.values()) / _AVERAGE
    return {term: weight * (_K1 + 1) / (weight + _K1 * (1 - _B + _B * length)) for term, weight in terms.items()}


def _sparse(terms: dict[str, float]) -> SparseText:
    found: dict[int, tuple[float, str]] = {}
    for term, weight in terms.items():
        index = term_index(term)
        there = found.get(index)       # two terms of one hash are one
        found[index] = (weight, term) if there is None else (there[0] + weight, there[1])
    rows = sorted((index, weight, term) for index, (weight, term) in found.items() if weight > 0)
    return SparseText([row[0] for row in rows], [float(row[1]) for row in rows], [row[2] for row in rows])
