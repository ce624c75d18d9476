"""From words back to a claim: what a description says of a scene, whoever wrote it.

The inverse of `words.say`, and of the detailed descriptions of `talk`: it looks for the words of the vocabulary, in any
order that the grammar knows. What it does not know it leaves open.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import permutations

from madang.multimodal.scenes.claims import Claim, Part, whole
from madang.multimodal.scenes.phrases import PHRASES
from madang.multimodal.scenes.words import VOCABULARIES, Language
from madang.multimodal.scenes.world import BACKGROUNDS, COLOURS, MOST, POSITIONS, SHAPES, SIZES, THING, TIMES, Scene

_OPEN = {"en": "shape", "ko": "도형"}  # a thing whose shape is not said
# What ends a thing: in English it says where it is at its end, in Korean at its beginning.
_ENGLISH_PARTS = re.compile(r",| and |:|\.")
_KOREAN_PARTS = re.compile(r",|과 (?!같)|와 |:|\.|이 있|가 있")


def read(text: str, language: Language) -> Claim:
    """What is claimed. `count` is how many things are described, where there are any; else the number that is said."""
    text = re.sub(r"\s+", " ", text.strip().lower())
    place = {name: _first(text, language, name) for name in ("background", "time")}
    # A green meadow is no green thing.
    things = tuple(_things(_pattern(language, "background").sub(" ", text), language))
    return Claim(place["background"], place["time"], things[:MOST], len(things) if things else _number(text, language))


def agreement(claim: Claim, made: Scene) -> dict[str, list[bool]]:
    """For each attribute, whether it is said right: of the place and the count once, of things once for each thing that
    is there. Described things are matched with those that are there so that most is right; what is not said is wrong.
    """
    return kept(whole(made), claim)


def kept(wanted: Claim, shown: Claim) -> dict[str, list[bool]]:
    """For each attribute that a claim names, whether what is shown has it, as `agreement` tells it."""
    found: dict[str, list[bool]] = {}
    for name in ("background", "time", "count"):
        if getattr(wanted, name) is not None:
            found[name] = [getattr(wanted, name) == getattr(shown, name)]
    slots: list[Part] = [*shown.things, *[Part()] * (len(wanted.things) - len(shown.things))]
    asked = [[name for name in THING if getattr(part, name) is not None] for part in wanted.things]
    tables = ([[getattr(part, name) == getattr(thing, name) for name in names]
               for part, thing, names in zip(wanted.things, order, asked, strict=True)]
              for order in permutations(slots, len(wanted.things)))
    # Of matchings that are as good, always the same one, in whatever order things are described.
    best = max(tables, key=lambda table: (sum(map(sum, table)), table))
    for row, names in zip(best, asked, strict=True):
        for right, name in zip(row, names, strict=True):
            found.setdefault(name, []).append(right)
    return found


def tally(found: Iterable[Mapping[str, Sequence[bool]]]) -> dict[str, float]:
    """The share that is right of each attribute, over what `agreement` or `kept` tell of many."""
    every: dict[str, list[bool]] = {}
    for each in found:
        for name, right in each.items():
            every.setdefault(name, []).extend(right)
    return {name: sum(right) / len(right) for name, right in every.items()}


_AFTER = "[이가은는을를과와의도만에인]|입니다|처럼|하고|이나"       # may follow a word of Korean that is meant

_VALUES = {
    "background": BACKGROUNDS,
    "time": TIMES,
    "shape": SHAPES,
    "colour": COLOURS,
    "size": SIZES,
    "position": POSITIONS,
}


@cache
def _words(language: Language, attribute: str) -> Mapping[str, str]:
    """Every word for a value, the longest first, and the value."""
    found = {word: value for value, words in getattr(VOCABULARIES[language], attribute).items() for word in words}
    found |= {value: value for value in _VALUES[attribute]} if language == "en" else {}
    if attribute == "colour":
        found |= {word: value for value, word in PHRASES[language].colours.items()}
    if attribute == "background" and language == "en":
        found |= {word.split(" ", 1)[1]: value for word, value in list(found.items()) if " " in word}
    return dict(sorted(found.items(), key=lambda each: -len(each[0])))


@cache
def _pattern(language: Language, attribute: str) -> re.Pattern[str]:
    words = "|".join(re.escape(word) for word in _words(language, attribute))
    if language == "en":
        return re.compile(rf"(?<![a-z가-힣])(?:{words})(?![a-z])")
    return re.compile(rf"(?<![가-힣])(?:{words})(?=$|[^가-힣]|{_AFTER})")


def _first(text: str, language: Language, attribute: str) -> str | None:
    found = _pattern(language, attribute).search(text)
    return None if found is None else _words(language, attribute)[found[0]]


def _things(text: str, language: Language) -> Iterator[Part]:
    for piece in (_ENGLISH_PARTS if language == "en" else _KOREAN_PARTS).split(text):
        shape = _first(piece, language, "shape")
        if shape is None and not (_OPEN[language] in piece and _described(piece, language)):
            continue
        yield Part(
            shape,
            _first(piece, language, "colour"),
            _first(piece, language, "size"),
            _first(piece, language, "position"),
        )


def _described(piece: str, language: Language) -> bool:
    """Whether a piece about a shape is about one thing, and not about how many there are."""
    return _number(piece, language) is None


def _number(text: str, language: Language) -> int | None:
    for number, word in VOCABULARIES[language].count.items():
        if re.search(rf"\b{word} shapes?\b" if language == "en" else rf"도형(?:이|은)? {word} 개", text):
            return number
    return None
