"""Claims against a slow oracle that reads like the definition."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from madang.multimodal.scenes.claims import Claim, Part, asked_of, fitting, matched, partly, truth, whole
from madang.multimodal.scenes.world import BACKGROUNDS, POSITIONS, SPLITS, THING, TIMES, Scene, Thing, scene, variants

seeds = st.integers(0, 2**40)
scenes = st.builds(scene, seeds, st.sampled_from(SPLITS))
# Few values, so that claims are true now and then.
parts = st.builds(Part, **{name: st.sampled_from([None, *values[:2]]) for name, values in THING.items()})
claims = st.builds(Claim, st.sampled_from([None, *BACKGROUNDS[:2]]), st.sampled_from([None, *TIMES[:2]]),
                   st.lists(parts, max_size=3).map(tuple), st.sampled_from([None, 1, 2, 3]))
things = st.builds(Thing, *(st.sampled_from(values[:2]) for values in THING.values()))
alike = st.builds(Scene.of, st.sampled_from(BACKGROUNDS[:2]), st.sampled_from(TIMES[:2]),
                  st.lists(things, min_size=1, max_size=2, unique_by=lambda thing: thing.position))
crowded = st.builds(Scene.of, st.just("sea"), st.just("day"),
                    st.lists(st.builds(Thing, *(st.sampled_from(values[:2]) for name, values in THING.items() if name != "position"),
                                       st.sampled_from(POSITIONS[:3])),
                             min_size=1, max_size=3, unique_by=lambda thing: thing.position))


def holds(claim: Claim, made: Scene) -> bool:
    """What is said of the place is so; there are as many things as said; each claimed thing is another of the scene's."""
    if claim.background is not None and claim.background != made.background:
        return False
    if claim.time is not None and claim.time != made.time:
        return False
    if claim.count is not None and claim.count != len(made.things):
        return False
    for chosen in permutations(made.things, len(claim.things)):
        if all(getattr(part, name) in (None, getattr(thing, name))
               for part, thing in zip(claim.things, chosen, strict=True) for name in THING):
            return True
    return False


def test_by_hand() -> None:
    star, ring = Thing("star", "red", "small", "top"), Thing("ring", "red", "large", "left")
    made = Scene("sea", "night", (star, ring))
    told = [
        (Claim(), True), (Claim("sea"), True), (Claim("snow"), False), (Claim(time="night"), True),
        (Claim(time="day"), False), (Claim(count=2), True), (Claim(count=1), False), (Claim(count=3), False),
        (Claim(things=(Part(colour="red"),)), True), (Claim(things=(Part(colour="red"),), count=1), False),
        (Claim(things=(Part(colour="red"), Part(colour="red"))), True),
        (Claim(things=(Part(colour="red"),) * 3), False),
        (Claim(things=(Part("star"), Part("star"))), False),
        (Claim(things=(Part("ring", "red"), Part("star", size="small"))), True),
        (Claim(things=(Part("ring", size="small"),)), False),
        # The first part fits both things, the second only the first one: an assignment that is greedy fails.
        (Claim(things=(Part(colour="red"), Part(position="top"))), True),
        (Claim(things=(Part(), Part(), Part())), False),
    ]
    assert truth([claim for claim, _ in told], [made])[:, 0].tolist() == [expected for _, expected in told]


@given(st.lists(claims, min_size=1, max_size=8), st.lists(alike, min_size=1, max_size=8))
def test_truth_is_what_the_definition_says(said: list[Claim], shown: list[Scene]) -> None:
    found = truth(said, shown)
    assert found.dtype == np.bool_
    assert found.tolist() == [[holds(claim, made) for made in shown] for claim in said]


@given(scenes, st.lists(scenes, max_size=4), seeds)
def test_truth_of_what_scenes_say(made: Scene, others: list[Scene], seed: int) -> None:
    generator = np.random.default_rng(seed)
    shown = [made, *others]
    said = [claim for each in shown for claim in (whole(each), *(partly(each, generator) for _ in range(4)))]
    assert truth(said, shown).tolist() == [[holds(claim, each) for each in shown] for claim in said]


@given(seeds, seeds)
def test_truth_among_scenes_that_are_nearly_alike(seed: int, other: int) -> None:
    generator = np.random.default_rng(other)
    made = scene(seed)
    shown = [made, *variants(made, generator, 8)]
    said = [partly(each, generator) for each in shown] + [whole(each) for each in shown]
    found = truth(said, shown)
    assert found.tolist() == [[holds(claim, each) for each in shown] for claim in said]
    assert found[:len(shown)].diagonal().all()     # what is partly said is true of its own scene
    assert found[len(shown):].tolist() == np.eye(len(shown), dtype=bool).tolist()     # the whole of it, of no other


@given(scenes, seeds)
def test_something_is_always_said(made: Scene, seed: int) -> None:
    claim = partly(made, np.random.default_rng(seed))
    assert claim.background or claim.time or claim.count or any(part != Part() for part in claim.things)
    assert holds(claim, made)


