"""Talk about scenes: an oracle that understands the questions finds every answer true, and requests are kept to."""

from __future__ import annotations

import itertools
import re
import string
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from madang.multimodal.scenes.claims import Claim, Part, partly, truth, whole
from madang.multimodal.scenes.phrases import ENGLISH, KOREAN, PHRASES, Phrases
from madang.multimodal.scenes.read import read
from madang.multimodal.scenes.talk import KINDS, Talk, Turn
from madang.multimodal.scenes.words import LANGUAGES, VOCABULARIES, Language, say
from madang.multimodal.scenes.world import (
    BACKGROUNDS,
    COLOURS,
    KEPT_BACK,
    MOST,
    POSITIONS,
    SHAPES,
    SIZES,
    THING,
    TIMES,
    Scene,
    Thing,
    kept_back,
    scene,
)

seeds = st.integers(0, 2**40)
languages = st.sampled_from(LANGUAGES)
CHANGES = ("again", "at time", "at place", "recolour", "without")
QUESTIONS = tuple(name for name in ENGLISH.ask if name not in ("draw", "compare", *CHANGES))
YES, NO = {"en": "Yes.", "ko": "네."}, {"en": "No.", "ko": "아니요."}
VERDICTS = {"en": {"yes": True, "no": False}, "ko": {"네": True, "아니요": False}}
NO_OTHER = {"en": "There is no other shape", "ko": "다른 도형은 없습니다"}
NUMBERS: dict[Language, tuple[str, ...]] = {"en": ("none", "one", "two", "three"), "ko": ("영", "한", "두", "세")}
VALUES = {**THING, "background": BACKGROUNDS, "time": TIMES}
MADE = Scene("sea", "night", (Thing("star", "red", "small", "top left"), Thing("ring", "purple", "large", "right"),
                              Thing("circle", "red", "large", "bottom")))
ONE = Scene("sea", "day", (Thing("star", "red", "small", "top"),))


def names_of(attribute: str, language: Language) -> dict[str, str]:
    """What values may be called in talk, and the values."""
    said = {words[0]: value for value, words in getattr(VOCABULARIES[language], attribute).items()}
    if attribute == "time" and language == "en":
        said |= {time: time for time in TIMES}
    if attribute == "colour" and language == "ko":
        said |= {f"{word.removesuffix('색')}색": value for word, value in said.items()}
    return said


def named(text: str, attribute: str, language: Language) -> list[str]:
    """Values of an attribute in the order in which a text says them, each as often as it does."""
    names = names_of(attribute, language)
    start, end = (r"\b", r"\b") if language == "en" else ("(?<![가-힣])", "")
    words = "|".join(sorted(map(re.escape, names), key=len, reverse=True))
    return [names[word] for word in re.findall(f"{start}(?:{words}){end}", text.lower())]


def number(text: str, language: Language) -> int:
    """The only number that a text says."""
    found = re.findall(r"\b(none|one|two|three)\b", text.lower()) if language == "en" else re.findall("(영|한|두|세) 개", text)
    (word,) = found
    return NUMBERS[language].index(word)


@cache
def pattern_of(way: str) -> re.Pattern[str]:
    """What a way to ask may have become: "{shape:은/는}" is something with one of these particles."""
    pieces = []
    for text, field, particles, _ in string.Formatter().parse(way):
        pieces.append(re.escape(text))
        if field is not None:
            pieces.append(f"(?P<{field}>.+?)(?:{particles.replace('/', '|') if particles else ''})")
    return re.compile("".join(pieces))


def understood(text: str, language: Language, among: Sequence[str] = QUESTIONS) -> tuple[str, dict[str, str]]:
    """The one question or request that a text is, by the phrasebook, and the values of what was filled in."""
    found: list[tuple[str, dict[str, str]]] = []
    for name in among:
        for way in PHRASES[language].ask[name]:
            if match := pattern_of(way).fullmatch(text):
                words = {field: value_of(field, word, language) for field, word in match.groupdict().items()}
                if None not in words.values():
                    found.append((name, words))     # type: ignore[arg-type]
    (one,) = found
    return one


def value_of(field: str, word: str, language: Language) -> str | None:
    """The value that fills a field in; None where it does not fit."""
    if field == "said":
        return None if read(word, language) == Claim() else word
    attribute = {"one": "shape", "other": "shape", "at_time": "time"}.get(field, field)
    return names_of(attribute, language).get(word)


def claimed(said: str, language: Language) -> Claim:
    """What a question asks to confirm; that there are more things than it describes is left open."""
    claim = read(said, language)
    assert claim != Claim(), said
    return replace(claim, count=None) if claim.things else claim


def the(shape: str, made: Scene) -> Thing:
    """The only thing of a shape."""
    (found,) = (thing for thing in made.things if thing.shape == shape)
    return found


