"""What a model of pictures and texts knows of the scenes: retrieval and zero-shot classification on reserved seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from madang.models.protocol import SeesAndReads
from madang.multimodal.scenes.claims import Claim, Part
from madang.multimodal.scenes.paint import paint
from madang.multimodal.scenes.words import LANGUAGES, Language, prompt, say
from madang.multimodal.scenes.world import PLACE, THING, Scene, Split, endless
from madang.multimodal.zero_shot import ZeroShot


def scenes_of(split: Split, count: int, wanted: Callable[[Scene], bool] = lambda _: True) -> list[tuple[int, Scene]]:
    """The first `count` different ones of a split that are wanted, with their seeds."""
    found: dict[Scene, int] = {}
    for seed, made in enumerate(endless(split)):
        if wanted(made):
            found.setdefault(made, seed)
        if len(found) == count:
            break
    return [(seed, made) for made, seed in found.items()]


def painted(scenes: Sequence[tuple[int, Scene]], side: int) -> NDArray[np.uint8]:
    """uint8 (n, side, side, 3)."""
    return np.stack([np.asarray(paint(made, seed, side=side)) for seed, made in scenes])


def examine(model: SeesAndReads, side: int, count: int = 1000) -> dict[str, float]:
    """Scores from 0 to 1: "r@1", "r@5", "r@1 ko", "r@1 combinations" of text to picture among `count`, and the accuracy
    for each attribute of single things, of the place and of the count."""
    scores: dict[str, float] = {}
    held_out = scenes_of("held-out", count)
    pictures = model.embed_images(list(painted(held_out, side)))
    for language in LANGUAGES:
        ranks = _ranks(model, held_out, pictures, language, "held-out")
        end = "" if language == "en" else f" {language}"
        scores |= {f"r@1{end}": float((ranks < 1).mean()), f"r@5{end}": float((ranks < 5).mean())}
    others = scenes_of("combinations", count)
    ranks = _ranks(model, others, model.embed_images(list(painted(others, side))), "en", "combinations")
    scores["r@1 combinations"] = float((ranks < 1).mean())
    alone = scenes_of("held-out", count, lambda made: len(made.things) == 1)
    single = model.embed_images(list(painted(alone, side)))
    for name, values in THING.items():
        claims = {value: Claim(things=(Part(**{name: value}),)) for value in values}
        scores[name] = _accuracy(model, claims, single, [getattr(made.things[0], name) for _, made in alone])
    for name, values in PLACE.items():
        claims = {value: Claim(**{name: value}) for value in values}  # type: ignore[arg-type]
        scores[name] = _accuracy(model, claims, pictures, [getattr(made, name) for _, made in held_out])
    claims = {str(number): Claim(count=number) for number in (1, 2, 3)}
    scores["count"] = _accuracy(model, claims, pictures, [str(len(made.things)) for _, made in held_out])
    return scores


def _ranks(
    model: SeesAndReads,
    scenes: Sequence[tuple[int, Scene]],
    pictures: NDArray[np.float32],
    language: Language,
    split: Split,
) -> NDArray[np.int64]:
    """At which place each prompt finds its picture, from 0."""
    texts = model.embed([prompt(made, seed, language, split=split) for seed, made in scenes])
    scores = texts @ pictures.T
    # What is as good as the right one counts before it, and so does what is no number: else who gives all pictures the
    # same vector would know everything.
    return np.asarray((~(scores < np.diag(scores)[:, None])).sum(1) - 1)


def _accuracy(
    model: SeesAndReads, claims: dict[str, Claim], pictures: NDArray[np.float32], truth: Sequence[str]
) -> float:
    classes = {label: _prompts(claim) for label, claim in claims.items()}
    found = ZeroShot.of(model, classes).best(pictures)
    return float(np.mean([one == other for one, other in zip(found, truth, strict=True)]))


def _prompts(claim: Claim) -> list[str]:
    """Different ways to say it, in both languages."""
    found = {say(claim, None, language) for language in LANGUAGES}
    for seed in range(12):
        generator = np.random.default_rng([5, seed])
        found |= {say(claim, generator, language) for language in LANGUAGES}
    return sorted(found)
