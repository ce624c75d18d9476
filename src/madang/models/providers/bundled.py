"""The models that come with Madang, offline: embedders, a reader and a reranker."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from madang.base.errors import NotFound
from madang.models.protocol import ChatModel, Embedder, Reader, Reranker
from madang.models.providers.onnx_embedder import OnnxEmbedder
from madang.models.providers.static_embedder import StaticEmbedder

FOLDER = Path(__file__).resolve().parents[1] / "bundled"
EMBEDDERS: dict[str, Callable[..., Embedder]] = {"minilm": OnnxEmbedder, "static": StaticEmbedder}
READERS = ("reader",)
RERANKERS = ("reranker",)


class BundledProvider:
    """"bundled/minilm", "bundled/static", "bundled/reader" and "bundled/reranker"."""

    def models(self) -> list[str]:
        return [*EMBEDDERS, *READERS, *RERANKERS]

    def embedder(self, model: str) -> Embedder:
        """`minilm` (384 dimensions) or `static` (256, tens of times faster, clearly weaker). Raises `NotFound`."""
        if model not in EMBEDDERS:
            raise NotFound(f"no bundled embedder is called {model!r}.", remedy=f"Known: {', '.join(EMBEDDERS)}.")
        return EMBEDDERS[model](FOLDER / model, name=f"bundled/{model}")

    def chat_model(self, model: str) -> ChatModel:
        """Always raises `NotFound`: no bundled model converses."""
        what = "reads and quotes, it does not chat" if model in READERS else "is not a bundled chat model"
        raise NotFound(f"bundled/{model} {what}.",
                       remedy='Configure a service in madang.toml and name it, for example "openai/gpt-4o-mini".')

    def reader(self, model: str) -> Reader:
        """`reader`: quotes the sentences that answer. Raises `NotFound`."""
        if model not in READERS:
            raise NotFound(f"no bundled reader is called {model!r}.", remedy=f"Known: {', '.join(READERS)}.")
        from madang.models.providers.extractive import ExtractiveReader

        return ExtractiveReader(self.embedder("static"))

    def reranker(self, model: str) -> Reranker:
        """`reranker`: by words and meaning. Raises `NotFound`."""
        if model not in RERANKERS:
            raise NotFound(f"no bundled reranker is called {model!r}.", remedy=f"Known: {', '.join(RERANKERS)}.")
        from madang.models.providers.reranker import WordReranker

        return WordReranker(self.embedder("minilm"))