def judged(answer: str, language: Language) -> tuple[list[tuple[str, str, bool]], bool]:
    """What is seen, what was said of it and whether that fits, part by part, and the verdict, which is all that the last
    sentence says."""
    verdicts = VERDICTS[language]
    word = f"({'|'.join(verdicts)})"
    between, so = {"en": (";", "So"), "ko": (r"\.", "따라서")}[language]
    match = re.fullmatch(rf"((?:[^.;:]+{between} [^.;:]+: {word}\. )+){so} {word}\.", answer)
    assert match is not None, answer
    parts = re.findall(rf"([^.;:]+){between} ([^.;:]+): {word}\. ", match[1])
    return [(seen, said, verdicts[fits]) for seen, said, fits in parts], verdicts[match[3]]


def most_at_once(claim: Claim, made: Scene) -> int:
    """How many of the things that are claimed the scene has, each of them another one of it."""
    return max(count for count in range(len(claim.things) + 1)
               if any(truth([Claim(things=some)], [made])[0, 0] for some in itertools.combinations(claim.things, count)))


def check_judged(claim: Claim, made: Scene, answer: str, language: Language) -> None:
    """Fails unless an answer says of all that is claimed, and of nothing else, what is there and whether it fits."""
    seen, verdict = judged(answer, language)
    assert verdict == truth([claim], [made])[0, 0] == all(fits for *_, fits in seen)
    rest = iter(seen)
    for name in ("background", "time", "count"):
        if (meant := getattr(claim, name)) is not None:
            text, said, fits = next(rest)
            there = len(made.things) if name == "count" else getattr(made, name)
            assert ([number(text, language)] if name == "count" else named(text, name, language)) == [there]
            assert said == say(Claim(**{name: meant}), None, language)
            assert fits == (meant == there)
    told: list[Thing] = []
    spoken: list[Part] = []
    fitting = 0
    for text, said, fits in rest:
        (part,) = (part for part in set(claim.things) if said == say(Claim(things=(part,)), None, language))
        spoken.append(part)
        if text == NO_OTHER[language]:
            assert not fits
            continue
        assert len(told) == len(spoken) - 1     # those that are not there come last
        (shown,) = read(text, language).things
        (thing,) = (each for each in made.things if Part(each.shape, each.colour, each.size, each.position) == shown)
        assert fits == all(getattr(part, name) in (None, getattr(thing, name)) for name in THING)
        told.append(thing)
        fitting += fits
    assert len(set(told)) == len(told) == min(len(claim.things), len(made.things))     # each one once; else no other
    assert Counter(spoken) == Counter(claim.things)
    for some in (spoken[: len(told)], spoken[len(told) :]):
        order = iter(claim.things)
        assert all(part in order for part in some)
    assert fitting == most_at_once(claim, made)


def check(turn: Turn, made: Scene, language: Language) -> str:
    """Fails unless the answer is true and answers the question, which is of its kind; the name of the question."""
    name = check_answer(turn.question, turn.answer, made, language)
    kind = name if name in ("caption", "detail") else "reasoning" if name in ("further", "dark", "larger", "same") else "conversation"
    assert turn.kind == kind
    return name


def check_answer(question: str, answer: str, made: Scene, language: Language) -> str:
    """Fails unless the answer is true and answers the question; the name of the question."""
    name, words = understood(question, language)

    def only(attribute: str) -> str:
        """The one value that the answer says."""
        (value,) = named(answer, attribute, language)
        return value

    if name in ("caption", "detail"):
        assert read(answer, language) == whole(made)
    elif name in ("background", "time"):
        assert only(name) == getattr(made, name)
    elif name == "count":
        assert number(answer, language) == len(made.things)
    elif name in ("colour", "position"):
        assert only(name) == getattr(the(words["shape"], made), name)
    elif name == "size":
        sizes = {"en": {"large": "large", "small": "small"}, "ko": {"large": "큽니다", "small": "작습니다"}}[language]
        (size,) = (size for size, word in sizes.items() if word in answer)
        assert size == the(words["shape"], made).size
    elif name == "what":
        there = {thing.position: thing for thing in made.things}.get(words["position"])
        assert ({"en": "Nothing", "ko": "아무것도 없습니다"}[language] in answer) == (there is None)
        shown = {each: named(answer, each, language) for each in ("shape", "colour", "size")}
        assert shown == {each: [] if there is None else [getattr(there, each)] for each in shown}
    elif name in ("true", "is"):
        check_judged(claimed(words["said"], language), made, answer, language)
    elif name == "further":
        one, other = (the(shape, made) for shape in dict.fromkeys(named(answer, "shape", language)))
        assert {one.shape, other.shape} == {words["one"], words["other"]}
        assert POSITIONS.index(one.position) % 3 < POSITIONS.index(other.position) % 3
        assert named(answer, "position", language) == [one.position, other.position]
    elif name == "dark":
        assert only("time") == made.time
        begin = {"en": ("Yes", "Soon", "No"), "ko": ("네", "곧", "아니요")}[language]
        assert answer.startswith(begin[{"night": 0, "evening": 1}.get(made.time, 2)])
    elif name == "larger":
        assert number(answer, language) == sum(thing.size == "large" for thing in made.things)
    elif name == "same":
        colours = {thing.colour for thing in made.things}
        assert len(made.things) > 1
        assert (answer == YES[language]) == (len(colours) == 1)
        if len(colours) > 1:
            assert answer.startswith(NO[language][:-1])
            assert sorted(named(answer, "colour", language)) == sorted(colours)
    else:
        raise AssertionError(name)
    return name


