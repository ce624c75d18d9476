"""A Mamba-2 beside a transformer of its size, as charts: what each knows, remembers and takes as the context grows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from madang.index.lab_chart import HEIGHT, WIDTH, Axis, Line, Mark, lines, log_axis, swatch
from madang.index.lab_style import STYLE
from madang.multimodal.mamba.language import Cost

_LOOKS = {"mamba": ("c1", "circle"), "transformer": ("c2", "square")}
_GAP, _HEAD = 24, 64


@dataclass(frozen=True)
class Measured:
    """Of one model: `surprise`, bits for a byte by how many there are before it, and what one more token costs."""

    parameters: int
    surprise: Mapping[int, float]
    costs: Sequence[Cost]


def svg(found: Mapping[str, Measured], learnt: int) -> str:
    """Three charts in one picture that stands by itself; `learnt` is the length of the windows in training."""
    charts = [
        _chart(
            {name: [(at, bits) for at, bits in each.surprise.items()] for name, each in found.items()},
            "bytes before",
            "bits per byte",
            linear=True,
        ),
        _chart(
            {name: [(cost.context, cost.remembered / 1024) for cost in each.costs] for name, each in found.items()},
            "bytes before",
            "memory of the context, KiB",
        ),
        _chart(
            {name: [(cost.context, cost.seconds * 1000) for cost in each.costs] for name, each in found.items()},
            "bytes before",
            "time for a byte, ms",
        ),
    ]
    width = len(charts) * (WIDTH + _GAP)
    legend = "".join(
        f'<g transform="translate({20 + 330 * at} 34)">{_mark(name)}'
        f'<text x="34" y="5">{escape(name)}, {each.parameters:,} parameters</text></g>'
        for at, (name, each) in enumerate(found.items())
    )
    note = f'<text class="end" x="{width - 20}" y="39">trained on windows of {learnt:,} bytes</text>'
    # Without their class, whose size, that of a page, may win over what is said here.
    placed = "".join(
        f'<svg x="{at * (WIDTH + _GAP)}" y="{_HEAD}" width="{WIDTH}" height="{HEIGHT}" '
        + chart.removeprefix('<svg class="chart" ')
        for at, chart in enumerate(charts)
    )
    style = STYLE.replace("body {", "svg {", 1)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT + _HEAD}" '
        f'width="{width}" height="{HEIGHT + _HEAD}"><style>{style}</style>'
        f'<rect width="100%" height="100%" style="fill: var(--paper)"/>{legend}{note}{placed}</svg>\n'
    )


def _mark(name: str) -> str:
    return swatch(*_LOOKS[name]).replace('<svg class="swatch"', '<svg x="0" y="-6" width="26" height="12"', 1)


def _chart(
    found: Mapping[str, Sequence[tuple[int, float]]], across: str, up: str, *, linear: bool = False
) -> str:
    places = [at for each in found.values() for at, _ in each]
    values = [value for each in found.values() for _, value in each]
    drawn = [
        Line(
            *_LOOKS[name],
            [Mark(at, value, value, value, f"{name}: {value:,.3g} after {at:,} bytes") for at, value in each],
        )
        for name, each in found.items()
    ]
    return lines(_doubling(across, places), _linear(up, values) if linear else log_axis(up, values, _text), drawn)


def _doubling(label: str, values: Sequence[int]) -> Axis:
    """Powers of two at equal distances."""
    at = log_axis(label, values, _text).place
    powers = [2**power for power in range(max(values).bit_length())]
    return Axis(label, at, [(power, f"{power:,}") for power in powers if at(power) >= 0])


def _linear(label: str, values: Sequence[float]) -> Axis:
    most = max(values) * 1.05
    return Axis(label, lambda value: value / most, [(tick, f"{tick:g}") for tick in range(int(most) + 1)])


def _text(value: float) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"
