"""Vectors of pictures with those of what is said of them: see `prior.Source`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from madang.models.providers.clip_pair import Pair
from madang.multimodal.clip.pool import Pool, Vectors
from madang.multimodal.scenes.claims import whole
from madang.multimodal.scenes.words import LANGUAGES, hint, say

WHOLE = 0.8  # share of texts that say everything


class Scenes:
    """Each picture with a text in one of the languages, in words of its own each time."""

    def __init__(self, pool: Pool, pair: Pair, seed: int = 0) -> None:
        self.pool, self.pair, self.seed = pool, pair, seed

    def pairs(self, step: int, size: int) -> tuple[Tensor, Tensor]:
        """Float32 (n, dim) of pictures and of texts, of length 1."""
        generator = np.random.default_rng([self.seed, step])
        rows = generator.integers(len(self.pool), size=size)
        texts = []
        for row in rows:
            made, language = self.pool.made[row], LANGUAGES[int(generator.integers(len(LANGUAGES)))]
            texts.append(
                say(whole(made), generator, language)
                if generator.random() < WHOLE
                else hint(made, generator, language)[1]
            )
        return _both(self.pool, self.pair, rows, texts)


class Said:
    """Pictures with the captions of a user."""

    def __init__(self, vectors: Vectors, texts: Sequence[str], pair: Pair, seed: int = 0) -> None:
        self.vectors, self.texts, self.pair, self.seed = vectors, texts, pair, seed

    def pairs(self, step: int, size: int) -> tuple[Tensor, Tensor]:
        """Float32 (n, dim) of pictures and of texts, of length 1."""
        rows = np.random.default_rng([self.seed, step]).integers(len(self.texts), size=size)
        return _both(self.vectors, self.pair, rows, [self.texts[row] for row in rows])


def _both(vectors: Vectors, pair: Pair, rows: NDArray[np.int64], texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        said = normalize(pair.read(pair.encoded(texts)).float())
    return torch.from_numpy(vectors.vectors[rows].astype(np.float32)), said