def texts(language: Language, count: int = 400) -> Iterator[tuple[str, str]]:
    """Questions with answers, and requests with what shall be drawn."""
    for seed in range(count):
        talk = Talk(np.random.default_rng(seed), language)
        yield from ((turn.question, turn.answer) for turn in (*talk.turns(scene(seed), 6), talk.comparisons(2)))
        for wanted in (talk.wanted(), talk.changed(scene(seed))):
            yield wanted.request, wanted.said


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_answer_is_true(language: Language) -> None:
    seen: Counter[str] = Counter()
    for seed in range(600):
        made = scene(seed, "held-out" if seed % 2 else "train")
        seen.update(check(turn, made, language) for turn in Talk(np.random.default_rng(seed), language).turns(made, 6))
    assert set(seen) == set(QUESTIONS)
    assert min(seen.values()) > 20


@given(seeds, seeds, languages, st.sampled_from(KINDS))
def test_a_turn_is_of_the_kind_that_was_asked_for(seed: int, chosen: int, language: Language, kind: str) -> None:
    turn = Talk(np.random.default_rng(chosen), language).turn(scene(seed), kind)     # type: ignore[arg-type]
    assert turn.kind == kind
    check(turn, scene(seed), language)


@given(seeds, languages)
def test_things_that_are_alike_are_not_asked_about(seed: int, language: Language) -> None:
    """Which of two stars is meant nobody could tell: `check` fails for a shape that is there twice."""
    alike = Scene("city", "day", tuple(Thing("star", colour, "small", where)
                                       for colour, where in (("red", "top"), ("blue", "left"), ("red", "right"))))
    for turn in Talk(np.random.default_rng(seed), language).turns(alike, 8):
        assert check(turn, alike, language) not in ("colour", "size", "position", "further")


def test_the_oracle_refuses_what_is_not_true() -> None:
    asked = {"en": "What colour is the star?", "ko": "별의 색은 무엇인가요?"}
    for language, wrong in (("en", "The star is blue."), ("ko", "파란색입니다.")):
        with pytest.raises(AssertionError):
            check(Turn("conversation", asked[language], wrong), MADE, language)     # type: ignore[arg-type]
    with pytest.raises(AssertionError):
        check(Turn("detail", "What colour is the star?", "The star is red."), MADE, "en")
    with pytest.raises(AssertionError):
        check(Turn("reasoning", "Which is further left, the star or the ring?",
                   "The ring: it is on the right, and the star is at the top left."), MADE, "en")
    with pytest.raises(ValueError, match="unpack"):
        understood("What is the meaning of it?", "en")


RIGHT = ("It is over the sea; over the sea: yes. At the top left there is a small red star; a red star: yes. "
         "On the right there is a large purple ring; a small ring: no. So no.")


@pytest.mark.parametrize(("right", "wrong"), [
    (RIGHT, "No."), (RIGHT, "So no."), ("So no.", "So yes."), ("So no.", ""),
    ("It is over the sea", "It is in a forest"), ("; over the sea", "; in a forest"), ("It is over the sea; over the sea: yes. ", ""),
    ("So no.", "It is night; at night: yes. So no."), ("So no.", "There are three; three shapes: yes. So no."),
    ("star: yes", "star: no"), ("ring: no", "ring: yes"), ("star: yes", "star"), ("small red", "large red"), ("a small red star", "a star"),
    # What was said told otherwise: not in the usual words, too much, too little, or not at all.
    ("a small ring", "a small hoop"), ("; a red star", "; a small red star"), ("; a red star", "; a star"), ("; a red star", ""),
    # Others that are there, but not those that the claim is about; and one twice.
    ("At the top left there is a small red star; a red star: yes", "At the bottom there is a large red circle; a red star: no"),
    ("On the right there is a large purple ring", "At the top left there is a small red star"),
    ("On the right there is a large purple ring", "There is no other shape"),
    (" On the right there is a large purple ring; a small ring: no.", ""),
])
def test_the_oracle_refuses_what_is_told_wrongly_of_a_claim(right: str, wrong: str) -> None:
    question = "Is this true: over the sea: a red star and a small ring?"
    assert check(Turn("conversation", question, RIGHT), MADE, "en") == "true"
    assert right in RIGHT
    with pytest.raises((AssertionError, ValueError)):
        check(Turn("conversation", question, RIGHT.replace(right, wrong)), MADE, "en")


