"""Pictures drawn in this process, with the diffusers library.

"diffusers/stabilityai/sd-turbo", or a folder: "diffusers/./my-model". No code that comes with a model is run, and one
picture is drawn at a time.
"""

from __future__ import annotations

import re
import threading
from io import BytesIO
from typing import Any

import torch
from diffusers import AutoPipelineForText2Image

from madang.base.errors import Corrupt, InvalidInput, NotFound, ServiceError
from madang.base.settings import Local
from madang.models.protocol import ChatModel, Drawing, DrawOptions, Embedder, ImageGenerator, Reader, Reranker
from madang.models.providers import weights

_HOME = "diffusers"
_MOST_PIXELS = 2048 * 2048
_MOST_PICTURES = 10
_FORMATS = {"": "PNG", "png": "PNG", "jpeg": "JPEG", "webp": "WEBP"}


class DiffusersProvider:
    """Loads with first use; a model is kept for the life of the workspace."""

    in_process = True      # takes no service: see `madang.models.resolve`

    def __init__(self, local: Local | None = None) -> None:
        self._local = local or Local()

    def models(self) -> list[str]:
        """Nothing: any folder and any name of the hub may be one."""
        return []

    def image_generator(self, model: str) -> ImageGenerator:
        """See `weights.folder_of` for names and errors."""
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
        all and twice what the model does by itself; `style` and `background` make no difference.

        Raises:
            InvalidInput: an empty prompt, or a size or count that cannot be. Corrupt: the files are no such model.
            ServiceError: it fails, or gives numbers that are no picture.
        """
        options = options or DrawOptions()
        if not prompt.strip():
            raise InvalidInput("the prompt is empty.", remedy="Say what the picture shall show.")
        if not 1 <= options.count <= _MOST_PICTURES:
            raise InvalidInput(f"count must be 1 to {_MOST_PICTURES}, not {options.count!r}.")
        if options.output_format not in _FORMATS:
            raise InvalidInput(f"output_format must be png, jpeg or webp, not {options.output_format!r}.")
        settings: dict[str, Any] = {} if options.size in ("", "auto") else _size(options.size)
        with self._lock, torch.inference_mode():
            pipeline = self._load()
            try:
                drawn = [pipeline(prompt=prompt, **settings, **_steps(pipeline, options.quality)).images[0]
                         for _ in range(options.count)]
            except Exception as error:      # out of memory and whatever a model comes to
                raise ServiceError(f"{self.name} failed: {(str(error).splitlines() or [repr(error)])[0]}.",
                                   kind="server") from error
        kind = _FORMATS[options.output_format]
        return [Drawing(_encoded(each, kind), f"image/{kind.lower()}") for each in drawn]

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


def _size(text: str) -> dict[str, int]:
    """Multiples of 8, as the models need them. Raises `InvalidInput`."""
    found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    width, height = (int(found[1]), int(found[2])) if found else (0, 0)
    if min(width, height) < 8 or width % 8 or height % 8 or width * height > _MOST_PIXELS:
        raise InvalidInput(f"size must be like 512x512, multiples of 8 and at most 2048x2048 pixels, not {text!r:.40}.")
    return {"width": width, "height": height}


def _steps(pipeline: Any, quality: str) -> dict[str, int]:
    import inspect

    own = inspect.signature(pipeline.__call__).parameters.get("num_inference_steps")
    factor = {"low": 0.5, "high": 2.0}.get(quality, 1.0)
    return {} if own is None or factor == 1.0 else {"num_inference_steps": max(1, round(own.default * factor))}


def _encoded(picture: Any, kind: str) -> bytes:
    out = BytesIO()
    picture.save(out, kind)
    return out.getvalue()
