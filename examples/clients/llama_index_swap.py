"""LlamaIndex's five lines, three times: with its store in memory, through Pinecone's protocol, and in a workspace.

Only the line that makes the vector store is another one.
"""

import os

from llama_index.core import Document, Settings, StorageContext, VectorStoreIndex
from llama_index.core.vector_stores import ExactMatchFilter, MetadataFilters, SimpleVectorStore
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.openai_like import OpenAILike
from llama_index.vector_stores.pinecone import PineconeVectorStore
from pinecone import Pinecone, ServerlessSpec

from madang.integrations.llama_index import MadangVectorStore

Settings.llm = OpenAILike(model="gpt-4o", api_base=os.environ["OPENAI_BASE_URL"], is_chat_model=True, context_window=8000)
Settings.embed_model = OpenAILikeEmbedding(model_name="text-embedding-3-small", api_base=os.environ["OPENAI_BASE_URL"])

documents = [Document(text="Everybody has fifteen days of annual leave.", metadata={"page": "1"}),
             Document(text="The office opens at nine in the morning.", metadata={"page": "2"}),
             Document(text="Receipts are kept for five years.", metadata={"page": "3"})]


def in_memory():
    return SimpleVectorStore()


def through_pinecones_protocol():
    pc = Pinecone()
    pc.create_index("handbook", dimension=1536, metric="cosine", spec=ServerlessSpec(cloud="aws", region="us-east-1"))
    return PineconeVectorStore(pinecone_index=pc.Index("handbook"))


def in_a_workspace():
    return MadangVectorStore(collection="handbook")


answers = []
for vector_store in (in_memory(), through_pinecones_protocol(), in_a_workspace()):
    index = VectorStoreIndex.from_documents(documents, StorageContext.from_defaults(vector_store=vector_store))
    response = index.as_query_engine(similarity_top_k=2).query("How many days of annual leave does everybody have?")
    where = MetadataFilters(filters=[ExactMatchFilter(key="page", value="2")])
    filtered = index.as_retriever(filters=where).retrieve("When does the office open?")
    print(f"{type(vector_store).__name__}: {response}")
    assert "fifteen days" in str(response)
    assert [node.metadata["page"] for node in filtered] == ["2"]
    answers.append(([node.text for node in response.source_nodes], [node.text for node in filtered]))
assert answers[0] == answers[1] == answers[2]