@pytest.mark.parametrize(("question", "answer"), [
    ("What is the background?", "It is over the sea."),
    ("What time of day is it?", "It is night."),
    ("How many shapes are there?", "There are three."),
    ("What colour is the ring?", "The ring is purple."),
    ("What size is the ring?", "The ring is large."),
    ("Where is the star?", "The star is at the top left."),
    ("What is on the right?", "A large purple ring."),
    ("What is in the middle?", "Nothing is in the middle."),
    ("Which is further left, the ring or the star?", "The star: it is at the top left, and the ring is on the right."),
    ("Would one need a lamp there, and why?", "Yes: it is night, and the sky is dark."),
    ("Count the large shapes.", "Two."),
    ("Do all shapes have the same colour?", "No: there are red, purple."),
    ("Describe the picture in detail.", "The picture shows a scene over the sea at night. There are three shapes. "
     "At the top left there is a small red star. On the right there is a large purple ring. At the bottom there is a large red "
     "circle."),
    ("배경은 무엇인가요?", "바다입니다."),
    ("하루 중 언제인가요?", "밤입니다."),
    ("도형은 몇 개인가요?", "세 개입니다."),
    ("고리는 무슨 색인가요?", "보라색입니다."),
    ("별은 무슨 색인가요?", "빨간색입니다."),
    ("고리의 크기는 어떤가요?", "큽니다."),
    ("별은 어디에 있나요?", "왼쪽 위에 있습니다."),
    ("오른쪽에 무엇이 있나요?", "큰 보라색 고리입니다."),
    ("가운데에 무엇이 있나요?", "가운데에 아무것도 없습니다."),
    ("어두운가요? 어떻게 알 수 있나요?", "네: 밤이라 하늘이 어둡습니다."),
    ("큰 도형은 몇 개인가요?", "두 개입니다."),
    ("모두 한 가지 색인가요?", "아니요: 빨간색, 보라색입니다."),
    ("그림을 자세히 설명해 주세요.", "밤의 바다 그림입니다. 도형이 세 개 있습니다. 왼쪽 위에 작은 빨간 별이 있습니다. 오른쪽에 큰 보라색 "
     "고리가 있습니다. 아래쪽에 큰 빨간 동그라미가 있습니다."),
])
def test_sentences_are_what_they_were(question: str, answer: str) -> None:
    language: Language = "en" if question.isascii() else "ko"
    assert told(MADE, language)[question] == answer


STAR, RING, HEART = Part("star", "red"), Part("ring", position="right"), Part("heart", "red", "small")


@pytest.mark.parametrize(("claim", "made", "english", "korean"), [
    (Claim(things=(STAR,)), MADE, "At the top left there is a small red star; a red star: yes. So yes.",
     "왼쪽 위에 작은 빨간 별이 있습니다. 빨간 별: 네. 따라서 네."),
    (Claim("desert", "night", (RING, Part("circle", "blue"))), MADE,
     "It is over the sea; in the desert: no. It is night; at night: yes. On the right there is a large purple ring; "
     "a ring on the right: yes. At the bottom there is a large red circle; a blue circle: no. So no.",
     "바다입니다. 사막: 아니요. 밤입니다. 밤: 네. 오른쪽에 큰 보라색 고리가 있습니다. 오른쪽에 고리: 네. "
     "아래쪽에 큰 빨간 동그라미가 있습니다. 파란 동그라미: 아니요. 따라서 아니요."),
    (Claim(time="day", count=3), MADE, "It is night; by day: no. There are three; three shapes: yes. So no.",
     "밤입니다. 낮: 아니요. 세 개입니다. 도형 세 개: 네. 따라서 아니요."),
    (Claim(count=1), ONE, "There is one; one shape: yes. So yes.", "한 개입니다. 도형 한 개: 네. 따라서 네."),
    # What comes nearest is told where nothing has all that is claimed.
    (Claim(things=(HEART,)), MADE, "At the top left there is a small red star; a small red heart: no. So no.",
     "왼쪽 위에 작은 빨간 별이 있습니다. 작은 빨간 하트: 아니요. 따라서 아니요."),
    # Things are told in the order of the claim, and the ring is not taken for the thing of any shape.
    (Claim(things=(Part(size="large"), RING)), MADE,
     "At the bottom there is a large red circle; a large shape: yes. On the right there is a large purple ring; "
     "a ring on the right: yes. So yes.",
     "아래쪽에 큰 빨간 동그라미가 있습니다. 큰 도형: 네. 오른쪽에 큰 보라색 고리가 있습니다. 오른쪽에 고리: 네. 따라서 네."),
    *((Claim(things=things), ONE,      # what is not there comes last
       "At the top there is a small red star; a red star: yes. There is no other shape; a ring on the right: no. So no.",
       "위쪽에 작은 빨간 별이 있습니다. 빨간 별: 네. 다른 도형은 없습니다. 오른쪽에 고리: 아니요. 따라서 아니요.")
      for things in ((STAR, RING), (RING, STAR))),
])
def test_what_is_told_of_claims(claim: Claim, made: Scene, english: str, korean: str) -> None:
    assert {language: Talk(np.random.default_rng(1), language).true_or_not(claim, made)[1] for language in LANGUAGES} == {
        "en": english, "ko": korean}


