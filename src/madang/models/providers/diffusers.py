"""Pictures drawn in this process, with the diffusers library.

"diffusers/stabilityai/sd-turbo", or a folder: "diffusers/./my-model". No code that comes with a model is run, and one
picture is drawn at a time.
"""

from __future__ import annotations

import inspect
import threading
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoPipelineForText2Image

from madang.base.errors import Corrupt, NotFound, ServiceError
from madang.base.settings import Local
from madang.models.protocol import ChatModel, Drawing, DrawOptions, Embedder, ImageGenerator, Reader, Reranker
from madang.models.providers import weights, wish

_HOME = "diffusers"


class DiffusersProvider:
    """Loads with first use; a model is kept for the life of the workspace."""

    in_process = True      # takes no service: see `madang.models.resolve`

    def __init__(self, local: Local | None = None) -> None:
        self._local = local or Local()

    def models(self) -> list[str]:
        """Nothing: any folder and any name of the hub may be one."""
        return []

    def image_generator(self, model: str) -> ImageGenerator:
        """A pipeline of diffusers, or an unCLIP that was trained here; see `weights.folder_of` for names and errors."""
        from madang.models.providers.unclip import is_unclip

        folder = Path(model).expanduser()
        if is_unclip(folder):
            from madang.models.providers.seers import seer_of
            from madang.models.providers.unclip_images import UnclipImages

            return UnclipImages(f"{_HOME}/{model}", folder, seer_of, self._local)
        return DiffusersImages(model, self._local)

    def chat_model(self, model: str) -> ChatModel:
        """Always raises `NotFound`."""
        raise NotFound(f"{_HOME}/{model} does not chat.", remedy=f'Chat models are called "transformers/{model}".')

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


class DiffusersImages:
    """An `ImageGenerator`. Threads may share it."""

    def __init__(self, model: str, local: Local) -> None:
        self._model, self._local = model, local
        self._lock = threading.Lock()
        self._pipeline: Any = None

    @property
    def name(self) -> str:
        return f"{_HOME}/{self._model}"

    def draw(self, prompt: str, options: DrawOptions | None = None) -> list[Drawing]:
        """As many pictures as `options.count`. `quality` "low", "medium" and "high" set the number of steps to half,
        all and twice what the model does by itself; `style` and `background` make no difference. The same seed gives
        the same pictures.

        Raises:
            InvalidInput: an empty prompt, or a size or count that cannot be. Corrupt: the files are no such model.
            ServiceError: it fails, or gives numbers that are no picture.
        """
        options = options or DrawOptions()
        wanted = wish.checked(prompt, options)
        settings: dict[str, Any] = {} if wanted is None else {"width": wanted[0], "height": wanted[1]}
        if options.guidance is not None:
            settings["guidance_scale"] = options.guidance
        with self._lock, torch.inference_mode():
            pipeline = self._load()
            try:
                settings |= _steps(pipeline, options)
                drawn = [pipeline(prompt=prompt, **settings, **_chance(options, at)).images[0]
                         for at in range(options.count)]
            except Exception as error:      # out of memory and whatever a model comes to
                raise ServiceError(f"{self.name} failed: {(str(error).splitlines() or [repr(error)])[0]}.",
                                   kind="server") from error
        return [wish.drawing(each, options) for each in drawn]

    def _load(self) -> Any:
        if self._pipeline is None:
            folder = weights.folder_of(self._model, download=self._local.download)
            try:
                loaded = AutoPipelineForText2Image.from_pretrained(folder, local_files_only=True, use_safetensors=True)
                device = self._local.device or ("cuda" if torch.cuda.is_available() else "cpu")
                self._pipeline = loaded.to(device)
            except Exception as error:      # libraries under it raise errors of their own
                why = (str(error).splitlines() or [repr(error)])[0].rstrip(".")
                raise Corrupt(f"{self.name} cannot be loaded from {folder}: {why}.",
                              remedy="See whether it is a text-to-image model, and complete.") from error
            self._pipeline.set_progress_bar_config(disable=True)
        return self._pipeline


def _steps(pipeline: Any, options: DrawOptions) -> dict[str, int]:
    own = inspect.signature(pipeline.__call__).parameters.get("num_inference_steps")
    if own is None or (options.steps is None and wish.pace(options) == 1.0):
        return {}
    return {"num_inference_steps": options.steps or max(1, round(own.default * wish.pace(options)))}


def _chance(options: DrawOptions, at: int) -> dict[str, Any]:
    """The random numbers of picture `at`."""
    return {} if options.seed is None else {"generator": torch.Generator().manual_seed(options.seed + at)}
