"""The decoder: a small U-Net that is trained to draw the picture whose vector it is given."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn
from torch.nn.functional import normalize

from madang.models.providers.unclip import COORDINATES, PATCH, TOKENS, Decoder, Layout, patches
from madang.multimodal import training


class Source(Protocol):
    """Pictures with their vectors."""

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 (n, side, side, 3) and float32 (n, dim) of length 1."""
        ...

    def __len__(self) -> int: ...


@dataclass(frozen=True)
class Recipe(training.Recipe):
    """How to train a decoder.

    `unconditional`: the share that is drawn from nothing, for classifier-free guidance. `blur`: how far a vector is
    moved at most, as a share of its length: those of a prior are not exact, either. `average`: how slowly the mean of
    the weights follows them; it is what draws (Ho et al. 2020, appendix B).
    """

    steps: int = 8000
    batch: int = 64
    warmup: int = 200
    weight_decay: float = 0.01
    unconditional: float = 0.1
    blur: float = 0.35
    average: float = 0.999


def small(dim: int, side: int = 64, *, channels: tuple[int, ...] = (96, 128), seed: int = 0) -> Decoder:
    """A U-Net of four million parameters for vectors of `dim` numbers, with attention where it is narrowest."""
    torch.manual_seed(seed)
    depth, layout = len(channels), Layout(dim)
    unet = UNet2DConditionModel(
        sample_size=side // PATCH,
        in_channels=3 * PATCH**2 + COORDINATES + layout.channels,
        out_channels=3 * PATCH**2,
        layers_per_block=1,
        block_out_channels=channels,
        down_block_types=("DownBlock2D",) * depth,
        up_block_types=("UpBlock2D",) * depth,
        mid_block_type="UNetMidBlock2DCrossAttn",
        cross_attention_dim=dim // TOKENS,
        attention_head_dim=max(1, channels[-1] // 32),  # the number of heads, whatever it is called
        norm_num_groups=16,
        resnet_time_scale_shift="scale_shift",
        class_embed_type="projection",
        projection_class_embeddings_input_dim=dim,
    )
    unet.set_attn_processor(AttnProcessor())  # several times faster than the default here, backwards
    return Decoder(unet, layout, DDIMScheduler(**SCHEDULE))


# The cosine schedule of Nichol and Dhariwal 2021. The clean picture is predicted, and not the noise: with patches as
# channels there is more noise in them than a narrow network can carry (Li and He 2025, "Back to basics").
SCHEDULE: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_schedule": "squaredcos_cap_v2",
    "prediction_type": "sample",
    "clip_sample": True,
    "timestep_spacing": "trailing",
}


def blurred(vectors: Tensor, most: float, chance: torch.Generator) -> Tensor:
    """Unit vectors (n, dim), each moved by a share of its length up to `most`, anywhere."""
    far = most * torch.rand(len(vectors), 1, generator=chance)
    return normalize(vectors + far * normalize(torch.randn(vectors.shape, generator=chance)))


class Drawing:
    """The training of Ho et al. 2020 (algorithm 1), with the clean picture as what is predicted."""

    def __init__(self, decoder: Decoder, source: Source, recipe: Recipe) -> None:
        self.decoder, self.source, self.recipe = decoder, source, recipe
        self.averaged = Decoder(
            copy.deepcopy(decoder.unet).requires_grad_(False),
            copy.deepcopy(decoder.layout).requires_grad_(False),
            decoder.scheduler,
        )

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        return {
            "unet": self.decoder.unet,
            "layout": self.decoder.layout,
            "averaged unet": self.averaged.unet,
            "averaged layout": self.averaged.layout,
        }

    def loss(self, step: int) -> Tensor:
        recipe, chance = self.recipe, training.chance(self.recipe.seed, step)
        rows = torch.randint(len(self.source), (recipe.batch,), generator=chance)
        pictures, vectors = self.source.take(rows)
        clean = patches(pictures)
        noise = torch.randn(clean.shape, generator=chance)
        times = torch.randint(self.decoder.scheduler.config.num_train_timesteps, (recipe.batch,), generator=chance)
        vectors = blurred(vectors, recipe.blur, chance)
        asked = torch.rand(recipe.batch, 1, generator=chance) >= recipe.unconditional
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=recipe.bfloat16):
            found = self.decoder.clean(self.decoder.scheduler.add_noise(clean, noise, times), times, vectors * asked)
        kept = self.decoder.scheduler.alphas_cumprod[times]
        # As the loss of the noise would count (the ratio of signal to noise), but neither nothing where there is only
        # noise, nor everything where there is hardly any (Hang et al. 2023; Salimans and Ho 2022).
        weight = (kept / (1 - kept)).clamp(1, 5)
        return ((found.float() - clean).square().mean((1, 2, 3)) * weight).mean()

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def after(self, step: int) -> None:
        keep = min(self.recipe.average, (step + 1) / (step + 10))
        for averaged, module in (
            (self.averaged.unet, self.decoder.unet),
            (self.averaged.layout, self.decoder.layout),
        ):
            for mean, now in zip(averaged.parameters(), module.parameters(), strict=True):
                mean.lerp_(now, 1 - keep)
