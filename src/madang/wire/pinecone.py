"""Pinecone's dialect: vectors, queries, indexes and errors; JSON to plain values and back.

Pure functions: no network library and no numpy, so client and server can share them. A vector is a list of floats,
a sparse one its indices and values. Metadata is passed on as it is; numbers in it are doubles.

Sources: https://docs.pinecone.io/reference/api/2025-10 (data plane and control plane). Versions since 2026-07 describe
an index by `schema` and `deployment`, earlier ones by `dimension`, `metric` and `spec`; both are understood.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

VERSION = "2025-10"              # of the header X-Pinecone-Api-Version
UPSERT_VECTORS = 1_000           # of one request
UPSERT_BYTES = 2_000_000
METADATA_BYTES = 40 * 1024       # of one vector
FETCH_IDS = 100
LIST_IDS = 100
DELETE_IDS = 1_000
DEFAULT_NAMESPACE = "__default__"    # another name of "", since 2025-04

# Their metrics and ours. A euclidean score is the squared distance, so the smallest is the best.
METRICS = {"cosine": "cosine", "dotproduct": "dot", "euclidean": "euclidean"}
_LONGEST_MESSAGE = 400           # characters of an error message that are worth repeating


class Malformed(ValueError):
    """What came is not this dialect; the message is a phrase that says where."""


@dataclass(frozen=True, slots=True)
class Vector:
    """A stored vector; `sparse` is (indices, values)."""

    id: str
    values: Sequence[float] = ()
    sparse: tuple[Sequence[int], Sequence[float]] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Hit:
    """One match of a query, with the score as the service gives it."""

    id: str
    score: float
    values: Sequence[float] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    sparse: tuple[Sequence[int], Sequence[float]] | None = None


@dataclass(frozen=True, slots=True)
class Stats:
    """What describe_index_stats tells; `metric` in our words, or "" where it is not told."""

    dim: int
    metric: str
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Index:
    """An index as the control plane describes it; `metric` in our words."""

    name: str
    host: str
    dim: int
    metric: str
    ready: bool


# --- requests ---


def encode_vector(vector: Vector) -> dict[str, Any]:
    """One of the `vectors` of POST /vectors/upsert."""
    body: dict[str, Any] = {"id": vector.id, "values": list(vector.values)}
    if vector.sparse is not None:
        body["sparseValues"] = {"indices": list(vector.sparse[0]), "values": list(vector.sparse[1])}
    if vector.metadata:
        body["metadata"] = dict(vector.metadata)
    return body


def encode_upserts(vectors: Sequence[Vector], namespace: str) -> list[bytes]:
    """The bodies of POST /vectors/upsert that take all vectors, each within the limits of one request."""
    bodies: list[bytes] = []
    batch: list[bytes] = []
    head = to_bytes({"namespace": namespace})[:-1] + b',"vectors":['
    size = len(head) + 2
    for each in (to_bytes(encode_vector(vector)) for vector in vectors):
        if batch and (len(batch) == UPSERT_VECTORS or size + len(each) > UPSERT_BYTES):
            bodies.append(head + b",".join(batch) + b"]}")
            batch, size = [], len(head) + 2
        batch.append(each)
        size += len(each) + 1
    return [*bodies, head + b",".join(batch) + b"]}"] if batch else bodies


def encode_query(vector: Sequence[float] | None, top_k: int, namespace: str, where: Mapping[str, Any] | None = None,
                 include_values: bool = False, include_metadata: bool = True,
                 sparse: tuple[Sequence[int], Sequence[float]] | None = None,
                 identity: str | None = None) -> dict[str, Any]:
    """The body of POST /query: by a vector, a sparse one, both, or the id of a stored record."""
    body: dict[str, Any] = {"topK": top_k, "namespace": namespace, "includeValues": include_values,
                            "includeMetadata": include_metadata}
    if vector is not None:
        body["vector"] = list(vector)
    if sparse is not None:
        body["sparseVector"] = {"indices": list(sparse[0]), "values": list(sparse[1])}
    if identity is not None:
        body["id"] = identity
    if where is not None:
        body["filter"] = dict(where)
    return body


def encode_update(identity: str | None, namespace: str, values: Sequence[float] | None = None,
                  set_metadata: Mapping[str, Any] | None = None,
                  sparse: tuple[Sequence[int], Sequence[float]] | None = None,
                  where: Mapping[str, Any] | None = None, dry_run: bool = False) -> dict[str, Any]:
    """The body of POST /vectors/update of one vector, or (without an id) of the metadata of all that a filter matches;
    keys of metadata that are not named stay."""
    body: dict[str, Any] = {"namespace": namespace} if identity is None else {"id": identity, "namespace": namespace}
    if values is not None:
        body["values"] = list(values)
    if sparse is not None:
        body["sparseValues"] = {"indices": list(sparse[0]), "values": list(sparse[1])}
    if set_metadata is not None:
        body["setMetadata"] = dict(set_metadata)
    if where is not None:
        body["filter"] = dict(where)
    return {**body, "dryRun": True} if dry_run else body


def encode_delete(namespace: str, ids: Sequence[str] | None = None,
                  where: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The body of POST /vectors/delete: by ids, by filter, or all of the namespace."""
    if ids is not None:
        return {"namespace": namespace, "ids": list(ids)}
    return {"namespace": namespace, "deleteAll": True} if where is None else {"namespace": namespace,
                                                                              "filter": dict(where)}


def encode_fetch(ids: Sequence[str], namespace: str) -> list[tuple[str, str]]:
    """The query string of GET /vectors/fetch."""
    return [*(("ids", identity) for identity in ids), ("namespace", namespace)]