@cache
def told(made: Scene, language: Language) -> dict[str, str]:
    """Many questions about one scene, and their answers."""
    return {turn.question: turn.answer for seed in range(200)
            for turn in Talk(np.random.default_rng(seed), language).turns(made, 12)}


@pytest.mark.parametrize(("language", "count", "detail"), [
    ("en", "There is one.", "There is one shape."), ("ko", "한 개입니다.", "도형이 한 개 있습니다.")])
def test_one_thing_is_spoken_of_in_the_singular(language: Language, count: str, detail: str) -> None:
    answers = {answer for question, answer in told(ONE, language).items() if understood(question, language)[0] == "count"}
    assert answers == {count}
    assert detail in Talk(np.random.default_rng(1), language).detail(ONE)


@given(seeds, seeds, languages)
def test_the_same_seed_says_the_same(seed: int, chosen: int, language: Language) -> None:
    def said() -> Any:
        talk = Talk(np.random.default_rng(chosen), language)
        return talk.turns(scene(seed), 5), talk.claims(scene(seed)), talk.wanted(), talk.changed(scene(seed)), talk.checks(scene(seed), 3)

    assert said() == said()
    turns = said()[0]
    assert len({turn.question for turn in turns}) == len(turns) == 5


def test_the_same_seed_says_the_same_in_another_process() -> None:
    script = ("import numpy as np; from madang.multimodal.scenes.talk import Talk; "
              "from madang.multimodal.scenes.world import scene; "
              "talk = Talk(np.random.default_rng(5), 'ko'); print(ascii([talk.turns(scene(8), 30), talk.changed(scene(8))]))")
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "7"})
    talk = Talk(np.random.default_rng(5), "ko")
    assert run.stdout.strip() == ascii([talk.turns(scene(8), 30), talk.changed(scene(8))])


@pytest.mark.parametrize("language", LANGUAGES)
def test_seeds_find_other_questions(language: Language) -> None:
    asked = {question for question, _ in texts(language, 200)}
    for name, ways in PHRASES[language].ask.items():
        used = {way for way in ways if any(map(pattern_of(way).fullmatch, asked))}
        assert used == set(ways), name


def neighbours(made: Scene) -> Iterator[Scene]:
    """Every scene that differs in one respect, as `world.variants` defines it."""
    yield from (replace(made, background=value) for value in BACKGROUNDS)
    yield from (replace(made, time=value) for value in TIMES)
    things = list(made.things)
    taken = {thing.position for thing in things}

    def of(changed: list[Thing]) -> Scene:
        return Scene.of(made.background, made.time, changed)

    for at, thing in enumerate(things):
        for name, values in THING.items():
            yield from (of([*things[:at], replace(thing, **{name: value}), *things[at + 1:]])
                        for value in values if name != "position" or value not in taken)
        if len(things) > 1:
            yield of([*things[:at], *things[at + 1:]])
    if len(things) < MOST:
        yield from (of([*things, Thing(*values)]) for values in itertools.product(SHAPES, COLOURS, SIZES, POSITIONS)
                    if values[-1] not in taken)
    for one, other in itertools.combinations(range(len(things)), 2):
        for name in ("shape", "colour", "size"):
            swapped = list(things)
            swapped[one] = replace(things[one], **{name: getattr(things[other], name)})
            swapped[other] = replace(things[other], **{name: getattr(things[one], name)})
            yield of(swapped)


@given(seeds, seeds)
def test_of_two_claims_one_is_true(seed: int, chosen: int) -> None:
    made = scene(seed)
    assert truth(Talk(np.random.default_rng(chosen), "en").claims(made), [made])[:, 0].tolist() == [True, False]


def test_the_false_claim_is_true_of_a_scene_that_differs_in_one_respect() -> None:
    for seed in range(60):
        _, wrong = Talk(np.random.default_rng(seed), "en").claims(scene(seed))
        assert truth([wrong], list(neighbours(scene(seed)))).any(), seed


