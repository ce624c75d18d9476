"""Reading descriptions: what is said is what is read, whoever chose the words; and what counts as said right."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from madang.multimodal.scenes.claims import Claim, Part, partly, whole
from madang.multimodal.scenes.read import agreement, kept, read
from madang.multimodal.scenes.talk import Talk
from madang.multimodal.scenes.words import LANGUAGES, VOCABULARIES, Language, prompt, say
from madang.multimodal.scenes.world import BACKGROUNDS, MOST, PLACE, SPLITS, THING, TIMES, Scene, Thing, scene, variants

seeds = st.integers(0, 2**40)
scenes = st.builds(scene, seeds, st.sampled_from(SPLITS))
languages = st.sampled_from(LANGUAGES)
generators = st.one_of(st.none(), st.builds(np.random.default_rng, seeds))
parts = st.builds(Part, **{name: st.sampled_from([None, *values]) for name, values in THING.items()})
places = st.sampled_from([None, *BACKGROUNDS]), st.sampled_from([None, *TIMES])
claims = st.one_of(
    st.builds(Claim, *places, st.lists(parts, min_size=1, max_size=MOST).map(tuple)),
    st.builds(Claim, *places, st.just(()), st.sampled_from([None, *range(1, MOST + 1)])))
STAR, RING = Thing("star", "red", "small", "top"), Thing("ring", "blue", "large", "left")
TWO = Scene("sea", "night", (STAR, RING))


def counted(claim: Claim) -> Claim:
    """A claim that says how many things there are by describing them."""
    return replace(claim, count=len(claim.things) or claim.count)


def right(claim: Claim, made: Scene) -> dict[str, int]:
    """How often each attribute is said right."""
    return {name: sum(each) for name, each in agreement(claim, made).items()}


def shares(part: Part | Thing, thing: Thing) -> int:
    return sum(getattr(part, name) == getattr(thing, name) for name in THING)


@given(scenes, generators, languages)
def test_whole_claims_are_read_as_they_were_said(made: Scene, generator: np.random.Generator | None,
                                                 language: Language) -> None:
    assert read(say(whole(made), generator, language), language) == whole(made)


@given(scenes, seeds, generators, languages)
def test_partial_claims_are_read_as_they_were_said(made: Scene, chosen: int, generator: np.random.Generator | None,
                                                   language: Language) -> None:
    claim = partly(made, np.random.default_rng(chosen))
    assert read(say(claim, generator, language), language) == counted(claim)


@given(claims, generators, languages)
@example(Claim(), None, "en")
@example(Claim(), None, "ko")
@example(Claim(things=(Part(), Part(), Part())), None, "en")
@example(Claim(things=(Part(), Part(), Part())), None, "ko")
def test_whatever_can_be_claimed_is_read_as_it_was_said(claim: Claim, generator: np.random.Generator | None,
                                                        language: Language) -> None:
    assert read(say(claim, generator, language), language) == counted(claim)


@given(scenes, seeds, languages)
def test_captions_and_details_say_everything(made: Scene, seed: int, language: Language) -> None:
    talk = Talk(np.random.default_rng(seed), language)
    assert read(talk.caption(made), language) == read(talk.detail(made), language) == whole(made)


@given(scenes, seeds, languages)
def test_prompts_say_everything(made: Scene, seed: int, language: Language) -> None:
    assert read(prompt(made, seed, language), language) == whole(made)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_word_of_the_vocabulary_is_known_alone(language: Language) -> None:
    thing = {"en": "shape", "ko": "도형"}[language]
    words = VOCABULARIES[language]
    for name, values in PLACE.items():
        for value in values:
            for word in getattr(words, name)[value]:
                assert read(word, language) == Claim(**{name: value}), word
    for name, values in THING.items():
        for value in values:
            for word in getattr(words, name)[value]:
                # In English it is said where a thing is after its name.
                text = word if name == "shape" else f"{thing} {word}" if language == "en" else f"{word} {thing}"
                assert read(text, language) == Claim(things=(Part(**{name: value}),), count=1), text


@given(scenes, seeds)
def test_case_and_white_space_mean_nothing(made: Scene, seed: int) -> None:
    for language in LANGUAGES:
        text = Talk(np.random.default_rng(seed), language).detail(made)
        assert read(f"\n\t {text.upper()}  \n", language) == whole(made)
        assert read(text.replace(" ", "\n  "), language) == whole(made)


@pytest.mark.parametrize(("text", "language", "claim"), [
    ("In a forest at night there are two shapes: a big blue ring on the left and a little white star in the lower right "
     "corner.", "en", Claim("forest", "night", (Part("ring", "blue", "large", "left"),
                                                Part("star", "white", "small", "bottom right")), 2)),
    ("The sea at night, with a large red heart in the middle.", "en",
     Claim("sea", "night", (Part("heart", "red", "large", "middle"),), 1)),
    ("A hoop. A plus sign, a crescent moon!", "en", Claim(things=(Part("ring"), Part("cross"), Part("crescent")), count=3)),
    ("a star on a green meadow", "en", Claim("meadow", None, (Part("star"),), 1)),
    ("There are three shapes.", "en", Claim(count=3)),
    ("밤의 숲 그림입니다. 왼쪽에 큰 파란색 고리가 있고, 오른쪽 아래에 조그만 흰 별이 있습니다.", "ko",
     Claim("forest", "night", (Part("ring", "blue", "large", "left"), Part("star", "white", "small", "bottom right")), 2)),
    ("도형은 두 개", "ko", Claim(count=2)),
    ("바닷가, 해 질 녘", "ko", Claim("sea", "evening")),
])
def test_by_hand(text: str, language: Language, claim: Claim) -> None:
    assert read(text, language) == claim


NONSENSE = ["", " ", "\n\t", "qwerty asdf", "🎉🌈👩‍👩‍👧‍👦", "!?.,:;()[]{}\\|^$*+", "\x00\x1f\ufeff", "ıİßẞ", "\ud800",
            "the quick brown fox jumps over the lazy dog", "boxes, stars and hearts, starry, reddish, smallest",
            "a sweetheart sings in spring, discoloured, stringent", "구원과 이별, 소나무숲, 양하트",
            "다람쥐 헌 쳇바퀴에 타고파", "ㅋㅋㅋ ㅠㅠ", "<image>\n", "I see no picture. Show me one.", "그림이 보이지 않습니다."]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("text", [*NONSENSE, "x" * 200_000, "a " * 100_000, ", and : . " * 20_000, "가 " * 100_000],
                         ids=lambda text: ascii(text[:12]))
def test_nonsense_claims_nothing(text: str, language: Language) -> None:
    assert read(text, language) == Claim()


@pytest.mark.parametrize("text", ["별로 좋지 않네요.", "원래 그래요.", "고리타분한 이야기"])
def test_a_korean_word_that_begins_like_a_shape_is_none(text: str) -> None:
    assert read(text, "ko") == Claim()


@given(st.text(max_size=300), languages)
def test_any_text_can_be_read(text: str, language: Language) -> None:
    assert len(read(text, language).things) <= MOST


def test_a_long_list_is_counted_and_its_beginning_kept() -> None:
    for language, text in (("en", "a red star, "), ("ko", "빨간 별, ")):
        claim = read(text * 5000, language)     # type: ignore[arg-type]
        assert claim == Claim(things=(Part("star", "red"),) * MOST, count=5000)


@given(scenes)
def test_the_whole_is_all_right(made: Scene) -> None:
    found = agreement(whole(made), made)
    assert found == {**{name: [True] for name in ("background", "time", "count")},
                     **{name: [True] * len(made.things) for name in THING}}


@given(scenes)
def test_who_says_nothing_is_all_wrong(made: Scene) -> None:
    assert agreement(Claim(), made) == {**{name: [False] for name in ("background", "time", "count")},
                                        **{name: [False] * len(made.things) for name in THING}}


@given(scenes, st.data())
def test_one_thing_that_is_left_out_or_wrong_is_counted_once(made: Scene, data: st.DataObject) -> None:
    claim, full = whole(made), right(whole(made), made)
    name = data.draw(st.sampled_from(["background", "time", "count", *THING]))
    if name not in THING:
        values = [None, 1, 2, 3] if name == "count" else [None, *PLACE[name]]
        value = data.draw(st.sampled_from([each for each in values if each != getattr(claim, name)]))
        assert right(replace(claim, **{name: value}), made) == {**full, name: 0}
        return
    at = data.draw(st.integers(0, len(made.things) - 1))
    said = list(claim.things)
    value = data.draw(st.sampled_from([each for each in (None, *THING[name]) if each != getattr(said[at], name)]))
    said[at] = replace(said[at], **{name: value})
    found = agreement(replace(claim, things=tuple(said)), made)
    assert {each: sum(row) for each, row in found.items()} == {**full, name: full[name] - 1}


@given(scenes, st.data())
def test_things_that_are_not_described_are_wrong_in_everything(made: Scene, data: st.DataObject) -> None:
    kept = data.draw(st.lists(st.sampled_from(range(len(made.things))), unique=True))
    claim = replace(whole(made), things=tuple(whole(made).things[at] for at in kept))
    found = agreement(claim, made)
    for name in THING:
        assert found[name] == [at in kept for at in range(len(made.things))]


@given(scenes, st.data())
def test_things_that_are_not_there_do_no_harm_but_to_the_count(made: Scene, data: st.DataObject) -> None:
    things = made.things[:data.draw(st.integers(1, MOST))]
    made = replace(made, things=things)
    more = data.draw(st.lists(parts, max_size=MOST - len(things)))
    claim = replace(whole(made), things=tuple(data.draw(st.permutations([*whole(made).things, *more]))),
                    count=len(things) + len(more))
    assert right(claim, made) == {**right(whole(made), made), "count": int(not more)}


@given(claims, scenes)
def test_as_much_is_right_as_can_be(claim: Claim, made: Scene) -> None:
    """Against every way to say which described thing is which that is there."""
    found = agreement(claim, made)
    assert all(len(found[name]) == len(made.things) for name in THING)
    assert [found[name] for name in ("background", "time", "count")] == [
        [claim.background == made.background], [claim.time == made.time], [claim.count == len(made.things)]]
    fewer, more = sorted([list(claim.things), list(made.things)], key=len)
    best = max(sum(map(shares, chosen, fewer)) for chosen in permutations(more, len(fewer)))     # type: ignore[arg-type]
    assert sum(sum(found[name]) for name in THING) == best


@given(seeds, seeds, st.data())
def test_the_order_of_described_things_means_nothing(seed: int, other: int, data: st.DataObject) -> None:
    made = scene(seed)
    for claim in map(whole, (made, *variants(made, np.random.default_rng(other), 3))):
        mixed = replace(claim, things=tuple(data.draw(st.permutations(claim.things))))
        found, again = agreement(claim, made), agreement(mixed, made)
        assert sum(map(sum, found.values())) == sum(map(sum, again.values()))
    assert all(map(all, agreement(replace(whole(made), things=whole(made).things[::-1]), made).values()))


def test_the_order_means_nothing_where_two_matches_are_as_good() -> None:
    said = Part("star", "blue"), Part()     # half of one thing and half of the other
    assert agreement(Claim(things=said), TWO) == agreement(Claim(things=said[::-1]), TWO)


@given(scenes, claims)
def test_what_is_wanted_of_a_whole_scene_is_what_agrees(made: Scene, claim: Claim) -> None:
    assert kept(whole(made), claim) == agreement(claim, made)


@given(scenes, seeds)
def test_what_is_true_of_a_scene_is_kept_by_it(made: Scene, seed: int) -> None:
    claim = partly(made, np.random.default_rng(seed))
    found = kept(claim, whole(made))
    assert all(map(all, found.values()))
    assert {name: len(each) for name, each in found.items()} == {
        **{name: 1 for name in ("background", "time", "count") if getattr(claim, name) is not None},
        **{name: said for name in THING if (said := sum(getattr(part, name) is not None for part in claim.things))}}


@given(claims, claims)
def test_what_is_not_asked_for_is_not_examined(wanted: Claim, shown: Claim) -> None:
    assert kept(Claim(), shown) == {}
    named = {name for name in ("background", "time", "count") if getattr(wanted, name) is not None}
    named |= {name for name in THING for part in wanted.things if getattr(part, name) is not None}
    assert set(kept(wanted, shown)) == named
    assert all(map(all, kept(wanted, wanted).values()))
    assert not any(map(any, kept(wanted, Claim()).values()))


def test_agreement_by_hand() -> None:
    claim = Claim("sea", "day", (Part("ring", "red", "large", "left"), Part("star", "red", None, "top right")), 2)
    assert agreement(claim, TWO) == {
        "background": [True], "time": [False], "count": [True], "shape": [True, True], "colour": [True, False],
        "size": [False, True], "position": [False, True]}
    three = Claim(things=(Part("heart"), Part("ring", "blue"), Part("star", position="top")), count=3)
    assert agreement(three, TWO) == {
        "background": [False], "time": [False], "count": [False], "shape": [True, True], "colour": [False, True],
        "size": [False, False], "position": [True, False]}
    assert agreement(three, Scene("sea", "night", (RING,)))["shape"] == [True]
