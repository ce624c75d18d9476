"""Prompts: the same for a seed, right in grammar, and saying what the scene is."""

from __future__ import annotations

import re
from itertools import combinations, islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from madang.multimodal.scenes.claims import Claim, Part, truth, whole
from madang.multimodal.scenes.words import (
    ENGLISH,
    KOREAN,
    LANGUAGES,
    VOCABULARIES,
    Language,
    corpus,
    hint,
    prompt,
    say,
)
from madang.multimodal.scenes.world import MOST, PLACE, THING, Scene, scene, variants
from tests.multimodal.evidence import assert_independent

ATTRIBUTES = {**THING, **PLACE}
SCENES = [scene(seed) for seed in range(3000)]
seeds = st.integers(0, 2**40)
languages = st.sampled_from(LANGUAGES)


def texts(language: Language) -> list[str]:
    """Prompts and hints of many scenes."""
    generator = np.random.default_rng(1)
    return [text for seed, made in enumerate(SCENES)
            for text in (prompt(made, seed, language), hint(made, generator, language)[1], say(whole(made), None, language))]


def final_consonant(syllable: str) -> bool:
    """Whether a syllable ends in a consonant, by how Unicode numbers them."""
    assert "가" <= syllable <= "힣"
    return (ord(syllable) - 0xAC00) % 28 != 0


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_value_has_words_of_its_own(language: Language) -> None:
    words = VOCABULARIES[language]
    for name, values in ATTRIBUTES.items():
        said = getattr(words, name)
        assert set(said) == set(values), name
        assert all(said[value] and all(each.strip() == each != "" for each in said[value]) for value in values)
        for one, other in combinations(values, 2):
            assert not {each.casefold() for each in said[one]} & {each.casefold() for each in said[other]}, (one, other)
    assert set(words.count) == set(range(1, MOST + 1))
    assert len(set(words.count.values())) == MOST


@given(seeds, seeds, languages)
def test_prompts_are_the_same_for_a_seed(seed: int, words: int, language: Language) -> None:
    made = scene(seed)
    assert prompt(made, words, language) == prompt(Scene.from_dict(made.as_dict()), words, language)


@pytest.mark.parametrize("language", LANGUAGES)
def test_seeds_find_other_words(language: Language) -> None:
    assert len({prompt(SCENES[0], seed, language) for seed in range(60)}) > 20
    assert len({prompt(SCENES[0], seed, language, split="held-out") for seed in range(60)}
               - {prompt(SCENES[0], seed, language) for seed in range(60)}) > 5


def test_prompts_are_what_they_were() -> None:
    made = scene(2026)
    assert say(whole(made)) == ("a large yellow crescent at the top right and a small red square in the middle, "
                                "in the city in the morning")
    assert say(whole(made), language="ko") == "아침의 도시, 오른쪽 위에 큰 노란 초승달과 가운데에 작은 빨간 네모"


@pytest.mark.parametrize(("claim", "english", "korean"), [
    (Claim(), "a picture", "그림"),
    (Claim("sea"), "over the sea", "바다"),
    (Claim(time="night"), "at night", "밤"),
    (Claim(count=1), "one shape", "도형 한 개"),
    (Claim("snow", count=3), "three shapes in the snow", "눈밭, 도형 세 개"),
    (Claim(things=(Part(colour="orange"),)), "an orange shape", "주황색 도형"),
    (Claim(things=(Part("ring", size="small"), Part(), Part("star"))), "a small ring, a shape and a star",
     "작은 고리와 도형과 별"),
])
def test_by_hand(claim: Claim, english: str, korean: str) -> None:
    assert (say(claim), say(claim, language="ko")) == (english, korean)


def test_english_articles_fit() -> None:
    said = texts("en")
    found = [match for text in said for match in re.findall(r"\b(an?) (\w)", text)]
    assert all((article == "an") == (letter in "aeiou") for article, letter in found)
    assert {article for article, _ in found} == {"a", "an"}
    assert not [text for text in said if re.search(r"\ba orange|\ban (small|little|large|big|red)", text)]


