"""What a step of training sees: pictures, prompts, and which prompt is true of which picture."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from madang.base.errors import InvalidInput
from madang.multimodal.scenes.claims import truth, whole
from madang.multimodal.scenes.paint import layout, paint
from madang.multimodal.scenes.words import LANGUAGES, hint, say
from madang.multimodal.scenes.world import (
    BACKGROUNDS,
    COLOURS,
    POSITIONS,
    SHAPES,
    SIZES,
    TIMES,
    Scene,
    generator_of,
    numbers,
    scene,
    variants,
)

GROUP = 8  # a scene and seven that differ from it in one respect
WHOLE = 0.7  # share of prompts that say everything


@dataclass(frozen=True, slots=True)
class Batch:
    """n pictures and n prompts.

    images: uint8 (n, side, side, 3). true: bool (n, n), prompt by picture. slots: int64 (n, len(SLOTS)), what is at
    each place of the picture, for training with labels; None where nobody knows. said: the same for the prompts, -100
    where they are silent.
    """

    images: NDArray[np.uint8]
    texts: list[str]
    true: NDArray[np.bool_]
    slots: NDArray[np.int64] | None = None
    said: NDArray[np.int64] | None = None
    cells: NDArray[np.int64] | None = None


class Source(Protocol):
    """Where batches come from."""

    def batch(self, step: int, size: int) -> Batch:
        """That of step number `step`: the same for the same number, so that training can go on where it stopped."""
        ...


# Kinds of labels and how many values each has; of things, 0 says that there is none.
SLOTS: tuple[int, ...] = (
    len(BACKGROUNDS),
    len(TIMES),
    3,
    *(size for _ in POSITIONS for size in (len(SHAPES) + 1, len(COLOURS) + 1, len(SIZES) + 1)),
)
CELLS = (len(SHAPES) + 1, len(COLOURS) + 1, len(SIZES) + 1)
SILENT = -100  # torch's ignore_index


def slots(scenes: Sequence[Scene]) -> NDArray[np.int64]:
    """int64 (n, len(SLOTS)): background, time, count less one, then shape, colour and size at each position, 0 for
    none.
    """
    table = numbers(scenes)
    found = np.zeros((len(scenes), len(SLOTS)), np.int64)
    found[:, :2] = table[:, :2]
    found[:, 2] = (table[:, 2::4] >= 0).sum(1) - 1
    for first in range(2, table.shape[1], 4):
        rows = np.flatnonzero(table[:, first] >= 0)
        at = 3 + 3 * table[rows, first + 3].astype(int)
        for part in range(3):
            found[rows, at + part] = table[rows, first + part] + 1
    return found


def cells(scenes: Sequence[Scene], side: int) -> NDArray[np.int64]:
    """int64 (n, side * side, 3): shape, colour and size of what covers each patch, 0 for none."""
    table = numbers(scenes)
    found = np.zeros((len(scenes), side * side, 3), np.int64)
    for row, made in enumerate(scenes):
        where = layout(made, side).ravel()
        for at in range(len(made.things)):
            found[row, where == at] = table[row, 2 + 4 * at : 5 + 4 * at] + 1
    return found


class Scenes:
    """Batches of groups of scenes that differ in one respect each, out of a pool of painted ones.

    The pool is a file of uint8 (groups * GROUP, side, side, 3), painted once: painting costs as much as a step.
    """

    def __init__(self, folder: Path, groups: int, side: int, patch: int, *, seed: int = 0, processes: int = 2) -> None:
        if groups < 1:
            raise InvalidInput(f"groups: at least 1 is needed, not {groups}.")
        self.side, self.patch, self.groups, self.seed = side, patch, groups, seed
        self.path = folder / f"scenes-{side}-{groups}.npy"
        self.made = [each for group in range(groups) for each in group_of(group)]
        if not self.path.exists():
            self._painted(processes)
        self.pictures = np.load(self.path, mmap_mode="r")
        self.slots = slots(self.made)

    def _painted(self, processes: int) -> None:
        part = self.path.with_suffix(".part")
        part.parent.mkdir(parents=True, exist_ok=True)
        found = np.lib.format.open_memmap(part, "w+", np.uint8, (len(self.made), self.side, self.side, 3))
        spans = [(start, min(start + 512, self.groups), self.side) for start in range(0, self.groups, 512)]
        with ProcessPoolExecutor(processes) as pool:
            for (start, end, _), pictures in zip(spans, pool.map(painted_groups, spans), strict=True):
                found[start * GROUP : end * GROUP] = pictures
        found.flush()
        part.replace(self.path)

    def batch(self, step: int, size: int) -> Batch:
        generator = np.random.default_rng([self.seed, step])
        rows = (generator.choice(self.groups, size // GROUP, replace=False)[:, None] * GROUP + np.arange(GROUP)).ravel()
        made = [self.made[row] for row in rows]
        claims, texts = [], []
        for each in made:
            language = LANGUAGES[int(generator.integers(len(LANGUAGES)))]
            if generator.random() < WHOLE:
                claim = whole(each)
                texts.append(say(claim, generator, language))
            else:
                claim, text = hint(each, generator, language)
                texts.append(text)
            claims.append(claim)
        said = self.slots[rows].copy()
        for row, (claim, each) in enumerate(zip(claims, made, strict=True)):
            if claim != whole(each):
                said[row] = SILENT
                if claim.background is not None:
                    said[row, 0] = BACKGROUNDS.index(claim.background)
                if claim.time is not None:
                    said[row, 1] = TIMES.index(claim.time)
                if claim.count is not None:
                    said[row, 2] = claim.count - 1
        return Batch(
            self.pictures[rows],
            texts,
            truth(claims, made),
            self.slots[rows],
            said,
            cells(made, self.side // self.patch),
        )


def group_of(number: int) -> list[Scene]:
    """Scene `number` of the training split and `GROUP - 1` others that differ from it in one respect each."""
    first = scene(number)
    return [first, *variants(first, generator_of(number + 1_000_000_007), GROUP - 1)]


def painted_groups(span: tuple[int, int, int]) -> NDArray[np.uint8]:
    """uint8 (n * GROUP, side, side, 3) of groups `start` to `end`; a function of the module, so that processes can
    share it.
    """
    start, end, side = span
    return np.stack(
        [
            np.asarray(paint(each, number * GROUP + at, side=side))
            for number in range(start, end)
            for at, each in enumerate(group_of(number))
        ]
    )
