"""Pinecone's answers as a server writes them: the counterpart of what `wire.pinecone` decodes.

Each gives what `json.dumps` takes; arrays of numbers are passed on as they are, for an encoder that knows them.
"""

from __future__ import annotations

from base64 import b64decode, urlsafe_b64encode
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from madang.wire.pinecone import DEFAULT_NAMESPACE, METRICS, Malformed, Stats, Vector

THEIRS = {ours: theirs for theirs, ours in METRICS.items()}
_CODES = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "FORBIDDEN", 404: "NOT_FOUND", 405: "UNIMPLEMENTED",
          409: "ALREADY_EXISTS", 413: "PAYLOAD_TOO_LARGE", 422: "UNPROCESSABLE_ENTITY", 429: "RESOURCE_EXHAUSTED",
          501: "UNIMPLEMENTED", 502: "UNAVAILABLE", 503: "UNAVAILABLE", 504: "TIMEOUT"}
_READ = {"readUnits": 1}


def encode_matches(matches: Sequence[Mapping[str, Any]], namespace: str) -> dict[str, Any]:
    """The answer to POST /query: what `encode_match` gives, best first."""
    return {"matches": matches, "namespace": namespace, "usage": _READ}


def encode_match(identity: str, score: float, values: Sequence[float] = (), metadata: Mapping[str, Any] | None = None,
                 sparse: tuple[Sequence[int], Sequence[float]] | None = None) -> dict[str, Any]:
    """One match; empty metadata is left out."""
    body = {"id": identity, "score": score, "values": values}
    if sparse is not None:
        body["sparseValues"] = {"indices": sparse[0], "values": sparse[1]}
    if metadata:
        body["metadata"] = doubles(metadata)
    return body


def doubles(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata as the service gives it back: all numbers are doubles."""
    return {key: float(value) if type(value) is int else value for key, value in metadata.items()}


def encode_fetched(vectors: Iterable[Vector], namespace: str, token: str | None = None) -> dict[str, Any]:
    """The answer to GET /vectors/fetch and, with the next page's token, to POST /vectors/fetch_by_metadata."""
    found: dict[str, Any] = {}
    for vector in vectors:
        body: dict[str, Any] = {"id": vector.id, "values": vector.values}
        if vector.sparse is not None:
            body["sparseValues"] = {"indices": vector.sparse[0], "values": vector.sparse[1]}
        if vector.metadata:
            body["metadata"] = doubles(vector.metadata)
        found[vector.id] = body
    return {"vectors": found, "namespace": namespace, "usage": _READ, **_page(token)}


def encode_ids(ids: Iterable[str], namespace: str, token: str | None = None) -> dict[str, Any]:
    """The answer to GET /vectors/list."""
    return {"vectors": [{"id": identity} for identity in ids], "namespace": namespace, "usage": _READ, **_page(token)}


def encode_upserted(count: int) -> dict[str, Any]:
    """The answer to POST /vectors/upsert."""
    return {"upsertedCount": count}


def encode_updated(matched: int | None) -> dict[str, Any]:
    """The answer to POST /vectors/update: by filter, how many records it matched."""
    return {} if matched is None else {"matchedRecords": matched}


def encode_stats(stats: Stats) -> dict[str, Any]:
    """The answer to POST /describe_index_stats. An index of sparse vectors has no dimension."""
    body: dict[str, Any] = {"namespaces": {name or DEFAULT_NAMESPACE: {"vectorCount": count}
                                           for name, count in stats.counts.items()},
                            "indexFullness": 0.0, "totalVectorCount": sum(stats.counts.values()),
                            "metric": THEIRS.get(stats.metric, stats.metric),
                            "vectorType": "dense" if stats.dim else "sparse"}
    return {**body, "dimension": stats.dim} if stats.dim else body


def encode_namespace(name: str, count: int, schema: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The answer to GET /namespaces/{name} and POST /namespaces."""
    body: dict[str, Any] = {"name": name or DEFAULT_NAMESPACE, "record_count": count}
    if schema is None:
        return body
    fields = [field for field, item in dict(schema.get("fields") or {}).items() if item]
    return {**body, "schema": dict(schema), "indexed_fields": {"fields": fields}}


def encode_namespaces(namespaces: Sequence[Mapping[str, Any]], total: int, token: str | None = None) -> dict[str, Any]:
    """The answer to GET /namespaces: a page of what `encode_namespace` gives."""
    return {"namespaces": list(namespaces), "total_count": total, **_page(token)}


def encode_failure(status: int, message: str) -> dict[str, Any]:
    """An error as the clients read it."""
    return {"error": {"code": _CODES.get(status, "UNKNOWN"), "message": message}, "status": status}


def _page(token: str | None) -> dict[str, Any]:
    return {} if token is None else {"pagination": {"next": token}}


# --- tokens of pages ---


def encode_token(cursor: str) -> str:
    """The token for the page after `cursor`: nothing that a caller should make itself."""
    return urlsafe_b64encode(cursor.encode("utf-8")).decode("ascii").rstrip("=")


def decode_token(token: str) -> str:
    """What a token continues after. Raises `Malformed` for one that no page gave."""
    try:
        return b64decode(token + "=" * (-len(token) % 4), b"-_", validate=True).decode("utf-8")
    except ValueError:
        raise Malformed(f"paginationToken {token[:60]!r} was not given by an earlier page") from None
