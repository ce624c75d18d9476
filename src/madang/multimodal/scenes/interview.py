"""What a model that describes pictures says of scenes on reserved seeds: captions by attribute, and yes or no."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from madang.models.protocol import Picture
from madang.multimodal.scenes import exam
from madang.multimodal.scenes.phrases import PHRASES
from madang.multimodal.scenes.read import agreement, read, tally
from madang.multimodal.scenes.talk import Talk
from madang.multimodal.scenes.words import LANGUAGES, Language

Answers: TypeAlias = Callable[[Sequence[Picture], Sequence[str]], list[str]]  # of questions about pictures, one each


def interview(
    answers: Answers, side: int, count: int = 300, languages: Sequence[Language] = LANGUAGES
) -> dict[str, float]:
    """Scores from 0 to 1 on `count` held-out scenes, those in Korean with " ko" at their ends.

    "background", "time", "count", "shape", "colour", "size" and "position": how often a caption says it right; what it
    leaves out is wrong (see `read.agreement`). "yes/no": of two claims about each scene, one true, the other of a scene
    that differs in one respect.
    """
    held = exam.scenes_of("held-out", count)
    pictures = list(exam.painted(held, side))
    scores: dict[str, float] = {}
    for language in languages:
        end = "" if language == "en" else f" {language}"
        told = answers(pictures, [PHRASES[language].ask["caption"][0]] * len(pictures))
        right = tally(agreement(read(text, language), made) for text, (_, made) in zip(told, held, strict=True))
        scores |= {f"{name}{end}": share for name, share in right.items()}
        asked: list[tuple[Picture, str, str]] = []
        for picture, (seed, made) in zip(pictures, held, strict=True):
            talk = Talk(np.random.default_rng([11, seed]), language)
            asked += [(picture, *talk.true_or_not(claim, made)) for claim in talk.claims(made)]
        said = answers([picture for picture, _, _ in asked], [question for _, question, _ in asked])
        scores[f"yes/no{end}"] = float(
            np.mean(
                [
                    verdict(text, language) == verdict(answer, language)
                    for text, (_, _, answer) in zip(said, asked, strict=True)
                ]
            )
        )
    return scores


def verdict(text: str, language: Language) -> bool | None:
    """Yes or no, said first, as most do, or last, where an answer tells why before; None for neither."""
    words = [word.strip(".,!:;").lower() for word in text.split()]
    known = {word: value for value, word in PHRASES[language].verdicts.items()}
    return next((known[word] for word in (*words[:1], *words[-1:]) if word in known), None)