def test_every_kind_of_thing_is_said_now_and_then() -> None:
    generator = np.random.default_rng(0)
    said = [(made, partly(made, generator)) for made in map(scene, range(2000))]
    for name in ("background", "time", "count"):
        share = np.mean([getattr(claim, name) is not None for _, claim in said])
        assert (0.1 if name == "count" else 0.3) < share < 0.7, name
    assert 0.1 < np.mean([not claim.things for _, claim in said]) < 0.25
    assert 0.2 < np.mean([len(claim.things) < len(made.things) for made, claim in said]) < 0.8
    for name in THING:
        told = [getattr(part, name) is not None for _, claim in said for part in claim.things]
        assert 0.5 < np.mean(told) < 0.7, name


# --- which thing a claim is about ---

def agrees(part: Part, thing: Thing) -> list[bool]:
    """For each attribute that is claimed, whether the thing has it."""
    return [getattr(part, name) == getattr(thing, name) for name in THING if getattr(part, name) is not None]


def best(claim: Claim, made: Scene) -> list[Thing | None]:
    """The definition, tried with every way to choose: most that fit wholly, most attributes, the first in the scene."""
    nobody = len(made.things)
    lacking = max(0, len(claim.things) - nobody)
    ways = []
    for chosen in product(range(nobody + 1), repeat=len(claim.things)):
        some = [at for at in chosen if at != nobody]
        if len(set(some)) == len(some) == len(chosen) - lacking:
            told = [agrees(part, made.things[at]) for part, at in zip(claim.things, chosen, strict=True) if at != nobody]
            ways.append((-sum(map(all, told)), -sum(map(sum, told)), chosen))
    return [(*made.things, None)[at] for at in min(ways)[2]]


def test_what_is_asked_of_a_thing_and_how_much_of_it_fits() -> None:
    star = Thing("star", "red", "small", "top")
    assert asked_of(Part()) == []
    assert asked_of(Part("star", None, "large")) == ["shape", "size"]
    assert asked_of(whole(Scene("sea", "day", (star,))).things[0]) == list(THING)
    assert fitting(Part(), star) == 0
    assert fitting(Part("star", "red", "large"), star) == 2
    assert fitting(Part("ring"), star) == 0
    assert fitting(Part("star", "red", "small", "top"), star) == 4


def test_claims_are_about_things_by_hand() -> None:
    star, ring = Thing("star", "red", "small", "top"), Thing("ring", "red", "large", "left")
    made = Scene("sea", "night", (star, ring))
    told: list[tuple[tuple[Part, ...], list[Thing | None]]] = [
        ((), []), ((Part(),), [star]), ((Part(), Part()), [star, ring]), ((Part("ring"),), [ring]),
        ((Part("ring"), Part("star")), [ring, star]),
        # A choice that is greedy would take the star for the first part, and have nothing at the top for the second.
        ((Part(colour="red"), Part(position="top")), [ring, star]),
        # One that fits wholly is worth more than many attributes.
        ((Part("star", "red", "small", "left"), Part("star")), [ring, star]),
        ((Part("heart", "red", "large"),), [ring]), ((Part("heart"),), [star]),
        ((Part("star"), Part("ring"), Part("heart")), [star, ring, None]),
        ((Part("heart"), Part("ring"), Part("star")), [None, ring, star]),
        ((Part("heart"),) * 3, [star, ring, None]),
    ]
    assert [matched(Claim(things=parts), made) for parts, _ in told] == [expected for _, expected in told]


@given(claims, crowded)
def test_claims_are_about_the_things_that_fit_best(claim: Claim, made: Scene) -> None:
    found = matched(claim, made)
    assert found == best(claim, made)
    there = [thing for thing in found if thing is not None]
    assert len(set(there)) == len(there) == min(len(claim.things), len(made.things))
    every = all(thing is not None and all(agrees(part, thing)) for part, thing in zip(claim.things, found, strict=True))
    assert every == truth([Claim(things=claim.things)], [made])[0, 0]


@given(seeds, seeds)
def test_claims_about_scenes_that_are_nearly_alike_are_about_the_things_that_fit_best(seed: int, other: int) -> None:
    generator = np.random.default_rng(other)
    made = scene(seed)
    for each in variants(made, generator, 6):
        for claim in (whole(each), partly(each, generator)):
            assert matched(claim, made) == best(claim, made)


@given(scenes)
def test_the_whole_is_about_the_things_that_are_there(made: Scene) -> None:
    assert matched(whole(made), made) == list(made.things)


def test_nothing_against_nothing() -> None:
    assert truth([], [scene(0)]).shape == (0, 1)
    assert truth([Claim()], []).shape == (1, 0)


@pytest.mark.parametrize("split", SPLITS)
def test_the_whole_says_everything(split: str) -> None:
    made = scene(4, split)  # type: ignore[arg-type]
    claim = whole(made)
    assert (claim.background, claim.time, claim.count) == (made.background, made.time, len(made.things))
    assert [[getattr(part, name) for name in THING] for part in claim.things] == [
        [getattr(thing, name) for name in THING] for thing in made.things]
