"""Pictures with their vectors by a CLIP, computed once: what models that stand on a CLIP are trained with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from madang.models.providers.clip_pair import Pair
from madang.multimodal.clip.batches import Scenes

_AT_ONCE = 512


class Vectors:
    """Pictures, uint8 (n, side, side, 3), and their vectors, float16 (n, dim) of length 1, kept in a file."""

    def __init__(
        self, pictures: NDArray[np.uint8], pair: Pair, path: Path, progress: Callable[[int], None] | None = None
    ) -> None:
        self.pictures = pictures
        if not path.exists():
            part = path.with_suffix(".part")
            found = np.lib.format.open_memmap(part, "w+", np.float16, (len(pictures), pair.dim))
            for start in range(0, len(pictures), _AT_ONCE):
                rows = slice(start, min(start + _AT_ONCE, len(pictures)))
                found[rows] = pair.embed_images(list(pictures[rows]))
                if progress is not None:
                    progress(rows.stop - rows.start)
            found.flush()
            part.replace(path)
        self.vectors: NDArray[np.float16] = np.load(path, mmap_mode="r")

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
        super().__init__(scenes.pictures, pair, folder / f"vectors-{pair.side}-{groups}.npy", progress)
