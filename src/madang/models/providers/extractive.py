"""The extractive reader: picks and orders the sentences of the passages that answer a question.

It is not a language model: it quotes, it does not write. Each sentence is scored by the share of the question's
words it holds, by BM25 among the candidate sentences, by the cosine of the static embedder (for languages it knows)
and by the rank of its passage. Whether the passages answer at all is a logistic model on the best of these figures,
fitted and calibrated by `scripts/models/reader.py`; its numbers live in `bundled/reader/config.json`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from madang.base.messages import Passage
from madang.index.lexical import Lexical
from madang.models.protocol import Embedder, Evidence, Reading
from madang.text import languages, sentences
from madang.text.analyzer import Analyzer, default_analyzer

# Words that ask and do not name what is asked for; the analyzer's stems of them are left out of the coverage.
_ASKING = {
    "en": "a an and any are as at be been being by can could did do does doing done for from get give given gives had "
          "happen happens has have how i if in into is it its let long many may me might much must my of on or our out "
          "shall should so some tell than that the their them then there these they this those to up us use used uses "
          "using want was way we were what when where whether which while who whom whose why will with without would "
          "you your",
    "ko": "것 거 수 때 무엇 뭐 무슨 어떤 어떻게 어디 어디서 어느 언제 왜 누가 누구 얼마 얼마나 몇 하나요 있나요 "
          "되나요 인가요 할 하면 하려면 대해 대하여 경우 방법 어떻 하 되 있 없 않 알",
}
_WORD = re.compile(r"\w+")
FEATURES = ("coverage", "passage_coverage", "similarity", "passage_similarity")


@dataclass(frozen=True, slots=True)
class _Sentence:
    passage: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Scores:
    """Per sentence, float64 (n,): what `ExtractiveReader.score` measured; `features` sums the best of them up."""

    spans: list[_Sentence]
    coverage: NDArray[np.float64]
    heading: NDArray[np.float64]       # share of the question's words in the headings above, not in the sentence
    bm25: NDArray[np.float64]
    similarity: NDArray[np.float64]
    features: NDArray[np.float64]      # (len(FEATURES),)
    known_language: bool


class ExtractiveReader:
    """`bundled/reader`. Deterministic; milliseconds for a handful of passages."""

    name = "bundled/reader"

    def __init__(self, embedder: Embedder, analyzer: Analyzer | None = None,
                 config: dict[str, Any] | None = None) -> None:
        self._embedder = embedder
        self._given_analyzer = analyzer
        self._config = bundled_config() if config is None else config

    @property
    def analyzer(self) -> Analyzer:
        return self._given_analyzer or default_analyzer()

    def read(self, question: str, passages: Sequence[Passage]) -> Reading:
        """The sentences that answer, best passage first and in reading order within a passage."""
        scores = self.score(question, passages)
        kind = self._config["known" if scores.known_language else "foreign"]
        if not scores.spans:
            return Reading([], 0.0, kind["threshold"])
        logit = float(np.dot(kind["weights"], scores.features)) + kind["bias"]
        probability = 1.0 / (1.0 + math.exp(-max(-50.0, min(50.0, logit))))
        return Reading(self.pick(scores, passages), probability, kind["threshold"])

    def score(self, question: str, passages: Sequence[Passage]) -> Scores:
        """Measure every sentence of the passages against the question."""
        spans = [_Sentence(number, start, end) for number, passage in enumerate(passages)
                 for start, end in sentences.split(passage.text)]
        known = languages.detect(question) in (self._embedder.languages or {languages.detect(question)})
        if not spans:
            empty = np.empty(0)
            return Scores([], empty, empty, empty, empty, np.zeros(len(FEATURES)), known)
        texts = [passages[s.passage].text[s.start:s.end] for s in spans]
        wanted = content_terms(question, self.analyzer)
        analyzed = self.analyzer.index_terms(texts)
        covered = coverage(wanted, analyzed)
        headings = self.analyzer.index_terms([f"{p.title} {p.location.heading}" for p in passages])
        above = [{term: weight for term, weight in headings[span.passage].items() if term not in terms}
                 for span, terms in zip(spans, analyzed, strict=True)]
        whole = [dict(terms) for terms in headings]
        for span, terms in zip(spans, analyzed, strict=True):
            whole[span.passage].update(terms)
        similarity = np.zeros(len(spans))
        passage_similarity = np.zeros(len(passages))
        if known:
            vectors = self._embedder.embed([question, *texts, *(p.text for p in passages)], "query").astype(np.float64)
            similarity = vectors[1:1 + len(texts)] @ vectors[0]
            passage_similarity = vectors[1 + len(texts):] @ vectors[0]
        features = np.array([covered.max(), coverage(wanted, whole).max(), similarity.max(),
                             passage_similarity.max()])
        return Scores(spans, covered, coverage(wanted, above), bm25(wanted, analyzed), similarity, features, known)

    def pick(self, scores: Scores, passages: Sequence[Passage], mix: dict[str, Any] | None = None) -> list[Evidence]:
        """The best sentences, in reading order within a passage; `mix` says how the measures are weighed."""
        mix = mix or self._config["sentence"]
        rank = np.array([1.0 / (1 + span.passage) for span in scores.spans])
        length = np.array([span.end - span.start for span in scores.spans])
        # A heading or a fragment repeats the question's words without answering; a sentence needs some length.
        substance = np.minimum(1.0, length / mix["full_length"])
        total = substance * (mix["coverage"] * scores.coverage + mix["heading"] * scores.heading
                             + mix["bm25"] * scores.bm25 + mix["similarity"] * scores.similarity + mix["rank"] * rank)
        order = np.argsort(-total, kind="stable")
        best = float(total[order[0]])
        chosen = [int(i) for i in order[:mix["sentences"]] if total[i] >= mix["keep"] * best]
        texts = set[str]()
        unique = []
        for i in chosen:  # the same sentence in two passages is said once
            span = scores.spans[i]
            text = " ".join(_WORD.findall(passages[span.passage].text[span.start:span.end].casefold()))
            if text not in texts:
                texts.add(text)
                unique.append(i)
        first: dict[int, int] = {}
        for position, i in enumerate(unique):
            first.setdefault(scores.spans[i].passage, position)
        unique.sort(key=lambda i: (first[scores.spans[i].passage], scores.spans[i].start))
        return [Evidence(scores.spans[i].passage, scores.spans[i].start, scores.spans[i].end, float(total[i]))
                for i in unique]


def content_terms(question: str, analyzer: Analyzer) -> dict[str, float]:
    """The terms of a question without those that only ask, or all where there are no others; with their weights."""
    terms = analyzer.query_terms(question)
    asking = _asking_terms(analyzer)
    return {term: weight for term, weight in terms.items() if term not in asking} or terms


def coverage(wanted: dict[str, float], analyzed: Sequence[dict[str, float]]) -> NDArray[np.float64]:
    """The share of the question's term weight that each text holds, 0 to 1."""
    total = sum(wanted.values()) or 1.0
    return np.array([sum(weight for term, weight in wanted.items() if term in terms) / total for terms in analyzed])


