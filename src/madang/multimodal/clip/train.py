"""Contrastive training (Radford et al. 2021): what is trained, and the loss of a step."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from madang.models.providers.clip_pair import Pair
from madang.multimodal import training
from madang.multimodal.clip.batches import Source
from madang.multimodal.clip.loss import Labels, contrastive, sigmoid
from madang.multimodal.training import Tell

_LARGEST_SCALE = math.log(100)  # of the temperature, as in the paper (section 2.5)


@dataclass(frozen=True)
class Recipe(training.Recipe):
    """`labels`: weight of the losses of labels, if there are any; towards the end it falls to a tenth."""

    labels: float = 1.0


Look: TypeAlias = Callable[[Pair, int], dict[str, float]]


def train(
    pair: Pair,
    source: Source,
    recipe: Recipe,
    folder: Path,
    *,
    look: Look | None = None,
    every: int = 200,
    keep_s: float = 120.0,
    about: Mapping[str, Any] | None = None,
    tell: Tell | None = None,
) -> Pair:
    """Train `pair` in place; see `training.train`."""
    torch.manual_seed(recipe.seed)
    task = _Contrast(pair, source, recipe)
    training.train(
        task,
        recipe,
        folder,
        look=None if look is None else lambda step: look(pair, step),
        every=every,
        keep_s=keep_s,
        about=about,
        tell=tell,
    )
    return pair


class _Contrast:
    def __init__(self, pair: Pair, source: Source, recipe: Recipe) -> None:
        self.pair, self.source, self.recipe = pair, source, recipe
        self.labels = Labels(pair.dim, pair.model.config.vision_config.hidden_size)

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        return {"model": self.pair.model, "labels": self.labels}

    def loss(self, step: int) -> Tensor:
        batch = self.source.batch(step, self.recipe.batch)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.recipe.bfloat16):
            pictures, patches = self.pair.seen(self.pair.pixels(batch.images))
            texts = self.pair.read(self.pair.encoded(batch.texts))
        pictures, texts, patches = pictures.float(), texts.float(), patches.float()
        loss = self._contrast(pictures, texts, torch.from_numpy(batch.true))
        if batch.slots is not None and batch.said is not None and batch.cells is not None and self.recipe.labels:
            weight = self.recipe.labels * _label_share(step / self.recipe.steps)
            loss = loss + weight * self.labels(
                pictures, texts, patches, *map(torch.from_numpy, (batch.slots, batch.said, batch.cells))
            )
        return loss

    def _contrast(self, pictures: Tensor, texts: Tensor, true: Tensor) -> Tensor:
        model = self.pair.model
        units = normalize(pictures), normalize(texts)
        if self.pair.kind == "siglip":
            return sigmoid(*units, true, model.logit_scale.exp(), model.logit_bias)
        return contrastive(*units, true, model.logit_scale.exp())

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def after(self, step: int) -> None:
        self.pair.model.logit_scale.clamp_(max=_LARGEST_SCALE)


def _label_share(done: float) -> float:
    """Of the weight of labels: all for the first 70 %, then falling to a tenth."""
    return 1.0 if done < 0.7 else 1.0 - 0.9 * (done - 0.7) / 0.3
