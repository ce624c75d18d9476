"""Searching documents: by a vector, a sparse vector, text that is embedded, or words in their fields."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from madang.base.errors import InvalidInput
from madang.base.records import Record, SparseVector, Vector
from madang.serve import document_filters
from madang.serve.document_filters import Conditions
from madang.serve.document_text import Found, Scoring
from madang.serve.documents import Documents
from madang.serve.pinecone_records import narrowed, told_score
from madang.store import Collection
from madang.wire.lucene import Group, Tree, words_of
from madang.wire.pinecone_documents import Clause, Search

_MOST = 10_000       # that the store finds at once
_PAGE = 1_000        # documents that are read at a time
Ranked = list[tuple[str, float]]


def search(documents: Documents, asked: Search, namespace: str) -> tuple[Ranked, int | None]:
    """Ids and scores, best first, and how many tokens were embedded, None where none was."""
    where = document_filters.split(asked.filter, documents.schema)
    if asked.clauses[0].tree is not None:
        return _by_words(documents, asked, where, namespace), None
    dense, sparse, tokens = _query(documents, asked.clauses[0])
    collection = documents.collection
    if where.texts:
        return _compared(documents, dense, sparse, where, namespace)[:asked.top_k], tokens
    found = collection.query(vector=dense, sparse=sparse, top_k=asked.top_k, namespace=namespace,
                             filter=where.metadata, include_metadata=False)
    return [(match.id, told_score(match.score, collection, dense is not None)) for match in found.matches], tokens


def _query(documents: Documents, clause: Clause) -> tuple[Vector | None, SparseVector | None, int | None]:
    """What to search with: a vector or a sparse one, and how many tokens were embedded for it."""
    schema = documents.schema
    of_kind = {"dense_vector": schema.dense, "sparse_vector": schema.sparse,
               "embed": None if schema.embed is None else schema.embed[0],
               "sparse_embed": None if schema.sparse_embed is None else schema.sparse_embed[0]}
    if of_kind[clause.kind] != clause.field:
        raise InvalidInput(f"score_by: {clause.field!r:.60} is no field of type {clause.kind} in this index.",
                           remedy=f"It has {of_kind[clause.kind]!r:.60}." if of_kind[clause.kind] else None)
    if clause.values is not None:
        return narrowed(clause.values, documents.collection), None, None
    if clause.sparse is not None:
        return None, SparseVector(*clause.sparse), None
    assert clause.query is not None
    if clause.kind == "embed" and documents.embed is not None:
        vector, tokens = documents.embed.query(clause.query)
        return vector, None, tokens
    assert documents.sparse_embed is not None
    sparse, tokens = documents.sparse_embed.terms([clause.query], "query")
    return None, sparse[0], tokens


def _by_words(documents: Documents, asked: Search, where: Conditions, namespace: str) -> Ranked:
    fields, collection = documents.schema.texts, documents.collection
    trees = list(dict.fromkeys(clause.tree for clause in asked.clauses if clause.tree is not None))
    tree: Tree = trees[0] if len(trees) == 1 else Group(tuple(trees))
    for word in words_of(tree):
        for name in word.fields or ():
            if name not in fields:
                raise InvalidInput(f"score_by: {name!r:.60} is no field that is searched by words.",
                                   remedy=f"Those are: {', '.join(fields) or 'none in this index'}.")
    if not fields:
        raise InvalidInput("score_by: this index has no field that is searched by words.")
    if not where.texts and len(asked.clauses) == 1 and asked.clauses[0].kind == "text" and _everywhere(tree, fields):
        found = collection.query(text=" ".join(word.text for word in words_of(tree)), top_k=asked.top_k,
                                 namespace=namespace, filter=where.metadata, include_metadata=False)
        return [(match.id, match.score) for match in found.matches]      # the index of the store knows it all
    words = " ".join(dict.fromkeys(word.text for word in words_of(tree)))
    pool = collection.query(text=words, top_k=_MOST, namespace=namespace, filter=where.metadata, include_document=True)
    candidates = [Found(match.id, documents.texts(match.metadata or {}, match.document)) for match in pool.matches]
    analyzer = collection.analyzer
    total = collection.stats().namespaces.get(namespace, 0)
    ranked = Scoring(candidates, fields, analyzer, total).best(tree, len(candidates))
    if where.texts:
        meeting = {each.id for each in candidates if where.met(each.texts, analyzer)}
        ranked = [pair for pair in ranked if pair[0] in meeting]
    return ranked[:asked.top_k]


def _everywhere(tree: Tree, fields: Sequence[str]) -> bool:
    """Whether it asks for words in one field, and that is all there is."""
    return len(fields) == 1 and all(set(word.fields or fields) == set(fields) for word in words_of(tree))


def _compared(documents: Documents, dense: Vector | None, sparse: SparseVector | None, where: Conditions,
              namespace: str) -> Ranked:
    """Every document whose texts meet the conditions, compared one by one."""
    collection, ranked = documents.collection, list[tuple[str, float, float]]()
    weights = {} if sparse is None else dict(zip(sparse.indices, sparse.values, strict=True))
    for record in matching(documents, where, namespace):
        if dense is not None and record.values is not None:
            score = _score(record.values.astype(np.float64), dense.astype(np.float64), collection.metric)
        elif record.sparse is not None and weights:
            shared = [(i, v) for i, v in zip(record.sparse.indices, record.sparse.values, strict=True) if i in weights]
            if not shared:
                continue
            score = sum(weights[index] * value for index, value in shared)
        else:
            continue
        ranked.append((record.id, score, told_score(score, collection, dense is not None)))
    return [(identity, told) for identity, _, told in sorted(ranked, key=lambda each: (-each[1], each[0]))]


def _score(values: Vector, query: Vector, metric: str) -> float:
    if len(values) != len(query):
        raise InvalidInput(f"score_by: values has dimension {len(query)}, but the index has {len(values)}.")
    if metric == "euclidean":
        return -float(np.sum((values - query)**2))
    length = float(np.linalg.norm(values) * np.linalg.norm(query)) if metric == "cosine" else 1.0
    return float(values @ query) / length if length else 0.0


def matching(documents: Documents, where: Conditions, namespace: str, after: str = "") -> Iterator[Record]:
    """The documents that meet all conditions, by id; those after `after`."""
    collection, analyzer = documents.collection, documents.collection.analyzer
    for ids in _pages(collection, where, namespace, after):
        found = collection.fetch(ids, namespace)
        for identity in ids:
            record = found.get(identity)
            if record is not None and where.met(documents.texts(record.metadata, record.document), analyzer):
                yield record


def _pages(collection: Collection, where: Conditions, namespace: str, after: str) -> Iterator[list[str]]:
    """Ids, in order, of documents that may meet the conditions, and of all that do."""
    if where.texts:
        words = min((condition.words for condition in where.texts), key=len)
        found = collection.query(text=words, top_k=_MOST, namespace=namespace, filter=where.metadata,
                                 include_metadata=False).matches
        if len(found) < _MOST:
            ids = sorted(match.id for match in found if match.id > after)
            yield from (ids[start:start + _PAGE] for start in range(0, len(ids), _PAGE))
            return
    yield from _all(collection, where, namespace, after)


def _all(collection: Collection, where: Conditions, namespace: str, after: str) -> Iterator[list[str]]:
    from madang.store import filters

    tree = None if where.metadata is None else filters.parse(where.metadata)
    cursor: str | None = after or None
    while True:
        page = collection.list_ids(limit=_PAGE, cursor=cursor, namespace=namespace)
        records = {} if tree is None else collection.fetch(page.ids, namespace)
        yield [identity for identity in page.ids if tree is None or (
            identity in records and tree.matches(records[identity].metadata))]
        if page.cursor is None:
            return
        cursor = page.cursor
