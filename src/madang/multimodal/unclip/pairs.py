"""Vectors of pictures with those of what is said of them: see `prior.Source`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from madang.models.providers.clip_pair import Pair
from madang.multimodal.clip.pool import Pool, Vectors
from madang.multimodal.scenes.claims import whole
from madang.multimodal.scenes.words import LANGUAGES, hint, say

WHOLE = 0.8  # share of texts that say everything
ROUNDS = 2  # texts for each scene
_AT_ONCE = 512


class Said:
    """Pictures with texts, of which there may be several rounds, each in the order of the pictures. The vectors of the
    texts are computed once: to read a text takes longer than to learn from it."""

    def __init__(
        self,
        vectors: Vectors,
        texts: Sequence[str],
        pair: Pair,
        seed: int = 0,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        self.vectors, self.seed = vectors, seed
        self.said = torch.empty(len(texts), pair.dim, dtype=torch.float16)
        for start in range(0, len(texts), _AT_ONCE):
            part = texts[start : start + _AT_ONCE]
            # Half the digits are read in a third of the time, and far less is lost than the prior is taught to bear.
            with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
                self.said[start : start + len(part)] = normalize(pair.read(pair.encoded(part)).float())
            if progress is not None:
                progress(len(part))

    def pairs(self, step: int, size: int) -> tuple[Tensor, Tensor]:
        """Float32 (n, dim) of pictures and of texts, of length 1."""
        rows = np.random.default_rng([self.seed, step]).integers(len(self.said), size=size)
        shown = self.vectors.vectors[rows % len(self.vectors)]
        return torch.from_numpy(shown.astype(np.float32)), self.said[torch.from_numpy(rows)].float()


def scenes(pool: Pool, pair: Pair, seed: int = 0) -> Said:
    """Each scene with texts in either language."""
    generator = np.random.default_rng([seed, 2])
    texts = []
    for _ in range(ROUNDS):
        for made in pool.made:
            language = LANGUAGES[int(generator.integers(len(LANGUAGES)))]
            everything = generator.random() < WHOLE
            texts.append(
                say(whole(made), generator, language) if everything else hint(made, generator, language)[1]
            )
    return Said(pool, texts, pair, seed)
