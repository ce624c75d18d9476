"""Which pictures are nearly the same: by the signs of brightness differences (dHash), among near vectors only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image

SIDE = 16
MOST_APART = 20        # of 256 bits; other sizes and qualities of one photograph differ in up to about ten
LEAST_COSINE = 0.95


def fingerprint(picture: Image.Image) -> str:
    """64 hexadecimal digits: of 16 rows of 16, whether each spot is brighter than its left neighbour."""
    from PIL import Image

    grey = np.asarray(picture.convert("L").resize((SIDE + 1, SIDE), Image.Resampling.BOX), np.int16)
    return np.packbits(grey[:, 1:] > grey[:, :-1]).tobytes().hex()


def apart(one: str, other: str) -> int:
    """In how many bits two fingerprints differ."""
    return (int(one, 16) ^ int(other, 16)).bit_count()


def alike(one: str, other: str, cosine: float) -> bool:
    """Whether pictures with these fingerprints, and vectors with this cosine, are nearly the same."""
    return cosine >= LEAST_COSINE and apart(one, other) <= MOST_APART


def within(fingerprints: list[str], vectors: NDArray[np.float32]) -> list[int]:
    """For each of n pictures the first before it that is nearly the same and is like none itself, or -1.

    So a picture is never far from what it counts as a copy of. Vectors (n, dim) of length 1.
    """
    found: list[int] = []
    originals: list[int] = []
    for at, mine in enumerate(fingerprints):
        cosines = vectors[originals] @ vectors[at]
        near = (other for other, cosine in zip(originals, cosines.tolist(), strict=True)
                if alike(mine, fingerprints[other], cosine))
        found.append(next(near, -1))
        if found[-1] < 0:
            originals.append(at)
    return found
