"""Citations: numbered quotations whose offsets reproduce the quoted text, read back from the store and checked."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from madang.base.messages import Citation, Location, Passage
from madang.store.protocol import CollectionProtocol
from madang.text import sentences
from madang.text.analyzer import Analyzer

_MARK = re.compile(r"\[(\d{1,3})\]")
# Below this share of a claim's words found in the sentence it cites, the claim is reported as unsupported.
SUPPORT = 0.5


@dataclass(frozen=True, slots=True)
class Checked:
    """A model's answer after its citations were read back."""

    text: str                      # markers renumbered by first appearance; invented ones removed
    citations: list[Citation]
    notes: list[str]


def cite(number: int, passage: Passage, start: int, end: int) -> Citation:
    """The citation of passage.text[start:end], not yet verified."""
    quote = passage.text[start:end]
    line = passage.location.line + passage.text.count("\n", 0, start)
    where = Location(line, passage.location.page, passage.location.heading)
    return Citation(number, quote, passage.source, passage.start + start, passage.start + end, where, False,
                    passage.title)


def verify(citations: Sequence[Citation], collection: CollectionProtocol, namespace: str = "") -> list[Citation]:
    """Read every citation back from its source: `verified` is whether source text[start:end] equals the quote.

    Records that were upserted without a source cannot be read back and stay unverified.
    """
    texts: dict[str, str | None] = {}
    checked = []
    for citation in citations:
        if citation.source not in texts:
            source = collection.source(citation.source, namespace) if citation.source else None
            texts[citation.source] = source.text if source is not None else None
        text = texts[citation.source]
        good = text is not None and text[citation.start:citation.end] == citation.quote
        checked.append(replace(citation, verified=good))
    return checked


def check_answer(text: str, passages: Sequence[Passage], analyzer: Callable[[], Analyzer]) -> Checked:
    """Read back a chat model's answer that refers to `passages` as [1], [2], ...

    Each cited passage is quoted by the sentence that supports the claim best. A number that was not offered is
    removed and reported; so is a claim whose words its source hardly shares, and an answer without any citation.
    """
    citations: list[Citation] = []
    numbers: dict[tuple[int, int], int] = {}
    notes: list[str] = []
    invented: set[int] = set()
    pieces: list[str] = []
    position = 0
    for mark in _MARK.finditer(text):
        pieces.append(text[position:mark.start()])
        position = mark.end()
        offered = int(mark[1])
        if not 1 <= offered <= len(passages):
            invented.add(offered)
            continue
        claim = _claim_before(text, mark.start())
        start, end, support = _best_sentence(claim, passages[offered - 1].text, analyzer())
        key = (offered, start)
        if key not in numbers:
            numbers[key] = len(numbers) + 1
            citations.append(cite(numbers[key], passages[offered - 1], start, end))
        if support < SUPPORT:
            notes.append(f"Citation [{numbers[key]}] shares few words with what it is cited for: check it.")
        pieces.append(f"[{numbers[key]}]")
    pieces.append(text[position:])
    if invented:
        listed = ", ".join(f"[{number}]" for number in sorted(invented))
        notes.append(f"The model cited {listed}, which it was not given; removed.")
    if not citations:
        notes.append("The model cited nothing: treat this answer as unsupported by the documents.")
    return Checked("".join(pieces).strip(), citations, list(dict.fromkeys(notes)))


def _claim_before(text: str, end: int) -> str:
    """The sentence a marker stands at the end of, without its markers."""
    head = _MARK.sub(lambda mark: " " * len(mark[0]), text[:end])
    spans = sentences.split(head)
    return head[spans[-1][0]:spans[-1][1]] if spans else ""


def _best_sentence(claim: str, passage: str, analyzer: Analyzer) -> tuple[int, int, float]:
    """The span of the passage's sentence that shares most of the claim's words, and that share (0 to 1)."""
    spans = sentences.split(passage) or [(0, len(passage))]
    wanted = analyzer.query_terms(claim)
    total = sum(wanted.values())
    if not total:
        return (*spans[0], 1.0)
    best = (*spans[0], -1.0)
    for (start, end), terms in zip(spans, analyzer.index_terms([passage[s:e] for s, e in spans]), strict=True):
        share = sum(weight for term, weight in wanted.items() if term in terms) / total
        if share > best[2]:
            best = (start, end, share)
    return best
