"""The prior: a small transformer that is trained to imagine the vector of a picture from that of a text."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from diffusers import DDIMScheduler, PriorTransformer
from torch import Tensor, nn
from torch.nn.functional import normalize

from madang.base.errors import InvalidInput
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
    a language model makes are not exact. `noises`: how often each pair of a step is seen, with another noise each time.
    `sight`: how much it counts what a decoder sees in the vectors, beside the vectors themselves.
    """

    steps: int = 5000
    batch: int = 512
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    blur: float = 0.1
    noises: int = 2
    sight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.noises < 1:
            raise InvalidInput(f"noises: at least 1, not {self.noises}.")


SCHEDULE: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_schedule": "squaredcos_cap_v2",
    "clip_sample": False,
    "prediction_type": "sample",
    "timestep_spacing": "trailing",
}


def small(dim: int, *, heads: int | None = None, layers: int = 1, seed: int = 0) -> Prior:
    """A million parameters for vectors of 256 numbers, as wide as these unless told otherwise: what is narrower loses
    some of what they say. It listens to the vector of a text alone, which says everything there is to say here; larger
    ones listen to the text's tokens, too."""
    torch.manual_seed(seed)
    return Prior(
        PriorTransformer(
            num_attention_heads=heads or max(1, dim // 32),
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
    """The training of the paper (Ramesh et al. 2022, section 2.2): the clean vector is predicted, by mean square.

    `sees`: what a decoder makes of vectors, numbers of size 1. Colours are little of a vector, and of its mean square;
    of what is seen in it they are much.
    """

    def __init__(
        self, prior: Prior, source: Source, recipe: Recipe, sees: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        self.prior, self.source, self.recipe, self.sees = prior, source, recipe, sees

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        return {"prior": self.prior.transformer}

    def loss(self, step: int) -> Tensor:
        chance = training.chance(self.recipe.seed, step)
        pictures, texts = (each.repeat(self.recipe.noises, 1) for each in self.source.pairs(step, self.recipe.batch))
        clean = pictures * math.sqrt(self.prior.dim)
        noise = torch.randn(clean.shape, generator=chance)
        # Mostly much noise: where there is little, the picture's vector can be read off it, and nothing is learnt.
        late = torch.rand(len(clean), generator=chance).square()
        last = self.prior.scheduler.config.num_train_timesteps - 1
        times = ((1 - late) * last).round().long()
        far = self.recipe.blur * torch.rand(len(clean), 1, generator=chance) / math.sqrt(self.prior.dim)
        texts = texts + far * torch.randn(texts.shape, generator=chance)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.recipe.bfloat16):
            found = self.prior.clean(self.prior.scheduler.add_noise(clean, noise, times), times, texts).float()
            loss = (found - clean).square().mean()
            if self.sees is None or not self.recipe.sight:
                return loss
            with torch.no_grad():
                true = self.sees(clean).float()
            seen = self.sees(normalize(found) * math.sqrt(self.prior.dim)).float()
        return loss + self.recipe.sight * (seen - true).square().mean() / true.var(0).mean().clamp(min=1e-6)

    def after(self, step: int) -> None:
        pass
