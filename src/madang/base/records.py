"""Nouns of the store: records, matches, sources. Everything two rooms exchange about stored things."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Vector: TypeAlias = NDArray[np.float32]
MetadataValue: TypeAlias = str | int | float | bool | list[str]
Metadata: TypeAlias = dict[str, MetadataValue]
Filter: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SparseVector:
    """A client-supplied sparse vector: parallel `indices` (unsigned) and `values`."""

    indices: Sequence[int]
    values: Sequence[float]


@dataclass(slots=True)
class Record:
    """One stored item: a dense vector `values` of shape (dim,), and a `document` that BM25 indexes.

    `context` is indexed with the document without being part of it: its title, its section.
    """

    id: str
    values: Vector | None = None
    sparse: SparseVector | None = None
    metadata: Metadata = field(default_factory=dict)
    document: str | None = None
    context: str | None = None


@dataclass(slots=True)         # not frozen: that doubles the time it takes to make one, and queries make many
class Match:
    """One answer of a query. `score` is higher for better matches, whatever the metric."""

    id: str
    score: float
    metadata: Metadata | None = None
    values: Vector | None = None
    document: str | None = None
    sparse: SparseVector | None = None         # comes with values


@dataclass(frozen=True, slots=True)
class Plan:
    """How a query was answered: which search ran over how many candidates, and why."""

    dense: str | None = None       # "exact", "hnsw(ef=64)", "hnsw(ef=64) + 512 exactly", ...
    lexical: str | None = None     # "bm25"
    sparse: str | None = None      # "sparse"
    fusion: str | None = None      # "rrf(k=60, dense=1, lexical=1)"
    candidates: int = 0            # live records that passed namespace and filter
    compared: int = 0              # vectors or codes of vectors that the dense search compared

    def __str__(self) -> str:
        parts = [p for p in (self.dense, self.lexical, self.sparse, self.fusion) if p]
        said = f"{' + '.join(parts) or 'none'} over {self.candidates:,} candidates"
        return f"{said}, {self.compared:,} compared" if self.compared else said


@dataclass(frozen=True, slots=True)
class QueryResult:
    """Matches, best first, and the plan that found them."""

    matches: list[Match]
    plan: Plan
    namespace: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """A document that records were cut from. Records of one source are replaced in one transaction.

    `text` is the extracted text that every offset refers to: for plain text, Markdown and code the decoded
    file itself; for HTML, PDF and DOCX what the loader extracted.
    """

    uri: str                       # absolute path or URL: the identity
    content_hash: str              # of the file's bytes and of everything that decides its chunks
    text: str
    media_type: str = "text/plain"
    title: str = ""
    size_bytes: int = 0
    pages: tuple[int, ...] = ()    # offset in `text` where each page starts; empty when there are no pages


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """What a listing of sources tells: everything but the text."""

    uri: str
    content_hash: str
    media_type: str
    title: str
    size_bytes: int
    chunks: int
    ingested_at: str               # ISO 8601, UTC