def bm25(wanted: dict[str, float], analyzed: Sequence[dict[str, float]]) -> NDArray[np.float64]:
    """BM25 of each text among all of them, divided by the best; 0 to 1."""
    vocabulary: dict[str, int] = {}
    ids = [[vocabulary.setdefault(term, len(vocabulary)) for term in terms] for terms in analyzed]
    index = Lexical()
    index.add(np.arange(len(analyzed), dtype=np.int64),
              np.concatenate([[0], np.cumsum([len(row) for row in ids])]).astype(np.int64),
              np.array([term for row in ids for term in row], dtype=np.int64),
              np.array([weight for terms in analyzed for weight in terms.values()], dtype=np.float32))
    known = [(vocabulary[term], weight) for term, weight in wanted.items() if term in vocabulary]
    scores = np.zeros(len(analyzed))
    rows, found = index.search(np.array([term for term, _ in known], dtype=np.int64),
                               np.array([weight for _, weight in known], dtype=np.float32), len(analyzed), None)
    scores[rows] = found
    return scores / scores.max() if scores.any() else scores


@cache
def _asking_terms(analyzer: Analyzer) -> frozenset[str]:
    return frozenset(term for words in _ASKING.values() for word in words.split()
                     for term in analyzer.query_terms(word))


@cache
def bundled_config() -> dict[str, Any]:
    """The fitted numbers that ship with the package."""
    text = files("madang.models").joinpath("bundled/reader/config.json").read_text(encoding="utf-8")
    config: dict[str, Any] = json.loads(text)
    return config