def test_claims_about_scenes_of_pairs_that_are_kept_back() -> None:
    for seed in range(100):
        made = scene(seed, "combinations")
        assert truth(Talk(np.random.default_rng(seed), "en").claims(made), [made])[:, 0].tolist() == [True, False]


@given(seeds, seeds, languages, st.booleans())
def test_a_question_says_the_claim(seed: int, chosen: int, language: Language, right: bool) -> None:
    talk = Talk(np.random.default_rng(chosen), language)
    claim = talk.claims(scene(seed))[0 if right else 1]
    question, answer = talk.true_or_not(claim, scene(seed))
    name, words = understood(question, language)
    assert claimed(words["said"], language) == claim
    assert (name == "is") == (len(claim.things) == 1 and claim.background is None and claim.time is None)
    check_judged(claim, scene(seed), answer, language)


@given(seeds, seeds, seeds, languages, st.booleans(), st.booleans())
def test_whatever_is_claimed_of_whatever_scene_is_told_rightly(seed: int, other: int, chosen: int, language: Language,
                                                               everything: bool, same_place: bool) -> None:
    """Of scenes that have nothing to do with one another, so that most is wrong and things are too few or too many."""
    made, talk = scene(seed), Talk(np.random.default_rng(chosen), language)
    meant = replace(scene(other), background=made.background, time=made.time) if same_place else scene(other)
    claim = whole(meant) if everything else partly(meant, talk.generator)
    check_judged(claim, made, talk.true_or_not(claim, made)[1], language)


@given(seeds, languages)
def test_all_that_is_there_fits_itself(seed: int, language: Language) -> None:
    made = scene(seed)
    seen, verdict = judged(Talk(np.random.default_rng(0), language).true_or_not(whole(made), made)[1], language)
    assert verdict
    assert [fits for *_, fits in seen] == [True] * (3 + len(made.things))


@pytest.mark.parametrize("language", LANGUAGES)
def test_checks_are_different_questions_of_which_half_are_true(language: Language) -> None:
    verdicts = []
    for seed in range(300):
        made = scene(seed, "held-out" if seed % 2 else "train")
        turns = Talk(np.random.default_rng(seed), language).checks(made, 4)
        assert len({turn.question for turn in turns}) == len(turns) == 4
        assert {check(turn, made, language) for turn in turns} <= {"true", "is"}
        verdicts += [judged(turn.answer, language)[1] for turn in turns]
    assert 0.45 < np.mean(verdicts) < 0.55


@pytest.mark.parametrize("right", [True, False])
def test_simple_claims_are_about_one_attribute_or_two_of_one_thing(right: bool) -> None:
    seen: Counter[frozenset[str]] = Counter()
    for seed in range(600):
        made, talk = scene(seed), Talk(np.random.default_rng(seed), "en")
        claim = talk.simple(made, right)
        assert truth([claim], [made])[0, 0] == right
        assert len(claim.things) <= 1
        said = [name for name in ("background", "time", "count") if getattr(claim, name) is not None]
        said += [name for part in claim.things for name in THING if getattr(part, name) is not None]
        assert len(said) == 1 or (len(said) == 2 and set(said) <= set(THING))
        seen[frozenset(said)] += 1
        assert claim == Talk(np.random.default_rng(seed), "en").simple(made, right)
    names = ("background", "time", "count", *THING)
    assert set(seen) == {*(frozenset([name]) for name in names), *map(frozenset, itertools.combinations(THING, 2))}


@pytest.mark.parametrize("language", LANGUAGES)
def test_comparisons_are_told_rightly_and_half_of_them_fit(language: Language) -> None:
    """From the sentence alone: what is there as a scene, and what was said as a claim about it."""
    verdicts: dict[int, list[bool]] = {}        # by how many attributes are claimed
    seen: Counter[str] = Counter()
    for seed in range(200):
        turn = Talk(np.random.default_rng(seed), language).comparisons(9)
        assert understood(turn.question, language, ["compare"]) == ("compare", {})
        so = {True: {"en": " So yes.", "ko": " 따라서 네."}, False: {"en": " So no.", "ko": " 따라서 아니요."}}
        told = [fits for *_, fits in judged(turn.answer + so[True][language], language)[0]]
        assert len(told) == 9
        for text, said, fits in judged(turn.answer + so[all(told)][language], language)[0]:
            claim = claimed(said, language) if said not in ("a shape", "도형", "a picture", "그림") else Claim(things=(Part(),))
            if claim.things:
                (part,), (there,) = claim.things, read(text, language).things
                kinds = [name for name in THING if getattr(part, name) is not None]
                assert fits == all(getattr(part, name) == getattr(there, name) for name in kinds)
            elif claim.count is not None:
                kinds = ["count"]
                assert fits == (number(text, language) == claim.count)
            else:
                (kind,) = kinds = [name for name in ("background", "time") if getattr(claim, name) is not None]
                assert fits == (named(text, kind, language) == [getattr(claim, kind)])
            seen.update(kinds)
            verdicts.setdefault(len(kinds), []).append(fits)
    for count in (1, 2, 3, 4):      # so that this tells nothing
        assert 0.35 < np.mean(verdicts[count]) < 0.65, count
    assert 0.45 < np.mean(list(itertools.chain(*verdicts.values()))) < 0.55
    assert set(seen) == {"background", "time", "count", *THING}
    assert min(seen["shape"], seen["colour"]) > 100


