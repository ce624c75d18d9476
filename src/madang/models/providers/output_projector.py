"""The way from a language model to a picture: what it says a picture with, and what becomes of that."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import gelu

# What a picture is said with. Their hidden states become the vector of what shall be drawn.
PICTURE = tuple(f"<|picture-{at}|>" for at in range(4))
OUTPUT = "output_projector.safetensors"


class OutputProjector(nn.Module):
    """Hidden states of the tokens of a picture (n, tokens, hidden) to the vector of a text that asks for it (n, dim).

    As in GILL (Koh et al. 2023), where a network maps the states of image tokens into the space of the text encoder
    that the image generator listens to.
    """

    def __init__(self, hidden: int, dim: int, wide: int = 256) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(len(PICTURE) * hidden, wide), nn.Linear(wide, dim)

    @classmethod
    def load(cls, path: Path) -> OutputProjector:
        """Weights in a file of safetensors."""
        found = {name: each.float() for name, each in load_file(path).items()}
        wide, inputs = found["inner.weight"].shape
        made = cls(inputs // len(PICTURE), len(found["outer.bias"]), wide)
        made.load_state_dict(found)
        return made.eval()

    def forward(self, states: Tensor) -> Tensor:
        return self.outer(gelu(self.inner(states.flatten(1))))
