"""Pinecone's records, which the service embeds: upsert as lines of JSON, and search; to plain values and back.

Pure functions, as in `wire.pinecone`. Sources: https://docs.pinecone.io/reference/api/2025-10/data-plane/upsert_records
and .../search_records.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from madang.wire.pinecone import Malformed, _line, _list, _numbers, _object
from madang.wire.pinecone_inference import model_name, rank_fields_of, text_of, whole

UPSERT_RECORDS = 96              # of one request
TERMS = 100                      # of one match_terms
Sparse: TypeAlias = tuple[Sequence[int], Sequence[float]]


@dataclass(frozen=True, slots=True)
class TextRecord:
    """A record: its fields, that of its text among them."""

    id: str
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MatchTerms:
    """Words that a record's text must hold: all of them, or any."""

    terms: Sequence[str]
    strategy: Literal["all", "any"] = "all"


@dataclass(frozen=True, slots=True)
class Rerank:
    """How hits are ordered once more; `query` None: by what was searched for; `top_n` None: all of them."""

    model: str
    rank_fields: Sequence[str]
    top_n: int | None = None
    query: str | None = None


@dataclass(frozen=True, slots=True)
class Search:
    """POST /records/namespaces/{namespace}/search: by one of text, vector (dense, sparse or both) and id."""

    top_k: int
    text: str | None = None
    vector: Sequence[float] | None = None
    sparse: Sparse | None = None
    id: str | None = None
    filter: Mapping[str, Any] | None = None
    match_terms: MatchTerms | None = None
    fields: Sequence[str] | None = None      # to give back, None for all
    rerank: Rerank | None = None


@dataclass(frozen=True, slots=True)
class RecordHit:
    """What a search found."""

    id: str
    score: float
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Spent:
    """What a search counts for; None for what it did not do."""

    embed_tokens: int | None = None
    rerank_units: int | None = None


# --- requests ---


