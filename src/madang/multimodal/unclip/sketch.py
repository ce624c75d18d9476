"""The decoder's layout by itself: it learns what is where in minutes, where the whole decoder takes an hour.

A head of its own paints from the layout what is likely at each place, blurred where several things are, by mean square;
it is thrown away. The decoder then begins with a layout that knows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from madang.models.providers.unclip import Layout, in_bytes
from madang.multimodal import training
from madang.multimodal.unclip.decoder import Source, blurred


@dataclass(frozen=True)
class Recipe(training.Recipe):
    """How to train a layout. `blur`: see `decoder.Recipe`."""

    steps: int = 3000
    batch: int = 256
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    blur: float = 0.35


class Sketching:
    """Blurred pictures from vectors."""

    def __init__(self, layout: Layout, side: int, source: Source, recipe: Recipe) -> None:
        self.layout, self.side, self.source, self.recipe = layout, side, source, recipe
        cell = -(-side // layout.cells)
        torch.manual_seed(recipe.seed)
        self.head = nn.Sequential(
            nn.Conv2d(layout.channels, 256, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(256, 3 * cell * cell, 1),
            nn.PixelShuffle(cell),
        )

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        return {"layout": self.layout, "head": self.head}

    def loss(self, step: int) -> Tensor:
        recipe, chance = self.recipe, training.chance(self.recipe.seed, step)
        rows = torch.randint(len(self.source), (recipe.batch,), generator=chance)
        pictures, vectors = self.source.take(rows)
        clean = pictures.permute(0, 3, 1, 2).float() / 127.5 - 1
        vectors = blurred(vectors, recipe.blur, chance)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=recipe.bfloat16):
            found = self._painted(vectors)
        return (found.float() - clean).square().mean()

    def after(self, step: int) -> None:
        pass

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def sketch(self, vectors: Tensor) -> Tensor:
        """uint8 (n, side, side, 3) from unit vectors (n, dim)."""
        return in_bytes(self._painted(vectors))

    def _painted(self, vectors: Tensor) -> Tensor:
        """float (n, 3, side, side) from -1 to 1."""
        painted: Tensor = self.head(self.layout.map(vectors * math.sqrt(vectors.shape[1])))
        if painted.shape[-1] == self.side:
            return painted
        return interpolate(painted, (self.side, self.side), mode="bilinear")  # cells of whole pixels do not fill it
