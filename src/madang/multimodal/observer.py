"""Training of the network that reads attributes off pictures (`scenes.observe`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, cross_entropy, interpolate

from madang.multimodal import training
from madang.multimodal.clip.batches import SLOTS, Scenes
from madang.multimodal.onnx_export import written
from madang.multimodal.scenes.observe import SIDE
from madang.multimodal.scenes.world import BACKGROUNDS, COLOURS, POSITIONS, SHAPES, SIZES, TIMES

_PARTS = (len(SHAPES) + 1, len(COLOURS) + 1, len(SIZES) + 1)


@dataclass(frozen=True)
class Recipe(training.Recipe):
    """How to train the network. `worse`: the share of pictures that are made worse: what is drawn by a model has noise,
    and is blurred."""

    steps: int = 1500
    batch: int = 128
    learning_rate: float = 3e-3
    worse: float = 0.5


class Net(nn.Module):  # type: ignore[misc]
    """A hundred thousand parameters: five convolutions, then what is at each of nine places."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        widths = (3, width, 2 * width, 3 * width, 4 * width, 4 * width)
        strides = (2, 2, 1, 2, 1)
        self.layers = nn.Sequential(
            *[
                part
                for at, stride in enumerate(strides)
                for part in (
                    nn.Conv2d(widths[at], widths[at + 1], 5 if at == 0 else 3, stride, 2 if at == 0 else 1, bias=False),
                    nn.BatchNorm2d(widths[at + 1]),
                    nn.ReLU(),
                )
            ]
        )
        self.place = nn.Linear(widths[-1], len(BACKGROUNDS) + len(TIMES))
        self.thing = nn.Linear(2 * widths[-1], sum(_PARTS))

    def forward(self, pictures: Tensor) -> tuple[Tensor, ...]:
        """uint8 (n, 64, 64, 3) to scores of background, time, and shape, colour and size at each place."""
        found = self.layers(pictures.permute(0, 3, 1, 2).float() / 127.5 - 1)  # (n, hidden, 8, 8)
        background, time = self.place(found.mean((2, 3))).split((len(BACKGROUNDS), len(TIMES)), 1)
        # Nine places out of eight cells a side: four cells each way, of which neighbours share two.
        wide = torch.stack(
            [found[:, :, row : row + 4, column : column + 4].flatten(2) for row in (0, 2, 4) for column in (0, 2, 4)], 1
        )
        things = self.thing(torch.cat([wide.amax(3), wide.mean(3)], 2)).split(_PARTS, 2)
        return background, time, *things


class Observing:
    """Cross-entropy of every attribute at every place; that nothing is there counts little, since it is so common."""

    def __init__(self, net: Net, scenes: Scenes, recipe: Recipe) -> None:
        self.net, self.scenes, self.recipe = net, scenes, recipe
        self.slots = torch.from_numpy(scenes.slots)

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        return {"net": self.net}

    def loss(self, step: int) -> Tensor:
        chance = training.chance(self.recipe.seed, step)
        rows = torch.randint(len(self.slots), (self.recipe.batch,), generator=chance)
        pictures = worse(torch.from_numpy(self.scenes.pictures[rows.numpy()]), self.recipe.worse, chance)
        background, time, *things = self.net(pictures)
        wanted = self.slots[rows]
        loss = cross_entropy(background, wanted[:, 0]) + cross_entropy(time, wanted[:, 1])
        there = wanted[:, len(SLOTS) - 3 * len(POSITIONS) :].view(-1, len(POSITIONS), 3)
        for at, scores in enumerate(things):
            weight = scores.new_ones(scores.shape[-1])
            weight[0] = 0.2
            loss = loss + cross_entropy(scores.flatten(0, 1), there[..., at].flatten(), weight)
        return loss

    def after(self, step: int) -> None:
        pass


def worse(pictures: Tensor, share: float, chance: torch.Generator) -> Tensor:
    """uint8 (n, side, side, 3): some of them with noise, blurred, brighter or darker."""
    count = len(pictures)
    found = pictures.permute(0, 3, 1, 2).float()
    blurred = interpolate(avg_pool2d(found, 2), scale_factor=2, mode="bilinear")
    mixed = torch.rand(count, 1, 1, 1, generator=chance)
    noise = torch.randn(found.shape, generator=chance) * 16 * torch.rand(count, 1, 1, 1, generator=chance)
    light = 1 + 0.2 * (torch.rand(count, 1, 1, 1, generator=chance) - 0.5)
    changed = ((found * (1 - mixed) + blurred * mixed) * light + noise).clamp(0, 255)
    chosen = torch.rand(count, 1, 1, 1, generator=chance) < share
    return torch.where(chosen, changed, found).to(torch.uint8).permute(0, 2, 3, 1)


def export(net: Net, path: Path) -> None:
    """As ONNX."""
    written(
        net,
        (torch.zeros(2, SIDE, SIDE, 3, dtype=torch.uint8),),
        path,
        ["pictures"],
        ["background", "time", "shape", "colour", "size"],
        ({0: torch.export.Dim("count")},),
    )