def decode_records(body: bytes) -> list[TextRecord]:
    """Lines of JSON, an object each with `_id` (or `id`) and fields. Raises `Malformed`, naming the line."""
    found = []
    for number, line in enumerate(body.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            item = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise Malformed(f"line {number} is not JSON: {_line(str(error))[:120]}") from None
        fields = dict(_object(item, f"line {number}"))
        other = fields.pop("id", None)
        identity = fields.pop("_id", other)
        found.append(TextRecord(record_id(identity, f"line {number}: _id"), metadata_of(fields, f"line {number}")))
    if not 1 <= len(found) <= UPSERT_RECORDS:
        raise Malformed(f"the body must hold 1 to {UPSERT_RECORDS} records, a line each, not {len(found):,}")
    return found


def encode_records(records: Iterable[TextRecord]) -> bytes:
    """The body that `decode_records` reads."""
    return b"\n".join(json.dumps({"_id": record.id, **record.fields}, ensure_ascii=False, allow_nan=False).encode()
                      for record in records)


def decode_search(payload: object) -> Search:
    """The body of a search. Raises `Malformed`."""
    body = _object(payload, "the body")
    query = _object(body.get("query"), "query")
    inputs, vector, identity = query.get("inputs"), query.get("vector"), query.get("id")
    if sum(each is not None for each in (inputs, vector, identity)) != 1:
        raise Malformed("query needs exactly one of inputs, vector and id")
    text = None if inputs is None else text_of(_object(inputs, "query.inputs"), "text")
    dense, sparse = (None, None) if vector is None else _query_vector(vector)
    where, terms, fields, rerank = query.get("filter"), query.get("match_terms"), body.get("fields"), body.get("rerank")
    if terms is not None and text is None:
        raise Malformed("query.match_terms needs query.inputs.text")
    if fields is not None and (not isinstance(fields, list) or not all(isinstance(name, str) for name in fields)):
        raise Malformed(f"fields must be a list of names, not {_line(repr(fields)):.80}")
    if fields is not None and "*" in fields:       # as clients before 9 ask for all of them
        fields = None
    found = Search(whole(query.get("top_k"), "query.top_k"), text, dense, sparse,
                   None if identity is None else record_id(identity, "query.id"),
                   _object(where, "query.filter") if where else None, None if terms is None else _match_terms(terms),
                   fields, None if rerank is None else _rerank(rerank))
    if found.rerank is not None and found.rerank.query is None and found.text is None:
        raise Malformed("rerank.query must say what to rank by, since the search is not by text")
    return found


def encode_search(search: Search) -> dict[str, Any]:
    """The body that `decode_search` reads."""
    query: dict[str, Any] = {"top_k": search.top_k}
    if search.text is not None:
        query["inputs"] = {"text": search.text}
    if search.vector is not None or search.sparse is not None:
        query["vector"] = {**({} if search.vector is None else {"values": list(search.vector)}),
                           **({} if search.sparse is None else {"sparse_indices": list(search.sparse[0]),
                                                                "sparse_values": list(search.sparse[1])})}
    if search.id is not None:
        query["id"] = search.id
    if search.filter is not None:
        query["filter"] = dict(search.filter)
    if search.match_terms is not None:
        query["match_terms"] = {"terms": list(search.match_terms.terms), "strategy": search.match_terms.strategy}
    body: dict[str, Any] = {"query": query}
    if search.fields is not None:
        body["fields"] = list(search.fields)
    if search.rerank is not None:
        each = search.rerank
        body["rerank"] = {"model": each.model, "rank_fields": list(each.rank_fields),
                          **({} if each.top_n is None else {"top_n": each.top_n}),
                          **({} if each.query is None else {"query": each.query})}
    return body


def _query_vector(value: object) -> tuple[list[float] | None, Sparse | None]:
    if isinstance(value, list):          # as clients before 10 may send it
        return _numbers(value, "query.vector"), None
    parts = _object(value, "query.vector")
    dense, indices = parts.get("values"), parts.get("sparse_indices")
    if (indices is None) != (parts.get("sparse_values") is None):
        raise Malformed("query.vector needs sparse_indices and sparse_values, both or none")
    if not dense and not indices:
        raise Malformed("query.vector needs values, or sparse_indices and sparse_values")
    return (_numbers(dense, "query.vector.values") if dense else None,
            sparse_of(indices, parts.get("sparse_values"), "query.vector") if indices else None)


def sparse_of(indices: object, values: object, what: str) -> Sparse:
    """Indices and values, as many of each."""
    places, numbers = _list(indices, f"{what}: indices"), _numbers(values, f"{what}: values")
    if any(type(place) is not int or not 0 <= place < 2**32 for place in places) or len(set(places)) < len(places):
        raise Malformed(f"{what}: indices must be distinct whole numbers from 0 to {2**32 - 1}")
    if len(places) != len(numbers):
        raise Malformed(f"{what} has {len(places)} indices and {len(numbers)} values")
    return places, numbers


def _match_terms(value: object) -> MatchTerms:
    found = _object(value, "query.match_terms")
    terms, strategy = found.get("terms"), found.get("strategy", "all")
    if not isinstance(terms, list) or not 1 <= len(terms) <= TERMS or not all(isinstance(t, str) and t for t in terms):
        raise Malformed(f"query.match_terms.terms must be a list of 1 to {TERMS} words, not {_line(repr(terms)):.80}")
    if strategy not in ("all", "any"):
        raise Malformed(f"query.match_terms.strategy must be all or any, not {_line(repr(strategy)):.80}")
    return MatchTerms(terms, strategy)


def _rerank(value: object) -> Rerank:
    found = _object(value, "rerank")
    if found.get("rank_fields") is None:
        raise Malformed("rerank.rank_fields must name the fields to rank by")
    top_n, query = found.get("top_n"), found.get("query")
    return Rerank(model_name(found), rank_fields_of(found, ()), None if top_n is None else whole(top_n, "rerank.top_n"),
                  None if query is None else text_of(found, "query"))


# --- answers ---


def encode_hits(hits: Iterable[RecordHit], spent: Spent) -> dict[str, Any]:
    """The answer to a search, best hit first."""
    usage: dict[str, Any] = {"read_units": 1}
    if spent.embed_tokens is not None:
        usage["embed_total_tokens"] = spent.embed_tokens
    if spent.rerank_units is not None:
        usage["rerank_units"] = spent.rerank_units
    return {"usage": usage, "result": {"hits": [
        {"_id": hit.id, "_score": hit.score, "fields": dict(hit.fields)} for hit in hits]}}


def decode_hits(payload: object) -> tuple[list[RecordHit], Spent]:
    """The answer that `encode_hits` makes. Raises `Malformed`."""
    answer = _object(payload, "an answer")
    usage = _object(answer.get("usage") or {}, "usage")
    hits = []
    for item in _list(_object(answer.get("result"), "result").get("hits"), "hits"):
        found = _object(item, "a hit")
        (score,) = _numbers([found.get("_score")], "_score")
        hits.append(RecordHit(record_id(found.get("_id"), "_id"), score, _object(found.get("fields") or {}, "fields")))
    return hits, Spent(usage.get("embed_total_tokens"), usage.get("rerank_units"))


# --- values ---


def record_id(value: object, what: str) -> str:
    """An id: text of 1 to 512 characters."""
    if not isinstance(value, str) or not 0 < len(value) <= 512:
        raise Malformed(f"{what} must be text of 1 to 512 characters, not {_line(repr(value)):.80}")
    return value


def metadata_of(fields: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Fields as they are kept: numbers as doubles, since the service has no others."""
    try:
        return {key: float(value) if type(value) is int else value for key, value in fields.items()}
    except OverflowError:
        raise Malformed(f"{what} holds a number beyond what a double can hold") from None
