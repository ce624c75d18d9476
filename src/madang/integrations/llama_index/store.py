"""The vector store."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import fsspec
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.indices.query.embedding_utils import get_top_k_mmr_embeddings
from llama_index.core.schema import BaseNode
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
    VectorStoreQueryResult,
)

from madang.base.errors import InvalidInput
from madang.base.records import Match
from madang.integrations.conditions import EVERYTHING, Condition
from madang.integrations.llama_index.filters import REF_DOC, compiled
from madang.integrations.llama_index.nodes import as_node, as_record
from madang.integrations.place import Place
from madang.store import Collection, Fusion
from madang.workspace import Workspace

_BY_WORDS = (VectorStoreQueryMode.SPARSE, VectorStoreQueryMode.TEXT_SEARCH)
_HYBRID = (VectorStoreQueryMode.HYBRID, VectorStoreQueryMode.SEMANTIC_HYBRID)
_MMR_PREFETCH = 4.0          # candidates for each node that is asked for


class MadangVectorStore(BasePydanticVectorStore):
    """Nodes in a namespace of a collection, which is made with the first of them."""

    stores_text: bool = True
    is_embedding_query: bool = True
    flat_metadata: bool = False
    collection: str
    workspace: str
    namespace: str
    metric: str
    _place: Any = PrivateAttr()

    def __init__(self, collection: str = "llama_index", workspace: Workspace | str | Path | None = None,
                 namespace: str = "", metric: str = "cosine", index: Any = None, **kwargs: Any) -> None:
        """
        Args:
            workspace: one that is open, or its directory: default `MADANG_WORKSPACE` or `./courtyard`.
            metric, index: of a collection that has to be made; as for `Workspace.create_collection`.
        """
        place = Place(workspace, collection, namespace, metric, index)
        super().__init__(collection=collection, workspace=str(place.path), namespace=namespace, metric=metric, **kwargs)
        self._place = place

    @classmethod
    def from_params(cls, collection: str = "llama_index", workspace: Workspace | str | Path | None = None,
                    **kwargs: Any) -> Self:
        """The same as the class itself."""
        return cls(collection, workspace, **kwargs)

    @classmethod
    def class_name(cls) -> str:
        """How LlamaIndex names it where it is written to a file."""
        return "MadangVectorStore"

    @property
    def client(self) -> Collection | None:
        """The collection; None while nothing was added."""
        found: Collection | None = self._place.found()
        return found

    # Writing

    def add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """Insert or replace nodes that have embeddings, in one transaction. Returns their ids."""
        self._place.write([as_record(node) for node in nodes])
        return [node.node_id for node in nodes]

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """Delete the nodes that were cut from a document."""
        self._place.remove(filter={REF_DOC: ref_doc_id})

    def delete_nodes(self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None,
                     **delete_kwargs: Any) -> None:
        """Delete the nodes that are listed and match; where neither is given, none."""
        condition = self._condition(filters, node_ids)
        if condition != EVERYTHING:
            self._place.remove(filter=condition)

    def clear(self) -> None:
        """Delete all nodes of the namespace."""
        self._place.remove()

    def persist(self, persist_path: str = "", fs: fsspec.AbstractFileSystem | None = None) -> None:
        """Nothing is left to do: what was added is on disk."""

    # Reading

    def get_nodes(self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None) -> list[BaseNode]:
        """The nodes that are listed and match, with their embeddings: in the order of the list, else in that of ids."""
        if node_ids is not None and filters is None:
            return [as_node(record) for record in self._place.read(node_ids).values()]
        return [as_node(record) for record in self._place.matching(self._condition(filters, node_ids))]

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """The best nodes.

        Modes: `default` by embedding; `sparse` and `text_search` by words (BM25); `hybrid` and `semantic_hybrid` by
        both, weighted by `alpha` (1: embeddings only, 0: words only; 0.5 unless given); `mmr` by embedding, and unlike
        each other (`mmr_threshold`, also as an argument; `mmr_prefetch_factor` or `mmr_prefetch_k` say how many
        candidates are looked at).

        Raises `InvalidInput` for another mode, and where the embedding or the text is missing.
        """
        # An index over a store that keeps texts asks with an empty list: it means no restriction.
        condition = self._condition(query.filters, query.node_ids or None, query.doc_ids or None)
        if query.mode == VectorStoreQueryMode.MMR:
            return self._diverse(query, condition, **kwargs)
        if query.mode in _BY_WORDS:
            found = self._place.search(query.sparse_top_k or query.similarity_top_k, None, _text(query), condition)
        elif query.mode in _HYBRID:
            found = self._hybrid(query, condition)
        elif query.mode == VectorStoreQueryMode.DEFAULT:
            found = self._place.search(query.similarity_top_k, _embedding(query), None, condition)
        else:
            raise InvalidInput(f"query mode {query.mode.value!r} is not supported.",
                               remedy="Known: default, sparse, text_search, hybrid, semantic_hybrid, mmr.")
        return _result(found, [match.score for match in found])

    def _hybrid(self, query: VectorStoreQuery, condition: Condition) -> list[Match]:
        alpha = 0.5 if query.alpha is None else query.alpha
        if not 0 <= alpha <= 1:
            raise InvalidInput(f"alpha must be from 0 (words only) to 1 (embeddings only), not {alpha!r}.")
        wanted = query.hybrid_top_k or query.similarity_top_k
        fusion = Fusion(dense=alpha, lexical=1 - alpha, depth=max(100, wanted, query.sparse_top_k or 0),
                        method="weighted")
        found: list[Match] = self._place.search(wanted, _embedding(query) if alpha > 0 else None,
                                                _text(query) if alpha < 1 else None, condition, fusion=fusion)
        return found

    def _diverse(self, query: VectorStoreQuery, condition: Condition, mmr_threshold: float | None = None,
                 mmr_prefetch_factor: float | None = None, mmr_prefetch_k: int | None = None,
                 **kwargs: Any) -> VectorStoreQueryResult:
        """Maximal marginal relevance (Carbonell & Goldstein, SIGIR 1998), as LlamaIndex computes it."""
        wanted = query.similarity_top_k
        if mmr_prefetch_k is None:
            mmr_prefetch_k = int(wanted * (mmr_prefetch_factor or _MMR_PREFETCH))
        vector = _embedding(query)
        found = self._place.search(max(wanted, mmr_prefetch_k), vector, None, condition, values=True)
        if not found:
            return _result([], [])
        threshold = query.mmr_threshold if mmr_threshold is None else mmr_threshold
        scores, places = get_top_k_mmr_embeddings(vector, [match.values.tolist() for match in found], None, wanted,
                                                  list(range(len(found))), mmr_threshold=threshold)
        return _result([found[place] for place in places], scores)

    def _condition(self, filters: MetadataFilters | None, node_ids: Sequence[str] | None,
                   doc_ids: Sequence[str] | None = None) -> Condition:
        return compiled(filters, self._texts, node_ids, doc_ids)

    def _texts(self, key: str) -> Iterator[str]:
        seen = set()
        for record in self._place.matching({key: {"$exists": True}}):
            text = record.metadata[key]
            if isinstance(text, str) and text not in seen:
                seen.add(text)
                yield text

    def close(self) -> None:
        """Let go of a workspace that this opened."""
        self._place.close()

    # In an event loop

    async def async_add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """`add` in a thread."""
        return await asyncio.to_thread(self.add, nodes, **kwargs)

    async def adelete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """`delete` in a thread."""
        await asyncio.to_thread(self.delete, ref_doc_id, **delete_kwargs)

    async def adelete_nodes(self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None,
                            **delete_kwargs: Any) -> None:
        """`delete_nodes` in a thread."""
        await asyncio.to_thread(self.delete_nodes, node_ids, filters, **delete_kwargs)

    async def aclear(self) -> None:
        """`clear` in a thread."""
        await asyncio.to_thread(self.clear)

    async def aget_nodes(self, node_ids: list[str] | None = None,
                         filters: MetadataFilters | None = None) -> list[BaseNode]:
        """`get_nodes` in a thread."""
        return await asyncio.to_thread(self.get_nodes, node_ids, filters)

    async def aquery(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """`query` in a thread."""
        return await asyncio.to_thread(self.query, query, **kwargs)


def _embedding(query: VectorStoreQuery) -> list[float]:
    if query.query_embedding is None:
        raise InvalidInput(f"query mode {query.mode.value!r} needs query_embedding.")
    vector: list[float] = query.query_embedding
    return vector


def _text(query: VectorStoreQuery) -> str:
    if query.query_str is None:
        raise InvalidInput(f"query mode {query.mode.value!r} needs query_str.")
    text: str = query.query_str
    return text


def _result(found: Sequence[Match], scores: Sequence[float]) -> VectorStoreQueryResult:
    return VectorStoreQueryResult(nodes=[as_node(match) for match in found], similarities=list(scores),
                                  ids=[match.id for match in found])
