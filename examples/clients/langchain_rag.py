"""LangChain: the same chain over langchain-pinecone through our server, and over the store in a workspace."""

from langchain_core.documents import Document
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnablePassthrough
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from langchain_pinecone import PineconeVectorStore
from pinecone import Pinecone, ServerlessSpec

from madang.integrations.langchain import MadangVectorStore

# Texts as they are: to count its tokens LangChain would load a vocabulary from another machine.
embeddings = OpenAIEmbeddings(model="text-embedding-3-small", check_embedding_ctx_length=False)
texts = ["Everybody has fifteen days of annual leave.", "The office opens at nine in the morning.",
         "Receipts are kept for five years."]


def documents():
    return [Document(text, id=str(n), metadata={"page": n}) for n, text in enumerate(texts)]


pc = Pinecone()
pc.create_index("handbook", dimension=1536, metric="cosine", spec=ServerlessSpec(cloud="aws", region="us-east-1"))
prompt = ChatPromptTemplate.from_template("Answer from the context.\n\n{context}\n\nQuestion: {question}")

for store in (PineconeVectorStore(index_name="handbook", embedding=embeddings),
              MadangVectorStore(embeddings, collection="handbook")):
    store.add_documents(documents())
    assert [found.metadata["page"] for found in store.similarity_search("opening hours", k=3, filter={"page": {"$gte": 1}})] \
        == [1, 2]
    chain = ({"context": store.as_retriever(search_kwargs={"k": 2}) | (lambda found: "\n".join(each.page_content for each in found)),
              "question": RunnablePassthrough()} | prompt | ChatOpenAI(model="gpt-4o") | StrOutputParser())
    answer = chain.invoke("How many days of annual leave does everybody have?")
    print(f"{type(store).__name__}: {answer}")
    assert "fifteen days" in answer
    print("streamed:", *chain.stream("When does the office open?"))
    store.delete(["0"])
    assert "0" not in [found.id for found in store.similarity_search("annual leave", k=3)]
