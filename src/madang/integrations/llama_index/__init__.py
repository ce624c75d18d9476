"""A LlamaIndex vector store in a workspace.

    from llama_index.core import StorageContext, VectorStoreIndex
    from madang.integrations.llama_index import MadangVectorStore

    store = MadangVectorStore(collection="notes", workspace="./courtyard")
    index = VectorStoreIndex.from_documents(documents, StorageContext.from_defaults(vector_store=store))

Nodes come back as they were added, relations and nested metadata included. `MadangEmbedding` embeds with the
workspace's own model, offline.
"""

from madang.integrations.libraries import required

with required("llama_index", "llama-index"):
    from madang.integrations.llama_index.embedding import MadangEmbedding
    from madang.integrations.llama_index.store import MadangVectorStore

__all__ = ["MadangEmbedding", "MadangVectorStore"]
