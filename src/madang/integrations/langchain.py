"""A LangChain vector store in a workspace.

    from madang.integrations.langchain import MadangVectorStore

    store = MadangVectorStore(collection="notes", workspace="./courtyard", embedding=OpenAIEmbeddings())

Without `embedding` the workspace's own embedder is used. A document's text is kept and indexed, so that `mode="hybrid"`
and `mode="bm25"` search it by words; its id is the record's; filters are Pinecone's, over metadata as
`madang.integrations.metadata` keeps it. Asynchronous methods run in threads.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from madang.base.errors import InvalidInput
from madang.base.records import Filter, Match, Record
from madang.integrations.libraries import required
from madang.integrations.metadata import packed, unpacked
from madang.integrations.place import Place
from madang.rag.retrieve import MODES, Mode, weighed
from madang.store import Fusion
from madang.workspace import Workspace

with required("langchain_core", "langchain"):
    from langchain_core.documents import Document
    from langchain_core.embeddings import Embeddings
    from langchain_core.vectorstores import VectorStore
    from langchain_core.vectorstores.utils import maximal_marginal_relevance

Scored = list[tuple[Document, float]]


class MadangEmbeddings(Embeddings):
    """The embedder of a workspace, e.g. "bundled/minilm", for whatever takes LangChain's `Embeddings`."""

    def __init__(self, place: Place | None = None, *, workspace: Workspace | str | Path | None = None,
                 model: str | None = None) -> None:
        """`model`: its name; else the one that the workspace's settings name. `place` is how a store makes one."""
        self._place = place or Place(workspace, "docs")
        self._model = model

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """A vector each."""
        return self._embedded(texts, "document")

    def embed_query(self, text: str) -> list[float]:
        """A vector to search with."""
        return self._embedded([text], "query")[0]

    def _embedded(self, texts: Sequence[str], kind: Any) -> list[list[float]]:
        model = self._place.embedder() if self._model is None else self._place.workspace.models.embedder(self._model)
        vectors: list[list[float]] = model.embed(list(texts), kind).tolist()
        return vectors


