"""What a store offers to the rooms above. Back-ends implement it; `Collection` of this package is the first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from madang.base.records import Filter, QueryResult, Record, Source, SourceInfo
from madang.store.fusion import Fusion


@dataclass(frozen=True, slots=True)
class CollectionStats:
    """What `stats()` tells. `size_bytes` is on disk, write-ahead log included."""

    name: str
    records: int
    namespaces: dict[str, int]
    sources: int
    dim: int
    metric: str
    index: str
    embedder: str | None
    analyzer: str
    size_bytes: int
    sequence: int                  # grows with every committed write


@dataclass(frozen=True, slots=True)
class IdPage:
    """A page of ids in order; `cursor` continues it, None at the end."""

    ids: list[str]
    cursor: str | None = None


class Queryable(Protocol):
    """What can be asked."""

    def query(self, vector: Any = None, text: str | None = None, sparse: Any = None, top_k: int = 10,
              namespace: str = "", filter: Filter | None = None, include_metadata: bool = True,  # noqa: A002
              include_values: bool = False, include_document: bool = False, target_recall: float | None = None,
              fusion: Fusion | None = None) -> QueryResult: ...


@runtime_checkable
class CollectionProtocol(Queryable, Protocol):
    """Records in namespaces: written durably, searched by vector, by words, or both."""

    @property
    def name(self) -> str: ...

    @property
    def dim(self) -> int: ...

    def upsert(self, records: Iterable[Record | Mapping[str, Any]], namespace: str = "") -> int: ...

    def fetch(self, ids: Sequence[str], namespace: str = "") -> dict[str, Record]: ...

    def update(self, id: str | None = None, values: Any = None,  # noqa: A002
               set_metadata: Mapping[str, Any] | None = None, namespace: str = "", *, sparse: Any = None,
               filter: Filter | None = None) -> int: ...  # noqa: A002

    def delete(self, ids: Sequence[str] | None = None, filter: Filter | None = None,  # noqa: A002
               delete_all: bool = False, namespace: str = "") -> int: ...

    def list_ids(self, prefix: str = "", limit: int = 100, cursor: str | None = None, namespace: str = "",
                 filter: Filter | None = None) -> IdPage: ...  # noqa: A002

    def count(self, filter: Filter | None = None, namespace: str = "") -> int: ...  # noqa: A002

    def stats(self) -> CollectionStats: ...

    def replace_sources(self, batch: Sequence[tuple[Source, Sequence[Record]]], namespace: str = "",
                        embedder: str | None = None) -> int: ...

    def remove_sources(self, uris: Iterable[str], namespace: str = "") -> int: ...

    def sources(self, namespace: str = "") -> dict[str, SourceInfo]: ...

    def source(self, uri: str, namespace: str = "") -> Source | None: ...
