"""Requests of which some want words and others a picture: does a model that can do both give what is wanted?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from madang.models.protocol import Picture
from madang.multimodal.scenes import exam
from madang.multimodal.scenes.claims import Claim
from madang.multimodal.scenes.talk import KINDS, Talk
from madang.multimodal.scenes.words import LANGUAGES, Language


@dataclass(frozen=True, slots=True)
class Mixed:
    """A request about a picture, or without one. `wanted`: what the answer shall show; None where words are wanted."""

    text: str
    picture: Picture | None
    wanted: Claim | None
    language: Language


def mixed(count: int, side: int) -> list[Mixed]:
    """`count` requests about held-out scenes: in turn a question about a picture, a request to draw, a question, and a
    request to draw a picture otherwise; in both languages."""
    held = exam.scenes_of("held-out", count)
    pictures = exam.painted(held, side)
    found = []
    for at, (seed, made) in enumerate(held):
        language = LANGUAGES[at // 4 % len(LANGUAGES)]
        talk = Talk(np.random.default_rng([13, seed]), language)
        if at % 2 == 0:
            asked = talk.turn(made, KINDS[at // 8 % len(KINDS)]).question
            found.append(Mixed(asked, pictures[at], None, language))
        else:
            wanted = talk.wanted() if at % 4 == 1 else talk.changed(made)
            found.append(Mixed(wanted.request, None if at % 4 == 1 else pictures[at], wanted.claim, language))
    return found

