"""CLIP and SigLIP with torch and transformers: for hub models in this process, and for training."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import normalize

from madang.base.errors import Corrupt, InvalidInput
from madang.base.settings import Local
from madang.models.folder import checked_texts
from madang.models.pictures import PictureSettings, checked_picture, shaped
from madang.models.protocol import EmbedKind, Picture, Progress, Vectors
from madang.models.providers import weights
from madang.models.providers.weights import quiet

_AT_ONCE = 256
KINDS = {"clip": "clip", "siglip": "siglip", "siglip2": "siglip"}


@dataclass(frozen=True)
class Pair:
    """A model of pictures and texts, with what prepares either for it."""

    model: Any  # CLIPModel or SiglipModel
    processor: Any  # CLIPProcessor or SiglipProcessor
    kind: str  # "clip" or "siglip"

    @property
    def side(self) -> int:
        """Pixels of a picture's side as the model takes it."""
        return int(self.model.config.vision_config.image_size)

    @property
    def patch(self) -> int:
        return int(self.model.config.vision_config.patch_size)

    @property
    def dim(self) -> int:
        config = self.model.config
        return int(config.projection_dim if self.kind == "clip" else config.vision_config.hidden_size)

    @property
    def scale(self) -> float:
        """See `ImageEmbedder.scale`."""
        return float(self.model.logit_scale.detach().exp())

    def pixels(self, pictures: NDArray[np.uint8]) -> torch.Tensor:
        """uint8 (n, side, side, 3) as the model takes them: float32 (n, 3, side, side)."""
        return normalized(pictures, self.processor.image_processor).to(self.model.device)

    def encoded(self, texts: Sequence[str]) -> dict[str, torch.Tensor]:
        """Token ids of texts, padded as the model was trained: CLIP to the longest, SigLIP to its length."""
        padding: Any = "max_length" if self.kind == "siglip" else True
        found = self.processor.tokenizer(
            list(texts),
            padding=padding,
            truncation=True,
            return_tensors="pt",
            max_length=self.model.config.text_config.max_position_embeddings,
        )
        return {
            name: found[name].to(self.model.device)
            for name in ("input_ids", "attention_mask")
            if name in found and (name != "attention_mask" or self.kind == "clip")
        }

    def seen(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Vectors of pictures (n, dim), not normalized, and the last states of their patches (n, patches, hidden)."""
        found = self.model.vision_model(pixel_values=pixels)
        if self.kind == "siglip":
            return found.pooler_output, found.last_hidden_state
        return self.model.visual_projection(found.pooler_output), found.last_hidden_state[:, 1:]

    def read(self, encoded: dict[str, torch.Tensor]) -> torch.Tensor:
        """Vectors of texts (n, dim), not normalized."""
        found = self.model.text_model(**encoded).pooler_output
        return found if self.kind == "siglip" else self.model.text_projection(found)

    @torch.no_grad()
    def embed_images(self, pictures: Sequence[Picture]) -> Vectors:
        """See `SeesAndReads.embed_images`."""
        self.model.eval()
        settings = PictureSettings.of(self.processor.image_processor.to_dict())
        found = [np.empty((0, self.dim), np.float32)]
        for start in range(0, len(pictures), _AT_ONCE):
            part = [
                shaped(checked_picture(each, start + at), settings)
                for at, each in enumerate(pictures[start : start + _AT_ONCE])
            ]
            found.append(normalize(self.seen(self.pixels(np.stack(part)))[0]).cpu().numpy())
        return np.concatenate(found)

    @torch.no_grad()
    def embed(self, texts: Sequence[str], kind: EmbedKind = "query", progress: Progress | None = None) -> Vectors:
        """See `Embedder.embed`."""
        self.model.eval()
        found, kept = [np.empty((0, self.dim), np.float32)], checked_texts(texts)
        for start in range(0, len(kept), _AT_ONCE):
            part = kept[start : start + _AT_ONCE]
            found.append(normalize(self.read(self.encoded(part))).cpu().numpy())
            if progress is not None:
                progress(len(part))
        return np.concatenate(found)

    def save(self, folder: Path) -> None:
        """In Hugging Face's format."""
        quiet()
        self.model.save_pretrained(folder)
        self.processor.save_pretrained(folder)


def normalized(pictures: NDArray[np.uint8], settings: Any) -> torch.Tensor:
    """uint8 (n, side, side, 3) to float32 (n, 3, side, side), with the mean and deviation of an image processor."""
    mean, deviation = (torch.tensor(each).view(1, 3, 1, 1) for each in (settings.image_mean, settings.image_std))
    return (torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255 - mean) / deviation


def load(name: str, *, download: bool = True, device: str = "") -> Pair:
    """A model of CLIP's or SigLIP's architecture: a folder, or a name on the hub that this machine has or may fetch.

    Raises as `weights.folder_of`; `InvalidInput` where it is another architecture, `Corrupt` where it is damaged.
    """
    from transformers import AutoConfig, AutoModel, AutoProcessor

    folder = weights.folder_of(name, download=download)
    quiet()
    try:
        config = AutoConfig.from_pretrained(folder)
        kind = KINDS.get(config.model_type)
        if kind is None:
            raise InvalidInput(
                f"model: {name!r} is a {config.model_type}, not a CLIP or SigLIP.",
                remedy='Name one of these, for example "openai/clip-vit-base-patch32".',
            )
        model = weights.whole(AutoModel, folder, dtype=torch.float32)
        processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
    except InvalidInput:
        raise
    except Exception as error:  # libraries under it raise errors of their own
        why = (str(error).splitlines() or [repr(error)])[0].rstrip(".")
        raise Corrupt(
            f"{name} cannot be loaded from {folder}: {why}.",
            remedy="See whether it is a model of this kind, and complete.",
        ) from error
    return Pair(model.to(device or "cpu").eval(), processor, kind)


class HubClip:
    """An `ImageEmbedder` in this process: "transformers/openai/clip-vit-base-patch32", or a folder. Loads on first use;
    one thread computes at a time, on all cores."""

    def __init__(self, model: str, local: Local) -> None:
        self._model, self._local = model, local
        self._lock = threading.RLock()
        self._pair: Pair | None = None
        self._signature = ""

    @property
    def pair(self) -> Pair:
        """The model itself. Raises as `load`."""
        with self._lock:
            if self._pair is None:
                self._pair = load(self._model, download=self._local.download, device=self._local.device)
            return self._pair

    @property
    def name(self) -> str:
        return f"transformers/{self._model}"

    @property
    def signature(self) -> str:
        """The name and twelve digits of the digest of the files."""
        with self._lock:
            if not self._signature:
                folder = weights.folder_of(self._model, download=self._local.download)
                self._signature = f"{self.name}@{weights.digest(folder)[:12]}"
            return self._signature

    @property
    def dim(self) -> int:
        return self.pair.dim

    @property
    def languages(self) -> frozenset[str]:
        return frozenset()

    @property
    def dense_weight(self) -> float:
        return 1.0

    @property
    def scale(self) -> float:
        return self.pair.scale

    def embed(self, texts: Sequence[str], kind: EmbedKind = "query", progress: Progress | None = None) -> Vectors:
        """See `Embedder.embed`."""
        with self._lock:
            return self.pair.embed(texts, kind, progress)

    def embed_images(self, pictures: Sequence[Picture]) -> Vectors:
        """See `SeesAndReads.embed_images`."""
        with self._lock:
            return self.pair.embed_images(pictures)