def test_no_checks_are_none() -> None:
    assert Talk(np.random.default_rng(0), "en").checks(MADE, 0) == []


def pairs_of(claim: Claim) -> set[tuple[str | None, str | None]]:
    return {(part.shape, part.colour) for part in claim.things}


@given(seeds, languages)
def test_what_is_wanted_is_what_is_said(chosen: int, language: Language) -> None:
    wanted = Talk(np.random.default_rng(chosen), language).wanted()
    assert wanted.said in wanted.request
    claim = read(wanted.said, language)
    assert claim == replace(wanted.claim, count=wanted.claim.count or len(wanted.claim.things) or None)
    assert not pairs_of(wanted.claim) & KEPT_BACK
    assert understood(wanted.request, language, ["draw"])[0] == "draw"


def test_some_requests_say_everything_and_some_do_not() -> None:
    talk = Talk(np.random.default_rng(2), "en")
    complete = [claim.background is not None and claim.time is not None and claim.count is not None
                and all(None not in (part.shape, part.colour, part.size, part.position) for part in claim.things)
                for claim in (talk.wanted().claim for _ in range(400))]
    assert 0.55 < np.mean(complete) < 0.85


def asked_for(request: str, made: Scene, language: Language) -> tuple[str, Scene]:
    """What a request to change a picture asks for."""
    name, words = understood(request, language, CHANGES)
    if name == "again":
        return name, made
    if name == "at time":
        return name, replace(made, time=words.get("at_time") or words["time"])
    if name == "at place":
        return name, replace(made, background=words["background"])
    thing = the(words["shape"], made)
    others = [each for each in made.things if each != thing]
    return name, Scene.of(made.background, made.time,
                          others if name == "without" else [*others, replace(thing, colour=words["colour"])])


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_is_changed_is_what_was_asked_and_nothing_else(language: Language) -> None:
    seen: Counter[str] = Counter()
    for seed in range(1000):
        made = scene(seed, "held-out" if seed % 2 else "train")
        wanted = Talk(np.random.default_rng(seed), language).changed(made)
        name, other = asked_for(wanted.request, made, language)
        assert wanted.claim == whole(other) == read(wanted.said, language)
        assert not kept_back(other)
        seen[name] += 1
    assert set(seen) == set(CHANGES)
    assert min(seen.values()) > 50


@pytest.mark.parametrize(("language", "requests"), [
    ("en", {"Draw this again.", "Draw the same by day.", "Draw the same in the snow.", "Draw the same with the ring in pink.",
            "Draw the same without the star."}),
    ("ko", {"이 그림을 다시 그려 주세요.", "같은 그림을 낮으로 바꿔 그려 주세요.", "같은 그림을 눈밭 배경으로 그려 주세요.",
            "배경을 바다로 바꿔서 그려 줘.", "배경을 숲으로 바꿔서 그려 줘.", "고리를 분홍색으로 바꿔 그려 주세요.",
            "별을 빼고 다시 그려 주세요.", "고리를 빼고 다시 그려 주세요.", "별 없이 그려 줘."}),
])
def test_requests_are_what_they_were(language: Language, requests: set[str]) -> None:
    talk = Talk(np.random.default_rng(0), language)
    assert requests <= {talk.changed(MADE).request for _ in range(3000)}


class Tired(np.random.Generator):
    """Ends what would go on for ever."""

    def __init__(self, seed: int) -> None:
        super().__init__(np.random.PCG64(seed))
        self.left = 3000

    def integers(self, *arguments: Any, **options: Any) -> Any:
        self.left -= 1
        if self.left < 0:
            raise TimeoutError
        return super().integers(*arguments, **options)


def test_a_pair_that_is_kept_back_is_changed_away() -> None:
    shape, colour = sorted(KEPT_BACK)[0]
    made = Scene("sea", "day", (Thing(shape, colour, "small", "top"), Thing("ring", "red", "large", "left")))
    for seed in range(100):
        wanted = Talk(Tired(seed), "en").changed(made)
        name, other = asked_for(wanted.request, made, "en")
        assert name in ("recolour", "without")
        assert wanted.claim == whole(other)
        assert not kept_back(other)