def encode_listing(prefix: str, limit: int, token: str | None, namespace: str) -> list[tuple[str, str]]:
    """The query string of GET /vectors/list."""
    asked = [("limit", str(limit)), ("namespace", namespace)]
    return [*asked, *([("prefix", prefix)] if prefix else []), *([("paginationToken", token)] if token else [])]


def encode_index(name: str, dim: int, metric: str, cloud: str, region: str) -> dict[str, Any]:
    """The body of POST /indexes for a serverless index; `metric` in our words."""
    theirs = {ours: name for name, ours in METRICS.items()}
    return {"name": name, "dimension": dim, "metric": theirs[metric], "vector_type": "dense",
            "deletion_protection": "disabled", "spec": {"serverless": {"cloud": cloud, "region": region}}}


def to_bytes(body: Mapping[str, Any]) -> bytes:
    """JSON in UTF-8 without spaces."""
    return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


# --- answers ---


def decode_fetched(payload: object) -> dict[str, Vector]:
    """The vectors of GET /vectors/fetch, by id. Raises `Malformed`."""
    vectors = _object(payload, "an answer").get("vectors", {})
    return {identity: _vector(identity, item) for identity, item in _object(vectors, "vectors").items()}


def _vector(identity: str, item: object) -> Vector:
    found = _object(item, f"vector {identity!r:.60}")
    return Vector(identity, _numbers(found.get("values"), "values"), _sparse(found.get("sparseValues")),
                  _object(found.get("metadata") or {}, "metadata"))


def _sparse(value: object) -> tuple[Sequence[int], Sequence[float]] | None:
    if value is None:
        return None
    parts = _object(value, "sparseValues")
    return ([int(number) for number in _numbers(parts.get("indices"), "indices")],
            _numbers(parts.get("values"), "values"))


def decode_matches(payload: object) -> list[Hit]:
    """The matches of POST /query, in the order they came. Raises `Malformed`."""
    hits = []
    for item in _list(_object(payload, "an answer").get("matches"), "matches"):
        found = _object(item, "a match")
        (score,) = _numbers([found.get("score", 0.0)], "score")
        hits.append(Hit(_string(found.get("id"), "id"), score, _numbers(found.get("values"), "values"),
                        _object(found.get("metadata") or {}, "metadata"), _sparse(found.get("sparseValues"))))
    return hits


def decode_ids(payload: object) -> tuple[list[str], str | None]:
    """The ids of GET /vectors/list, and the token of the next page, None on the last. Raises `Malformed`."""
    answer = _object(payload, "an answer")
    ids = [_string(_object(item, "a vector").get("id"), "id") for item in _list(answer.get("vectors"), "vectors")]
    token = _object(answer.get("pagination") or {}, "pagination").get("next")
    return ids, _string(token, "next") if token else None


def decode_stats(payload: object) -> Stats:
    """The answer to POST /describe_index_stats; the default namespace is "". Raises `Malformed`."""
    answer = _object(payload, "an answer")
    counts: dict[str, int] = {}
    for name, item in _object(answer.get("namespaces") or {}, "namespaces").items():
        (count,) = _numbers([_object(item, "a namespace").get("vectorCount", 0)], "vectorCount")
        ours = "" if name == DEFAULT_NAMESPACE else name
        counts[ours] = counts.get(ours, 0) + int(count)
    (dim,) = _numbers([answer.get("dimension") or 0], "dimension")
    return Stats(int(dim), METRICS.get(str(answer.get("metric")), ""), counts)


def decode_index(payload: object) -> Index:
    """An index as POST /indexes and GET /indexes/{name} describe it. Raises `Malformed`."""
    answer = _object(payload, "an answer")
    dim, metric = answer.get("dimension"), answer.get("metric")
    fields = _object(_object(answer.get("schema") or {}, "schema").get("fields") or {}, "fields")
    for item in fields.values():
        described = _object(item, "a field")
        if described.get("type") == "dense_vector":
            dim, metric = described.get("dimension"), described.get("metric")
    (size,) = _numbers([dim or 0], "dimension")
    ready = _object(answer.get("status") or {}, "status").get("ready")
    return Index(_string(answer.get("name"), "name"), _string(answer.get("host"), "host"), int(size),
                 METRICS.get(str(metric), ""), bool(ready))


def decode_failure(body: str) -> str:
    """What an error body says, as one line: {"error": {"message"}}, {"message"}, {"detail"}, or plain text."""
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError):
        return _line(body)
    if isinstance(payload, dict):
        inner = payload.get("error")
        payload = inner if isinstance(inner, dict) else payload
        said = next((payload[key] for key in ("message", "detail", "description", "error") if payload.get(key)), body)
        return _line(said if isinstance(said, str) else json.dumps(said, ensure_ascii=False))
    return _line(body)


# --- small matters ---


def _object(value: object, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise Malformed(f"{what} is no JSON object but {_line(repr(value))[:80]}")
    return value


def _list(value: object, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise Malformed(f"{what} is no list but {_line(repr(value))[:80]}")
    return value


def _string(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise Malformed(f"{what} is no string but {_line(repr(value))[:80]}")
    return value


def _numbers(value: object, what: str) -> list[float]:
    numbers = _list(value or [], what)
    if any(isinstance(number, bool) or not isinstance(number, int | float) for number in numbers):
        raise Malformed(f"{what} are no numbers but {_line(repr(value))[:80]}")
    return [float(number) for number in numbers]


def _line(text: str) -> str:
    """One printable line, whatever control characters a stranger sends to the terminal."""
    clean = " ".join("".join(c if c.isprintable() else " " for c in text[:8 * _LONGEST_MESSAGE]).split())
    return clean if len(clean) <= _LONGEST_MESSAGE else clean[:_LONGEST_MESSAGE - 1] + "…"
