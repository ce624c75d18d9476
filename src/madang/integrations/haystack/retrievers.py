"""Retrievers over the document store, as components of a pipeline."""

# Without `from __future__ import annotations`: Haystack reads the types of inputs where they are declared.

from dataclasses import asdict
from typing import Any, Self

from haystack import component, default_from_dict, default_to_dict
from haystack.dataclasses import Document
from haystack.document_stores.types import FilterPolicy
from haystack.document_stores.types.filter_policy import apply_filter_policy

from madang.base.errors import InvalidInput
from madang.integrations.haystack.store import MadangDocumentStore
from madang.store import Fusion


class _Retriever:
    """What the three have in common."""

    def __init__(self, *, document_store: MadangDocumentStore, filters: dict[str, Any] | None = None, top_k: int = 10,
                 filter_policy: str | FilterPolicy = FilterPolicy.REPLACE) -> None:
        """
        Args:
            filters: applied to every run; those of a run replace them, or are merged with them, as the policy says.
            top_k: how many documents at most, unless a run says otherwise.
        """
        if not isinstance(document_store, MadangDocumentStore):
            raise InvalidInput(f"document_store must be a MadangDocumentStore, not {document_store!r:.80}.")
        self.document_store, self.filters, self.top_k = document_store, filters or {}, top_k
        self.filter_policy = filter_policy if isinstance(filter_policy, FilterPolicy) else \
            FilterPolicy.from_str(filter_policy)

    def to_dict(self) -> dict[str, Any]:
        """As a pipeline is written to a file."""
        return default_to_dict(self, document_store=self.document_store.to_dict(), filters=self.filters,
                               top_k=self.top_k, filter_policy=self.filter_policy.value)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """What `to_dict` wrote."""
        given = dict(data["init_parameters"])
        if isinstance(given["document_store"], dict):
            given["document_store"] = MadangDocumentStore.from_dict(given["document_store"])
        return default_from_dict(cls, {**data, "init_parameters": given})

    def _question(self, filters: dict[str, Any] | None, top_k: int | None, **query: Any) -> dict[str, Any]:
        """How the store is to be asked."""
        return {"filters": apply_filter_policy(self.filter_policy, self.filters, filters),
                "top_k": self.top_k if top_k is None else top_k, **query}


@component
class MadangEmbeddingRetriever(_Retriever):
    """The documents whose embeddings are most like a query's."""

    @component.output_types(documents=list[Document])
    def run(self, query_embedding: list[float], filters: dict[str, Any] | None = None,
            top_k: int | None = None) -> dict[str, list[Document]]:
        """`documents`, best first."""
        asked = self._question(filters, top_k, query_embedding=query_embedding)
        return {"documents": self.document_store.search(**asked)}

    @component.output_types(documents=list[Document])
    async def run_async(self, query_embedding: list[float], filters: dict[str, Any] | None = None,
                        top_k: int | None = None) -> dict[str, list[Document]]:
        """`documents`, best first."""
        asked = self._question(filters, top_k, query_embedding=query_embedding)
        return {"documents": await self.document_store.search_async(**asked)}


@component
class MadangBM25Retriever(_Retriever):
    """The documents whose words match a query best; Korean by morphemes (with the `ko` extra)."""

    @component.output_types(documents=list[Document])
    def run(self, query: str, filters: dict[str, Any] | None = None,
            top_k: int | None = None) -> dict[str, list[Document]]:
        """`documents`, best first."""
        return {"documents": self.document_store.search(**self._question(filters, top_k, query=query))}

    @component.output_types(documents=list[Document])
    async def run_async(self, query: str, filters: dict[str, Any] | None = None,
                        top_k: int | None = None) -> dict[str, list[Document]]:
        """`documents`, best first."""
        return {"documents": await self.document_store.search_async(**self._question(filters, top_k, query=query))}


@component
class MadangHybridRetriever(_Retriever):
    """Embeddings and words in one search, their rankings fused."""

    def __init__(self, *, document_store: MadangDocumentStore, filters: dict[str, Any] | None = None, top_k: int = 10,
                 filter_policy: str | FilterPolicy = FilterPolicy.REPLACE,
                 fusion: Fusion | dict[str, Any] | None = None) -> None:
        """As for the others; `fusion`: how the rankings are combined, by reciprocal ranks unless it says otherwise."""
        # Not `super()`: the decorator makes a class of its own.
        _Retriever.__init__(self, document_store=document_store, filters=filters, top_k=top_k,
                            filter_policy=filter_policy)
        self.fusion = fusion if isinstance(fusion, Fusion) else Fusion(**(fusion or {}))

    def to_dict(self) -> dict[str, Any]:
        """As a pipeline is written to a file."""
        data = _Retriever.to_dict(self)
        data["init_parameters"]["fusion"] = asdict(self.fusion)
        return data

    @component.output_types(documents=list[Document])
    def run(self, query: str, query_embedding: list[float], filters: dict[str, Any] | None = None,
            top_k: int | None = None) -> dict[str, list[Document]]:
        """`documents`, best first."""
        return {"documents": self.document_store.search(**self._asked(query, query_embedding, filters, top_k))}

    @component.output_types(documents=list[Document])
    async def run_async(self, query: str, query_embedding: list[float], filters: dict[str, Any] | None = None,
                        top_k: int | None = None) -> dict[str, list[Document]]:
        """`documents`, best first."""
        asked = self._asked(query, query_embedding, filters, top_k)
        return {"documents": await self.document_store.search_async(**asked)}

    def _asked(self, query: str, query_embedding: list[float], filters: dict[str, Any] | None,
               top_k: int | None) -> dict[str, Any]:
        return self._question(filters, top_k, query=query, query_embedding=query_embedding, fusion=self.fusion)
