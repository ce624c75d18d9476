"""The models that come with Madang, offline: embedders, of pictures too, a reader, a reranker; one that sees, and one
that draws."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from madang.base.errors import MissingDependency, NotFound
from madang.base.settings import Local
from madang.models.protocol import ChatModel, Embedder, ImageEmbedder, ImageGenerator, Reader, Reranker
from madang.models.providers.onnx_embedder import OnnxEmbedder
from madang.models.providers.seers import FOLDER, seer_of
from madang.models.providers.static_embedder import StaticEmbedder

if TYPE_CHECKING:
    from madang.models.providers.unclip_images import UnclipImages

EMBEDDERS: dict[str, Callable[..., Embedder]] = {"minilm": OnnxEmbedder, "static": StaticEmbedder}
IMAGE_EMBEDDERS = ("clip",)
READERS = ("reader",)
SEERS = ("llava",)
DRAWERS = ("unclip",)
RERANKERS = ("reranker",)


class BundledProvider:
    """"bundled/minilm", "bundled/static", "bundled/clip", "bundled/reader", "bundled/reranker", and, with torch,
    "bundled/llava" and "bundled/unclip"."""

    def models(self) -> list[str]:
        return [*EMBEDDERS, *IMAGE_EMBEDDERS, *READERS, *RERANKERS, *SEERS, *DRAWERS]

    def embedder(self, model: str) -> Embedder:
        """`minilm` (384 dimensions), `static` (256, tens of times faster, clearly weaker), or one of pictures and
        texts. Raises `NotFound`."""
        if model in IMAGE_EMBEDDERS:
            return self.image_embedder(model)
        if model not in EMBEDDERS:
            raise NotFound(f"no bundled embedder is called {model!r}.", remedy=f"Known: {', '.join(EMBEDDERS)}.")
        return EMBEDDERS[model](FOLDER / model, name=f"bundled/{model}")

    def image_embedder(self, model: str) -> ImageEmbedder:
        """`clip` (256 dimensions), which knows painted scenes and nothing else. Raises `NotFound`."""
        if model not in IMAGE_EMBEDDERS:
            raise NotFound(f"bundled/{model} does not see pictures.",
                           remedy='Use "bundled/clip", or a CLIP or SigLIP as "transformers/MODEL".')
        from madang.models.providers.onnx_clip import OnnxClip

        return OnnxClip(FOLDER / model, name=f"bundled/{model}")

    def chat_model(self, model: str) -> ChatModel:
        """`reader`: quotes the conversation, calls tools, fills schemas; it does not write. `llava`: describes pictures
        of painted scenes, and answers questions about them. Raises `NotFound`, `MissingDependency`."""
        if model in SEERS:
            return _seer(model)
        if model not in READERS:
            raise NotFound(f"bundled/{model} is not a bundled chat model.",
                           remedy='Configure a service in madang.toml and name it, for example "openai/gpt-4o-mini".')
        from madang.models.providers.extractive import ExtractiveReader
        from madang.models.providers.reader_chat import ReaderChat

        static = self.embedder("static")
        return ReaderChat(ExtractiveReader(static), (static, self.embedder("minilm")), lambda: _seer(SEERS[0]))

    def image_generator(self, model: str) -> ImageGenerator:
        """`unclip`: painted scenes of 64 pixels a side. Raises `NotFound`, `MissingDependency`."""
        if model not in DRAWERS:
            raise NotFound(f"bundled/{model} does not draw.",
                           remedy='bundled/unclip does; or configure a service in madang.toml and set [models] draw = '
                                  '"SERVICE/MODEL".')
        return _drawer(model)

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


def _seer(model: str) -> ChatModel:
    try:
        from madang.models.providers.drawing_chat import DrawingChat
    except ImportError:
        raise MissingDependency(f"bundled/{model}", extra="transformers",
                                instead='Or name a service that sees: "SERVICE/MODEL"') from None
    return DrawingChat(f"bundled/{model}", str(FOLDER / model), Local(), lambda: _drawer(DRAWERS[0]))


def _drawer(model: str) -> UnclipImages:
    try:
        from madang.models.providers.unclip_images import UnclipImages
    except ImportError:
        raise MissingDependency(f"bundled/{model}", extra="diffusers",
                                instead='Or name a service in madang.toml: [models] draw = "SERVICE/MODEL"') from None
    return UnclipImages(f"bundled/{model}", FOLDER / model, seer_of)
