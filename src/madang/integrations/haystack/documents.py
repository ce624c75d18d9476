"""Documents of Haystack as records, and back."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from haystack.dataclasses import ByteStream, Document, SparseEmbedding

from madang.base.records import Match, Record, SparseVector, Vector
from madang.integrations.metadata import ID, as_json, packed, unpacked

BARE = "_bare:"        # of records whose document has no embedding
_REST = "_rest:"       # what has no place in a record, as JSON


def as_record(document: Document, dim: int) -> Record:
    """`dim`: how many zeros stand for an embedding that is not there."""
    where = f"document {document.id!r:.60}: meta"
    metadata = {**packed(document.meta, where), ID: document.id}
    if document.embedding is None:
        metadata[BARE] = True
    rest: dict[str, Any] = {} if document.score is None else {"score": document.score}
    if document.blob is not None:
        blob = document.blob
        rest["blob"] = {"data": base64.b64encode(blob.data).decode("ascii"), "meta": blob.meta,
                        "mime_type": blob.mime_type}
    if rest:
        metadata[_REST] = as_json(rest, where)
    sparse = None if document.sparse_embedding is None else \
        SparseVector(document.sparse_embedding.indices, document.sparse_embedding.values)
    values = np.zeros(dim, dtype=np.float32) if document.embedding is None else \
        np.asarray(document.embedding, dtype=np.float32)
    return Record(document.id, values, sparse, metadata, document.content)


def as_document(record: Record) -> Document:
    """All of it."""
    sparse = None if record.sparse is None else SparseEmbedding(list(record.sparse.indices), list(record.sparse.values))
    return _document(record.id, record.document, record.metadata, record.values, sparse)


def found(match: Match) -> Document:
    """What a search found, with its score."""
    return _document(match.id, match.document, match.metadata or {}, match.values, None, match.score)


def _document(identity: str, content: str | None, metadata: Mapping[str, Any], values: Vector | None,
              sparse: SparseEmbedding | None, score: float | None = None) -> Document:
    kept = dict(metadata)
    bare, rest = kept.pop(BARE, False), json.loads(str(kept.pop(_REST, "{}")))
    blob = rest.get("blob")
    if blob is not None:
        blob = ByteStream(base64.b64decode(blob["data"]), blob["meta"], blob["mime_type"])
    return Document(id=identity, content=content, blob=blob, meta=unpacked(kept),
                    score=rest.get("score") if score is None else score,
                    embedding=None if bare or values is None else values.tolist(), sparse_embedding=sparse)
