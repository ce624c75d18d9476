"""Re-embedding: a collection gets the vectors of another model beside its own, both are compared, then it goes over.

The job commits batches, so it goes on where it was interrupted; nobody waits for it.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from madang.base import trace
from madang.base.errors import Conflict, InvalidInput, NotFound
from madang.base.records import Record
from madang.base.stats import Interval, PairedResult, bootstrap_mean, paired_test
from madang.models.protocol import Embedder
from madang.rag.retrieve import Mode, retrieve
from madang.store import Collection, Fusion
from madang.store.audit import CollectionAudit
from madang.store.protocol import Queryable
from madang.store.shadow import AT_ONCE, ShadowStats
from madang.store.writing import indexed_text
from madang.workspace.questions import Question
from madang.workspace.ranking import ndcg, overlap, rank_biased_overlap

TextOf: TypeAlias = Callable[[Record], str]
Progress: TypeAlias = Callable[[int, int], None]     # records that have a vector, and of how many

_FEW = 30              # queries: with less, an interval says little
_NO_QUERIES = ("no queries were asked or given: nothing was compared. Give some with queries=... (--queries FILE), or "
               "search for a while first")


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two: its model, how good it was, and what it costs."""

    embedder: str
    dim: int
    index: str
    ndcg: Interval | None          # nDCG@k over the judged queries
    recall: float                  # share of the exact k nearest that its index finds; 1 where all search is exact
    query_ms: float | None         # to embed a query and to search: the median
    size_bytes: int                # of its vectors and its index on disk


@dataclass(frozen=True, slots=True)
class ReembedReport:
    """What a re-embedding did, and how the two models compare; intervals are 95 %, by bootstrap over the queries."""

    collection: str
    embedded: int                  # records embedded by this run
    reused: int                    # records that an earlier run had embedded
    characters: int                # that this run embedded
    seconds: float                 # spent embedding and storing
    top_k: int
    mode: str
    queries: int
    judged: int
    new: Side
    old: Side | None               # None where the collection holds vectors of your own
    gain: PairedResult | None      # nDCG of the new less that of the old, over the judged queries
    overlap: Interval | None       # share of the first k that both find
    agreement: Interval | None     # rank-biased overlap, p = 0.9
    notes: tuple[str, ...] = ()

    @property
    def texts_per_second(self) -> float:
        return self.embedded / self.seconds if self.seconds else 0.0

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it: an interval that has no bounds, of a single query, has none there."""
        told: dict[str, Any] = _finite({**asdict(self), "texts_per_second": round(self.texts_per_second, 1)})
        return told


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


@dataclass(frozen=True, slots=True)
class Turned:
    """A cut-over or a roll-back: what is searched now, what it was, and how many records were embedded for it."""

    collection: str
    embedder: str | None
    before: str | None
    embedded: int


def build(target: Collection, model: Embedder, *, text_of: TextOf | None = None, index: Any = None, batch: int = 512,
          progress: Progress | None = None) -> tuple[int, int, float]:
    """Give every record a vector by `model` in the shadow, going on with what there is: (records, characters, seconds).

    Raises `InvalidInput` where there is nothing to embed, before anything is changed, and `Conflict` while another job
    works on the collection or where that could still be rolled back.
    """
    if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
        raise InvalidInput(f"batch must be a whole number from 1, not {batch!r}.")
    _check_texts(target, model, text_of)
    with target.shadow.working(), trace.span("reembed", collection=target.name, model=model.name):
        stats = target.shadow.begin(model.dim, model.signature, index)
        done = _embed_lacking(target, model, text_of, batch, stats, progress)
        target.shadow.wait_until_indexed()
    return done


def _check_texts(target: Collection, model: Embedder, text_of: TextOf | None) -> None:
    if target.embedder == model.signature:
        raise InvalidInput(f"collection {target.name!r} is embedded with {model.signature} already.",
                           remedy="Name another model.")
    if not target.stats().records:
        raise InvalidInput(f"collection {target.name!r} holds no records to embed.", remedy="Ingest something first.")
    without, example = target.shadow.without_document()
    if without and text_of is None:
        raise InvalidInput(f"{without:,} records of collection {target.name!r} have no document to embed, "
                           f"{example!r:.60} for one.",
                           remedy="Give text_of=..., a function from a record to its text, or write their documents.")


def _embed_lacking(target: Collection, model: Embedder, text_of: TextOf | None, batch: int, stats: ShadowStats,
                   progress: Progress | None) -> tuple[int, int, float]:
    shadow, after, embedded, characters, started = target.shadow, 0, 0, 0, time.perf_counter()

    ready, total = stats.records, stats.records + stats.missing

    def more(count: int) -> None:
        nonlocal ready
        ready += count
        if progress is not None:
            progress(min(ready, total), total)

    more(0)
    while lacking := shadow.lacking(batch, after):
        texts = [text_for(each.record, text_of) for each in lacking]
        vectors = model.embed(texts, "document", more)      # nobody is kept waiting by this
        embedded += shadow.put([each.row for each in lacking], vectors)
        characters += sum(map(len, texts))
        after, total = lacking[-1].row, max(total, ready)
        if len(lacking) < batch:        # those that came since are few, and the cut-over takes them along
            break
    return embedded, characters, time.perf_counter() - started


def text_for(record: Record, text_of: TextOf | None) -> str:
    """What is embedded of a record: what ingest embedded, or what the caller says."""
    if text_of is not None:
        text = text_of(record)
        if not isinstance(text, str):
            raise InvalidInput(f"text_of gave {text!r:.80} for record {record.id!r:.60}.", remedy="It must give text.")
        return text
    if record.document is None:
        raise InvalidInput(f"record {record.id!r:.60} has no document to embed.",
                           remedy="It was written meanwhile: give it one, or give text_of=....")
    return indexed_text(record.document, record.context)


# Comparing

@dataclass(slots=True)
class _Asked:
    """What one side answered: ids of each question, times, and the questions' vectors."""

    ids: list[list[str]]
    ms: list[float]
    vectors: NDArray[np.float32]


