"""The document store."""

from __future__ import annotations

import asyncio
import functools
import json
import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from haystack import default_from_dict, default_to_dict
from haystack.dataclasses import Document
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy

from madang.base.errors import InvalidInput
from madang.index.specs import index_of, spec_of
from madang.integrations import conditions
from madang.integrations.haystack.documents import BARE, as_document, as_record, found
from madang.integrations.haystack.filters import compiled
from madang.integrations.metadata import packed
from madang.integrations.place import MOST, Place
from madang.store import Fusion
from madang.workspace import Workspace

Filters = Mapping[str, Any]
_P = ParamSpec("_P")
_R = TypeVar("_R")
_PLAIN = {bool: "boolean", int: "int", float: "float"}


def _in_thread(method: Callable[Concatenate[Any, _P], _R]) -> Callable[Concatenate[Any, _P], Coroutine[Any, Any, _R]]:
    """The asynchronous twin of a method."""
    async def run(self: Any, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        return await asyncio.to_thread(method, self, *args, **kwargs)

    functools.update_wrapper(run, method)
    run.__name__ = f"{method.__name__}_async"
    return run


class MadangDocumentStore:
    """Documents in a namespace of a collection, which is made with the first of them."""

    def __init__(self, *, collection: str = "haystack", workspace: Workspace | str | Path | None = None,
                 namespace: str = "", embedding_dim: int = 768, metric: str = "cosine", index: Any = None,
                 return_embedding: bool = False) -> None:
        """
        Args:
            workspace: one that is open, or its directory: default `MADANG_WORKSPACE` or `./courtyard`.
            embedding_dim: of a collection that has to be made for documents without an embedding; else it is that of
                the first embedding.
            metric, index: of a collection that has to be made; as for `Workspace.create_collection`, or an index as
                `to_dict` writes it.
            return_embedding: whether documents that a search found carry their embeddings.
        """
        if isinstance(index, Mapping):
            index = index_of(dict(index), None, metric)  # type: ignore[arg-type]
        self._place = Place(workspace, collection, namespace, metric, index)
        self.embedding_dim, self.return_embedding = embedding_dim, return_embedding
        self._writing = threading.Lock()       # between looking for duplicates and writing

    def to_dict(self) -> dict[str, Any]:
        """As a pipeline is written to a file; the workspace by its directory."""
        place = self._place
        index = None if place.index is None else spec_of(place.index, self.embedding_dim, place.metric)
        return default_to_dict(self, collection=place.name, workspace=str(place.path), namespace=place.namespace,
                               embedding_dim=self.embedding_dim, metric=place.metric, index=index,
                               return_embedding=self.return_embedding)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """What `to_dict` wrote."""
        return default_from_dict(cls, data)

    # Writing

    def write_documents(self, documents: list[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE) -> int:
        """Write documents in one transaction. Returns how many were written.

        Args:
            policy: FAIL (and NONE) raises `DuplicateDocumentError` for an id that is there, and writes nothing; SKIP
                leaves the document that is there; OVERWRITE replaces it.
        """
        if isinstance(documents, str) or not isinstance(documents, Iterable) or \
                not all(isinstance(document, Document) for document in documents):
            raise ValueError(f"documents must be a list of Document, not {documents!r:.80}.")
        with self._writing:
            kept = documents if policy == DuplicatePolicy.OVERWRITE else self._new(documents, policy)
            if kept:
                dim = self._dim(kept)
                self._place.write([as_record(document, dim) for document in kept])
        return len(kept)

    def _new(self, documents: Iterable[Document], policy: DuplicatePolicy) -> list[Document]:
        """Those whose ids are not there yet."""
        listed = list(documents)
        there = set(self._place.read([document.id for document in listed]))
        new: dict[str, Document] = {}
        for document in listed:
            if document.id not in there and document.id not in new:
                new[document.id] = document
            elif policy != DuplicatePolicy.SKIP:
                raise DuplicateDocumentError(f"Document {document.id!r:.80} exists already; nothing was written.")
        return list(new.values())

    def _dim(self, documents: Iterable[Document]) -> int:
        there = self._place.found()
        return there.dim if there is not None else next(
            (len(document.embedding) for document in documents if document.embedding is not None), self.embedding_dim)

    def delete_documents(self, document_ids: list[str]) -> None:
        """Delete by ids; unknown ones are no error."""
        self._place.remove(document_ids)

    def delete_all_documents(self, recreate_collection: bool = False) -> None:
        """Delete all of the namespace, or drop the collection with all its namespaces, to be made anew."""
        if not recreate_collection:
            self._place.remove()
        elif self._place.found() is not None:
            self._place.workspace.drop_collection(self._place.name)

    def delete_by_filter(self, filters: Filters) -> int:
        """Delete what a filter matches (an empty one: everything). Returns how many documents went."""
        return self._place.remove(filter=compiled(filters))

    def update_by_filter(self, filters: Filters, meta: dict[str, Any]) -> int:
        """Set fields of the metadata of what a filter matches, in one transaction. Returns how many were changed."""
        packed(meta, "meta")
        with self._writing:
            changed = [as_document(record) for record in self._place.matching(compiled(filters))]
            for document in changed:
                document.meta.update(meta)
            if changed:
                dim = self._dim(changed)
                self._place.write([as_record(document, dim) for document in changed])
        return len(changed)

    # Reading

    def count_documents(self) -> int:
        """How many there are."""
        return self._place.count()

    def filter_documents(self, filters: Filters | None = None) -> list[Document]:
        """Every document that a filter matches, in the order of ids, with its embedding."""
        return [as_document(record) for record in self._place.matching(compiled(filters))]

    def count_documents_by_filter(self, filters: Filters) -> int:
        """How many a filter matches."""
        return self._place.count(compiled(filters))

    def search(self, *, query_embedding: list[float] | None = None, query: str | None = None,
               filters: Filters | None = None, top_k: int = 10, fusion: Fusion | None = None) -> list[Document]:
        """The best documents by embedding, by words (BM25), or by both, fused; what the retrievers call."""
        if query_embedding is None and query is None:
            raise InvalidInput("a search needs query_embedding, query, or both.")
        if isinstance(top_k, bool) or not isinstance(top_k, int) or not 1 <= top_k <= MOST:
            raise InvalidInput(f"top_k must be a whole number from 1 to {MOST:,}, not {top_k!r}.")
        condition = compiled(filters)
        if query is None:                      # only what has an embedding has a likeness to one
            condition = conditions.both([condition, {BARE: {"$exists": False}}])
        matches = self._place.search(top_k, query_embedding, query, condition, self.return_embedding, fusion)
        return [found(match) for match in matches]

    # What the metadata holds

    def get_metadata_fields_info(self) -> dict[str, dict[str, str]]:
        """The fields and their types: "boolean", "int", "float", else "keyword"."""
        kinds = {name: _PLAIN.get(type(value), "keyword") for document in self.filter_documents()
                 for name, value in document.meta.items() if value is not None}
        return {name: {"type": kind} for name, kind in kinds.items()}

    def get_metadata_field_min_max(self, metadata_field: str) -> dict[str, Any]:
        """The least and the greatest value; None each where there is none, or they do not compare."""
        values = [value for value in self._values(metadata_field, None) if isinstance(value, int | float | str)]
        try:
            return {"min": min(values, default=None), "max": max(values, default=None)}
        except TypeError:
            return {"min": None, "max": None}

    def get_metadata_field_unique_values(self, metadata_field: str, search_term: str | None = None, from_: int = 0,
                                         size: int = 10, filters: Filters | None = None) -> tuple[list[Any], int]:
        """Values of a field, ordered as text, and how many there are in all.

        Args:
            search_term: only values whose text holds it, in capitals or not.
            from_, size: which part of them is returned.
        """
        unique = {f"{type(value).__name__} {json.dumps(value, sort_keys=True, default=str)}": value
                  for value in self._values(metadata_field, filters)}
        term = (search_term or "").lower()
        values = [unique[key] for key in sorted(unique, key=lambda key: (str(unique[key]), key))
                  if term in str(unique[key]).lower()]
        return values[from_:from_ + size], len(values)

    def count_unique_metadata_by_filter(self, filters: Filters, metadata_fields: list[str]) -> dict[str, int]:
        """How many different values each field has among what a filter matches."""
        return {name: self.get_metadata_field_unique_values(name, size=0, filters=filters)[1]
                for name in metadata_fields}

    def _values(self, field: str, filters: Filters | None) -> list[Any]:
        """The values of a field, which may be inside an object; without those that are missing or None."""
        values = []
        for document in self.filter_documents(filters):
            value: Any = document.meta
            for name in field.removeprefix("meta.").split("."):
                value = value.get(name) if isinstance(value, dict) else None
            values.append(value)
        return [value for value in values if value is not None]

    def close(self) -> None:
        """Let go of a workspace that this opened."""
        self._place.close()

    write_documents_async = _in_thread(write_documents)
    delete_documents_async = _in_thread(delete_documents)
    delete_all_documents_async = _in_thread(delete_all_documents)
    delete_by_filter_async = _in_thread(delete_by_filter)
    update_by_filter_async = _in_thread(update_by_filter)
    count_documents_async = _in_thread(count_documents)
    filter_documents_async = _in_thread(filter_documents)
    count_documents_by_filter_async = _in_thread(count_documents_by_filter)
    search_async = _in_thread(search)
    get_metadata_fields_info_async = _in_thread(get_metadata_fields_info)
    get_metadata_field_min_max_async = _in_thread(get_metadata_field_min_max)
    get_metadata_field_unique_values_async = _in_thread(get_metadata_field_unique_values)
    count_unique_metadata_by_filter_async = _in_thread(count_unique_metadata_by_filter)
