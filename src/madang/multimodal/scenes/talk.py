"""Talk about scenes: questions with true answers, and requests to draw, each in English or Korean.

It is the offline writer of instruction data: what a language model writes from captions and positions in the paper
(Liu et al. 2023, section 3: conversation, detail, reasoning), a grammar writes here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np

from madang.multimodal.scenes.claims import Claim, Part, asked_of, fitting, matched, partly, truth, whole
from madang.multimodal.scenes.phrases import PHRASES, Phrases
from madang.multimodal.scenes.words import VOCABULARIES, Language, say
from madang.multimodal.scenes.world import (
    BACKGROUNDS,
    COLOURS,
    MOST,
    POSITIONS,
    THING,
    TIMES,
    Scene,
    Thing,
    kept_back,
    scene,
    variants,
)
from madang.text.korean import particle_after

Kind: TypeAlias = Literal["caption", "conversation", "detail", "reasoning"]
KINDS: tuple[Kind, ...] = ("caption", "conversation", "detail", "reasoning")


@dataclass(frozen=True, slots=True)
class Turn:
    """A question and its answer."""

    kind: Kind
    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request for a picture, in words, and what the picture shall show, as a claim and in words."""

    request: str
    claim: Claim
    said: str


class _Word(str):
    """A word that takes the particle that fits it: "{shape:은/는}"."""

    __slots__ = ()

    def __format__(self, spec: str) -> str:
        consonant, _, vowel = spec.partition("/")
        return f"{self!s}{particle_after(self, consonant, vowel)}" if vowel else str(self)


