"""The embedder of a workspace, for LlamaIndex."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import PrivateAttr

from madang.integrations.place import Place
from madang.models.protocol import Embedder, EmbedKind
from madang.workspace import Workspace


class MadangEmbedding(BaseEmbedding):
    """Vectors of a workspace's model, e.g. "bundled/minilm"."""

    _place: Any = PrivateAttr()

    def __init__(self, model_name: str | None = None, workspace: Workspace | str | Path | None = None,
                 **kwargs: Any) -> None:
        """`model_name`: None means the one that the workspace's settings name."""
        place = Place(workspace, "docs")
        super().__init__(model_name=model_name or place.workspace.settings.models.embed, **kwargs)
        self._place = place

    @classmethod
    def class_name(cls) -> str:
        """How LlamaIndex names it where it is written to a file."""
        return "MadangEmbedding"

    def _model(self) -> Embedder:
        model: Embedder = self._place.workspace.models.embedder(self.model_name)
        return model

    def _embedded(self, texts: list[str], kind: EmbedKind) -> list[list[float]]:
        vectors: list[list[float]] = self._model().embed(texts, kind).tolist()
        return vectors

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._embedded([query], "query")[0]

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._embedded([text], "document")[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return self._embedded(texts, "document")

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return await asyncio.to_thread(self._get_query_embedding, query)

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return await asyncio.to_thread(self._get_text_embedding, text)

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return await asyncio.to_thread(self._get_text_embeddings, texts)