@pytest.mark.parametrize("language", LANGUAGES)
def test_texts_are_tidy(language: Language) -> None:
    for text in texts(language):
        assert text == text.strip()
        assert "  " not in text
        assert " ," not in text
        assert not text.endswith((",", ":"))
        assert "None" not in text


def test_korean_particles_fit() -> None:
    names = {word for words in KOREAN.shape.values() for word in words} | {"도형"}
    pattern = re.compile(f"({'|'.join(sorted(names, key=len, reverse=True))})(과|와|이|가)(?= )")
    seen: dict[str, set[str]] = {}
    for text in texts("ko"):
        for word, particle in pattern.findall(text):
            assert (particle in "과이") == final_consonant(word[-1]), text
            seen.setdefault(particle, set()).add(word)
        # Whatever joins two things, or ends a sentence, is such a particle.
        assert len(re.findall("[과와](?= )", text)) == sum(particle in "과와" for _, particle in pattern.findall(text)), text
        if text.endswith(" 있다"):
            assert pattern.search(text[:-len("있다")][-12:]), text
    assert seen["이"] == seen["과"] == {word for word in names if final_consonant(word[-1])}
    assert seen["가"] == seen["와"] == {word for word in names if not final_consonant(word[-1])}
    assert {"별", "원"} <= seen["과"]
    assert {"동그라미", "하트"} <= seen["와"]


@given(seeds, seeds, languages)
def test_a_prompt_says_everything(seed: int, words: int, language: Language) -> None:
    made = scene(seed)
    text = prompt(made, words, language)
    vocabulary = VOCABULARIES[language]
    # A list of tags in English has the plain names of values.
    for name in PLACE:
        value = getattr(made, name)
        assert any(word in text for word in (*getattr(vocabulary, name)[value], value)), (name, text)
    for name in THING:
        for thing in made.things:
            value = getattr(thing, name)
            assert any(word in text for word in (*getattr(vocabulary, name)[value], value)), (name, text)
    if language == "ko":
        assert not re.search("[A-Za-z]", text)
    else:
        assert text.isascii()


@given(seeds, seeds, seeds, languages)
def test_words_tell_a_scene_from_its_variants(seed: int, other: int, words: int, language: Language) -> None:
    made = scene(seed)
    shown = [made, *variants(made, np.random.default_rng(other), 8)]
    assert len({say(whole(each), None, language) for each in shown}) == len(shown)
    # Whatever words are chosen: those that are possible for one scene are not for another.
    assert len({prompt(each, words, language) for each in shown}) == len(shown)


@given(seeds, seeds, languages)
def test_a_hint_is_true(seed: int, words: int, language: Language) -> None:
    made = scene(seed)
    claim, text = hint(made, np.random.default_rng(words), language)
    assert truth([claim], [made]).all()
    assert text
    assert hint(made, np.random.default_rng(words), language) == (claim, text)


def test_the_corpus_has_both_languages() -> None:
    assert list(islice(corpus(), 4)) == [prompt(scene(0), 0, "en"), prompt(scene(0), 0, "ko"),
                                         prompt(scene(1), 1, "en"), prompt(scene(1), 1, "ko")]
    assert len(list(corpus(5))) == 10


def test_the_corpus_knows_every_word() -> None:
    said = "\n".join(corpus())
    for words in VOCABULARIES.values():
        for name in ATTRIBUTES:
            for synonyms in getattr(words, name).values():
                assert all(word in said for word in synonyms), synonyms


@pytest.mark.parametrize("name", ["shape", "colour", "size", "position", "count", "time"])
def test_which_word_is_chosen_tells_nothing_about_the_scene(name: str) -> None:
    """The usual word for a place, or a synonym: a model must not learn where things are from that."""
    usual = [ENGLISH.background[made.background][0] in prompt(made, seed) for seed, made in enumerate(SCENES)]
    assert_independent(usual, [len(made.things) if name == "count" else made.time if name == "time"
                               else getattr(made.things[0], name) for made in SCENES])
