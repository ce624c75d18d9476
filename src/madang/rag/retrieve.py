"""A question to passages: dense and BM25 rankings fused, leaning on words where the embedder knows no better."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from madang.base import trace
from madang.base.errors import InvalidInput
from madang.base.messages import Location, Passage
from madang.base.records import Filter, Match, Plan
from madang.models.protocol import Embedder
from madang.store.fusion import Fusion
from madang.store.protocol import Queryable
from madang.text import languages

Mode = Literal["hybrid", "dense", "bm25"]
MODES: tuple[Mode, ...] = ("hybrid", "dense", "bm25")

# In a language the embedder does not know its ranking is close to noise: it only fills up what BM25 leaves empty.
FOREIGN_DENSE_WEIGHT = 0.05
_NAMES = {"ko": "Korean", "ja": "Japanese", "zh": "Chinese", "en": "English"}


@dataclass(frozen=True, slots=True)
class Retrieved:
    """Passages, best first; the plan that found them; what the reader of an answer should know about it."""

    passages: list[Passage]
    plan: Plan
    notes: list[str]


def retrieve(question: str, collection: Queryable, embedder: Embedder | None, *, top_k: int = 8,
             fusion: Fusion | None = None, mode: Mode = "hybrid", filter: Filter | None = None,  # noqa: A002
             namespace: str = "") -> Retrieved:
    """The `top_k` passages for a question. Mode "bm25" needs no embedder.

    Raises:
        InvalidInput: an empty question, an unknown mode, or no embedder where one is needed.
    """
    if not isinstance(question, str) or not question.strip():
        raise InvalidInput("the question is empty.", remedy="Ask something.")
    if mode not in MODES:
        raise InvalidInput(f"mode {mode!r} is unknown.", remedy=f"Known: {', '.join(MODES)}.")
    if mode != "bm25" and embedder is None:
        raise InvalidInput(f"mode {mode!r} needs an embedder.", remedy='Give one, or use mode "bm25".')
    fusion, note = weighed(fusion or Fusion(), embedder, question, mode)
    notes = [] if note is None else [note]
    vector = None
    if mode != "bm25" and embedder is not None:
        with trace.span("embed"):
            vector = embedder.embed([question], "query")[0]
    with trace.span("search"):
        result = collection.query(vector=vector, text=None if mode == "dense" else question, top_k=top_k,
                                  namespace=namespace, filter=filter, include_document=True, fusion=fusion)
    return Retrieved([_passage(match) for match in result.matches], result.plan, notes)


def weighed(fusion: Fusion, embedder: Embedder | None, question: str,
            mode: Mode = "hybrid") -> tuple[Fusion, str | None]:
    """How much an embedder's ranking counts for this question beside BM25's, and what the reader should know of it."""
    if embedder is None:
        return fusion, None
    fusion = replace(fusion, dense=fusion.dense * embedder.dense_weight)
    language, known = languages.detect(question), embedder.languages
    if mode != "hybrid" or not known or language in (*known, "und"):
        return fusion, None
    made_for = ", ".join(_NAMES.get(code, code) for code in sorted(known))
    return (replace(fusion, dense=fusion.dense * FOREIGN_DENSE_WEIGHT, lexical=fusion.lexical or 1.0),
            f"The question is in {_NAMES.get(language, language)}, but {embedder.name} was made for {made_for}: "
            "passages were found by words (BM25), hardly by meaning.")


def _passage(match: Match) -> Passage:
    """A match as a passage; records that were not made by ingest have no source and count as their own."""
    found = match.metadata or {}
    text = match.document or ""
    start, line, page = found.get("start"), found.get("line"), found.get("page")
    start = start if isinstance(start, int) else 0
    return Passage(match.id, text, match.score, str(found.get("source", "")), start, start + len(text),
                   Location(line if isinstance(line, int) else 1, page if isinstance(page, int) else None,
                            str(found.get("heading", ""))), str(found.get("title", "")))