def compare(target: Collection, old: Embedder | None, new: Embedder, questions: Sequence[Question], *, top_k: int = 10,
            mode: Mode = "hybrid", fusion: Fusion | None = None, done: tuple[int, int, float] = (0, 0, 0.0),
            notes: Sequence[str] = ()) -> ReembedReport:
    """Ask both sides the same, and report."""
    stats = target.shadow.stats()
    if stats is None:
        raise NotFound(f"collection {target.name!r} has no shadow.", remedy="Re-embed it first.")
    theirs = _ask(target.shadow, new, questions, top_k, mode, fusion)
    side = Side(new.signature, stats.dim, stats.index, _judged(questions, theirs, top_k),
                _recall(target.shadow.audit(_or_none(theirs.vectors), top_k)), _median(theirs.ms), stats.size_bytes)
    mine, before = None, None
    if old is not None:
        live = target.shadow.live
        mine = _ask(live, old, questions, top_k, mode, fusion)
        told = target.stats()
        before = Side(old.signature, told.dim, told.index, _judged(questions, mine, top_k),
                      _recall(live.audit(_or_none(mine.vectors), top_k)), _median(mine.ms), live.size_bytes())
    embedded, characters, seconds = done
    gain = _gain(questions, mine, theirs, top_k) if mine is not None else None
    pairs = list(zip(mine.ids, theirs.ids, strict=True)) if mine is not None else []
    said = [*notes, *([] if questions else [_NO_QUERIES]),
            *([f"{len(questions)} queries are few: the intervals are wide"] if 0 < len(questions) < _FEW else [])]
    return ReembedReport(
        target.name, embedded, max(0, stats.records - embedded), characters, round(seconds, 3), top_k, mode,
        len(questions), sum(bool(question.relevant) for question in questions), side, before, gain,
        bootstrap_mean([overlap(a, b, top_k) for a, b in pairs]) if pairs else None,
        bootstrap_mean([rank_biased_overlap(a, b) for a, b in pairs]) if pairs else None, tuple(said))


