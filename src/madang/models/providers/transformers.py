"""Chat models that run in this process, with the transformers library: text, and pictures where the model sees. Models
of pictures and texts (CLIP, SigLIP) for searching pictures, too.

"transformers/Qwen/Qwen2.5-0.5B-Instruct", or a folder: "transformers/./my-model". No code that comes with a model is
run. Answers without chance (temperature 0) of several callers are computed together, see `batching`; the others, and
those about pictures, one after another.
"""

from __future__ import annotations

from pathlib import Path

from madang.base.errors import NotFound
from madang.base.settings import Local
from madang.models.protocol import ChatModel, Embedder, ImageEmbedder, ImageGenerator, Reader, Reranker
from madang.models.providers.transformers_chat import TransformersChat

_HOME = "transformers"


class TransformersProvider:
    """Loads with first use; a model is kept for the life of the workspace."""

    in_process = True      # takes no service: see `madang.models.resolve`

    def __init__(self, local: Local | None = None) -> None:
        self._local = local or Local()
        self._made: list[TransformersChat] = []

    def models(self) -> list[str]:
        """Nothing: any folder and any name of the hub may be one."""
        return []

    def chat_model(self, model: str) -> ChatModel:
        """See `weights.folder_of` for names and errors."""
        self._made.append(self._chat(model))
        return self._made[-1]

    def _chat(self, model: str) -> TransformersChat:
        from madang.models.providers.output_projector import OUTPUT

        if not (Path(model).expanduser() / OUTPUT).is_file():
            return TransformersChat(f"{_HOME}/{model}", model, self._local)
        from madang.models.providers.drawing_chat import DrawingChat
        from madang.models.providers.seers import FOLDER, seer_of
        from madang.models.providers.unclip_images import UnclipImages

        return DrawingChat(f"{_HOME}/{model}", model, self._local,
                           lambda: UnclipImages("bundled/unclip", FOLDER / "unclip", seer_of, self._local))

    def image_embedder(self, model: str) -> ImageEmbedder:
        """A CLIP or SigLIP; see `weights.folder_of` for names and errors."""
        from madang.models.providers.clip_pair import HubClip

        return HubClip(model, self._local)

    def embedder(self, model: str) -> Embedder:
        """Always raises `NotFound`."""
        raise NotFound(f"{_HOME}/{model} does not embed.",
                       remedy=f'Embedders are called "sentence_transformers/{model}".')

    def reranker(self, model: str) -> Reranker:
        """Always raises `NotFound`."""
        raise NotFound(f"{_HOME}/{model} does not rerank.",
                       remedy=f'Cross-encoders are called "sentence_transformers/{model}".')

    def reader(self, model: str) -> Reader:
        """Always raises `NotFound`."""
        raise NotFound(f"{_HOME}/{model} is no extractive reader.", remedy='Use "bundled/reader".')

    def image_generator(self, model: str) -> ImageGenerator:
        """Always raises `NotFound`."""
        raise NotFound(f"{_HOME}/{model} does not draw.", remedy=f'Models that draw are called "diffusers/{model}".')

    def close(self) -> None:
        """Stop what computes."""
        for each in self._made:
            each.close()
