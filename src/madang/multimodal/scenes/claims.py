"""What a prompt claims about a scene, and of which scenes it is true."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from madang.multimodal.scenes.world import BACKGROUNDS, MOST, THING, TIMES, Scene, Thing, numbers


@dataclass(frozen=True, slots=True)
class Part:
    """What is said of one thing; what is None is left open."""

    shape: str | None = None
    colour: str | None = None
    size: str | None = None
    position: str | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """What is said of a scene. `count`: how many things there are; None says "at least those"."""

    background: str | None = None
    time: str | None = None
    things: tuple[Part, ...] = ()
    count: int | None = None


def whole(made: Scene) -> Claim:
    """Everything there is to say."""
    return Claim(
        made.background,
        made.time,
        tuple(Part(each.shape, each.colour, each.size, each.position) for each in made.things),
        len(made.things),
    )


def partly(made: Scene, generator: np.random.Generator) -> Claim:
    """Something that is true of it: some attributes of some things, or how many there are; perhaps the place."""
    background = made.background if generator.random() < 0.5 else None
    time = made.time if generator.random() < 0.5 else None
    if generator.random() < 0.15:
        return Claim(background, time, (), len(made.things))
    count = len(made.things) if generator.random() < 0.4 else 1
    chosen = sorted(generator.choice(len(made.things), count, replace=False))
    parts = []
    for at in chosen:
        kept = {name: getattr(made.things[at], name) for name in THING if generator.random() < 0.6}
        parts.append(Part(**kept))
    if background is None and time is None and parts == [Part()] * len(parts):
        return Claim(made.background, None, (), None)
    return Claim(background, time, tuple(parts))


def asked_of(part: Part) -> list[str]:
    """The attributes that are claimed of a thing."""
    return [name for name in THING if getattr(part, name) is not None]


def fitting(part: Part, thing: Part | Thing) -> int:
    """How many of the attributes that are claimed a thing has."""
    return sum(getattr(part, name) == getattr(thing, name) for name in asked_of(part))


def matched(claim: Claim, made: Scene) -> list[Thing | None]:
    """For each claimed thing the one of the scene that it is about, None where there are not enough: so that most of
    them have all that is claimed, then that most attributes fit, then in the scene's order."""
    slots: list[Thing | None] = [*made.things, *[None] * (len(claim.things) - len(made.things))]
    orders: list[Sequence[Thing | None]] = list(permutations(slots, len(claim.things)))

    def fits(order: Sequence[Thing | None]) -> tuple[int, int]:
        each = [(-1, part) if thing is None else (fitting(part, thing), part)
                for part, thing in zip(claim.things, order, strict=True)]
        return sum(count == len(asked_of(part)) for count, part in each), sum(max(count, 0) for count, _ in each)

    best = max(orders, key=fits)
    return list(best)


def truth(claims: Sequence[Claim], scenes: Sequence[Scene]) -> NDArray[np.bool_]:
    """bool (claims, scenes): whether each claim is true of each scene; each claimed thing is another of the scene's."""
    said, shown = _numbers(claims), numbers(scenes)
    there = shown[:, 2::4] >= 0
    fits = ((said[:, None, :2] == shown[None, :, :2]) | (said[:, None, :2] < 0)).all(2)
    fits &= (said[:, None, -1] < 0) | (said[:, None, -1] == there.sum(1)[None])
    parts = said[:, 2 : 2 + 4 * MOST].reshape(len(claims), MOST, 4)
    things = shown[:, 2:].reshape(len(scenes), MOST, 4)
    claimed = np.arange(MOST)[None] < said[:, -2, None]
    alike = ((parts[:, None, :, None] == things[None, :, None]) | (parts[:, None, :, None] < 0)).all(-1)
    alike = (alike & there[None, :, None, :]) | ~claimed[:, None, :, None]
    matched = np.zeros(fits.shape, bool)
    for order in permutations(range(MOST)):
        matched |= alike[:, :, range(MOST), order].all(2)
    return np.asarray(fits & matched)


def _numbers(claims: Sequence[Claim]) -> NDArray[np.int8]:
    """As `world.numbers`, -1 for what is left open; then how many things are described, and how many there are."""
    table = np.full((len(claims), 2 + 4 * MOST + 2), -1, np.int8)
    for row, claim in zip(table, claims, strict=True):
        row[0] = -1 if claim.background is None else BACKGROUNDS.index(claim.background)
        row[1] = -1 if claim.time is None else TIMES.index(claim.time)
        for at, part in enumerate(claim.things):
            row[2 + 4 * at : 6 + 4 * at] = [
                -1 if (value := getattr(part, name)) is None else values.index(value) for name, values in THING.items()
            ]
        row[-2] = len(claim.things)
        row[-1] = -1 if claim.count is None else claim.count
    return table