def _ask(side: Queryable, model: Embedder, questions: Sequence[Question], top_k: int, mode: Mode,
         fusion: Fusion | None) -> _Asked:
    ids, times = [], []
    for number, question in enumerate(questions):
        if not number:      # what is loaded by a first question is no part of asking it
            retrieve(question.text, side, model, top_k=top_k, mode=mode, fusion=fusion)
        started = time.perf_counter()
        found = retrieve(question.text, side, model, top_k=top_k, mode=mode, fusion=fusion)
        times.append((time.perf_counter() - started) * 1000)
        ids.append([passage.id for passage in found.passages])
    return _Asked(ids, times, model.embed([question.text for question in questions], "query"))


def _judged(questions: Sequence[Question], asked: _Asked, top_k: int) -> Interval | None:
    scores = _scores(questions, asked, top_k)
    return bootstrap_mean(scores) if scores else None


def _scores(questions: Sequence[Question], asked: _Asked, top_k: int) -> list[float]:
    return [ndcg(ids, question.relevant, top_k) for question, ids in zip(questions, asked.ids, strict=True)
            if question.relevant]


def _gain(questions: Sequence[Question], old: _Asked, new: _Asked, top_k: int) -> PairedResult | None:
    before, after = _scores(questions, old, top_k), _scores(questions, new, top_k)
    return paired_test(after, before) if before else None


def _recall(audit: CollectionAudit) -> float:
    """Without a filter."""
    return 1.0 if audit.index is None else max(audit.index.buckets, key=lambda bucket: bucket.selectivity).recall


def _or_none(vectors: NDArray[np.float32]) -> NDArray[np.float32] | None:
    return vectors if len(vectors) else None


def _median(times: Sequence[float]) -> float | None:
    return round(statistics.median(times), 3) if times else None


# Over and back

def turn(target: Collection, model_of: Callable[[str], Embedder], back: bool, text_of: TextOf | None = None) -> Turned:
    """Search with the shadow: `back` to what was searched before, else over to what was made.

    What was written since the shadow was built is embedded first, by the model of the shadow. Raises `NotFound` where
    there is no shadow, `Conflict` where the other direction is meant.
    """
    with target.shadow.working():
        stats = target.shadow.stats()
        name, before, embedded = target.name, target.embedder, 0
        if stats is None:
            raise NotFound(f"collection {name!r} has nothing to {'roll back' if back else 'cut over'} to.",
                           remedy=f"Make it with: madang collection reembed {name} --embedder MODEL")
        if stats.previous != back:
            raise Conflict(f"collection {name!r} {'was never cut over' if back else 'was cut over already'}: "
                           f"{stats.embedder} is {'only built' if back else 'what it was before'}.",
                           remedy=f"Did you mean: madang collection {'cut-over' if back else 'roll-back'} {name}")

        def finish(records: list[Record]) -> NDArray[np.float32]:
            texts = [text_for(record, text_of) for record in records]
            return _of_shadow(target, stats, model_of).embed(texts, "document")

        if stats.missing:
            # A first try with many lacking would keep writers waiting: so they are embedded beside them.
            embedded, _, _ = _embed_lacking(target, _of_shadow(target, stats, model_of), text_of, 512, stats, None)
        target.shadow.wait_until_indexed()      # its view is ready then, and the first query after is quick
        while True:
            try:
                return Turned(name, stats.embedder, before, embedded + target.shadow.swap(finish))
            except Conflict:                    # more than a few were written just now
                if len(target.shadow.lacking(AT_ONCE + 1)) <= AT_ONCE:
                    raise
                embedded += _embed_lacking(target, _of_shadow(target, stats, model_of), text_of, 512, stats, None)[0]


def _of_shadow(target: Collection, stats: ShadowStats, model_of: Callable[[str], Embedder]) -> Embedder:
    if stats.embedder is None:
        raise Conflict(f"{stats.missing:,} records of collection {target.name!r} have no vector of your own.",
                       remedy="They were written after the cut-over: delete them, or give their vectors with "
                              "collection.shadow.put.")
    model = model_of(stats.embedder.partition("@")[0])
    if model.signature != stats.embedder:
        raise Conflict(f"the shadow of collection {target.name!r} was made with {stats.embedder}, but this is "
                       f"{model.signature}.", remedy="Drop it and re-embed.")
    return model
