"""A small network that reads the attributes of a scene off a picture: the judge of what others draw.

It has nothing to do with CLIP, nor with what draws: who shares a judge's eyes would be judged too kindly.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from madang.models.pictures import PictureSettings, shaped
from madang.models.protocol import Picture
from madang.models.providers.onnx_session import load
from madang.models.providers.seers import FOLDER
from madang.multimodal.scenes.claims import Claim, Part
from madang.multimodal.scenes.world import BACKGROUNDS, COLOURS, MOST, POSITIONS, SHAPES, SIZES, TIMES

SIDE = 64
FILE = "observer.onnx"
_AT_ONCE = 256


class Observer:
    """Pictures of scenes to claims."""

    def __init__(self, folder: Path = FOLDER / "observer") -> None:
        self._session = load(folder / FILE)

    def observe(self, pictures: Sequence[Picture]) -> list[Claim]:
        """What each shows. A picture of any size and kind; what is no scene is read as one all the same."""
        settings = PictureSettings(SIDE, SIDE, SIDE)
        found: list[Claim] = []
        for start in range(0, len(pictures), _AT_ONCE):
            part = np.stack([shaped(each, settings) for each in pictures[start : start + _AT_ONCE]])
            told = self._session.run(None, {"pictures": np.ascontiguousarray(part)})
            found += claims_of(*(np.asarray(each) for each in told))
        return found


def claims_of(
    background: NDArray[np.float32],
    time: NDArray[np.float32],
    shape: NDArray[np.float32],
    colour: NDArray[np.float32],
    size: NDArray[np.float32],
) -> list[Claim]:
    """From scores: (n, backgrounds), (n, times), then (n, positions, 1 + values) with 0 for nothing, of which at most
    `MOST` positions, the surest ones, are taken to have something."""
    found = []
    for row in range(len(background)):
        something = shape[row, :, 1:].max(1) - shape[row, :, 0]
        there = sorted(at for at in np.argsort(-something)[:MOST] if something[at] > 0)
        things = tuple(
            Part(
                SHAPES[int(shape[row, at, 1:].argmax())],
                COLOURS[int(colour[row, at, 1:].argmax())],
                SIZES[int(size[row, at, 1:].argmax())],
                POSITIONS[at],
            )
            for at in there
        )
        found.append(
            Claim(BACKGROUNDS[int(background[row].argmax())], TIMES[int(time[row].argmax())], things, len(things))
        )
    return found
