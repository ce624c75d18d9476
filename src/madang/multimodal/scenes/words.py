"""Prompts for scenes: a small grammar in English and Korean, with synonyms and several orders of words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np

from madang.multimodal.scenes.claims import Claim, Part, partly, whole
from madang.multimodal.scenes.world import SPLITS, Scene, Split, scene
from madang.text.korean import particle_after

Language: TypeAlias = Literal["en", "ko"]
LANGUAGES: tuple[Language, ...] = ("en", "ko")

Words: TypeAlias = dict[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """How a language calls the values of each attribute; the first word is the usual one."""

    shape: Words
    colour: Words
    size: Words
    position: Words
    background: Words
    time: Words
    count: dict[int, str] = field(default_factory=dict)


ENGLISH = Vocabulary(
    shape={
        "circle": ("circle", "disc"),
        "square": ("square", "box"),
        "triangle": ("triangle",),
        "star": ("star",),
        "heart": ("heart",),
        "cross": ("cross", "plus sign"),
        "ring": ("ring", "hoop"),
        "crescent": ("crescent", "crescent moon"),
    },
    colour={name: (name,) for name in ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white")},
    size={"small": ("small", "little"), "large": ("large", "big")},
    position={
        "top left": ("at the top left", "in the upper left corner"),
        "top": ("at the top", "at the upper edge"),
        "top right": ("at the top right", "in the upper right corner"),
        "left": ("on the left", "on the left side"),
        "middle": ("in the middle", "in the centre"),
        "right": ("on the right", "on the right side"),
        "bottom left": ("at the bottom left", "in the lower left corner"),
        "bottom": ("at the bottom", "at the lower edge"),
        "bottom right": ("at the bottom right", "in the lower right corner"),
    },
    background={
        "meadow": ("in a meadow", "on a green meadow"),
        "desert": ("in the desert", "over desert sand"),
        "sea": ("over the sea", "at sea"),
        "snow": ("in the snow", "on a field of snow"),
        "city": ("in the city", "above a city"),
        "forest": ("in a forest", "in the woods"),
    },
    time={
        "morning": ("in the morning", "at sunrise"),
        "day": ("by day", "at noon"),
        "evening": ("in the evening", "at sunset"),
        "night": ("at night", "by night"),
    },
    count={1: "one", 2: "two", 3: "three"},
)

KOREAN = Vocabulary(
    shape={
        "circle": ("동그라미", "원"),
        "square": ("네모", "사각형"),
        "triangle": ("세모", "삼각형"),
        "star": ("별",),
        "heart": ("하트",),
        "cross": ("십자가", "십자 모양"),
        "ring": ("고리", "반지 모양"),
        "crescent": ("초승달",),
    },
    colour={
        "red": ("빨간", "빨간색"),
        "orange": ("주황색", "주황"),
        "yellow": ("노란", "노란색"),
        "green": ("초록색", "초록"),
        "blue": ("파란", "파란색"),
        "purple": ("보라색", "보랏빛"),
        "pink": ("분홍색", "분홍"),
        "white": ("하얀", "흰"),
    },
    size={"small": ("작은", "조그만"), "large": ("큰", "커다란")},
    position={
        "top left": ("왼쪽 위에", "좌측 상단에"),
        "top": ("위쪽에", "맨 위에"),
        "top right": ("오른쪽 위에", "우측 상단에"),
        "left": ("왼쪽에", "좌측에"),
        "middle": ("가운데에", "한가운데"),
        "right": ("오른쪽에", "우측에"),
        "bottom left": ("왼쪽 아래에", "좌측 하단에"),
        "bottom": ("아래쪽에", "맨 아래에"),
        "bottom right": ("오른쪽 아래에", "우측 하단에"),
    },
    background={
        "meadow": ("초원", "풀밭"),
        "desert": ("사막", "모래사막"),
        "sea": ("바다", "바닷가"),
        "snow": ("눈밭", "설원"),
        "city": ("도시", "도심"),
        "forest": ("숲", "숲속"),
    },
    time={
        "morning": ("아침", "해 뜰 녘"),
        "day": ("낮", "한낮"),
        "evening": ("저녁", "해 질 녘"),
        "night": ("밤", "한밤중"),
    },
    count={1: "한", 2: "두", 3: "세"},
)

VOCABULARIES: dict[Language, Vocabulary] = {"en": ENGLISH, "ko": KOREAN}


def prompt(made: Scene, seed: int = 0, language: Language = "en", *, split: Split = "train") -> str:
    """A prompt that says everything about a scene; the seed decides the words."""
    # Not the numbers that the scene was drawn with: which word is chosen would tell of it.
    return say(whole(made), np.random.default_rng([SPLITS.index(split), seed, 1]), language)


def hint(made: Scene, generator: np.random.Generator, language: Language = "en") -> tuple[Claim, str]:
    """Something true of a scene, as a claim and in words."""
    claim = partly(made, generator)
    return claim, say(claim, generator, language)


def corpus(count: int = 4000) -> Iterator[str]:
    """Prompts of training scenes in each language: what a tokenizer is made from."""
    for seed in range(count):
        made = scene(seed)
        for language in LANGUAGES:
            yield prompt(made, seed, language)


def say(
    claim: Claim,
    generator: np.random.Generator | None = None,
    language: Language = "en",
    *,
    plain: bool = False,
) -> str:
    """A claim in words: the usual ones where no generator is given. `plain`: without words such as "a picture of"."""
    speaker = (_English if language == "en" else _Korean)(VOCABULARIES[language], generator)
    return speaker.say(claim, plain=plain)


class _Speaker:
    """Chooses words."""

    def __init__(self, words: Vocabulary, generator: np.random.Generator | None) -> None:
        self.words = words
        self.generator = generator

    def one(self, choices: Sequence[str]) -> str:
        """The first one mostly, where there is a choice."""
        if self.generator is None or self.generator.random() < 0.6:
            return choices[0]
        return choices[int(self.generator.integers(len(choices)))]

    def word(self, attribute: str, value: str | None) -> str:
        return "" if value is None else self.one(getattr(self.words, attribute)[value])


class _English(_Speaker):
    def say(self, claim: Claim, *, plain: bool = False) -> str:
        place = " ".join(filter(None, (self.word("background", claim.background), self.word("time", claim.time))))
        things = self._things(claim)
        form = "plain" if plain else self.one(("plain", "place first", "picture", "tags"))
        if form == "tags" and claim.things:
            words = [
                *(self._tag(part) for part in claim.things),
                *(
                    f"{value} background" if name == "background" else value
                    for name, value in (("background", claim.background), ("time", claim.time))
                    if value
                ),
            ]
            return ", ".join(words)
        if form == "place first" and place and things:
            return f"{place}: {things}"
        said = (
            ", ".join(filter(None, (things, place)))
            if len(claim.things) > 1
            else " ".join(filter(None, (things, place)))
        )
        return f"a picture of {said}" if form == "picture" and things else said or "a picture"

    def _things(self, claim: Claim) -> str:
        if not claim.things:
            return (
                ""
                if claim.count is None
                else f"{self.words.count[claim.count]} {'shape' if claim.count == 1 else 'shapes'}"
            )
        said = [self._thing(part) for part in claim.things]
        return said[0] if len(said) == 1 else f"{', '.join(said[:-1])} and {said[-1]}"

    def _thing(self, part: Part) -> str:
        words = [
            self.word("size", part.size),
            self.word("colour", part.colour),
            self.word("shape", part.shape) or "shape",
        ]
        name = " ".join(filter(None, words))
        article = "an" if name[0] in "aeiou" else "a"
        return " ".join(filter(None, (article, name, self.word("position", part.position))))

    def _tag(self, part: Part) -> str:
        return " ".join(
            filter(None, (part.size, part.colour, self.word("shape", part.shape) or "shape", part.position))
        )


class _Korean(_Speaker):
    def say(self, claim: Claim, *, plain: bool = False) -> str:
        place = self._place(claim)
        form = "plain" if plain else self.one(("plain", "sentence", "picture", "tags"))
        if not claim.things:
            shapes = "" if claim.count is None else f"도형 {self.words.count[claim.count]} 개"
            return ", ".join(filter(None, (place, shapes))) or "그림"
        if form == "tags":
            return ", ".join(
                filter(
                    None,
                    (
                        self._bare("background", claim.background),
                        self._bare("time", claim.time),
                        *(self._thing(part) for part in claim.things),
                    ),
                )
            )
        things = self._joined([self._thing(part) for part in claim.things])
        if form == "sentence":
            things = f"{things}{particle_after(things, '이', '가')} 있다"
        elif form == "picture":
            things = f"{things} 그림"
        return ", ".join(filter(None, (place, things)))

    def _bare(self, attribute: str, value: str | None) -> str:
        return "" if value is None else str(getattr(self.words, attribute)[value][0])

    def _place(self, claim: Claim) -> str:
        where, when = self.word("background", claim.background), self.word("time", claim.time)
        return f"{when}의 {where}" if where and when else where or when

    @staticmethod
    def _joined(things: Sequence[str]) -> str:
        return "".join(f"{each}{particle_after(each, '과', '와')} " for each in things[:-1]) + things[-1]

    def _thing(self, part: Part) -> str:
        return " ".join(
            filter(
                None,
                (
                    self.word("position", part.position),
                    self.word("size", part.size),
                    self.word("colour", part.colour),
                    self.word("shape", part.shape) or "도형",
                ),
            )
        )
