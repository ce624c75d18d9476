"""The programs that books of 2024 teach, with the clients of then: openai 1.25, pinecone-client 3.2.2, llama-index 0.10."""

import os

from llama_index.core import Document, Settings, StorageContext, VectorStoreIndex
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.vector_stores import MetadataFilter, MetadataFilters
from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.llms.openai import OpenAI as LlamaOpenAI
from llama_index.vector_stores.pinecone import PineconeVectorStore
from openai import OpenAI
from pinecone import Pinecone, ServerlessSpec

texts = ["Everybody has fifteen days of annual leave.", "The office opens at nine in the morning.",
         "Receipts are kept for five years."]

# Embeddings by hand, into an index, and an answer from what it finds
client = OpenAI(api_key=os.environ["OPENAI_API_KEY"])
pc = Pinecone(api_key=os.environ["PINECONE_API_KEY"])


def get_embedding(text, model="text-embedding-ada-002"):
    return client.embeddings.create(input=[text.replace("\n", " ")], model=model).data[0].embedding


if "handbook" not in pc.list_indexes().names():
    pc.create_index("handbook", dimension=1536, metric="cosine", spec=ServerlessSpec(cloud="aws", region="us-west-2"))
index = pc.Index("handbook")
index.upsert([(str(n), get_embedding(text), {"text": text, "page": n}) for n, text in enumerate(texts)])
question = "How many days of annual leave does everybody have?"
matches = index.query(vector=get_embedding(question), top_k=2, include_metadata=True)["matches"]
context = "\n".join(match["metadata"]["text"] for match in matches)
answer = client.chat.completions.create(model="gpt-3.5-turbo", temperature=0, max_tokens=200, messages=[
    {"role": "system", "content": "Answer from the context."},
    {"role": "user", "content": f"Context:\n{context}\n\nQuestion: {question}"}]).choices[0].message.content
print(answer)
assert "fifteen days" in answer
assert index.describe_index_stats()["total_vector_count"] == 3
index.delete(ids=["0", "1", "2"])

# The same by LlamaIndex
Settings.llm = LlamaOpenAI(model="gpt-3.5-turbo", temperature=0)
Settings.embed_model = OpenAIEmbedding(model="text-embedding-3-small")
Settings.node_parser = SentenceSplitter(chunk_size=256, chunk_overlap=20)
documents = [Document(text=text, metadata={"page": n}) for n, text in enumerate(texts)]
storage = StorageContext.from_defaults(vector_store=PineconeVectorStore(pinecone_index=index))
for made in (VectorStoreIndex.from_documents(documents), VectorStoreIndex.from_documents(documents, storage_context=storage)):
    response = made.as_query_engine(similarity_top_k=2).query(question)
    print(type(made.vector_store).__name__, response)
    assert "fifteen days" in str(response)
    where = MetadataFilters(filters=[MetadataFilter(key="page", value=1)])
    assert [node.text for node in made.as_retriever(filters=where).retrieve("office hours")] == [texts[1]]
streamed = "".join(made.as_query_engine(streaming=True).query(question).response_gen)
assert "fifteen days" in streamed
chat = made.as_chat_engine(chat_mode="context").chat(question)
print("chat:", chat)
assert "fifteen days" in str(chat)
pc.delete_index("handbook")