class MadangVectorStore(VectorStore):
    """Documents in a namespace of a collection, which is made with the first of them."""

    def __init__(self, embedding: Embeddings | None = None, *, collection: str = "langchain",
                 workspace: Workspace | str | Path | None = None, namespace: str = "", metric: str = "cosine",
                 index: Any = None, mode: Mode = "dense", fusion: Fusion | None = None) -> None:
        """
        Args:
            embedding: None: the workspace's own embedder (of the collection, where it was made with one).
            workspace: one that is open, or its directory: default `MADANG_WORKSPACE` or `./courtyard`.
            metric, index: of a collection that has to be made; as for `Workspace.create_collection`.
            mode: what `similarity_search` asks for unless told otherwise: "dense", "bm25" or "hybrid".
            fusion: how "hybrid" combines the two rankings.
        """
        self._place = Place(workspace, collection, namespace, metric, index)
        self._embedding = embedding if embedding is not None else MadangEmbeddings(self._place)
        self._own = embedding is None
        self._mode, self._fusion = _mode(mode), fusion or Fusion()

    @property
    def embeddings(self) -> Embeddings:
        """What texts are embedded with."""
        return self._embedding

    # Writing

    def add_texts(self, texts: Iterable[str], metadatas: list[dict[str, Any]] | None = None, *,
                  ids: list[str | None] | None = None, **kwargs: Any) -> list[str]:
        """Insert or replace texts, in one transaction. Returns their ids: those given, new ones where there is none.

        Raises `InvalidInput` where metadata or ids are not as many as the texts, or cannot be kept.
        """
        listed = list(texts)
        for name, given in (("metadatas", metadatas), ("ids", ids)):
            if given is not None and len(given) != len(listed):
                raise InvalidInput(f"{name} are {len(given)}, but there are {len(listed)} texts.",
                                   remedy="Give one for each text.")
        names = [given or str(uuid.uuid4()) for given in ids or [None] * len(listed)]
        kept = [packed(metadata or {}, f"document {name!r:.60}: metadata")
                for name, metadata in zip(names, metadatas or [{}] * len(listed), strict=True)]
        vectors = self._embedding.embed_documents(listed) if listed else []
        self._place.write([Record(name, np.asarray(vector, dtype=np.float32), None, metadata, text)
                           for name, vector, metadata, text in zip(names, vectors, kept, listed, strict=True)],
                          self._place.embedder().name if self._own and listed else None)
        return names

    def delete(self, ids: list[str] | None = None, *, filter: Filter | None = None, **kwargs: Any) -> bool:  # noqa: A002
        """Delete by ids, by filter, or (neither given) all; unknown ids are no error."""
        self._place.remove(ids, filter)
        return True

    # Reading

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """The documents there are, in the order of `ids`."""
        return [_document(record.id, record.document, record.metadata) for record in self._place.read(ids).values()]

    def similarity_search(self, query: str, k: int = 4, filter: Filter | None = None, *,  # noqa: A002
                          mode: Mode | None = None, **kwargs: Any) -> list[Document]:
        """The `k` best documents."""
        return [document for document, _ in self.similarity_search_with_score(query, k, filter, mode=mode)]

    def similarity_search_with_score(self, query: str, k: int = 4, filter: Filter | None = None, *,  # noqa: A002
                                     mode: Mode | None = None, **kwargs: Any) -> Scored:
        """With scores, higher for better ones: the metric's, BM25's, or fused ones, as `mode` says."""
        chosen = _mode(mode or self._mode)
        vector = None if chosen == "bm25" or self._place.found() is None else self._embedding.embed_query(query)
        fusion = self._fusion
        if self._own and vector is not None:        # in a language that the embedder does not know, words count
            fusion, _ = weighed(fusion, self._place.embedder(), query, chosen)
        return _scored(self._place.search(k, vector, None if chosen == "dense" else query, filter, fusion=fusion))

    def similarity_search_by_vector(self, embedding: list[float], k: int = 4, filter: Filter | None = None,  # noqa: A002
                                    **kwargs: Any) -> list[Document]:
        """The `k` documents whose vectors are nearest."""
        return [document for document, _ in self.similarity_search_by_vector_with_score(embedding, k, filter)]

    def similarity_search_by_vector_with_score(self, embedding: list[float], k: int = 4,
                                               filter: Filter | None = None) -> Scored:  # noqa: A002
        """With the metric's scores, higher for nearer ones."""
        return _scored(self._place.search(k, embedding, None, filter))

    def max_marginal_relevance_search(self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5,
                                      filter: Filter | None = None, **kwargs: Any) -> list[Document]:  # noqa: A002
        """`k` of the `fetch_k` nearest that are also unlike each other; `lambda_mult` 1 asks for likeness only."""
        return self.max_marginal_relevance_search_by_vector(self._embedding.embed_query(query), k, fetch_k,
                                                            lambda_mult, filter)

    def max_marginal_relevance_search_by_vector(self, embedding: list[float], k: int = 4, fetch_k: int = 20,
                                                lambda_mult: float = 0.5, filter: Filter | None = None,  # noqa: A002
                                                **kwargs: Any) -> list[Document]:
        """The same, by a vector (Carbonell & Goldstein, SIGIR 1998)."""
        found = self._place.search(fetch_k, embedding, None, filter, values=True)
        vectors = [[] if match.values is None else match.values.tolist() for match in found]
        chosen = maximal_marginal_relevance(np.asarray(embedding, dtype=np.float32), vectors, lambda_mult, k)
        return [document for document, _ in _scored([found[place] for place in chosen])]

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        if self._mode == "bm25":
            raise InvalidInput("BM25's scores have no most, so there is no relevance from 0 to 1.",
                               remedy='Use mode="dense" or mode="hybrid".')
        if self._mode == "hybrid":
            most = (self._fusion.dense + self._fusion.lexical) / (self._fusion.k + 1)
            return (lambda score: score) if self._fusion.method == "weighted" else (lambda score: score / most)
        found = self._place.found()
        metric = self._place.metric if found is None else found.metric
        if metric == "euclidean":                   # the score is the negative squared distance
            return lambda score: 1 / (1 - min(score, 0.0))
        return lambda score: min(max((score + 1) / 2, 0.0), 1.0)

    @classmethod
    def from_texts(cls, texts: list[str], embedding: Embeddings | None = None,
                   metadatas: list[dict[str, Any]] | None = None, *, ids: list[str] | None = None,
                   **kwargs: Any) -> Self:
        """A store with these texts; the other arguments are those of the class."""
        store = cls(embedding, **kwargs)
        store.add_texts(texts, metadatas, ids=None if ids is None else list(ids))
        return store

    def close(self) -> None:
        """Let go of a workspace that this opened."""
        self._place.close()


def _mode(value: Any) -> Mode:
    if value not in MODES:
        raise InvalidInput(f"mode {value!r:.40} is unknown.", remedy=f"Known: {', '.join(MODES)}.")
    return value


def _document(identity: str, text: str | None, metadata: Any) -> Document:
    return Document(id=identity, page_content=text or "", metadata=unpacked(metadata or {}))


def _scored(matches: Iterable[Match]) -> Scored:
    return [(_document(match.id, match.document, match.metadata), match.score) for match in matches]