class Talk:
    """Chooses what is said of scenes in one language; the generator decides what and how."""

    def __init__(self, generator: np.random.Generator, language: Language) -> None:
        self.generator, self.language = generator, language
        self.phrases: Phrases = PHRASES[language]
        self._words = VOCABULARIES[language]

    def turns(self, made: Scene, count: int) -> list[Turn]:
        """`count` different questions of the kinds in turn, each with its true answer."""
        found: dict[str, Turn] = {}
        while len(found) < count:
            turn = self.turn(made, KINDS[int(self.generator.choice(len(KINDS), p=(0.25, 0.5, 0.1, 0.15)))])
            found.setdefault(turn.question, turn)
        return list(found.values())

    def turn(self, made: Scene, kind: Kind) -> Turn:
        """One question of a kind."""
        if kind in ("caption", "detail"):
            return Turn(kind, self.ask(kind), self.caption(made) if kind == "caption" else self.detail(made))
        ways = _CONVERSATION if kind == "conversation" else _REASONING
        while True:
            found = ways[int(self.generator.integers(len(ways)))](self, made)
            if found is not None:
                return Turn(kind, *found)

    def ask(self, name: str, **words: str) -> str:
        """A way to ask."""
        return self._filled(self._one(self.phrases.ask[name]), words)

    def on_page(self, position: str, question: str) -> str:
        """A question about one of the pictures on a page."""
        return self.phrases.panel.format(position=self._word("position", position), question=question)

    def caption(self, made: Scene) -> str:
        """Everything, in the usual words: what a prompt would say."""
        return say(whole(made), None, self.language)

    def detail(self, made: Scene) -> str:
        """Everything, a sentence for each thing."""
        more = self.phrases.detail_more
        count = (
            self.phrases.detail_one
            if len(made.things) == 1
            else self._filled(more, {"count": self.phrases.counts[len(made.things)]})
        )
        said = [self._filled(self.phrases.detail_place, self._of_place(made)), count]
        return " ".join([*(each[0].upper() + each[1:] for each in said), *map(self._placed, made.things)])

    def _placed(self, thing: Thing) -> str:
        """A sentence that says where a thing is."""
        words = {"position": self._word("position", thing.position), "thing": self.named(thing)}
        said = self._filled(self.phrases.detail_thing, words)
        return said[0].upper() + said[1:]

    def claims(self, made: Scene) -> tuple[Claim, Claim]:
        """One that is true of the scene, and one that is true of a scene that differs in one respect, but not of it."""
        true = partly(made, self.generator)
        while True:
            for other in self._others(made):
                claim = partly(other, self.generator)
                if not truth([claim], [made])[0, 0]:
                    return true, claim

    def _others(self, made: Scene) -> list[Scene]:
        """Scenes that differ in one respect; any other one where each of these has a pair that is kept back."""
        try:
            return variants(made, self.generator, 4)
        except ValueError:
            return [scene(int(self.generator.integers(2**40)))]

    def true_or_not(self, claim: Claim, made: Scene) -> tuple[str, str]:
        """The question whether a claim is true of a scene, and its answer: for each part of the claim what is there,
        the part itself in the usual words, and whether that fits; as the last word, whether everything does.

        What is compared stands side by side, in the same words if it fits, as far as grammar allows: one comparison
        that is hard to learn becomes several that are easy.
        """
        simple = len(claim.things) == 1 and claim.background is None and claim.time is None
        question = (
            self.ask("is", said=say(claim, None, self.language))
            if simple
            else self.ask("true", said=say(claim, self.generator, self.language))
        )
        judged = self._judged(claim, made)
        verdict = self.phrases.verdicts[all(fits for _, fits in judged)]
        said = [*(text for text, _ in judged), self._filled(self.phrases.verdict, {"verdict": verdict})]
        return question, " ".join(said)

    def _judged(self, claim: Claim, made: Scene) -> list[tuple[str, bool]]:
        """For each part of a claim what is there, the part, whether it fits, in words; and whether it fits."""
        return [
            (
                self._filled(
                    self.phrases.compared,
                    {
                        "seen": seen.rstrip("."),
                        "said": say(part, None, self.language),
                        "verdict": self.phrases.verdicts[fits],
                    },
                ),
                fits,
            )
            for seen, part, fits in self._compared(claim, made)
        ]

    def _compared(self, claim: Claim, made: Scene) -> Iterator[tuple[str, Claim, bool]]:
        """For each part of a claim a sentence about what is there, the part, and whether it fits. Things that are
        claimed beyond those there are come last."""
        if claim.background is not None:
            part = Claim(background=claim.background)
            yield self._filled(self.phrases.place, self._of_place(made)), part, claim.background == made.background
        if claim.time is not None:
            part = Claim(time=claim.time)
            yield self._filled(self.phrases.time, self._of_time(made.time)), part, claim.time == made.time
        if claim.count is not None:
            yield self._of_count(made), Claim(count=claim.count), claim.count == len(made.things)
        pairs = zip(claim.things, matched(claim, made), strict=True)
        for thing_said, thing in sorted(pairs, key=lambda pair: pair[1] is None):
            part = Claim(things=(thing_said,))
            if thing is None:
                yield self.phrases.no_other, part, False
            else:
                yield self._placed(thing), part, fitting(thing_said, thing) == len(asked_of(thing_said))

    def _of_count(self, made: Scene) -> str:
        if len(made.things) == 1:
            return self.phrases.count_one
        return self._filled(self.phrases.count, {"count": self.phrases.counts[len(made.things)]})

    def checks(self, made: Scene, count: int) -> list[Turn]:
        """`count` different questions whether a claim is true, half of which are, and half of them about one attribute
        or two: whoever cannot compare one does not learn to compare many."""
        found: dict[str, Turn] = {}
        while len(found) < count:
            claim = self._to_check(made, bool(self.generator.random() < 0.5))
            turn = Turn("conversation", *self.true_or_not(claim, made))
            found.setdefault(turn.question, turn)
        return list(found.values())

    def _to_check(self, made: Scene, right: bool) -> Claim:
        """A claim, true or not, about little or much."""
        return self.claims(made)[0 if right else 1] if self.generator.random() < 0.5 else self.simple(made, right)

    def comparisons(self, count: int) -> Turn:
        """`count` sentences of answers to claims, each about another scene that nobody sees, half of which fit: to
        practise comparing. Nothing but the comparison tells whether what is there is what was said: neither what else
        is said, nor what kind of thing is claimed, since what fits and what does not are claims of the same kinds.
        """
        said: list[str] = []
        while len(said) < count:
            made = scene(int(self.generator.integers(2**40)))
            claim = self._to_check(made, False)
            part = self._any([part for _, part, fits in self._compared(claim, made) if not fits])
            if self.generator.random() < 0.5:
                part = self._mended(part, made)
            said += [text for text, _ in self._judged(part, made)]
        return Turn("conversation", self.ask("compare"), " ".join(said))

    def _mended(self, claim: Claim, made: Scene) -> Claim:
        """A claim about the same attributes that is true."""
        thing = self._any(made.things)
        return Claim(
            None if claim.background is None else made.background,
            None if claim.time is None else made.time,
            tuple(Part(**{name: getattr(thing, name) for name in asked_of(part)}) for part in claim.things),
            None if claim.count is None else len(made.things),
        )

    def simple(self, made: Scene, right: bool) -> Claim:
        """A claim about one attribute, or two of one thing, that is true of a scene or false."""
        while True:
            name = str(self._any(_COMPARED))
            if name in THING:
                thing = self._any(made.things)
                named = {name, str(self._any(tuple(THING)))}
                values = {each: getattr(thing, each) for each in named}
                if not right:
                    values[name] = self._any(THING[name])
                claim = Claim(things=(Part(**values),))
            elif name == "count":
                claim = Claim(count=len(made.things) if right else 1 + int(self.generator.integers(MOST)))
            else:
                value = getattr(made, name) if right else self._any(BACKGROUNDS if name == "background" else TIMES)
                claim = Claim(**{name: value})
            if truth([claim], [made])[0, 0] == right:
                return claim

    def wanted(self) -> Wanted:
        """A request for a picture that is described."""
        made = scene(int(self.generator.integers(2**40)))
        claim = whole(made) if self.generator.random() < 0.7 else partly(made, self.generator)
        said = say(claim, self.generator, self.language, plain=True)
        return Wanted(self.ask("draw", said=said), claim, said)

    def changed(self, made: Scene) -> Wanted:
        """A request for a picture that is like one that is shown, but for what is asked.

        Raises `ValueError` where each of these has a pair that is kept back.
        """
        for _ in range(1000):
            request, other = _CHANGES[int(self.generator.integers(len(_CHANGES)))](self, made)
            if other is not None and not kept_back(other):
                return Wanted(request, whole(other), say(whole(other), None, self.language))
        raise ValueError("made: whatever is changed, a pair that is kept back remains.")

    def named(self, thing: Thing, *, position: bool = False) -> str:
        """A thing in words."""
        part = Part(thing.shape, thing.colour, thing.size, thing.position if position else None)
        return say(Claim(things=(part,)), None, self.language)

    def _shape(self, shape: str) -> str:
        return self._word("shape", shape)

    def _word(self, attribute: str, value: str) -> str:
        return str(getattr(self._words, attribute)[value][0])

    def _of_place(self, made: Scene) -> dict[str, str]:
        return {"background": self._word("background", made.background), **self._of_time(made.time)}

    def _of_time(self, time: str) -> dict[str, str]:
        at_time = self._word("time", time)
        return {"time": time if self.language == "en" else at_time, "at_time": at_time}

    def _one(self, choices: Sequence[Any]) -> Any:
        """The first one mostly."""
        if self.generator.random() < 0.4:
            return choices[0]
        return choices[int(self.generator.integers(len(choices)))]

    def _any(self, choices: Sequence[Any]) -> Any:
        return choices[int(self.generator.integers(len(choices)))]

    @staticmethod
    def _filled(text: str, words: dict[str, str]) -> str:
        return text.format(**{name: _Word(word) for name, word in words.items()})

    def _alone(self, made: Scene) -> list[Thing]:
        """Things whose shape says which one is meant."""
        counts = Counter(thing.shape for thing in made.things)
        return [thing for thing in made.things if counts[thing.shape] == 1]


