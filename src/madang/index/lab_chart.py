"""Charts as SVG text, drawn by hand: lines over two axes, and bars. Colours come from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 640, 430
_LEFT, _RIGHT, _TOP, _BOTTOM = 92, 22, 14, 60
_ROW = 28


@dataclass(frozen=True, slots=True)
class Mark:
    """A measured point: its place, the interval of y, and what a pointer over it shows."""

    x: float
    y: float
    low: float
    high: float
    title: str


@dataclass(frozen=True, slots=True)
class Line:
    """Marks joined in their order; `style` is a class of the style sheet, "muted" ones lie behind."""

    style: str
    shape: str            # circle, square, triangle or diamond
    marks: Sequence[Mark]


@dataclass(frozen=True, slots=True)
class Axis:
    """A scale: where a value lies (0 to 1), and the values to write beside it."""

    label: str
    place: Callable[[float], float]
    ticks: Sequence[tuple[float, str]]


def log_axis(label: str, values: Sequence[float], text: Callable[[float], str]) -> Axis:
    """From the least value to the greatest, equal factors at equal distances."""
    low, high = math.log10(min(values)), math.log10(max(values))
    margin = max(0.05 * (high - low), 0.04)
    low, high = low - margin, high + margin
    steps = [(1, 2, 5), (1, 3), (1,)][min(2, int((high - low) / 2))]
    ticks = [step * 10.0 ** power for power in range(math.floor(low), math.ceil(high) + 1) for step in steps]
    return Axis(label, lambda value: (math.log10(value) - low) / (high - low),
                [(tick, text(tick)) for tick in ticks if low <= math.log10(tick) <= high])


def recall_axis(label: str, values: Sequence[float]) -> Axis:
    """Recall, stretched towards 1: from 0.9 to 0.99 is as far as from 0.99 to 0.999, nearly."""
    def stretched(value: float) -> float:
        return -math.log10(1 - min(value, 1.0) + 0.0007)

    low = stretched(max(0.0, min(values) - 0.02))
    high = stretched(1.0)
    span = (high - low) * 1.04
    ticks = [tick for tick in (0, 0.2, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 1) if stretched(tick) >= low]
    return Axis(label, lambda value: max(0.0, (stretched(value) - low) / span), [(tick, f"{tick:g}") for tick in ticks])


def lines(x: Axis, y: Axis, drawn: Sequence[Line], limit: float | None = None) -> str:
    """A chart of lines; `limit` draws a dashed level."""
    parts = [_frame(x, y)]
    if limit is not None:
        at = _y(y, limit)
        parts.append(f'<line class="limit" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
    parts += [_line(x, y, line) for line in sorted(drawn, key=lambda each: each.style != "muted")]
    return _svg(WIDTH, HEIGHT, "".join(parts), f"{y.label} over {x.label}")


def bars(rows: Sequence[tuple[str, str, float, str]], label: str) -> str:
    """Horizontal bars from 0: rows of (name, style, value, text)."""
    names = 215
    most = max((value for _, _, value, _ in rows), default=0.0) or 1.0
    parts = []
    for number, (name, style, value, text) in enumerate(rows):
        top = 4 + number * _ROW
        length = max(1.0, value / most * (WIDTH - names - 90))
        parts.append(f'<g class="{style}"><text class="name" x="{names - 8}" y="{top + 16}">{escape(name)}</text>'
                     f'<rect class="bar" x="{names}" y="{top + 2}" width="{length:.1f}" height="{_ROW - 10}" rx="2"/>'
                     f'<text class="value" x="{names + length + 6:.1f}" y="{top + 16}">{escape(text)}</text></g>')
    return _svg(WIDTH, 8 + len(rows) * _ROW, "".join(parts), label)


def swatch(style: str, shape: str) -> str:
    """What stands before a line's name in a legend."""
    return (f'<svg class="swatch" viewBox="0 0 26 12" aria-hidden="true"><g class="{style}">'
            f'<line class="stroke" x1="1" x2="25" y1="6" y2="6"/>{_shape(shape, 13, 6, "")}</g></svg>')


def _x(axis: Axis, value: float) -> float:
    return _LEFT + axis.place(value) * (WIDTH - _LEFT - _RIGHT)


def _y(axis: Axis, value: float) -> float:
    return HEIGHT - _BOTTOM - axis.place(value) * (HEIGHT - _TOP - _BOTTOM)


def _svg(width: int, height: int, content: str, label: str) -> str:
    return (f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">'
            f"{content}</svg>")


def _frame(x: Axis, y: Axis) -> str:
    parts, last = [], -100.0
    for tick, text in x.ticks:
        at = _x(x, tick)
        parts.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" y2="{HEIGHT - _BOTTOM}"/>')
        if at - last > 8 * len(text) + 6:  # numbers that would touch are left out
            parts.append(f'<text class="tick middle" x="{at:.1f}" y="{HEIGHT - _BOTTOM + 20}">{escape(text)}</text>')
            last = at
    last = HEIGHT + 100.0
    for tick, text in y.ticks:
        at = _y(y, tick)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        if last - at > 16:
            parts.append(f'<text class="tick end" x="{_LEFT - 7}" y="{at + 5:.1f}">{escape(text)}</text>')
            last = at
    across, down = (WIDTH + _LEFT - _RIGHT) / 2, (HEIGHT - _BOTTOM + _TOP) / 2
    parts.append(f'<text class="axis middle" x="{across}" y="{HEIGHT - 10}">{escape(x.label)}</text>'
                 f'<text class="axis middle" transform="translate(17 {down}) rotate(-90)">{escape(y.label)}</text>')
    return "".join(parts)


def _line(x: Axis, y: Axis, line: Line) -> str:
    places = [(_x(x, mark.x), _y(y, mark.y)) for mark in line.marks]
    path = " ".join(f"{across:.1f},{down:.1f}" for across, down in places)
    parts = [f'<polyline class="stroke" points="{path}"/>']
    for mark, (across, down) in zip(line.marks, places, strict=True):
        if line.style != "muted" and mark.low < mark.high:
            parts.append(f'<line class="whisker" x1="{across:.1f}" x2="{across:.1f}" y1="{_y(y, mark.low):.1f}" '
                         f'y2="{_y(y, mark.high):.1f}"/>')
        parts.append(_shape(line.shape, across, down, mark.title))
    return f'<g class="{line.style}">{"".join(parts)}</g>'


def _shape(shape: str, across: float, down: float, title: str) -> str:
    inner = f"<title>{escape(title)}</title>" if title else ""
    if shape == "circle":
        return f'<circle class="dot" cx="{across:.1f}" cy="{down:.1f}" r="4">{inner}</circle>'
    corners = {"square": ((-4, -4), (4, -4), (4, 4), (-4, 4)), "triangle": ((0, -5), (5, 4), (-5, 4)),
               "diamond": ((0, -6), (6, 0), (0, 6), (-6, 0))}[shape]
    points = " ".join(f"{across + a:.1f},{down + b:.1f}" for a, b in corners)
    return f'<polygon class="dot" points="{points}">{inner}</polygon>'