def test_two_pairs_that_are_kept_back_are_refused() -> None:
    (one, red), (other, blue) = sorted(KEPT_BACK)[:2]
    with pytest.raises(ValueError):
        Talk(Tired(0), "en").changed(Scene("sea", "day", (Thing(one, red, "small", "top"), Thing(other, blue, "small", "left"))))


def blanks(text: str) -> set[str]:
    """What is filled in."""
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def plain(phrases: Phrases) -> dict[str, str]:
    """Answers and parts of answers, by name and key."""
    found = {}
    for field in fields(Phrases):
        value = getattr(phrases, field.name)
        if field.name != "ask":
            found |= {field.name: value} if isinstance(value, str) else {f"{field.name} {key}": each for key, each in value.items()}
    return found


def test_phrasebooks_have_the_same_keys() -> None:
    assert list(ENGLISH.ask) == list(KOREAN.ask)
    assert list(plain(ENGLISH)) == list(plain(KOREAN))
    assert set(ENGLISH.colours) == set(COLOURS)
    assert set(ENGLISH.counts) == set(range(MOST + 1))
    assert set(ENGLISH.dark) == set(TIMES)
    assert set(ENGLISH.size) == set(SIZES)


def test_questions_have_the_same_blanks_in_both_languages() -> None:
    for name, ways in ENGLISH.ask.items():
        (english,) = {frozenset(blanks(way)) for way in ways}
        (korean,) = {frozenset(blanks(way)) for way in KOREAN.ask[name]}
        assert {each.removeprefix("at_") for each in english} == {each.removeprefix("at_") for each in korean}, name


def test_answers_fill_in_what_they_are_about() -> None:
    """Korean leaves out which thing was asked about, and nothing else."""
    known = {"shape", "other"}
    for name, english in plain(ENGLISH).items():
        korean = blanks(plain(KOREAN)[name])
        assert {each.removeprefix("at_") for each in blanks(english)} - known == {
            each.removeprefix("at_") for each in korean} - known, name


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_kind_is_asked_in_several_ways(language: Language) -> None:
    ways = [way for each in PHRASES[language].ask.values() for way in each]
    assert len(ways) == len(set(ways))
    assert all(len(each) > 1 for each in PHRASES[language].ask.values())
    assert all(way == way.strip() != "" for way in ways)


def test_korean_colours_are_nouns_of_the_words() -> None:
    for value, noun in KOREAN.colours.items():
        assert noun.endswith("색")
        assert noun.removesuffix("색") in {word.removesuffix("색") for word in VOCABULARIES["ko"].colour[value]}
    assert len(set(KOREAN.colours.values())) == len(COLOURS)


def final_consonant(syllable: str) -> int:
    """The number of the consonant that a syllable ends in, by how Unicode numbers them; 0 for none, 8 for ㄹ."""
    assert "가" <= syllable <= "힣"
    return (ord(syllable) - 0xAC00) % 28


def test_korean_particles_fit() -> None:
    words = {word for name in ("shape", "background", "time")
             for synonyms in getattr(VOCABULARIES["ko"], name).values() for word in synonyms}
    names = "|".join(sorted({*words, *KOREAN.colours.values(), "도형"}, key=len, reverse=True))
    pattern = re.compile(f"(?<![가-힣])({names})(은|는|이|가|을|를|과|와|으로|로)(?= )")
    seen: dict[str, set[bool]] = {}
    for pair in texts("ko", 600):
        for word, particle in pattern.findall(" ".join(pair)):
            final = final_consonant(word[-1])
            after_consonant = final not in (0, 8) if particle in ("으로", "로") else final > 0
            assert (particle in ("은", "이", "을", "과", "으로")) == after_consonant, pair
            seen.setdefault(particle, set()).add(final > 0)
    assert set(seen) == {"은", "는", "이", "가", "을", "를", "과", "와", "으로", "로"}


@pytest.mark.parametrize("language", LANGUAGES)
def test_texts_are_tidy(language: Language) -> None:
    for pair in texts(language):
        for text in pair:
            assert text == text.strip()
            assert not re.search(r"  | [.,?:]|[{}]|\.\.", text), text
            assert text.isascii() if language == "en" else not re.search("[A-Za-z]", text)


@pytest.mark.parametrize(("language", "wrong"), [
    ("en", r"(picture|image)( of|:) a picture|(Draw|Paint|Show me|Make a picture of|Generate an image of) (in|on|at|by|over|above) "),
    ("ko", "그림 그림|있다 그림|있다, (이렇게 )?그려"),
])
def test_requests_are_sentences(language: Language, wrong: str) -> None:
    talk = Talk(np.random.default_rng(4), language)
    assert not [request for request in (talk.wanted().request for _ in range(1000)) if re.search(wrong, request)]


def test_korean_sentences_end_well() -> None:
    assert not [answer for _, answer in texts("ko") if "에입니다" in answer]
