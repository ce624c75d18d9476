"""Scenes as pictures: painted at several times the size and made small, so that edges are smooth."""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
from PIL import Image, ImageDraw

from madang.multimodal.scenes.world import CENTRES, RADII, Scene, Thing

SIDE = 64
Colour: TypeAlias = tuple[int, int, int]
Points: TypeAlias = list[tuple[float, float]]

COLOURS: dict[str, Colour] = {
    "red": (222, 38, 38),
    "orange": (250, 140, 20),
    "yellow": (252, 222, 40),
    "green": (28, 160, 60),
    "blue": (36, 84, 226),
    "purple": (136, 44, 188),
    "pink": (255, 140, 196),
    "white": (252, 252, 252),
}
# Of the sky, at its top and at the horizon; then how much of each colour of the ground is left.
SKIES: dict[str, tuple[Colour, Colour]] = {
    "morning": ((168, 200, 232), (252, 222, 196)),
    "day": ((70, 150, 235), (190, 224, 250)),
    "evening": ((92, 66, 130), (244, 146, 92)),
    "night": ((10, 14, 44), (36, 46, 92)),
}
LIGHT = {
    "morning": (1.0, 0.94, 0.88),
    "day": (1.0, 1.0, 1.0),
    "evening": (0.86, 0.62, 0.54),
    "night": (0.30, 0.36, 0.52),
}


