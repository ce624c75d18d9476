"""Batches of a user's own pictures with captions."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from madang.base.errors import InvalidInput, Unreadable
from madang.models.pictures import PictureSettings, opened, shaped
from madang.multimodal.clip.batches import Batch
from madang.multimodal.pairs import Captioned


class Captions:
    """Pictures decoded once, to a file of uint8 (n, side, side, 3), with their captions.

    Two pictures with the same caption are as good for it as each other, as those of one class are. `broken` are the
    names and faults of files that cannot be read, which are left out.
    """

    def __init__(
        self,
        pairs: Sequence[Captioned],
        folder: Path,
        side: int,
        *,
        seed: int = 0,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """Raises `InvalidInput` where fewer than two pictures can be read."""
        self.seed = seed
        self.path = path_for(pairs, folder, side)
        self.pictures, kept, self.broken = decoded(pairs, folder, side, progress)
        self.texts = [each.text for each in kept]
        self._same = np.unique(self.texts, return_inverse=True)[1]

    def __len__(self) -> int:
        return len(self.texts)

    def batch(self, step: int, size: int) -> Batch:
        """See `Source.batch`: every picture comes once before any comes again."""
        n = len(self)
        size = min(size, n)
        rounds, at = divmod(step * size, n)
        rows = np.concatenate(
            [np.random.default_rng([self.seed, number]).permutation(n) for number in (rounds, rounds + 1)]
        )
        chosen = rows[at : at + size]
        same = self._same[chosen]
        return Batch(self.pictures[chosen], [self.texts[row] for row in chosen], same[:, None] == same[None])


def decoded(
    pairs: Sequence[Captioned], folder: Path, side: int, progress: Callable[[int], None] | None = None, least: int = 2
) -> tuple[NDArray[np.uint8], list[Captioned], list[tuple[str, str]]]:
    """Pictures, uint8 (n, side, side, 3) of a file in `folder`, what they belong to, names and faults of the broken.

    Raises `InvalidInput` where fewer than `least` pictures can be read.
    """
    settings = PictureSettings(side, side, side)
    broken: list[tuple[str, str]] = []
    kept: list[Captioned] = []
    folder.mkdir(parents=True, exist_ok=True)
    found = np.lib.format.open_memmap(
        path_for(pairs, folder, side), "w+", np.uint8, (max(1, len(pairs)), side, side, 3)
    )
    for each in pairs:
        try:
            picture = opened(each.read(), name=each.name, least_side=2 * side)
            found[len(kept)] = shaped(np.asarray(picture), settings)
            kept.append(each)
        except (Unreadable, OSError) as error:
            broken.append((each.name, str(error)))
        if progress is not None:
            progress(1)
    found.flush()
    if len(kept) < least:
        raise InvalidInput(
            f"data: {len(kept)} of {len(pairs)} pictures can be read; at least {least} are needed.",
            remedy=broken[0][1] if broken else None,
        )
    return found[: len(kept)], kept, broken


def path_for(pairs: Sequence[Captioned], folder: Path, side: int) -> Path:
    """Where `decoded` keeps them."""
    key = hashlib.sha256("\n".join(f"{each.name}\t{each.text}" for each in pairs).encode()).hexdigest()[:16]
    return folder / f"pictures-{side}-{key}.npy"
