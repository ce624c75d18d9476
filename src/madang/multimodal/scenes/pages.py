"""Pages of four scenes, one in each quarter: pictures with more in them than a model sees at the size of one scene."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from madang.models.protocol import Picture
from madang.multimodal.scenes import exam
from madang.multimodal.scenes.interview import Answers
from madang.multimodal.scenes.phrases import PHRASES
from madang.multimodal.scenes.read import agreement, read, tally
from madang.multimodal.scenes.talk import Talk
from madang.multimodal.scenes.words import LANGUAGES, Language

PANELS = ("top left", "top right", "bottom left", "bottom right")


def page(pictures: Sequence[Picture] | NDArray[np.uint8]) -> Picture:
    """Four pictures of one size, in the order of `PANELS`, as one of twice the side."""
    rows = [np.concatenate(list(pictures[at : at + 2]), 1) for at in (0, 2)]
    return np.concatenate(rows, 0)


def examined(
    answers: Answers, side: int, count: int = 50, languages: Sequence[Language] = LANGUAGES
) -> dict[str, float]:
    """Scores from 0 to 1 for captions of each picture on `count` pages of held-out scenes of `side` pixels, those in
    Korean with " ko" at their ends: how often each attribute is said right, see `read.agreement`."""
    held = exam.scenes_of("held-out", count * len(PANELS))
    painted = exam.painted(held, side)
    pages = [page(painted[at : at + len(PANELS)]) for at in range(0, len(held), len(PANELS))]
    scores: dict[str, float] = {}
    for language in languages:
        talk, ask = Talk(np.random.default_rng(0), language), PHRASES[language].ask["caption"][0]
        told = answers(
            [each for each in pages for _ in PANELS], [talk.on_page(panel, ask) for _ in pages for panel in PANELS]
        )
        end = "" if language == "en" else f" {language}"
        right = tally(agreement(read(text, language), made) for text, (_, made) in zip(told, held, strict=True))
        scores |= {f"{name}{end}": share for name, share in right.items()}
    return scores
