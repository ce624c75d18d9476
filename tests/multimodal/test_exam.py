"""The exam of scenes: who knows everything has full marks, who knows nothing does not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from madang.models.protocol import EmbedKind, Picture, Progress, Vectors
from madang.multimodal.scenes.exam import examine, painted, scenes_of
from madang.multimodal.scenes.paint import paint
from madang.multimodal.scenes.words import LANGUAGES, prompt
from madang.multimodal.scenes.world import PLACE, SPLITS, THING, Split, scene

COUNT, SIDE = 60, 16
NAMES = {"r@1", "r@5", "r@1 ko", "r@5 ko", "r@1 combinations", "count", *THING, *PLACE}


class Knows:
    """Has seen the exam: a prompt and its picture have the same vector."""

    def __init__(self) -> None:
        self.known: dict[str | bytes, int] = {}
        splits: tuple[Split, ...] = ("held-out", "combinations")
        for split in splits:
            for seed, made in scenes_of(split, COUNT):
                number = len(self.known)
                self.known[paint(made, seed, side=SIDE).tobytes()] = number
                self.known |= {prompt(made, seed, language, split=split): number for language in LANGUAGES}

    def _vectors(self, keys: Sequence[str | bytes]) -> Vectors:
        found = np.zeros((len(keys), 1000), np.float32)
        for row, key in zip(found, keys, strict=True):
            row[self.known.get(key, 999)] = 1
        return found

    def embed(self, texts: Sequence[str], kind: EmbedKind = "document", progress: Progress | None = None) -> Vectors:
        return self._vectors(texts)

    def embed_images(self, pictures: Sequence[Picture]) -> Vectors:
        return self._vectors([picture.tobytes() for picture in pictures])


class Guesses:
    """Gives vectors that have nothing to do with what they are of."""

    def __init__(self, *, alike: bool) -> None:
        self.alike = alike
        self.generator = np.random.default_rng(5)

    def _vectors(self, count: int) -> Vectors:
        found = np.ones((count, 32)) if self.alike else self.generator.standard_normal((count, 32))
        return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), np.float32)

    def embed(self, texts: Sequence[str], kind: EmbedKind = "document", progress: Progress | None = None) -> Vectors:
        return self._vectors(len(texts))

    def embed_images(self, pictures: Sequence[Picture]) -> Vectors:
        return self._vectors(len(pictures))


def test_who_knows_everything_finds_everything() -> None:
    scores = examine(Knows(), SIDE, COUNT)
    assert set(scores) == NAMES
    assert {name: score for name, score in scores.items() if name.startswith("r@")} == {
        name: 1.0 for name in NAMES if name.startswith("r@")}


@pytest.mark.parametrize("alike", [False, True])
def test_who_knows_nothing_finds_nothing(alike: bool) -> None:
    """Not even by giving everything the same vector."""
    scores = examine(Guesses(alike=alike), SIDE, COUNT)
    assert set(scores) == NAMES
    assert all(scores[name] <= 5 / COUNT for name in ("r@1", "r@1 ko", "r@1 combinations"))
    assert scores["r@5"] <= 12 / COUNT
    for name, values in {**THING, **PLACE}.items():
        assert scores[name] < 1 / len(values) + 0.25, name


class HearsNothing(Guesses):
    """Tells pictures apart, but every text has the same vector."""

    def embed(self, texts: Sequence[str], kind: EmbedKind = "document", progress: Progress | None = None) -> Vectors:
        return np.repeat(np.eye(1, 32, dtype=np.float32), len(texts), axis=0)


def test_pictures_are_sought_by_texts_and_not_texts_by_pictures() -> None:
    scores = examine(HearsNothing(alike=False), SIDE, COUNT)
    assert {name: scores[name] for name in ("r@1", "r@5", "r@1 ko", "r@5 ko", "r@1 combinations")} == pytest.approx({
        "r@1": 1 / COUNT, "r@5": 5 / COUNT, "r@1 ko": 1 / COUNT, "r@5 ko": 5 / COUNT, "r@1 combinations": 1 / COUNT})


@pytest.mark.parametrize("split", SPLITS)
def test_scenes_of_a_split_are_the_first_different_ones(split: Split) -> None:
    found = scenes_of(split, 300, lambda made: len(made.things) == 1)
    assert len(found) == len({made for _, made in found}) == 300
    assert all(made == scene(seed, split) and len(made.things) == 1 for seed, made in found)
    assert [seed for seed, _ in found] == sorted(seed for seed, _ in found)
    missed = {scene(seed, split) for seed in range(found[-1][0])} - {made for _, made in found}
    assert all(len(made.things) > 1 for made in missed)


def test_painted_scenes_are_the_pictures() -> None:
    found = scenes_of("held-out", 3)
    pictures = painted(found, 24)
    assert pictures.shape == (3, 24, 24, 3)
    assert pictures.dtype == np.uint8
    for picture, (seed, made) in zip(pictures, found, strict=True):
        assert picture.tobytes() == paint(made, seed, side=24).tobytes()
