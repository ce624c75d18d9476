"""How a training went, as one HTML file: the loss, and the scores on what is held out."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from madang.index.lab_chart import Axis, Line, Mark, lines, swatch
from madang.index.lab_style import STYLE
from madang.multimodal.training import HISTORY, read_history

_SHAPES = ("circle", "square", "triangle", "diamond")


def write(training: Path) -> None:
    """curves.html beside the history, where there is one."""
    told = read_history(training / HISTORY)
    if told:
        (training / "curves.html").write_text(page(told), encoding="utf-8")


def page(told: Sequence[dict[str, Any]]) -> str:
    """The page for the lines of a history."""
    steps = [each["step"] for each in told]
    across = _axis("steps", 0, max(steps))
    loss = [each["loss"] for each in told]
    names = [name for name in told[-1] if name not in ("step", "seconds", "loss")]
    looks = {name: (f"c{at % 8 + 1}", _SHAPES[at % 4]) for at, name in enumerate(names)}
    drawn = [
        Line(
            *looks[name],
            [
                Mark(
                    each["step"],
                    each[name],
                    each[name],
                    each[name],
                    f"{name} {each[name]:.3f} after {each['step']:,} steps",
                )
                for each in told
                if name in each
            ],
        )
        for name in names
    ]
    losses = lines(
        across,
        _axis("loss", min(0.0, *loss), max(loss)),
        [
            Line(
                "c1",
                "circle",
                [
                    Mark(step, value, value, value, f"{value:.3f} after {step:,} steps")
                    for step, value in zip(steps, loss, strict=True)
                ],
            )
        ],
    )
    legend = "".join(f"<li>{swatch(*looks[name])}{escape(name)} {told[-1][name]:.3f}</li>" for name in names)
    minutes = told[-1]["seconds"] / 60
    most = max([1.0, *(mark.y for line in drawn for mark in line.marks)])  # bits are no shares
    scores = lines(across, _axis("score", 0, most), drawn)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Training</title><style>{STYLE}</style><main><h1>Training</h1>"
        f'<p class="lead">{steps[-1]:,} steps in {minutes:,.1f} minutes.</p><ul class="legend">{legend}</ul>'
        f"<figure><figcaption><b>Held-out scores</b></figcaption>{scores}</figure>"
        f"<figure><figcaption><b>Loss</b></figcaption>{losses}</figure></main></html>"
    )


def _axis(label: str, low: float, high: float) -> Axis:
    """Five even parts."""
    span = (high - low) or 1.0
    values = [low + span * part / 5 for part in range(6)]
    return Axis(
        label,
        lambda value: (value - low) / span,
        [(value, f"{value:,.0f}" if span > 20 else f"{value:.2g}") for value in values],
    )
