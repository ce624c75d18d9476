"""The interview about scenes: who knows the truth has full marks, and each fault costs what it should."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from madang.models.protocol import Picture
from madang.multimodal.scenes.claims import Claim, truth, whole
from madang.multimodal.scenes.exam import painted, scenes_of
from madang.multimodal.scenes.interview import interview, verdict
from madang.multimodal.scenes.phrases import PHRASES
from madang.multimodal.scenes.read import read
from madang.multimodal.scenes.words import LANGUAGES, Language, say
from madang.multimodal.scenes.world import COLOURS, PLACE, THING, Scene

COUNT, SIDE = 60, 16
NAMES = {f"{name}{end}" for name in (*PLACE, "count", *THING, "yes/no") for end in ("", " ko")}
HELD = scenes_of("held-out", COUNT)
SHOWN = {picture.tobytes(): made for picture, (_, made) in zip(painted(HELD, SIDE), HELD, strict=True)}


def language_of(question: str) -> Language:
    return "ko" if re.search("[가-힣]", question) else "en"


class Model:
    """Has seen every picture, and says of it what `describes` makes of its scene; knows which claims are true."""

    def __init__(self, describes: Callable[[Scene], Claim] = whole) -> None:
        self.describes = describes
        self.asked: list[tuple[Scene, str]] = []

    def __call__(self, pictures: Sequence[Picture], questions: Sequence[str]) -> list[str]:
        made = [SHOWN[picture.tobytes()] for picture in pictures]
        self.asked += zip(made, questions, strict=True)
        return [self.answer(*each) for each in zip(made, questions, strict=True)]

    def answer(self, made: Scene, question: str) -> str:
        language = language_of(question)
        if question in PHRASES[language].ask["caption"]:
            return self.caption(made, language)
        claim = read(question, language)
        claim = replace(claim, count=None) if claim.things else claim
        return self.judged(bool(truth([claim], [made])[0, 0]), language)

    def caption(self, made: Scene, language: Language) -> str:
        return say(self.describes(made), None, language)

    def judged(self, right: bool, language: Language) -> str:
        return PHRASES[language].yes if right else PHRASES[language].no


def test_pictures_can_be_told_apart() -> None:
    assert len(SHOWN) == COUNT


def test_who_knows_the_truth_has_full_marks() -> None:
    assert interview(Model(), SIDE, COUNT) == dict.fromkeys(NAMES, 1.0)


def test_every_held_out_scene_is_asked_about() -> None:
    model = Model()
    interview(model, SIDE, COUNT)
    scenes = [made for _, made in HELD]
    for language in LANGUAGES:
        asked = [(made, question) for made, question in model.asked if language_of(question) == language]
        captions = [made for made, question in asked if question in PHRASES[language].ask["caption"]]
        others = [made for made, question in asked if question not in PHRASES[language].ask["caption"]]
        assert captions == scenes
        assert others == [made for made in scenes for _ in range(2)]
    again = Model()
    interview(again, SIDE, COUNT)
    assert again.asked == model.asked


class AlwaysSays(Model):
    """One word to every question whether something is so."""

    def __init__(self, english: str, korean: str) -> None:
        super().__init__()
        self.words: dict[Language, str] = {"en": english, "ko": korean}

    def judged(self, right: bool, language: Language) -> str:
        return self.words[language]


@pytest.mark.parametrize(("english", "korean", "score"), [
    ("Yes.", "네.", 0.5), ("No.", "아니요.", 0.5), ("yes", "네", 0.5), ("Yes, it does.", "네, 맞습니다.", 0.5),
    ("Yes: it does.", "네: 맞습니다.", 0.5),
    ("Maybe.", "글쎄요.", 0), ("", "", 0), ("네.", "Yes.", 0), ("Yesterday", "네모", 0), (" \n", "...", 0)])
def test_one_word_for_everything_is_half_right_at_best(english: str, korean: str, score: float) -> None:
    assert interview(AlwaysSays(english, korean), SIDE, COUNT) == {
        **dict.fromkeys(NAMES, 1.0), "yes/no": score, "yes/no ko": score}


def test_who_tells_why_before_has_full_marks_whatever_is_said_of_parts() -> None:
    class TellsWhy(Model):
        def judged(self, right: bool, language: Language) -> str:
            parts = {"en": "It is night: {}. There are two: {}. So {}.", "ko": "밤입니다: {}. 두 개입니다: {}. 따라서 {}."}
            words = {"en": ("no", "yes"), "ko": ("아니요", "네")}[language]
            return parts[language].format(words[not right], words[right], words[right])

    assert interview(TellsWhy(), SIDE, COUNT) == dict.fromkeys(NAMES, 1.0)


@pytest.mark.parametrize(("text", "language", "said"), [
    ("Yes.", "en", True), ("No.", "en", False), ("yes", "en", True), ("NO!", "en", False), (" \n no ", "en", False),
    ("Yes, it does.", "en", True), ("No: there is none.", "en", False), ("So yes.", "en", True), ("So no.", "en", False),
    ("It is night: yes. There are two: yes. So no.", "en", False), ("It is night: no. So\nyes", "en", True),
    ("Yes, though some would say no.", "en", True), ("No, not yes", "en", False),      # what is said first counts
    ("It is night: yes. So", "en", None), ("I say yes and mean it.", "en", None), ("Yesterday.", "en", None), ("None.", "en", None),
    ("", "en", None), (" \n", "en", None), ("...", "en", None), ("네.", "en", None),
    ("네", "ko", True), ("아니요", "ko", False), ("네, 맞습니다.", "ko", True), ("아니요: 빨간색입니다.", "ko", False),
    ("밤입니다: 네. 따라서 아니요.", "ko", False), ("밤입니다: 아니요. 따라서 네.", "ko", True), ("밤입니다: 네. 따라서", "ko", None),
    ("네모", "ko", None), ("네모가 있습니다.", "ko", None), ("Yes.", "ko", None), ("", "ko", None),
])
def test_a_verdict_is_the_first_word_or_else_the_last_one(text: str, language: Language, said: bool | None) -> None:
    assert verdict(text, language) is said


def test_who_takes_true_for_false_is_never_right() -> None:
    class Liar(Model):
        def judged(self, right: bool, language: Language) -> str:
            return super().judged(not right, language)

    scores = interview(Liar(), SIDE, COUNT)
    assert (scores["yes/no"], scores["yes/no ko"]) == (0, 0)


def recoloured(made: Scene) -> Claim:
    """Every colour is one that nothing there has."""
    other = next(colour for colour in COLOURS if colour not in {thing.colour for thing in made.things})
    claim = whole(made)
    return replace(claim, things=tuple(replace(part, colour=other) for part in claim.things))


def test_wrong_colours_cost_the_colour_alone() -> None:
    assert interview(Model(recoloured), SIDE, COUNT) == {**dict.fromkeys(NAMES, 1.0), "colour": 0, "colour ko": 0}


@pytest.mark.parametrize("name", [*PLACE, *THING])
def test_what_is_left_out_costs_itself_alone(name: str) -> None:
    def without(made: Scene) -> Claim:
        claim = whole(made)
        if name in PLACE:
            return replace(claim, **{name: None})
        return replace(claim, things=tuple(replace(part, **{name: None}) for part in claim.things))

    assert interview(Model(without), SIDE, COUNT) == {**dict.fromkeys(NAMES, 1.0), name: 0, f"{name} ko": 0}


def test_a_thing_too_many_costs_the_count_alone() -> None:
    class SeesMore(Model):
        def caption(self, made: Scene, language: Language) -> str:
            return super().caption(made, language) + {"en": ", a shape", "ko": ", 도형"}[language]

    assert interview(SeesMore(), SIDE, COUNT) == {**dict.fromkeys(NAMES, 1.0), "count": 0, "count ko": 0}


def test_who_describes_the_first_thing_only_is_right_about_it() -> None:
    def first(made: Scene) -> Claim:
        return replace(whole(made), things=whole(made).things[:1])

    scores = interview(Model(first), SIDE, COUNT, ["en"])
    share = COUNT / sum(len(made.things) for _, made in HELD)
    assert scores == pytest.approx({
        "background": 1, "time": 1, "yes/no": 1, "count": sum(len(made.things) == 1 for _, made in HELD) / COUNT,
        **dict.fromkeys(THING, share)})


def test_who_answers_nothing_is_never_right() -> None:
    assert interview(lambda pictures, questions: [""] * len(pictures), SIDE, COUNT) == dict.fromkeys(NAMES, 0)


@pytest.mark.parametrize("language", LANGUAGES)
def test_one_language_alone(language: Language) -> None:
    model = Model()
    scores = interview(model, SIDE, 10, [language])
    assert set(scores) == {name for name in NAMES if name.endswith(" ko") == (language == "ko")}
    assert {language_of(question) for _, question in model.asked} == {language}
    assert len(model.asked) == 30
