"""Pictures of scenes: the same for a seed, with each thing at its place in its colour."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from madang.multimodal.scenes.paint import COLOURS, SIDE, layout, paint
from madang.multimodal.scenes.world import (
    BACKGROUNDS,
    CENTRES,
    POSITIONS,
    RADII,
    SHAPES,
    SIZES,
    SPLITS,
    TIMES,
    Scene,
    Thing,
    scene,
    variants,
)

seeds = st.integers(0, 2**40)
scenes = st.builds(scene, seeds, st.sampled_from(SPLITS))


def pixels(made: Scene, seed: int = 0, side: int = SIDE) -> NDArray[np.int64]:
    return np.asarray(paint(made, seed, side=side)).astype(np.int64)


def nearest(pixel: NDArray[np.int64]) -> str:
    return min(COLOURS, key=lambda name: int(np.abs(pixel - np.array(COLOURS[name])).sum()))


def seen_at(made: Scene, at: int, seed: int, side: int = SIDE) -> NDArray[np.bool_]:
    """Where a thing is, by giving it another colour and looking at what changes."""
    thing = made.things[at]
    other = "blue" if thing.colour in ("orange", "yellow", "white", "pink", "red") else "yellow"
    changed = replace(made, things=(*made.things[:at], replace(thing, colour=other), *made.things[at + 1:]))
    return np.asarray(np.abs(pixels(made, seed, side) - pixels(changed, seed, side)).max(2) > 8)


@given(scenes, seeds)
def test_the_same_seed_gives_the_same_bytes(made: Scene, seed: int) -> None:
    assert paint(made, seed).tobytes() == paint(made, seed).tobytes()
    assert paint(made, seed).tobytes() != paint(made, seed + 1).tobytes()


@pytest.mark.parametrize("side", [16, 17, 32, 64, 100, 224, 256])
def test_sides(side: int) -> None:
    for background in BACKGROUNDS:
        for time in TIMES:
            picture = paint(Scene(background, time, (Thing("star", "red", "large", "middle"),)), 3, side=side)
            assert (picture.size, picture.mode) == ((side, side), "RGB")


@pytest.mark.parametrize("side", [8, 15, 0, -64])
def test_a_side_that_is_too_small_is_refused(side: int) -> None:
    with pytest.raises(ValueError, match=f"^side: {side} is too small"):
        paint(scene(0), side=side)


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("position", POSITIONS)
def test_a_thing_has_its_colour_at_its_place(colour: str, position: str) -> None:
    x, y = (round(share * SIDE) for share in CENTRES[position])
    for seed, (background, time) in enumerate((place, time) for place in BACKGROUNDS for time in TIMES):
        for shape in ("square", "circle", "cross"):
            picture = pixels(Scene(background, time, (Thing(shape, colour, "large", position),)), seed)
            assert np.abs(picture[y, x] - np.array(COLOURS[colour])).max() <= 8
            assert nearest(picture[y, x]) == colour


def test_colours_are_told_apart() -> None:
    values = np.array(list(COLOURS.values()), np.int64)
    between = np.abs(values[:, None] - values[None]).sum(2) + 1000 * np.eye(len(values), dtype=np.int64)
    assert between.min() > 80


@settings(max_examples=60)
@given(scenes, seeds)
def test_a_thing_is_where_its_position_says_and_as_large_as_its_size(made: Scene, seed: int) -> None:
    for at, thing in enumerate(made.things):
        alone = replace(made, things=(thing,))
        rows, columns = np.nonzero(seen_at(alone, 0, seed))
        middle = (columns.min() + columns.max() + 1) / 2 / SIDE, (rows.min() + rows.max() + 1) / 2 / SIDE
        assert np.abs(np.array(middle) - CENTRES[thing.position]).max() < 0.06
        half = max(np.ptp(rows), np.ptp(columns)) / 2 / SIDE
        assert 0.75 * RADII[thing.size] < half < 1.35 * RADII[thing.size]
        assert seen_at(made, at, seed).any()     # no other thing hides it


@settings(max_examples=60)
@given(scenes, seeds)
def test_the_layout_agrees_with_the_picture(made: Scene, seed: int) -> None:
    told = layout(made, SIDE)
    assert told.shape == (SIDE, SIDE)
    assert told.dtype == np.int8
    assert set(np.unique(told)) == {-1, *range(len(made.things))}
    for at, thing in enumerate(made.things):
        seen = seen_at(made, at, seed)
        # A ring and a crescent leave half of their circle open.
        assert seen[told == at].mean() > (0.3 if thing.shape in ("ring", "crescent") else 0.45)
        assert not seen[(told != at) & (told >= 0)].any() or seen[(told != at) & (told >= 0)].mean() < 0.1


@given(scenes)
def test_a_layout_of_three_by_three_is_the_positions(made: Scene) -> None:
    expected = [-1] * 9
    for at, thing in enumerate(made.things):
        expected[POSITIONS.index(thing.position)] = at
    assert layout(made, 3).ravel().tolist() == expected


@settings(max_examples=40)
@given(seeds, seeds)
def test_every_variant_is_another_picture(seed: int, other: int) -> None:
    made = scene(seed)
    shown = [made, *variants(made, np.random.default_rng(other), 8)]
    assert len({paint(each, 5).tobytes() for each in shown}) == len(shown)


def test_times_and_places_look_different() -> None:
    """Averaged over many pictures, none is nearer to another one's mean than the picture's noise."""
    star = (Thing("star", "red", "small", "middle"),)
    means = {(place, time): np.mean([pixels(Scene(place, time, star), seed) for seed in range(6)], axis=0)
             for place in BACKGROUNDS for time in TIMES}
    for one, first in means.items():
        for other, second in means.items():
            assert one == other or np.abs(first - second).mean() > 4, (one, other)
    for place in BACKGROUNDS:
        assert means[place, "night"].mean() < means[place, "evening"].mean() < means[place, "day"].mean()


def test_shapes_and_sizes_have_areas_of_their_own() -> None:
    areas = {(shape, size): np.mean([seen_at(Scene("sea", "day", (Thing(shape, "red", size, "middle"),)), 0, seed).sum()
                                     for seed in range(8)]) for shape in SHAPES for size in SIZES}
    for shape in SHAPES:
        assert areas[shape, "large"] > 2 * areas[shape, "small"]
        assert areas[shape, "large"] > 100


@pytest.mark.parametrize("shape", SHAPES)
def test_no_shape_looks_like_another(shape: str) -> None:
    """Over places and angles, the mean of a shape overlaps more with its own pictures than with those of others."""
    def seen(of: str, seed: int) -> NDArray[np.bool_]:
        return seen_at(Scene("sea", "day", (Thing(of, "red", "large", "middle"),)), 0, seed)

    means = {of: np.mean([seen(of, seed) for seed in range(20)], axis=0) for of in SHAPES}
    hits = 0
    for seed in range(100, 120):
        found = seen(shape, seed)
        hits += max(SHAPES, key=lambda of, found=found: -np.abs(means[of] - found).sum()) == shape  # type: ignore[misc]
    assert hits >= 15
