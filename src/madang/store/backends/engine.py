"""What all back-ends share: the collection's face, with its checks and refusals. An engine fills in a few steps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

from madang.base.errors import InvalidInput, NotFound, Unsupported
from madang.base.records import Filter, Match, Plan, QueryResult, Record, Source, SourceInfo, Vector
from madang.store import filters, validate
from madang.store.backends.capabilities import Capabilities
from madang.store.filters import Tree
from madang.store.fusion import Fusion
from madang.store.protocol import CollectionStats, IdPage
from madang.store.updating import Change, change


class EngineCollection(ABC):
    """A collection kept by another engine. Arguments are checked as the built-in `Collection` checks them, and what
    the engine does not declare is refused, before the engine hears of it.

    A subclass names its `engine`, declares its `capabilities` and implements the steps at the end.
    """

    engine: ClassVar[str]
    capabilities: ClassVar[Capabilities]

    def __init__(self, name: str, dim: int, metric: str) -> None:
        self._name, self._dim, self.metric = name, dim, metric
        self.embedder: str | None = None

    @classmethod
    @abstractmethod
    def create(cls, url: str, dim: int, metric: str = "cosine") -> Self:
        """Make the collection that the URL names. Raises `Conflict` if it exists already."""

    @classmethod
    @abstractmethod
    def open(cls, url: str) -> Self:
        """Open the collection that the URL names. Raises `NotFound`."""

    @classmethod
    def check_new(cls, dim: Any, metric: Any) -> None:
        """Refuse a dimension or a metric that a new collection cannot have."""
        if isinstance(dim, bool) or not isinstance(dim, int) or not 1 <= dim <= validate.MAX_DIM:
            raise InvalidInput(f"dim must be a whole number from 1 to {validate.MAX_DIM:,}, not {dim!r}.")
        if metric not in Capabilities().metrics:
            raise InvalidInput(f"metric {metric!r} is unknown.", remedy=f"Known: {', '.join(Capabilities().metrics)}.")
        if metric not in cls.capabilities.metrics:
            raise cls._cannot(f"metric {metric!r}", f"It has: {', '.join(cls.capabilities.metrics)}.")

    @property
    def name(self) -> str:
        """The collection's name in the engine."""
        return self._name

    @property
    def dim(self) -> int:
        """Numbers in a vector."""
        return self._dim

    # Writing

    def upsert(self, records: Iterable[Record | Mapping[str, Any]], namespace: str = "") -> int:
        """Insert or replace records by id. Returns how many were written. Raises `InvalidInput`, `Unsupported`."""
        space = self._space(namespace)
        checked = validate.records(records, self.dim)
        for record in checked:
            self.check_record(record)
        if checked:
            self._put(checked, space)
        return len(checked)

    def check_record(self, record: Record) -> None:
        """Refuse what the engine would lose or get wrong; a subclass adds its own limits."""
        where = f"record {record.id!r:.60}"
        if not self.capabilities.unicode_ids and not record.id.isascii():
            raise self._cannot(f"{where}: an id beyond ASCII", "Use letters, digits and signs of ASCII.")
        if record.sparse is not None and not self.capabilities.sparse:
            raise self._cannot(f"{where}: sparse", "Leave it out.")
        if not self.capabilities.documents and (record.document is not None or record.context is not None):
            raise self._cannot(f"{where}: document", "Keep the text elsewhere.")
        if (self.metric == "cosine" and not self.capabilities.zero_vectors and record.values is not None
                and not record.values.any()):
            raise self._cannot(f"{where}: a vector of zeros", "It has no direction; leave the record out.")

    def update(self, id: str | None = None, values: Any = None,  # noqa: A002
               set_metadata: Mapping[str, Any] | None = None, namespace: str = "", *, sparse: Any = None,
               filter: Filter | None = None) -> int:  # noqa: A002
        """Replace the vector or the sparse vector and/or merge metadata keys of one record, by its id. Returns how many
        records changed. Raises `NotFound` for an unknown id; by filter only where `by_filter` is declared."""
        wanted = change(id, values, set_metadata, sparse, filter)
        space = self._space(namespace)
        if wanted.filter is not None:
            self._need("by_filter", "update by filter", "List the ids and update those.")
        if set_metadata is not None:
            self._need("update_metadata", "update of metadata", "Upsert the whole record.")
        return self._update(wanted, space)

    def _update(self, wanted: Change, namespace: str) -> int:
        """By id: read, changed, written back; an engine that can do better, or by filter, overrides this."""
        self.upsert([self._changed(wanted, self._get([wanted.id or ""], namespace), namespace)], namespace)
        return 1

    def _changed(self, wanted: Change, found: Mapping[str, Record], namespace: str) -> Record:
        """The record as an update by id leaves it, checked."""
        record = found.get(wanted.id or "")
        if record is None:
            raise NotFound(f"collection {self.name!r} has no record {wanted.id!r} in namespace {namespace!r}.",
                           remedy="Use upsert to create it.")
        (changed,) = validate.records([wanted.of(record)], self.dim)
        self.check_record(changed)
        return changed

    def delete(self, ids: Sequence[str] | None = None, filter: Filter | None = None,  # noqa: A002
               delete_all: bool = False, namespace: str = "") -> int:
        """Delete by ids, by filter, or everything in a namespace. Returns how many records went, counted before."""
        if sum([ids is not None, filter is not None, bool(delete_all)]) != 1:
            raise InvalidInput("delete needs exactly one of ids, filter and delete_all=True.")
        space = self._space(namespace)
        if ids is not None:
            wanted = list(dict.fromkeys(validate.ids(ids)))
            return self._delete_ids(wanted, space) if wanted else 0
        if filter is None:
            return self._delete_matching(None, space)
        tree = filters.parse(filter)
        self._need("delete_by_filter", "delete by filter", "Query for the ids and delete those.")
        return self._delete_matching(tree, space)

    # Reading

    def query(self, vector: Any = None, text: str | None = None, sparse: Any = None, top_k: int = 10,
              namespace: str = "", filter: Filter | None = None, include_metadata: bool = True,  # noqa: A002
              include_values: bool = False, include_document: bool = False, target_recall: float | None = None,
              fusion: Fusion | None = None) -> QueryResult:
        """The best records by vector. Words, sparse vectors and `target_recall` where the engine declares them."""
        if vector is None and text is None and sparse is None:
            raise InvalidInput("query needs a vector, a text, a sparse vector, or several of them.")
        if target_recall is not None and not 0 < target_recall <= 1:
            raise InvalidInput(f"target_recall must be above 0 and at most 1, not {target_recall!r}.")
        wanted, space = validate.top_k(top_k), self._space(namespace)
        dense = None if vector is None else validate.vector(vector, self.dim, "vector")
        validate.text(text, "text")
        tree = None if filter is None else filters.parse(filter)
        if text is not None:
            self._need("text", "query by text", "Query by vector.")
        if sparse is not None:
            self._need("sparse_query", "query by sparse vector", "Query by vector.")
        if target_recall is not None:
            self._need("target_recall", "target_recall", "Leave it out; the engine's own settings decide.")
        if include_document:
            self._need("documents", "include_document", "Leave it out.")
        if wanted > self.capabilities.max_top_k:
            raise self._cannot(f"top_k {wanted:,}", f"At most {self.capabilities.max_top_k:,}.")
        if dense is None:
            raise InvalidInput("query needs a vector.")
        if self.metric == "cosine" and not self.capabilities.zero_vectors and not dense.any():
            raise self._cannot("a query vector of zeros", "It has no direction.")
        matches = self._search(dense, wanted, space, tree, include_values)
        shown = [replace(match, metadata=match.metadata if include_metadata else None,
                         document=match.document if include_document else None) for match in matches]
        return QueryResult(shown, Plan(dense=self.engine), namespace)

    def fetch(self, ids: Sequence[str], namespace: str = "") -> dict[str, Record]:
        """Records by id; unknown ids are left out."""
        space, wanted = self._space(namespace), list(dict.fromkeys(validate.ids(ids)))
        found = self._get(wanted, space) if wanted else {}
        return {identity: found[identity] for identity in wanted if identity in found}

    def list_ids(self, prefix: str = "", limit: int = 100, cursor: str | None = None, namespace: str = "",
                 filter: Filter | None = None) -> IdPage:  # noqa: A002
        """Ids a page at a time; pass the page's `cursor` to get the next. In order where `ordered_ids` is declared; of
        the records that a filter matches only where `by_filter` is."""
        if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= validate.MAX_TOP_K:
            raise InvalidInput(f"limit must be a whole number from 1 to {validate.MAX_TOP_K:,}, not {limit!r}.")
        space = self._space(namespace)
        prefix, cursor = validate.text(prefix, "prefix") or "", validate.text(cursor, "cursor")
        self._need("list_ids", "list_ids", "Keep the ids elsewhere.")
        if filter is not None:
            filters.parse(filter)
            self._need("by_filter", "list_ids with a filter", "Query with the filter.")
        if prefix:
            self._need("list_prefix", "list_ids with a prefix", "Leave the prefix out.")
        return self._list(prefix, limit, cursor, space)

    def count(self, filter: Filter | None = None, namespace: str = "") -> int:  # noqa: A002
        """How many records of a namespace there are; how many match a filter only where `by_filter` is declared."""
        space = self._space(namespace)
        if filter is not None:
            filters.parse(filter)
            self._need("by_filter", "count with a filter", "Query with the filter.")
        return self._counts().get(space, 0)

    def stats(self) -> CollectionStats:
        """Counts and settings; what the engine does not tell is 0 or empty."""
        counts = {space: count for space, count in sorted(self._counts().items()) if count}
        return CollectionStats(self.name, sum(counts.values()), counts, 0, self.dim, self.metric, self.engine,
                               self.embedder, "", 0, 0)

    # Documents that records were cut from

    def replace_sources(self, batch: Sequence[tuple[Source, Sequence[Record]]], namespace: str = "",
                        embedder: str | None = None) -> int:
        """Refused unless the engine declares `sources` and overrides this."""
        raise self._no_sources()

    def remove_sources(self, uris: Iterable[str], namespace: str = "") -> int:
        """Refused unless the engine declares `sources` and overrides this."""
        raise self._no_sources()

    def sources(self, namespace: str = "") -> dict[str, SourceInfo]:
        """Refused unless the engine declares `sources` and overrides this."""
        raise self._no_sources()

    def source(self, uri: str, namespace: str = "") -> Source | None:
        """Refused unless the engine declares `sources` and overrides this."""
        raise self._no_sources()

    # Refusals

    @classmethod
    def _cannot(cls, what: str, remedy: str) -> Unsupported:
        return Unsupported(f"{what} is not supported by {cls.engine}.", remedy=remedy)

    def _need(self, capability: str, what: str, remedy: str) -> None:
        if not getattr(self.capabilities, capability):
            raise self._cannot(what, remedy)

    def _no_sources(self) -> Unsupported:
        return self._cannot("keeping the documents that records were cut from",
                            "Ingest into a collection of the workspace, or upsert records.")

    def _space(self, namespace: str) -> str:
        space = validate.namespace_name(namespace)
        if space:
            self._need("namespaces", f"namespace {namespace!r:.80}", "Use a collection for each.")
        return space

    # The steps of an engine. All arguments have been checked; ids are distinct, and neither list is empty.

    @abstractmethod
    def _put(self, records: list[Record], namespace: str) -> None:
        """Insert or replace, all or none as far as the engine can, visible when it returns."""

    @abstractmethod
    def _get(self, ids: list[str], namespace: str) -> dict[str, Record]:
        """Whole records by id, as they were written."""

    @abstractmethod
    def _search(self, vector: Vector, k: int, namespace: str, tree: Tree | None,
                with_values: bool) -> list[Match]:
        """The best k, best first, metadata and document included; scores as in `madang.index.distance`."""

    @abstractmethod
    def _delete_ids(self, ids: list[str], namespace: str) -> int:
        """Delete; how many were there."""

    @abstractmethod
    def _delete_matching(self, tree: Tree | None, namespace: str) -> int:
        """Delete what matches, everything without a tree; how many were there."""

    @abstractmethod
    def _list(self, prefix: str, limit: int, cursor: str | None, namespace: str) -> IdPage:
        """A page of ids. A `cursor` that no page gave is refused with `InvalidInput` or continues at its place."""

    @abstractmethod
    def _counts(self) -> dict[str, int]:
        """Records by namespace."""

    @abstractmethod
    def drop(self) -> None:
        """Remove the collection and all it holds; afterwards `open` raises `NotFound`."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the connection or the files."""
