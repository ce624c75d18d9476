"""The prior: a small transformer that is trained to imagine the vector of a picture from that of a text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from diffusers import DDIMScheduler, PriorTransformer
from torch import Tensor, nn

from madang.models.providers.unclip import Prior
from madang.multimodal import training


class Source(Protocol):
    """Vectors of pictures with those of texts."""

    def pairs(self, step: int, size: int) -> tuple[Tensor, Tensor]:
        """float32 (n, dim) of pictures and of texts, of length 1. The same for the same number."""
        ...


@dataclass(frozen=True)
class Recipe(training.Recipe):
    """How to train a prior. `blur`: how far the vector of a text is moved at most, as a share of its length: those that
    a language model makes are not exact."""

    steps: int = 4000
    batch: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    blur: float = 0.2


SCHEDULE: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_schedule": "squaredcos_cap_v2",
    "clip_sample": False,
    "prediction_type": "sample",
    "timestep_spacing": "trailing",
}


def small(dim: int, *, heads: int = 5, layers: int = 2, seed: int = 0) -> Prior:
    """Less than a million parameters for vectors of `dim` numbers. It listens to the vector of a text alone, which says
    everything there is to say here; larger ones listen to the text's tokens, too."""
    torch.manual_seed(seed)
    return Prior(
        PriorTransformer(
            num_attention_heads=heads,
            attention_head_dim=32,
            num_layers=layers,
            embedding_dim=dim,
            num_embeddings=0,
            additional_embeddings=4,
            encoder_hid_proj_type=None,
        ),
        DDIMScheduler(**SCHEDULE),
    )


class Imagining:
    """The training of the paper (Ramesh et al. 2022, section 2.2): the clean vector is predicted, by mean square."""

    def __init__(self, prior: Prior, source: Source, recipe: Recipe) -> None:
        self.prior, self.source, self.recipe = prior, source, recipe

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        return {"prior": self.prior.transformer}

    def loss(self, step: int) -> Tensor:
        chance = training.chance(self.recipe.seed, step)
        pictures, texts = self.source.pairs(step, self.recipe.batch)
        clean = pictures * math.sqrt(self.prior.dim)
        noise = torch.randn(clean.shape, generator=chance)
        times = torch.randint(self.prior.scheduler.config.num_train_timesteps, (len(clean),), generator=chance)
        far = self.recipe.blur * torch.rand(len(clean), 1, generator=chance) / math.sqrt(self.prior.dim)
        texts = texts + far * torch.randn(texts.shape, generator=chance)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.recipe.bfloat16):
            found = self.prior.clean(self.prior.scheduler.add_noise(clean, noise, times), times, texts)
        return (found.float() - clean).square().mean()

    def after(self, step: int) -> None:
        pass
