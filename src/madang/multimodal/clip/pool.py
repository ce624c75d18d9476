"""Pictures with their vectors by a CLIP, computed once: what models that stand on a CLIP are trained with."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from madang.models.providers.clip_pair import Pair
from madang.multimodal.clip.batches import Scenes

_AT_ONCE = 512


class Vectors:
    """Pictures, uint8 (n, side, side, 3), and their vectors, float16 (n, dim) of length 1, kept in a file and computed
    when they are first needed."""

    def __init__(
        self, pictures: NDArray[np.uint8], pair: Pair, path: Path, progress: Callable[[int], None] | None = None
    ) -> None:
        self.pictures, self._pair, self._path, self._progress = pictures, pair, path, progress

    @cached_property
    def vectors(self) -> NDArray[np.float16]:
        """In the order of the pictures."""
        shape = (len(self.pictures), self._pair.dim)
        if self._path.exists():
            found: NDArray[np.float16] = np.load(self._path, mmap_mode="r")
            if found.shape == shape:
                return found
        part = self._path.with_suffix(".part")
        made = np.lib.format.open_memmap(part, "w+", np.float16, shape)
        for start in range(0, len(self.pictures), _AT_ONCE):
            rows = slice(start, min(start + _AT_ONCE, len(self.pictures)))
            made[rows] = self._pair.embed_images(list(self.pictures[rows]))
            if self._progress is not None:
                self._progress(rows.stop - rows.start)
        made.flush()
        part.replace(self._path)
        return np.asarray(np.load(self._path, mmap_mode="r"))

    def __len__(self) -> int:
        return len(self.pictures)

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures and vectors (float32) of some rows."""
        chosen = rows.numpy()
        return torch.from_numpy(self.pictures[chosen]), torch.from_numpy(self.vectors[chosen].astype(np.float32))


class Pool(Vectors):
    """Painted scenes, and what each shows."""

    def __init__(
        self,
        folder: Path,
        pair: Pair,
        groups: int,
        *,
        processes: int = 2,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        scenes = Scenes(folder, groups, pair.side, pair.patch, processes=processes)
        self.made = scenes.made
        path = folder / f"vectors-{pair.side}-{groups}-{_key(pair)}.npy"
        super().__init__(scenes.pictures, pair, path, progress)


def _key(pair: Pair) -> str:
    """Twelve digits that are the same for the same weights of what sees."""
    found = hashlib.sha256()
    for name, weights in sorted(pair.model.state_dict().items()):
        if "text" not in name:
            found.update(name.encode() + weights.detach().cpu().float().numpy().tobytes())
    return found.hexdigest()[:12]