# What simple claims are about: shapes and colours more often, which take longest to be compared rightly.
_COMPARED = ("background", "time", "count", "size", "position", *3 * ("shape", "colour"))

_Way: TypeAlias = Callable[[Talk, Scene], tuple[str, str] | None]
_Change: TypeAlias = Callable[[Talk, Scene], tuple[str, Scene | None]]


def _background(talk: Talk, made: Scene) -> tuple[str, str]:
    return talk.ask("background"), talk._filled(talk.phrases.place, talk._of_place(made))


def _time(talk: Talk, made: Scene) -> tuple[str, str]:
    return talk.ask("time"), talk._filled(talk.phrases.time, talk._of_time(made.time))


def _count(talk: Talk, made: Scene) -> tuple[str, str]:
    return talk.ask("count"), talk._of_count(made)


def _colour(talk: Talk, made: Scene) -> tuple[str, str] | None:
    if not (alone := talk._alone(made)):
        return None
    thing = talk._any(alone)
    shape = talk._shape(thing.shape)
    return talk.ask("colour", shape=shape), talk._filled(
        talk.phrases.colour, {"shape": shape, "colour": talk.phrases.colours[thing.colour]}
    )


def _size(talk: Talk, made: Scene) -> tuple[str, str] | None:
    if not (alone := talk._alone(made)):
        return None
    thing = talk._any(alone)
    shape = talk._shape(thing.shape)
    return talk.ask("size", shape=shape), talk._filled(talk.phrases.size[thing.size], {"shape": shape})


