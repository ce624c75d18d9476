"""A query's way through the indexes and back to the records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from madang.base.errors import InvalidInput
from madang.base.records import Filter, Match, Plan, QueryResult, SparseVector, Vector
from madang.index import Metric
from madang.store import bitmaps, filters, validate
from madang.store.current import Current
from madang.store.dense import Found
from madang.store.fusion import Fusion, floors, fuse
from madang.store.reading import Reader
from madang.store.tail import Slots
from madang.store.told import Told
from madang.store.view import Reading, View
from madang.text.analyzer import Analyzer

_FUSION = Fusion()
_ALL = 2**31 - 1       # beyond the records of a collection


@dataclass(frozen=True, slots=True)
class Asked:
    """A query that was checked."""

    vector: NDArray[np.float32] | None
    words: str | None
    sparse: SparseVector | None
    metric: Metric
    k: int
    namespace: str
    filter: filters.Parsed | None
    fusion: Fusion
    target_recall: float | None
    metadata: bool
    values: bool
    document: bool

    @property
    def depth(self) -> int:
        """How many of each ranking are looked at."""
        if not self.several:
            return self.k
        return _ALL if self.fusion.method == "sum" else max(self.fusion.depth, self.k)

    @property
    def several(self) -> bool:
        """Whether rankings are combined."""
        return sum(part is not None for part in (self.vector, self.words, self.sparse)) > 1


@dataclass(frozen=True, slots=True)
class Prepared:
    """What needs the view to itself: what may be found, and the rankings by words and by the sparse vector."""

    view: View
    reading: Reading
    words: tuple[Slots, NDArray[np.float32]] | None
    alike: tuple[Slots, NDArray[np.float32]] | None     # by the sparse vector
    floor: float | None                                 # that such a score cannot be below, where there is one


@dataclass(frozen=True, slots=True)
class Ranked:
    """The best slots with their scores, and how they were found."""

    slots: list[int]
    scores: list[float]
    plan: Plan


def prepare(asked: Asked, view: View, reader: Reader | None, analyzer: Analyzer | None) -> Prepared:
    """The first part of a search; `reader` and `analyzer` are needed for words only."""
    reading = view.reading(asked.namespace, asked.filter)
    words = alike = floor = None
    if asked.sparse is not None and reading.candidates:
        alike = view.sparsely(asked.sparse, asked.depth, reading.allowed)
        floor = view.sparse.floor(asked.sparse.values)
    if asked.words is not None and reading.candidates:
        assert reader is not None
        assert analyzer is not None
        terms = analyzer.query_terms(asked.words)
        known = reader.terms(list(terms))
        words = view.words(np.fromiter(known.values(), dtype=np.int64, count=len(known)),
                           np.fromiter((terms[name] for name in known), dtype=np.float32, count=len(known)),
                           asked.depth, reading.allowed)
    return Prepared(view, reading, words, alike, floor)


def rank(asked: Asked, prepared: Prepared) -> Ranked:
    """The second part: the vectors, beside everybody else."""
    reading = prepared.reading
    if not reading.candidates:
        return Ranked([], [], Plan(candidates=0))
    near = _near(asked, prepared)
    if near is not None and not asked.several:
        return Ranked(near.slots, near.scores, Plan(near.how, candidates=reading.candidates, compared=near.compared))
    rankings = {} if near is None else {"dense": (near.slots, near.scores)}
    for name, ranking in (("lexical", prepared.words), ("sparse", prepared.alike)):
        if ranking is not None:
            rankings[name] = (ranking[0].tolist(), ranking[1].tolist())
    fused = None
    if len(rankings) == 1:
        ((slots, scores),) = rankings.values()
    else:
        best = fuse(rankings, asked.fusion, floors(asked.metric, prepared.floor))[:asked.k]
        slots, scores = [slot for slot, _ in best], [score for _, score in best]
        fused = asked.fusion.named(list(rankings))
    return Ranked(slots, scores, Plan(
        None if near is None else near.how, None if prepared.words is None else "bm25",
        None if prepared.alike is None else "sparse", fused, reading.candidates, 0 if near is None else near.compared))


def _near(asked: Asked, prepared: Prepared) -> Found | None:
    """The dense ranking. Where scores are added up, all that words or the sparse vector found are in it, and the k best
    of the others: none of the rest can be among the k best sums."""
    reading = prepared.reading
    if asked.vector is None:
        return None
    if not (asked.several and asked.fusion.method == "sum"):
        return reading.nearest(asked.vector, asked.depth, asked.target_recall)
    others = [ranking[0] for ranking in (prepared.words, prepared.alike) if ranking is not None]
    scored = bitmaps.bitmap_of(np.unique(np.concatenate([np.empty(0, np.int64), *others])).astype(np.uint32))
    parts = [reading.among(asked.vector, len(scored), scored, exact=True)] if scored else []
    rest = reading.allowed - scored
    parts += [reading.among(asked.vector, asked.k, rest, asked.target_recall)] if rest else []
    return Found([slot for part in parts for slot in part.slots], [score for part in parts for score in part.scores],
                 " + ".join(dict.fromkeys(part.how for part in parts)), sum(part.compared for part in parts))


def scored(asked: Asked, prepared: Prepared, ranked: Ranked) -> QueryResult:
    """The third part where only ids and scores are asked for."""
    ids = prepared.view.names.of(ranked.slots)
    return QueryResult([Match(identity, score) for identity, score in zip(ids, ranked.scores, strict=True)],
                       ranked.plan, asked.namespace)


def described(asked: Asked, prepared: Prepared, ranked: Ranked, told: Told) -> QueryResult | None:
    """The third part where metadata is asked for, too; None where it has to be read."""
    if asked.values or asked.document:
        return None
    view = prepared.view
    texts = told.of(view.rows.of(ranked.slots))
    if texts is None:
        return None
    ids = view.names.of(ranked.slots)
    return QueryResult([Match(identity, score, orjson.loads(text)) for identity, score, text in
                        zip(ids, ranked.scores, texts, strict=True)], ranked.plan, asked.namespace)


def matches(asked: Asked, prepared: Prepared, ranked: Ranked, reader: Reader, told: Told) -> QueryResult | None:
    """The third part: what the answer says of the records. None where one is gone by now."""
    view = prepared.view
    ids = view.names.of(ranked.slots)
    rows = view.rows.of(ranked.slots)
    read = reader.matches(rows, values=asked.values, document=asked.document)
    if len(read) < len(rows):
        return None
    told.keep({row: metadata for row, (metadata, *_) in read.items()})
    found = []
    for identity, row, score in zip(ids, rows, ranked.scores, strict=True):
        metadata, document, values, sparse = read[row]
        found.append(Match(identity, score, orjson.loads(metadata) if asked.metadata else None, values, document,
                           sparse))
    return QueryResult(found, ranked.plan, asked.namespace)


def asked(current: Current, metric: Metric, vector: Any, text: str | None, sparse: Any, top_k: int, namespace: str,
          filter: Filter | None, metadata: bool, values: bool, document: bool,  # noqa: A002
          target_recall: float | None, fusion: Fusion | None) -> Asked:
    """A query of what `current` searches, checked: as for `Collection.query`."""
    if vector is None and text is None and sparse is None:
        raise InvalidInput("query needs a vector, a text, a sparse vector, or several of them.")
    if target_recall is not None and not 0 < target_recall <= 1:
        raise InvalidInput(f"target_recall must be above 0 and at most 1, not {target_recall!r}.")
    wanted = validate.top_k(top_k)
    validate.namespace_name(namespace)
    parsed = None if filter is None else filters.parsed(filter)
    return Asked(None if vector is None else _vector(vector, current), validate.text(text, "text"),
                 validate.sparse(sparse, "sparse"), metric, wanted, namespace, parsed, fusion or _FUSION, target_recall,
                 metadata, values, document)


def _vector(vector: Any, current: Current) -> Vector:
    try:
        return validate.vector(vector, current.dim, "vector")
    except InvalidInput:
        with current.view():     # perhaps another process has made it another model's, of another dimension
            pass
        return validate.vector(vector, current.dim, "vector")
