"""The bundled reranker: orders documents by the question's words they hold and by the similarity of their embeddings.

It is no cross-encoder: nothing reads question and document together. The share of the question's words that a document
holds ranks best by itself; the cosine of `bundled/minilm`, for languages it knows, and BM25 among the documents add to
it. The weights were chosen on every other question of `tests/data` and judged on the rest (see docs/log.md).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from madang.models.folder import checked_texts
from madang.models.protocol import Embedder
from madang.models.providers.extractive import bm25, content_terms, coverage
from madang.text import languages
from madang.text.analyzer import Analyzer, default_analyzer

_KNOWN = (1.0, 0.25, 1.0)        # weights of coverage, BM25 and similarity, in a language that the embedder knows
_FOREIGN = (0.5, 1.0, 0.0)       # and in another


class WordReranker:
    """`bundled/reranker`. Deterministic. Threads may share an instance."""

    name = "bundled/reranker"

    def __init__(self, embedder: Embedder, analyzer: Analyzer | None = None) -> None:
        self._embedder, self._given_analyzer = embedder, analyzer

    def rerank(self, query: str, documents: Sequence[str]) -> NDArray[np.float64]:
        """See `Reranker.rerank`; scores lie between 0 and 1. BM25 is taken among these documents, so that a score is
        to be compared with those of the same call only.

        Raises `InvalidInput` for what is not text.
        """
        asked, texts = checked_texts([query])[0], checked_texts(documents)
        if not texts:
            return np.empty(0)
        analyzer = self._given_analyzer or default_analyzer()
        wanted, analyzed = content_terms(asked, analyzer), analyzer.index_terms(texts)
        language = languages.detect(asked)
        known = language in (*self._embedder.languages, "und") or not self._embedder.languages
        by_coverage, by_bm25, by_meaning = _KNOWN if known else _FOREIGN
        scores = by_coverage * coverage(wanted, analyzed) + by_bm25 * bm25(wanted, analyzed)
        if by_meaning:
            direction = self._embedder.embed([asked], "query")[0].astype(np.float64)
            vectors = self._embedder.embed(texts).astype(np.float64)
            scores += by_meaning * np.clip(vectors @ direction, 0, 1)
        found: NDArray[np.float64] = scores / (by_coverage + by_bm25 + by_meaning)
        return found
