"""Pinecone's records: text that the index embeds, stored with its fields, found by text and ranked once more."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from madang.base.errors import InvalidInput, NotFound
from madang.base.records import QueryResult, Record
from madang.models.resolve import Models
from madang.serve.embedding import Embedding, fitted
from madang.serve.http import Reply, Request, as_json
from madang.serve.pinecone_inference import understood
from madang.serve.routes import Routes
from madang.serve.work import Work
from madang.store import Collection
from madang.text.analyzer import Analyzer
from madang.wire import pinecone_records as wire
from madang.wire.pinecone import DEFAULT_NAMESPACE, Malformed
from madang.wire.pinecone_inference import ranked_text, rerank_units
from madang.wire.pinecone_records import MatchTerms, RecordHit, Search, Spent, TextRecord
from madang.workspace import Workspace

EMBED = "pinecone.embed"       # attribute: {"model", "field_map", "dimension", "metric", ...}
VECTOR_TYPE = "pinecone.vector_type"     # attribute: "sparse" where records have sparse vectors only
_TEXT = "text"                 # the only input there is, and its key in field_map
_MOST = 10_000                 # hits of which words are looked for, where words must be there


def space(name: str) -> str:
    """A namespace of a path as the store names it."""
    return "" if name == DEFAULT_NAMESPACE else name


def index_named(workspace: Workspace, name: str) -> Collection:
    """The collection of an index. Raises `NotFound`."""
    try:
        return workspace.collection(name)
    except (NotFound, InvalidInput):
        raise NotFound(f"index {name!r:.80} was not found.", remedy="List the indexes there are.") from None


def hidden(collection: Collection) -> NDArray[np.float32]:
    """The dense vector of a record that has none: nobody searches by it."""
    vector = np.zeros(collection.dim, np.float32)
    vector[0] = collection.metric == "cosine"        # which needs a direction
    return vector


def is_sparse(collection: Collection) -> bool:
    """Whether its records have sparse vectors only."""
    return bool(collection.attributes.get(VECTOR_TYPE) == "sparse")


def narrowed(vector: Sequence[float] | None, collection: Collection) -> NDArray[np.float32] | None:
    """A caller's vector as the collection takes it: without the zeros that it leaves out."""
    if vector is None:
        return None
    given = np.array([vector], np.float32)
    kept: NDArray[np.float32] = fitted(given, min(given.shape[1], collection.dim), "the caller")[0]
    return kept


def told_score(score: float, collection: Collection, dense: bool = True) -> float:
    """A score as the service tells it: a euclidean one is the squared distance."""
    return -score if dense and collection.metric == "euclidean" else score


@dataclass(frozen=True, slots=True)
class _Index:
    """An index that embeds: its collection, its model, and the field that holds the text."""

    collection: Collection
    embedding: Embedding
    field: str


class Records:
    """`add_to` takes the paths of an index's data plane that are about records."""

    def __init__(self, workspace: Workspace, work: Work) -> None:
        self._workspace, self._models, self._work = workspace, workspace.models, work

    def add_to(self, data: Routes) -> None:
        """Take the paths."""
        data.add("POST", "/records/namespaces/{namespace}/upsert", self._upsert)
        data.add("POST", "/records/namespaces/{namespace}/search", self._search)

    async def _upsert(self, request: Request) -> Reply:
        namespace = space(request.parts["namespace"])
        request.identity.require("write", namespace)
        index = _index(index_named(self._workspace, request.parts["index"]), self._models)
        records = understood(wire.decode_records, request.body)
        made = await self._work.long(partial(_embedded, index, records))
        await self._work.write(lambda: index.collection.upsert(made, namespace))
        return Reply(b"", 201)

    async def _search(self, request: Request) -> Reply:
        namespace = space(request.parts["namespace"])
        request.identity.require("read", namespace)
        collection = index_named(self._workspace, request.parts["index"])
        asked = understood(wire.decode_search, request.json())
        if asked.rerank is not None:
            self._models.alias(asked.rerank.model, "rerank")
        return await self._work.long(partial(self._found, collection, asked, namespace))

    def _found(self, collection: Collection, asked: Search, namespace: str) -> Reply:
        hits, spent = _hits(collection, self._models, asked, namespace)
        if asked.rerank is not None:
            hits = understood(reranked, hits, asked, self._models)
            spent = replace(spent, rerank_units=rerank_units(len(hits)))
            hits = hits[:asked.rerank.top_n]
        if asked.fields is not None:
            wanted = set(asked.fields)
            hits = [replace(hit, fields={name: value for name, value in hit.fields.items() if name in wanted})
                    for hit in hits]
        return as_json(wire.encode_hits(hits, spent))


