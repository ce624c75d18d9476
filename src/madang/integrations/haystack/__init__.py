"""A Haystack document store in a workspace, its retrievers, and the workspace's embedder.

    from madang.integrations.haystack import MadangDocumentStore, MadangHybridRetriever

    store = MadangDocumentStore(collection="notes", workspace="./courtyard", embedding_dim=384)

Documents come back as they were written: nested metadata, dates, documents without an embedding, sparse embeddings,
blobs (of 40 KiB at most, metadata included); an embedding is kept in 32 bits. Filters have Haystack's meaning, `NOT`
included, and are applied before a search.
"""

from madang.integrations.libraries import required

with required("haystack", "haystack"):
    from madang.integrations.haystack.embedders import MadangDocumentEmbedder, MadangTextEmbedder
    from madang.integrations.haystack.retrievers import (
        MadangBM25Retriever,
        MadangEmbeddingRetriever,
        MadangHybridRetriever,
    )
    from madang.integrations.haystack.store import MadangDocumentStore

__all__ = ["MadangBM25Retriever", "MadangDocumentEmbedder", "MadangDocumentStore", "MadangEmbeddingRetriever",
           "MadangHybridRetriever", "MadangTextEmbedder"]
