"""The embedder of a workspace, as components of a pipeline; offline where the model is."""

# Without `from __future__ import annotations`: Haystack reads the types of inputs where they are declared.

from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from haystack import component, default_from_dict, default_to_dict
from haystack.dataclasses import Document

from madang.base.errors import InvalidInput
from madang.integrations.place import Place
from madang.models.protocol import EmbedKind
from madang.workspace import Workspace


class _Embedder:
    """What both have in common."""

    def __init__(self, *, model: str | None = None, workspace: Workspace | str | Path | None = None) -> None:
        """`model`: its name, e.g. "bundled/minilm"; None means the one that the workspace's settings name."""
        self._place = Place(workspace, "docs")
        self.model = model

    def to_dict(self) -> dict[str, Any]:
        """As a pipeline is written to a file; the workspace by its directory."""
        return default_to_dict(self, model=self.model, workspace=str(self._place.path))

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """What `to_dict` wrote."""
        return default_from_dict(cls, data)

    def close(self) -> None:
        """Let go of a workspace that this opened."""
        self._place.close()

    def _embedded(self, texts: list[str], kind: EmbedKind) -> list[list[float]]:
        workspace = self._place.workspace
        model = workspace.models.embedder(self.model or workspace.settings.models.embed)
        vectors: list[list[float]] = model.embed(texts, kind).tolist()
        return vectors


@component
class MadangTextEmbedder(_Embedder):
    """A vector to search with."""

    @component.output_types(embedding=list[float])
    def run(self, text: str) -> dict[str, list[float]]:
        """`embedding` of a query."""
        if not isinstance(text, str):
            raise InvalidInput(f"text must be text, not {text!r:.80}.",
                               remedy="For documents use MadangDocumentEmbedder.")
        return {"embedding": self._embedded([text], "query")[0]}


@component
class MadangDocumentEmbedder(_Embedder):
    """Vectors of documents."""

    def __init__(self, *, model: str | None = None, workspace: Workspace | str | Path | None = None,
                 meta_fields_to_embed: list[str] | None = None, embedding_separator: str = "\n") -> None:
        """`meta_fields_to_embed`: embedded with the content, before it."""
        # Not `super()`: the decorator makes a class of its own.
        _Embedder.__init__(self, model=model, workspace=workspace)
        self.meta_fields_to_embed, self.embedding_separator = meta_fields_to_embed or [], embedding_separator

    def to_dict(self) -> dict[str, Any]:
        """As a pipeline is written to a file."""
        data = _Embedder.to_dict(self)
        data["init_parameters"].update(meta_fields_to_embed=self.meta_fields_to_embed,
                                       embedding_separator=self.embedding_separator)
        return data

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]) -> dict[str, list[Document]]:
        """`documents` with embeddings; those given are left as they are."""
        if not isinstance(documents, list) or not all(isinstance(each, Document) for each in documents):
            raise InvalidInput(f"documents must be a list of Document, not {documents!r:.80}.")
        texts = [self.embedding_separator.join(
            [*(str(each.meta[name]) for name in self.meta_fields_to_embed if each.meta.get(name) is not None),
             each.content or ""]) for each in documents]
        vectors = self._embedded(texts, "document")
        return {"documents": [replace(each, embedding=vector)
                              for each, vector in zip(documents, vectors, strict=True)]}
