"""Scenes: what is drawn, what is kept back, and the ones that differ in a single respect."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from madang.multimodal.scenes.world import (
    BACKGROUNDS,
    COLOURS,
    KEPT_BACK,
    MOST,
    POSITIONS,
    SHAPES,
    SIZES,
    SPLITS,
    THING,
    TIMES,
    Scene,
    Split,
    Thing,
    draw,
    endless,
    kept_back,
    numbers,
    scene,
    variants,
)
from tests.multimodal.evidence import assert_even, assert_independent

STAR = Thing("star", "red", "small", "top")
RING = Thing("ring", "blue", "large", "left")
seeds = st.integers(0, 2**40)
SCENES = [scene(seed) for seed in range(20_000)]


def respect(one: Scene, other: Scene) -> str:
    """In which single respect two scenes differ; "" where they are equal or differ in several."""
    place = [name for name in ("background", "time") if getattr(one, name) != getattr(other, name)]
    gone = list((Counter(one.things) - Counter(other.things)).elements())
    come = list((Counter(other.things) - Counter(one.things)).elements())
    if place:
        return place[0] if len(place) == 1 and not gone and not come else ""
    if (len(gone), len(come)) in ((1, 0), (0, 1)):
        return "gone" if gone else "besides"
    if len(gone) == len(come) == 1:
        names = [name for name in THING if getattr(gone[0], name) != getattr(come[0], name)]
        return names[0] if len(names) == 1 else ""
    if len(gone) == len(come) == 2:
        # Each thing has what the other had; where they stand tells them apart.
        gone, come = (sorted(things, key=lambda each: each.position) for things in (gone, come))
        first, second = ([name for name in THING if getattr(a, name) != getattr(b, name)]
                         for a, b in zip(gone, come, strict=True))
        if first == second and len(first) == 1:
            (name,) = first
            if [getattr(each, name) for each in gone] == [getattr(each, name) for each in come][::-1]:
                return f"{name}s swapped"
    return ""


def test_scene_2026_is_what_it_was() -> None:
    assert scene(2026) == Scene("city", "morning", (Thing("crescent", "yellow", "large", "top right"),
                                                    Thing("square", "red", "small", "middle")))


def test_scenes_are_the_same_in_another_process() -> None:
    script = ("import json; from madang.multimodal.scenes import SPLITS, scene; "
              "print(json.dumps([scene(seed, split).as_dict() for split in SPLITS for seed in range(50)]))")
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True,
                         env={"PYTHONHASHSEED": "7"})
    assert [Scene.from_dict(each) for each in json.loads(run.stdout)] == [
        scene(seed, split) for split in SPLITS for seed in range(50)]


@pytest.mark.parametrize("split", SPLITS)
def test_endless_counts_the_seeds(split: Split) -> None:
    assert list(itertools.islice(endless(split, 7), 5)) == [scene(seed, split) for seed in range(7, 12)]


def test_each_shape_and_each_colour_is_kept_back_once() -> None:
    assert sorted(shape for shape, _ in KEPT_BACK) == sorted(SHAPES)
    assert sorted(colour for _, colour in KEPT_BACK) == sorted(COLOURS)


@given(seeds)
def test_pairs_that_are_kept_back_are_in_combinations_only(seed: int) -> None:
    def has_one(split: Split) -> bool:
        return any((thing.shape, thing.colour) in KEPT_BACK for thing in scene(seed, split).things)

    assert (has_one("train"), has_one("held-out"), has_one("combinations")) == (False, False, True)
    assert kept_back(scene(seed, "combinations"))


def test_every_pair_is_seen_in_one_split_or_the_other() -> None:
    seen = {(thing.shape, thing.colour) for made in SCENES for thing in made.things}
    assert seen == set(itertools.product(SHAPES, COLOURS)) - KEPT_BACK
    others = {(thing.shape, thing.colour) for seed in range(2000) for thing in scene(seed, "combinations").things}
    assert others >= KEPT_BACK


def test_splits_do_not_repeat_each_other() -> None:
    """Scenes of a single thing are few enough to meet again; of three, two splits of the same random numbers would."""
    of = {split: [made for seed in range(3000) if len((made := scene(seed, split)).things) == 3] for split in SPLITS}
    for one, other in itertools.combinations(SPLITS, 2):
        assert not set(of[one]) & set(of[other])


def test_attributes_are_even() -> None:
    assert_even([made.background for made in SCENES], BACKGROUNDS)
    assert_even([made.time for made in SCENES], TIMES)
    for name, values in THING.items():
        # The first thing by position is more often at the top: one thing of each scene, whichever.
        assert_even([getattr(made.things[seed % len(made.things)], name) for seed, made in enumerate(SCENES)], values)


def test_as_many_things_in_one_scene_as_in_another() -> None:
    generator = np.random.default_rng(3)
    assert_even([len(draw(generator).things) for _ in range(6000)], range(1, MOST + 1))


def test_attributes_tell_nothing_about_each_other() -> None:
    chosen = [made.things[seed % len(made.things)] for seed, made in enumerate(SCENES)]
    columns: dict[str, list[Any]] = {name: [getattr(thing, name) for thing in chosen] for name in THING}
    columns |= {name: [getattr(made, name) for made in SCENES] for name in ("background", "time")}
    columns["count"] = [len(made.things) for made in SCENES]
    for one, other in itertools.combinations(columns, 2):
        if {one, other} != {"shape", "colour"}:
            assert_independent(columns[one], columns[other])
    # Without the pairs that are kept back the other colours of a shape are even.
    for shape in SHAPES:
        assert_even([thing.colour for thing in chosen if thing.shape == shape],
                    [colour for colour in COLOURS if (shape, colour) not in KEPT_BACK])


def test_things_in_one_scene_tell_nothing_about_each_other() -> None:
    several = [made.things for made in SCENES if len(made.things) > 1]
    for name in ("shape", "colour", "size"):
        assert_independent([getattr(things[0], name) for things in several], [getattr(things[1], name) for things in several])


def test_a_seed_tells_nothing_about_the_next() -> None:
    for name in ("background", "time"):
        values = [getattr(made, name) for made in SCENES]
        assert_independent(values[:-1], values[1:])


@given(seeds, seeds, st.integers(1, 12))
def test_variants_differ_in_one_respect_each(seed: int, other: int, count: int) -> None:
    made = scene(seed)
    found = variants(made, np.random.default_rng(other), count)
    assert len(set(found)) == len(found) == count
    for each in found:
        assert respect(made, each), (made, each)
        assert not any((thing.shape, thing.colour) in KEPT_BACK for thing in each.things)
    assert variants(made, np.random.default_rng(other), count) == found


def test_variants_leave_no_respect_out() -> None:
    generator = np.random.default_rng(11)
    seen = Counter(respect(made, each) for made in SCENES[:300] for each in variants(made, generator, 8))
    assert set(seen) == {*THING, "background", "time", "gone", "besides",
                         "shapes swapped", "colours swapped", "sizes swapped"}
    assert min(seen.values()) > 20


def test_the_checker_of_respects_is_strict() -> None:
    base = Scene("sea", "day", (STAR, RING))
    assert respect(base, base) == ""
    assert respect(base, Scene("sea", "night", (STAR,))) == ""
    assert respect(base, Scene("snow", "night", (STAR, RING))) == ""
    assert respect(base, Scene("sea", "day", (Thing("ring", "blue", "small", "top"), RING))) == ""
    assert respect(base, Scene("sea", "day", (Thing("ring", "red", "small", "top"), Thing("star", "blue", "large", "left")))
                   ) == "shapes swapped"
    assert respect(base, Scene("sea", "day", (Thing("ring", "red", "small", "top"), Thing("heart", "blue", "large", "left")))
                   ) == ""


@pytest.mark.parametrize(("at", "name"), list(enumerate(THING)))
def test_a_thing_names_the_field_that_is_wrong(at: int, name: str) -> None:
    values = ["star", "red", "small", "top"]
    values[at] = "strange"
    with pytest.raises(ValueError, match=f"^{name}: 'strange' is none of {', '.join(THING[name])}"):
        Thing(*values)


@pytest.mark.parametrize(("background", "time", "things", "message"), [
    ("moon", "day", (STAR,), "^background: 'moon' is none of meadow"),
    ("sea", "dawn", (STAR,), "^time: 'dawn' is none of morning"),
    ("sea", "day", (), "^things: a scene has 1 to 3 of them, not 0"),
    ("sea", "day", tuple(Thing("star", "red", "small", where) for where in POSITIONS[:4]), "^things: .* not 4"),
    ("sea", "day", (STAR, STAR), "^things: their positions must be different"),
    ("sea", "day", (RING, STAR), "^things: .* in the order of POSITIONS"),
])
def test_a_scene_names_the_field_that_is_wrong(background: str, time: str, things: tuple[Thing, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Scene(background, time, things)


def test_scene_of_takes_things_in_any_order() -> None:
    assert Scene.of("sea", "day", [RING, STAR]) == Scene("sea", "day", (STAR, RING))


@given(seeds, st.sampled_from(SPLITS))
def test_scenes_go_through_json(seed: int, split: Split) -> None:
    made = scene(seed, split)
    assert Scene.from_dict(json.loads(json.dumps(made.as_dict()))) == made
    assert Scene.from_dict(made.as_dict()) == made


@given(st.lists(seeds, min_size=1, max_size=5))
def test_numbers_say_the_scene(of: list[int]) -> None:
    made = [scene(seed) for seed in of]
    for row, each in zip(numbers(made).tolist(), made, strict=True):
        parts = [row[start:start + 4] for start in range(2, 2 + 4 * MOST, 4)]
        things = [Thing(SHAPES[a], COLOURS[b], SIZES[c], POSITIONS[d]) for a, b, c, d in parts if a >= 0]
        assert Scene(BACKGROUNDS[row[0]], TIMES[row[1]], tuple(things)) == each
        assert parts[len(things):] == [[-1] * 4] * (MOST - len(things))
