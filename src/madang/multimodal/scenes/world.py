"""What a scene is: a background, a time of day and one to three things, drawn at random so that every attribute counts.

A model that learns from pictures takes the shortest way: where colours and background almost identify a scene, it never
learns shapes. Here every attribute is drawn evenly and on its own, and `variants` makes the scenes that differ from a
given one in a single respect, so that none of them can be left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np

SHAPES = ("circle", "square", "triangle", "star", "heart", "cross", "ring", "crescent")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white")
SIZES = ("small", "large")
POSITIONS = ("top left", "top", "top right", "left", "middle", "right", "bottom left", "bottom", "bottom right")
BACKGROUNDS = ("meadow", "desert", "sea", "snow", "city", "forest")
TIMES = ("morning", "day", "evening", "night")
MOST = 3  # things in a scene
THING = {"shape": SHAPES, "colour": COLOURS, "size": SIZES, "position": POSITIONS}
PLACE = {"background": BACKGROUNDS, "time": TIMES}

Split: TypeAlias = Literal["train", "held-out", "combinations"]
SPLITS: tuple[Split, ...] = ("train", "held-out", "combinations")

# Pairs of shape and colour that are in no scene but those of the split "combinations": each shape and each colour once.
KEPT_BACK = frozenset((SHAPES[at], COLOURS[(at * 3 + 2) % len(COLOURS)]) for at in range(len(SHAPES)))

# Where the middle of a thing may be and how large it is, as shares of the picture's side.
CENTRES = {name: ((at % 3 + 0.5) / 3, (at // 3 + 0.5) / 3) for at, name in enumerate(POSITIONS)}
RADII = {"small": 0.09, "large": 0.16}


@dataclass(frozen=True, slots=True)
class Thing:
    """One thing in a scene; the values are those of `SHAPES`, `COLOURS`, `SIZES` and `POSITIONS`."""

    shape: str
    colour: str
    size: str
    position: str

    def __post_init__(self) -> None:
        _checked(self, THING)


@dataclass(frozen=True, slots=True)
class Scene:
    """What a picture shows. Things are in the order of their positions, so that equal scenes are equal."""

    background: str
    time: str
    things: tuple[Thing, ...]

    def __post_init__(self) -> None:
        _checked(self, PLACE)
        if not 1 <= len(self.things) <= MOST:
            raise ValueError(f"things: a scene has 1 to {MOST} of them, not {len(self.things)}.")
        where = [POSITIONS.index(thing.position) for thing in self.things]
        if where != sorted(set(where)):
            raise ValueError(f"things: their positions must be different and in the order of POSITIONS, not {where}.")

    @classmethod
    def of(cls, background: str, time: str, things: Sequence[Thing]) -> Scene:
        """A scene of things in any order."""
        return cls(background, time, tuple(sorted(things, key=lambda thing: POSITIONS.index(thing.position))))

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, found: dict[str, Any]) -> Scene:
        """What `as_dict` gave."""
        return cls.of(found["background"], found["time"], [Thing(**each) for each in found["things"]])


def _checked(what: Any, attributes: dict[str, tuple[str, ...]]) -> None:
    for name, values in attributes.items():
        if getattr(what, name) not in values:
            raise ValueError(f"{name}: {getattr(what, name)!r} is none of {', '.join(values)}.")


def generator_of(seed: int, split: Split = "train") -> np.random.Generator:
    """The random numbers of scene number `seed` of a split: those of one split are never those of another."""
    return np.random.default_rng([SPLITS.index(split), seed])


def scene(seed: int, split: Split = "train") -> Scene:
    """Scene number `seed`: always the same. "combinations" has at least one of the pairs that are kept back, others
    none.
    """
    generator = generator_of(seed, split)
    made = draw(generator)
    things = list(made.things)
    if split == "combinations":
        at = int(generator.integers(len(things)))
        shape, colour = sorted(KEPT_BACK)[int(generator.integers(len(KEPT_BACK)))]
        things[at] = replace(things[at], shape=shape, colour=colour)
    else:
        for at, thing in enumerate(things):
            while (things[at].shape, things[at].colour) in KEPT_BACK:
                things[at] = replace(thing, shape=_one(SHAPES, generator), colour=_one(COLOURS, generator))
    return replace(made, things=tuple(things))


def kept_back(made: Scene) -> bool:
    """Whether it has a pair that training must not show."""
    return any((thing.shape, thing.colour) in KEPT_BACK for thing in made.things)


def draw(generator: np.random.Generator) -> Scene:
    """Every attribute evenly and independently; as many things, too. Positions are different."""
    count = 1 + int(generator.integers(MOST))
    where = generator.choice(len(POSITIONS), count, replace=False)
    return Scene.of(
        _one(BACKGROUNDS, generator),
        _one(TIMES, generator),
        [
            Thing(_one(SHAPES, generator), _one(COLOURS, generator), _one(SIZES, generator), POSITIONS[at])
            for at in where
        ],
    )


def variants(made: Scene, generator: np.random.Generator, count: int) -> list[Scene]:
    """`count` different scenes that differ from `made`, and only in one respect each: a hard negative's definition.

    One attribute of one thing or of the place has another value, a thing is gone or is there besides, or two things
    have changed their shapes, colours or sizes. None has a pair that is kept back. Shapes change most often: they are
    the hardest to see.

    Raises `ValueError` where there are not so many.
    """
    found: dict[Scene, None] = {}
    for _ in range(1000 * (count + 1)):
        if len(found) == count:
            return list(found)
        other = _changed(made, generator)
        if other != made and not kept_back(other):
            found[other] = None
    raise ValueError(f"count: there are hardly {count} scenes that differ from this one in one respect.")


def _changed(made: Scene, generator: np.random.Generator) -> Scene:
    kinds = ("place", "thing", "thing", "thing", "thing", "count", "swap")
    kind = kinds[int(generator.integers(len(kinds)))]
    things = list(made.things)
    at = int(generator.integers(len(things)))
    if kind == "place":
        name = _one(tuple(PLACE), generator)
        return replace(made, **{name: _one(PLACE[name], generator)})  # type: ignore[arg-type]
    if kind == "thing":
        name = _one(("shape", *THING), generator)
        values = [
            value for value in THING[name] if name != "position" or value not in {each.position for each in things}
        ]
        things[at] = replace(things[at], **{name: _one(values, generator)})
    elif kind == "count" and (len(things) < MOST and (len(things) == 1 or generator.random() < 0.5)):
        free = [name for name in POSITIONS if name not in {each.position for each in things}]
        things.append(
            Thing(_one(SHAPES, generator), _one(COLOURS, generator), _one(SIZES, generator), _one(free, generator))
        )
    elif kind == "count":
        del things[at]
    elif len(things) > 1:
        name = _one(("shape", "colour", "size"), generator)
        other = (at + 1) % len(things)
        things[at], things[other] = (
            replace(things[at], **{name: getattr(things[other], name)}),
            replace(things[other], **{name: getattr(things[at], name)}),
        )
    return Scene.of(made.background, made.time, things)


def _one(values: Sequence[str], generator: np.random.Generator) -> str:
    return values[int(generator.integers(len(values)))]


def numbers(scenes: Sequence[Scene]) -> np.ndarray:
    """int8 (n, 2 + 4 * MOST): background, time, then shape, colour, size and position of each thing; -1 where none is.
    """
    table = np.full((len(scenes), 2 + 4 * MOST), -1, np.int8)
    for row, made in zip(table, scenes, strict=True):
        row[0], row[1] = BACKGROUNDS.index(made.background), TIMES.index(made.time)
        for at, thing in enumerate(made.things):
            row[2 + 4 * at : 6 + 4 * at] = [values.index(getattr(thing, name)) for name, values in THING.items()]
    return table


def endless(split: Split = "train", start: int = 0) -> Iterator[Scene]:
    """Scene number `start`, the next one, and so on."""
    seed = start
    while True:
        yield scene(seed, split)
        seed += 1
