"""Haystack: documents in a workspace, a hybrid retriever in a pipeline, an answer from OpenAI's protocol."""

from haystack import Document, Pipeline
from haystack.components.builders import ChatPromptBuilder
from haystack.components.embedders import OpenAIDocumentEmbedder, OpenAITextEmbedder
from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.dataclasses import ChatMessage

from madang.integrations.haystack import MadangDocumentStore, MadangHybridRetriever

store = MadangDocumentStore(collection="handbook")
texts = ["Everybody has fifteen days of annual leave.", "The office opens at nine.", "Receipts are kept for five years."]
written = [Document(content=text, meta={"page": n}) for n, text in enumerate(texts)]
store.write_documents(OpenAIDocumentEmbedder(model="text-embedding-3-small", progress_bar=False).run(written)["documents"])

template = [ChatMessage.from_user("Answer from the documents.\n\n{% for document in documents %}{{ document.content }}\n"
                                  "{% endfor %}\nQuestion: {{ question }}")]
pipeline = Pipeline()
pipeline.add_component("embed", OpenAITextEmbedder(model="text-embedding-3-small"))
pipeline.add_component("retrieve", MadangHybridRetriever(document_store=store, top_k=2))
pipeline.add_component("prompt", ChatPromptBuilder(template=template, required_variables="*"))
pipeline.add_component("answer", OpenAIChatGenerator(model="gpt-4o"))
pipeline.connect("embed.embedding", "retrieve.query_embedding")
pipeline.connect("retrieve.documents", "prompt.documents")
pipeline.connect("prompt.prompt", "answer.messages")

question = "How many days of annual leave does everybody have?"
result = pipeline.run({"embed": {"text": question}, "retrieve": {"query": question}, "prompt": {"question": question}})
print(result["answer"]["replies"][0].text)
assert "fifteen days" in result["answer"]["replies"][0].text
assert store.count_documents_by_filter({"field": "meta.page", "operator": ">=", "value": 1}) == 2
