"""A model for tests that sees colours: what it finds can be told without it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from madang.models.protocol import EmbedKind, Picture, Progress, Vectors

SIDE = 4
WORDS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255, 255, 255), "dark": (20, 20, 20)}


class SeesColours:
    """Vectors are the mean colours of the cells of a coarse grid, shifted so that black is not nothing."""

    name = "test/colours"
    signature = "test/colours@1"
    dim = 3 * SIDE * SIDE
    languages: frozenset[str] = frozenset()
    dense_weight = 1.0
    scale = 10.0

    def __init__(self) -> None:
        self.seen = 0

    def embed(self, texts: Sequence[str], kind: EmbedKind = "document", progress: Progress | None = None) -> Vectors:
        """A picture all of the colour that is named first."""
        plain = [np.full((SIDE, SIDE, 3), WORDS[next(word for word in text.split() if word in WORDS)], np.float32)
                 for text in texts]
        return _unit(np.array(plain).reshape(len(texts), self.dim))

    def embed_images(self, pictures: Sequence[Picture]) -> Vectors:
        self.seen += len(pictures)
        small = [np.asarray(Image.fromarray(each).resize((SIDE, SIDE), Image.Resampling.BOX)) for each in pictures]
        return _unit(np.array(small).reshape(len(pictures), self.dim))


def _unit(values: NDArray[Any]) -> Vectors:
    shifted = values.astype(np.float32) - 60
    return np.asarray(shifted / np.linalg.norm(shifted, axis=1, keepdims=True), np.float32)


def noise(seed: int, side: int = 96, colour: tuple[int, int, int] | None = None) -> Image.Image:
    """A picture like no other: large blocks of random brightness, tinted perhaps."""
    generator = np.random.default_rng(seed)
    blocks = generator.integers(0, 256, (12, 12, 3 if colour is None else 1))
    if colour is not None:
        blocks = blocks // 3 + np.array(colour) * 2 // 3
    return Image.fromarray(blocks.astype(np.uint8)).resize((side, side), Image.Resampling.NEAREST)


def coded(picture: Image.Image, kind: str = "PNG", **how: Any) -> bytes:
    """The bytes of its file."""
    out = io.BytesIO()
    picture.save(out, kind, **how)
    return out.getvalue()
