"""Pinecone's requests of the data plane as a server reads them: the counterpart of what `wire.pinecone` encodes.

Bodies are what `json.loads` gives, query strings what `urllib.parse.parse_qs` gives. A namespace comes out as "" where
it was left out, null or "__default__". Vectors come out as arrays of float32. Whatever is not as the protocol says
raises `Malformed` with the name of the field; what depends on an index (its dimension, its metric) is for others to
check.

Sources: https://docs.pinecone.io/reference/api/2025-10/data-plane and https://docs.pinecone.io/reference/api/database-limits
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from madang.wire.pinecone import (
    DEFAULT_NAMESPACE,
    DELETE_IDS,
    UPSERT_BYTES,
    UPSERT_VECTORS,
    Malformed,
    Vector,
    _line,
    _object,
    _string,
)

FETCH_IDS = 1_000                # our client asks for fewer at once, since they are in the address
LIST_IDS = 100
TOP_K = 10_000
FETCHED_BY_METADATA = 10_000
SPARSE_VALUES = 2_048            # of one vector that are not 0
NAMESPACES = 100                 # of one page
Sparse = tuple[Sequence[int], Sequence[float]]


@dataclass(frozen=True, slots=True)
class Query:
    """POST /query: by a vector, a sparse one or both, or by the vector of a stored record."""

    top_k: int
    vector: Sequence[float] | None = None
    sparse: Sparse | None = None
    id: str | None = None
    namespace: str = ""
    filter: Mapping[str, Any] | None = None
    values: bool = False
    metadata: bool = False


@dataclass(frozen=True, slots=True)
class Update:
    """POST /vectors/update: of one record, or the metadata of all that a filter matches (`dry_run`: only count)."""

    id: str | None = None
    filter: Mapping[str, Any] | None = None
    namespace: str = ""
    values: Sequence[float] | None = None
    sparse: Sparse | None = None
    metadata: Mapping[str, Any] | None = None
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Delete:
    """POST /vectors/delete: by ids, by filter, or (neither) all of the namespace."""

    namespace: str = ""
    ids: Sequence[str] | None = None
    filter: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class FetchByMetadata:
    """POST /vectors/fetch_by_metadata: a page of what a filter matches."""

    filter: Mapping[str, Any]
    namespace: str = ""
    limit: int = LIST_IDS
    token: str | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """GET /vectors/list and GET /namespaces: a page of names that begin with `prefix`."""

    prefix: str = ""
    limit: int = LIST_IDS
    token: str | None = None
    namespace: str = ""


# --- bodies ---


def decode_upserts(payload: object, size_bytes: int = 0) -> tuple[list[Vector], str]:
    """The vectors of POST /vectors/upsert and their namespace.

    `size_bytes` of the request: one within the limit is not measured. A larger one is measured as the service does, by
    its numbers and not by their digits: four bytes each.
    """
    body = _object(payload, "the body")
    given = body.get("vectors")
    if not isinstance(given, list) or not given:
        raise Malformed("vectors must be a list of at least one vector")
    if len(given) > UPSERT_VECTORS:
        raise Malformed(f"vectors holds {len(given):,} vectors; one request takes at most {UPSERT_VECTORS:,}")
    vectors = [_vector(item, place) for place, item in enumerate(given)]
    if size_bytes > UPSERT_BYTES and (size := sum(map(_size_bytes, vectors))) > UPSERT_BYTES:
        raise Malformed(f"vectors take {size:,} bytes; one request takes at most {UPSERT_BYTES:,}. Send fewer at once")
    return vectors, namespace_of(body)


def _vector(item: object, place: int) -> Vector:
    found = _object(item, f"vector {place}")
    identity = _id(found.get("id"), f"id of vector {place}")
    where = f"vector {identity!r:.60}"
    values, sparse, metadata = found.get("values"), found.get("sparseValues"), found.get("metadata")
    return Vector(identity, () if values is None else floats(values, f"{where}: values"),
                  None if sparse is None else sparse_of(sparse, f"{where}: sparseValues"),
                  {} if metadata is None else metadata_of(metadata, f"{where}: metadata"))


def _size_bytes(vector: Vector) -> int:
    sparse = 0 if vector.sparse is None else 8 * len(vector.sparse[0])
    text = vector.id + (json.dumps(vector.metadata, ensure_ascii=False) if vector.metadata else "")
    return len(text.encode(errors="replace")) + 4 * len(vector.values) + sparse


def decode_query(payload: object) -> Query:
    """The body of POST /query."""
    body = _object(payload, "the body")
    top_k = body.get("topK")
    if type(top_k) is not int or not 1 <= top_k <= TOP_K:
        raise Malformed(f"topK must be a whole number from 1 to {TOP_K:,}, not {_line(repr(top_k)):.80}")
    vector, sparse, identity = body.get("vector"), body.get("sparseVector"), body.get("id")
    if identity is not None:
        if vector or sparse is not None:
            raise Malformed("a query is by id or by vector, not by both")
        identity = _id(identity, "id")
    elif not vector and sparse is None:
        raise Malformed("a query needs vector, sparseVector or id")
    where = body.get("filter")
    return Query(top_k, floats(vector, "vector") if vector else None,
                 None if sparse is None else sparse_of(sparse, "sparseVector"), identity, namespace_of(body),
                 filter_of(where) if where else None, _flag(body, "includeValues"), _flag(body, "includeMetadata"))


def decode_update(payload: object) -> Update:
    """The body of POST /vectors/update."""
    body = _object(payload, "the body")
    identity, where = body.get("id"), body.get("filter")
    if (identity is None or identity == "") == (where is None):
        raise Malformed("an update is by id or by filter: give one of them")
    values, sparse, metadata = body.get("values"), body.get("sparseValues"), body.get("setMetadata")
    if where is not None and (values or sparse is not None):
        raise Malformed("an update by filter sets metadata only")
    return Update(None if identity is None or where is not None else _id(identity, "id"),
                  None if where is None else filter_of(where), namespace_of(body),
                  floats(values, "values") if values else None,
                  None if sparse is None else sparse_of(sparse, "sparseValues"),
                  None if metadata is None else metadata_of(metadata, "setMetadata"), _flag(body, "dryRun"))


def decode_delete(payload: object) -> Delete:
    """The body of POST /vectors/delete."""
    body = _object(payload, "the body")
    ids, where, everything = body.get("ids"), body.get("filter"), _flag(body, "deleteAll")
    if (ids is not None) + (where is not None) + everything != 1:
        raise Malformed("a delete needs exactly one of ids, filter and deleteAll")
    if ids is not None:
        if not isinstance(ids, list) or len(ids) > DELETE_IDS:
            raise Malformed(f"ids must be a list of at most {DELETE_IDS:,} ids")
        ids = [_id(item, "an id") for item in ids]
    return Delete(namespace_of(body), ids, None if where is None else filter_of(where))


def decode_fetch_by_metadata(payload: object) -> FetchByMetadata:
    """The body of POST /vectors/fetch_by_metadata."""
    body = _object(payload, "the body")
    limit, token = body.get("limit"), body.get("paginationToken")
    return FetchByMetadata(filter_of(body.get("filter")), namespace_of(body),
                           LIST_IDS if limit is None else _limit(limit, FETCHED_BY_METADATA),
                           _string(token, "paginationToken") if token else None)


def decode_stats_request(payload: object) -> Mapping[str, Any] | None:
    """The filter of POST /describe_index_stats, None for everything."""
    where = _object({} if payload is None else payload, "the body").get("filter")
    return filter_of(where) if where else None


def decode_namespace_request(payload: object) -> tuple[str, Mapping[str, Any] | None]:
    """The name of POST /namespaces, and the schema of its metadata, if one is given."""
    body = _object(payload, "the body")
    name = body.get("name")
    if not isinstance(name, str) or not name:
        raise Malformed(f"name must be text, not {_line(repr(name)):.80}")
    schema = body.get("schema")
    return named_namespace(name), None if schema is None else _object(schema, "schema")


# --- query strings ---


def decode_fetch(parameters: Mapping[str, Sequence[str]]) -> tuple[list[str], str]:
    """The ids of GET /vectors/fetch and their namespace."""
    ids = list(parameters.get("ids", ()))
    if not ids or len(ids) > FETCH_IDS:
        raise Malformed(f"a fetch needs 1 to {FETCH_IDS:,} ids, not {len(ids):,}")
    return [_id(identity, "an id") for identity in ids], named_namespace(_one(parameters, "namespace"))


def decode_listing(parameters: Mapping[str, Sequence[str]], most: int = LIST_IDS) -> Listing:
    """The question of GET /vectors/list and GET /namespaces."""
    limit = _one(parameters, "limit")
    if limit and not limit.isdecimal():
        raise Malformed(f"limit must be a whole number, not {_line(limit):.80}")
    return Listing(_one(parameters, "prefix"), _limit(int(limit[:12]), most) if limit else most,
                   _one(parameters, "paginationToken") or None, named_namespace(_one(parameters, "namespace")))


def _one(parameters: Mapping[str, Sequence[str]], name: str) -> str:
    values = parameters.get(name, ())
    if len(values) > 1:
        raise Malformed(f"{name} is given {len(values)} times")
    return values[0] if values else ""


# --- values ---


def floats(value: object, what: str) -> array[float]:
    """Numbers as float32."""
    if not isinstance(value, list):
        raise Malformed(f"{what} must be a list of numbers, not {_line(repr(value)):.80}")
    try:
        return array("f", value)
    except (TypeError, OverflowError):
        raise Malformed(f"{what} must hold numbers only") from None


def sparse_of(value: object, what: str) -> Sparse:
    """Indices and values."""
    parts = _object(value, what)
    indices, values = parts.get("indices"), floats(parts.get("values"), f"{what}.values")
    if not isinstance(indices, list) or len(indices) != len(values) or not indices:
        raise Malformed(f"{what} needs indices and values, as many of each, and at least one")
    if len(indices) > SPARSE_VALUES:
        raise Malformed(f"{what} has {len(indices):,} values; at most {SPARSE_VALUES:,} are kept")
    if any(type(index) is not int or not 0 <= index < 2**32 for index in indices):
        raise Malformed(f"{what}.indices must be whole numbers from 0 to {2**32 - 1}")
    if len(set(indices)) < len(indices):
        raise Malformed(f"{what}.indices holds one index twice")
    return indices, values


def metadata_of(value: object, what: str) -> dict[str, Any]:
    """Metadata, with numbers as doubles: the service has no others."""
    found = _object(value, what)
    try:
        return {key: float(item) if type(item) is int else item for key, item in found.items()}
    except OverflowError:
        raise Malformed(f"{what} holds a number beyond what a double can hold") from None


def filter_of(value: object) -> Mapping[str, Any]:
    """A filter, whose operators others check."""
    return _object(value, "filter")


def namespace_of(body: Mapping[str, Any]) -> str:
    """The namespace of a body."""
    value = body.get("namespace")
    if not value:
        return ""
    return named_namespace(_string(value, "namespace"))


def named_namespace(name: str) -> str:
    """A namespace by the name that a path or a body gives it."""
    return "" if name == DEFAULT_NAMESPACE else name


def _id(value: object, what: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= 512:
        raise Malformed(f"{what} must be text of 1 to 512 characters, not {_line(repr(value)):.80}")
    return value


def _flag(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise Malformed(f"{name} must be true or false, not {_line(repr(value)):.80}")
    return bool(value)


def _limit(value: object, most: int) -> int:
    if type(value) is not int or not 1 <= value <= most:
        raise Malformed(f"limit must be a whole number from 1 to {most:,}, not {_line(repr(value)):.80}")
    return value