def _position(talk: Talk, made: Scene) -> tuple[str, str] | None:
    if not (alone := talk._alone(made)):
        return None
    thing = talk._any(alone)
    shape = talk._shape(thing.shape)
    return talk.ask("position", shape=shape), talk._filled(
        talk.phrases.where, {"shape": shape, "position": talk._word("position", thing.position)}
    )


def _what(talk: Talk, made: Scene) -> tuple[str, str]:
    there = {thing.position: thing for thing in made.things}
    where = talk._any(list(there)) if talk.generator.random() < 0.7 else talk._any(POSITIONS)
    words = {"position": talk._word("position", where)}
    if where not in there:
        said = talk._filled(talk.phrases.nothing, words)
        return talk.ask("what", **words), said
    said = talk._filled(talk.phrases.found, {"thing": talk.named(there[where])})
    return talk.ask("what", **words), said[0].upper() + said[1:]


def _true(talk: Talk, made: Scene) -> tuple[str, str]:
    return talk.true_or_not(talk.claims(made)[int(talk.generator.random() < 0.5)], made)


def _further(talk: Talk, made: Scene) -> tuple[str, str] | None:
    alone = talk._alone(made)
    pairs = [
        (one, other)
        for one in alone
        for other in alone
        if POSITIONS.index(one.position) % 3 < POSITIONS.index(other.position) % 3
    ]
    if not pairs:
        return None
    one, other = talk._any(pairs)
    asked = [talk._shape(one.shape), talk._shape(other.shape)]
    talk.generator.shuffle(asked)
    return talk.ask("further", one=asked[0], other=asked[1]), talk._filled(
        talk.phrases.further,
        {
            "one": talk._shape(one.shape),
            "other": talk._shape(other.shape),
            "one_position": talk._word("position", one.position),
            "other_position": talk._word("position", other.position),
        },
    )


def _dark(talk: Talk, made: Scene) -> tuple[str, str]:
    return talk.ask("dark"), talk.phrases.dark[made.time]


def _larger(talk: Talk, made: Scene) -> tuple[str, str]:
    count = talk.phrases.counts[sum(thing.size == "large" for thing in made.things)]
    said = talk._filled(talk.phrases.larger, {"count": count})
    return talk.ask("larger"), said[0].upper() + said[1:]


def _same(talk: Talk, made: Scene) -> tuple[str, str] | None:
    if len(made.things) < 2:
        return None
    colours = list(dict.fromkeys(talk.phrases.colours[thing.colour] for thing in made.things))
    if len(colours) == 1:
        return talk.ask("same"), talk.phrases.yes
    return talk.ask("same"), talk._filled(talk.phrases.same, {"colours": ", ".join(colours)})


_CONVERSATION: tuple[_Way, ...] = (
    _background,
    _time,
    _count,
    _colour,
    _size,
    _position,
    _what,
    _what,
    _true,
    _true,
    _true,
)
_REASONING: tuple[_Way, ...] = (_further, _dark, _larger, _same)


def _again(talk: Talk, made: Scene) -> tuple[str, Scene]:
    return talk.ask("again"), made


def _at_time(talk: Talk, made: Scene) -> tuple[str, Scene]:
    other = replace(made, time=talk._any(TIMES))
    return talk.ask("at time", **talk._of_time(other.time)), other


def _at_place(talk: Talk, made: Scene) -> tuple[str, Scene]:
    other = replace(made, background=talk._any(BACKGROUNDS))
    return talk.ask("at place", background=talk._word("background", other.background)), other


def _recolour(talk: Talk, made: Scene) -> tuple[str, Scene | None]:
    if not (alone := talk._alone(made)):
        return "", None
    thing, colour = talk._any(alone), talk._any(COLOURS)
    things = [replace(each, colour=colour) if each == thing else each for each in made.things]
    return (
        talk.ask("recolour", shape=talk._shape(thing.shape), colour=talk.phrases.colours[colour]),
        replace(made, things=tuple(things)),
    )


def _without(talk: Talk, made: Scene) -> tuple[str, Scene | None]:
    alone = talk._alone(made)
    if len(made.things) < 2 or not alone:
        return "", None
    thing = talk._any(alone)
    return (
        talk.ask("without", shape=talk._shape(thing.shape)),
        replace(made, things=tuple(each for each in made.things if each != thing)),
    )


_CHANGES: tuple[_Change, ...] = (_again, _at_time, _at_place, _recolour, _without)