def _index(collection: Collection, models: Models) -> _Index:
    config: Mapping[str, Any] | None = collection.attributes.get(EMBED)
    field = (config or {}).get("field_map", {}).get(_TEXT)
    if config is None or not isinstance(field, str):
        raise InvalidInput(f"index {collection.name!r} does not embed.",
                           remedy="Make one that does with create-for-model, or upsert vectors of your own.")
    return _Index(collection, Embedding(collection, models, config), field)


def _embedded(index: _Index, records: Sequence[TextRecord]) -> list[Record]:
    texts = []
    for record in records:
        text = record.fields.get(index.field)
        if not isinstance(text, str) or not text:
            raise InvalidInput(f"record {record.id!r:.60} has no text in field {index.field!r:.60}.",
                               remedy="The index embeds this field: it must be there.")
        texts.append(text)
    if index.embedding.sparse:
        terms, _ = index.embedding.terms(texts, "passage")
        return [Record(record.id, hidden(index.collection), sparse, dict(record.fields))
                for record, sparse in zip(records, terms, strict=True)]
    vectors, _ = index.embedding.passages(texts)
    return [Record(record.id, vector, None, dict(record.fields))
            for record, vector in zip(records, vectors, strict=True)]


def _hits(collection: Collection, models: Models, asked: Search, namespace: str) -> tuple[list[RecordHit], Spent]:
    """What the search finds, and what it embedded."""
    query: Callable[..., QueryResult] = partial(collection.query, top_k=asked.top_k, namespace=namespace,
                                                filter=asked.filter)
    spent, dense, keep = Spent(), True, None
    if asked.text is not None:
        index = _index(collection, models)
        if index.embedding.sparse:
            terms, tokens = index.embedding.terms([asked.text], "query")
            if asked.match_terms is not None:
                keep = _holding(asked.match_terms, index.field, collection.analyzer)
                query = partial(query, top_k=_MOST)
            found, dense = query(sparse=terms[0]), False
        else:
            if asked.match_terms is not None:
                raise InvalidInput("query.match_terms needs an index whose model is sparse.",
                                   remedy="Make one with the model pinecone-sparse-english-v0, or leave it out.")
            vector, tokens = index.embedding.query(asked.text)
            found = query(vector=vector)
        spent = Spent(embed_tokens=tokens)
    elif asked.id is not None:
        record = collection.fetch([asked.id], namespace).get(asked.id)
        if record is None:
            return [], spent
        dense = not is_sparse(collection)
        found = query(vector=record.values) if dense else query(sparse=record.sparse)
    else:
        dense = asked.vector is not None
        found = query(vector=narrowed(asked.vector, collection), sparse=None if asked.sparse is None else
                      {"indices": asked.sparse[0], "values": asked.sparse[1]})
    hits = [RecordHit(match.id, told_score(match.score, collection, dense), match.metadata or {})
            for match in found.matches]
    if keep is not None:
        hits = [hit for hit in hits if keep(hit.fields)][:asked.top_k]
    return hits, spent


def _holding(wanted: MatchTerms, field: str, analyzer: Analyzer) -> Callable[[Mapping[str, Any]], bool]:
    """Whether a record's text holds the words, however they are inflected."""
    groups = [set(analyzer.query_terms(term)) for term in wanted.terms]
    enough = all if wanted.strategy == "all" else any

    def holds(fields: Mapping[str, Any]) -> bool:
        there = analyzer.index_terms([str(fields.get(field, ""))])[0]
        return enough(bool(group) and group <= there.keys() for group in groups)

    return holds


def reranked(hits: Sequence[RecordHit], asked: Search, models: Models) -> list[RecordHit]:
    """Hits by the reranker's scores. Raises `Malformed` where one has no text to rank."""
    assert asked.rerank is not None
    if not hits:
        return []
    texts = [ranked_text(hit.fields, asked.rerank.rank_fields) for hit in hits]
    query = asked.rerank.query or asked.text
    if query is None:
        raise Malformed("rerank.query is missing")
    scores = models.reranker(asked.rerank.model).rerank(query, texts)
    return [replace(hits[place], score=float(scores[place])) for place in np.argsort(-scores, kind="stable")]