def paint(made: Scene, seed: int = 0, *, side: int = SIDE) -> Image.Image:
    """An RGB picture of `side` by `side` pixels. The seed moves what a prompt does not name: places within a position,
    angles, hills, houses and stars."""
    if side < 16:
        raise ValueError(f"side: {side} is too small for a picture; 16 is the least.")
    generator = np.random.default_rng([71, seed])
    large = side * max(2, min(4, 1024 // side))
    picture = _sky(made.time, large)
    pen = ImageDraw.Draw(picture)
    _GROUNDS[made.background](_Brush(pen, large, made.time, generator))
    for thing in made.things:
        _thing(pen, thing, large, generator)
    return picture.resize((side, side), Image.Resampling.BOX)


def layout(made: Scene, cells: int) -> np.ndarray:
    """int8 (cells, cells): which thing stands in each cell of the picture, -1 for none; labels for dense training."""
    middle = (np.arange(cells) + 0.5) / cells
    found = np.full((cells, cells), -1, np.int8)
    for at, thing in enumerate(made.things):
        x, y = CENTRES[thing.position]
        near = np.hypot(middle[None] - x, middle[:, None] - y) <= max(RADII[thing.size], 0.5 / cells)
        found[near] = at
    return found


def _mixed(one: Colour, other: Colour, share: float) -> Colour:
    return tuple(round(a + (b - a) * share) for a, b in zip(one, other, strict=True))  # type: ignore[return-value]


def _sky(time: str, side: int) -> Image.Image:
    top, horizon = (np.array(each, float) for each in SKIES[time])
    share = np.minimum(1.0, np.arange(side) / (side * 0.62))[:, None]
    column = (top + (horizon - top) * share).astype(np.uint8)
    return Image.fromarray(column[:, None]).resize((side, side), Image.Resampling.NEAREST)


class _Brush:
    """Paints a ground in the light of a time of day; lengths are shares of the picture's side."""

    def __init__(self, pen: ImageDraw.ImageDraw, side: int, time: str, generator: np.random.Generator) -> None:
        self.pen, self.side, self.time, self.random = pen, side, time, generator
        if time == "night":
            for x, y in generator.random((14, 2)):
                self.disc(x, y * 0.5, 0.006, (255, 255, 230), lit=True)

    def tinted(self, colour: Colour) -> Colour:
        return tuple(round(a * b) for a, b in zip(colour, LIGHT[self.time], strict=True))  # type: ignore[return-value]

    def area(self, points: Points, colour: Colour) -> None:
        self.pen.polygon([(x * self.side, y * self.side) for x, y in points], fill=self.tinted(colour))

    def box(self, x0: float, y0: float, x1: float, y1: float, colour: Colour, *, lit: bool = False) -> None:
        self.pen.rectangle(
            [x0 * self.side, y0 * self.side, x1 * self.side, y1 * self.side],
            fill=colour if lit else self.tinted(colour),
        )

    def disc(self, x: float, y: float, radius: float, colour: Colour, *, lit: bool = False) -> None:
        self.pen.ellipse(
            [(x - radius) * self.side, (y - radius) * self.side, (x + radius) * self.side, (y + radius) * self.side],
            fill=colour if lit else self.tinted(colour),
        )

    def hills(self, level: float, height: float, waves: float, colour: Colour) -> None:
        """From a wavy line down to the bottom."""
        phase = self.random.random() * 2 * math.pi
        line = [(x / 24, level + height * math.sin(phase + waves * 2 * math.pi * x / 24)) for x in range(25)]
        self.area([*line, (1, 1), (0, 1)], colour)


def _meadow(brush: _Brush) -> None:
    brush.hills(0.56, 0.03, 1.1, (120, 190, 90))
    brush.hills(0.66, 0.03, 0.8, (92, 172, 66))
    for x, y in brush.random.random((26, 2)):
        brush.area([(x - 0.01, 0.7 + 0.3 * y), (x + 0.01, 0.7 + 0.3 * y), (x, 0.66 + 0.3 * y)], (64, 136, 46))


def _desert(brush: _Brush) -> None:
    brush.hills(0.58, 0.05, 0.9, (232, 196, 132))
    brush.hills(0.72, 0.04, 0.7, (222, 178, 108))
    brush.hills(0.86, 0.03, 1.2, (208, 160, 90))


def _sea(brush: _Brush) -> None:
    brush.box(0, 0.55, 1, 1, (40, 118, 168))
    for row in range(6):
        for x in brush.random.random(4):
            y = 0.6 + row * 0.07
            brush.box(x, y, x + 0.1, y + 0.008, (150, 204, 228))


def _snow(brush: _Brush) -> None:
    brush.hills(0.55, 0.04, 0.8, (214, 226, 240))
    brush.hills(0.68, 0.03, 1.1, (236, 242, 250))
    for x, y in brush.random.random((40, 2)):
        brush.disc(x, y, 0.007, (255, 255, 255), lit=True)


def _city(brush: _Brush) -> None:
    at = -0.04
    while at < 1:
        width, top = 0.1 + 0.08 * brush.random.random(), 0.34 + 0.26 * brush.random.random()
        shade = int(112 + 40 * brush.random.random())
        brush.box(at, top, at + width, 0.82, (shade, shade, shade + 12))
        lit = brush.time in ("evening", "night")
        for x in np.arange(at + 0.025, at + width - 0.02, 0.045):
            for y in np.arange(top + 0.03, 0.78, 0.07):
                if brush.random.random() < 0.7:
                    brush.box(x, y, x + 0.018, y + 0.03, (250, 226, 140) if lit else (196, 214, 230), lit=lit)
        at += width + 0.01
    brush.box(0, 0.82, 1, 1, (96, 96, 102))
    for x in np.arange(0.04, 1, 0.2):
        brush.box(x, 0.905, x + 0.09, 0.92, (226, 226, 220))


def _forest(brush: _Brush) -> None:
    brush.box(0, 0.7, 1, 1, (86, 98, 52))
    for depth, green in ((0.0, (38, 84, 52)), (0.12, (28, 104, 54))):
        for x in np.arange(-0.02, 1.1, 0.13):
            x, tall = x + 0.05 * brush.random.random() + depth / 2, 0.36 + 0.12 * brush.random.random()
            foot = 0.74 + depth
            brush.box(x - 0.012, foot - 0.02, x + 0.012, foot + 0.05, (92, 64, 40))
            brush.area([(x - 0.08, foot), (x + 0.08, foot), (x, foot - tall * 0.7)], green)
            brush.area([(x - 0.06, foot - tall * 0.3), (x + 0.06, foot - tall * 0.3), (x, foot - tall)], green)


_GROUNDS = {"meadow": _meadow, "desert": _desert, "sea": _sea, "snow": _snow, "city": _city, "forest": _forest}


def _thing(pen: ImageDraw.ImageDraw, thing: Thing, side: int, generator: np.random.Generator) -> None:
    radius = RADII[thing.size] * generator.uniform(0.92, 1.08)
    x, y = np.clip(CENTRES[thing.position] + generator.uniform(-0.02, 0.02, 2), 1.1 * radius, 1 - 1.1 * radius) * side
    turn = generator.uniform(-0.2, 0.2)
    radius *= side
    colour = COLOURS[thing.colour]
    edge = _mixed(colour, (20, 20, 30), 0.62)
    rim = max(2, round(side * 0.013))
    if thing.shape == "ring":  # a band: what is inside stays to be seen
        for width, fill in ((0.30 * radius + 2 * rim, edge), (0.30 * radius, colour)):
            out = radius * 0.87 + width / 2
            pen.ellipse([x - out, y - out, x + out, y + out], outline=fill, width=round(width))
        return
    points = [
        (x + (a * math.cos(turn) - b * math.sin(turn)) * radius, y + (a * math.sin(turn) + b * math.cos(turn)) * radius)
        for a, b in _OUTLINES[thing.shape]
    ]
    pen.polygon(points, fill=colour)
    pen.line([*points, *points[:2]], fill=edge, width=rim, joint="curve")


def _star() -> Points:
    return [
        (
            math.sin(at * math.pi / 5) * (1.12 if at % 2 == 0 else 0.46),
            -math.cos(at * math.pi / 5) * (1.12 if at % 2 == 0 else 0.46),
        )
        for at in range(10)
    ]


def _heart() -> Points:
    found = []
    for at in range(40):
        t = at * 2 * math.pi / 40
        found.append(
            (
                16 * math.sin(t) ** 3 / 16.5,
                -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) / 15.5,
            )
        )
    return found


def _crescent() -> Points:
    outer = [(math.cos(t), math.sin(t)) for t in np.linspace(0.25 * math.pi, 1.75 * math.pi, 30)]
    inner = [(0.42 + 0.76 * math.cos(t), 0.76 * math.sin(t)) for t in np.linspace(1.62 * math.pi, 0.38 * math.pi, 30)]
    return [(a + 0.15, b) for a, b in outer + inner]


_OUTLINES: dict[str, Points] = {
    "circle": [(math.cos(t), math.sin(t)) for t in np.linspace(0, 2 * math.pi, 48, endpoint=False)],
    "square": [(-0.86, -0.86), (0.86, -0.86), (0.86, 0.86), (-0.86, 0.86)],
    "triangle": [(0, -1.05), (1.02, 0.8), (-1.02, 0.8)],
    "star": _star(),
    "heart": _heart(),
    "cross": [
        (-0.34, -1),
        (0.34, -1),
        (0.34, -0.34),
        (1, -0.34),
        (1, 0.34),
        (0.34, 0.34),
        (0.34, 1),
        (-0.34, 1),
        (-0.34, 0.34),
        (-1, 0.34),
        (-1, -0.34),
        (-0.34, -0.34),
    ],
    "ring": [],
    "crescent": _crescent(),
}
