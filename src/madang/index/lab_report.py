"""The study as one HTML file that needs nothing else: recommendation, curves, bars, table, and what measured it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from html import escape
from itertools import groupby
from pathlib import Path

from madang.index.container import replacing
from madang.index.lab import Point, Study, machine
from madang.index.lab_chart import Line, Mark, bars, lines, log_axis, recall_axis, swatch
from madang.index.lab_data import Data
from madang.index.lab_goal import Goal, Recommendation, pareto
from madang.index.lab_grid import Build
from madang.index.lab_style import STYLE

REPORT = "report.html"
_COLOURS = 8
_SHAPES = {"hnsw": "circle", "ivf": "square", "nsw": "triangle", "flat": "diamond"}
_COLUMNS: tuple[tuple[str, Callable[[Point], object]], ...] = (
    ("index", lambda each: each.index),
    ("vectors", lambda each: f"{each.size:,}"),
    ("m", lambda each: each.m),
    ("efc", lambda each: each.ef_construction),
    ("ef", lambda each: each.breadth if each.m else None),
    ("nlist", lambda each: "auto" if each.nlist == 0 else each.nlist),
    ("nprobe", lambda each: None if each.nlist is None else each.breadth),
    ("code", lambda each: each.code),
    ("recall", lambda each: f"{each.recall:.4f}"),
    ("95 % interval", lambda each: f"{each.recall_low:.3f} to {each.recall_high:.3f}"),
    ("median", lambda each: time_text(each.median_us)),
    ("p95", lambda each: time_text(each.p95_us)),
    ("batch", lambda each: f"{each.batch_qps:,.0f}/s"),
    ("build", lambda each: time_text(each.build_s * 1e6)),
    ("memory", lambda each: size_text(each.search_bytes)),
    ("in all", lambda each: size_text(each.total_bytes)),
    ("unreachable", lambda each: each.unreachable or None))


def write(path: str | Path, data: Data, study: Study, best: Recommendation) -> None:
    """Write the report; it replaces an older one."""
    with replacing(Path(path)) as file:
        file.write(page(data, study, best).encode())


def page(data: Data, study: Study, best: Recommendation) -> str:
    """The HTML."""
    points = study.points
    largest = [point for point in points if point.size == best.point.size]
    looks = _looks(largest, best)
    title = f"Index lab: {data.name}"
    parts = [f"<h1>{escape(title)}</h1>", _head(data, points), _recommended(best), _legend(looks),
             _curves(largest, looks, best), _build_bars(largest, looks)]
    if len({point.size for point in points}) > 1:
        parts.append(_growth(points, looks, best))
    parts += [_table(points, best), _measured(data, study)]
    return ('<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main>{''.join(parts)}</main></body></html>\n")


def time_text(microseconds: float) -> str:
    """A time for people, three digits."""
    for factor, unit in ((1e6, "s"), (1e3, "ms")):
        if microseconds >= factor:
            return f"{microseconds / factor:.3g} {unit}"
    return f"{microseconds:.3g} µs"


def size_text(count: float) -> str:
    """Bytes for people, three digits."""
    for factor, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "KB")):
        if count >= factor:
            return f"{count / factor:.3g} {unit}"
    return f"{count:.0f} B"


def summary(point: Point) -> str:
    """What was measured at a point, in a line."""
    return (f"recall@{point.k} {point.recall:.4f} [{point.recall_low:.4f}, {point.recall_high:.4f}] · "
            f"{time_text(point.median_us)} median, {time_text(point.p95_us)} p95 · {size_text(point.search_bytes)} "
            f"({size_text(point.total_bytes)} with all vectors) · built in {time_text(point.build_s * 1e6)}")


def describe(point: Point) -> str:
    """A point's parameters, in a line."""
    breadth = f" {point.breadth_name}={point.breadth}" if point.breadth_name else ""
    build = replace(point.build, quantization=point.code)
    return f"{build}{breadth}".replace("efc=", "ef_construction=")


def _head(data: Data, points: Sequence[Point]) -> str:
    sizes = ", ".join(f"{size:,}" for size in sorted({point.size for point in points}))
    return (f'<p class="lead">{escape(data.about)}. Indexed: {sizes} vectors of {data.dim} dimensions, {data.metric}. '
            f"Queries: {len(data.queries):,}, {escape(data.queries_about)}.</p>")


def _recommended(best: Recommendation) -> str:
    word = "Recommended" if best.reached else "The goal was not reached; this came closest"
    missed = "" if best.reached else (f"<p>Not kept: {escape(', '.join(best.missed))}. The lower end of the interval "
                                      "counts for recall. Try larger values, or a goal that asks for less.</p>")
    return (f'<section class="best{"" if best.reached else " missed"}"><h2>{word}</h2>'
            f"<p>Goal: <b>{escape(best.goal.text)}</b></p><p><b>{escape(describe(best.point))}</b></p>{missed}"
            f"<p>{escape(summary(best.point))}</p><pre><code>{escape(best.line)}</code></pre></section>")


@dataclass(frozen=True, slots=True)
class _Look:
    """How a build is drawn and called."""

    name: str
    style: str            # c1 to c8, or muted
    shape: str


def _looks(points: Sequence[Point], best: Recommendation) -> dict[Build, _Look]:
    """A colour for the builds worth telling apart, at most eight: those with the most points that none beats."""
    worth = Counter(point.build for point in pareto(points))
    worth[best.point.build] += 1000
    for kind in dict.fromkeys(point.index for point in points):  # of every kind the best one, for comparison
        mine = [point.build for point in points if point.index == kind]
        worth[max(mine, key=lambda build: worth[build])] += 500
    shown = [build for build, _ in worth.most_common(_COLOURS)]
    coloured = [build for build in dict.fromkeys(point.build for point in points) if build in shown]
    several = len({point.quantization for point in points} - {"none"}) > 1
    return {build: _Look(str(build) if several else str(build).removesuffix(f" {build.quantization}"),
                         f"c{coloured.index(build) + 1}" if build in shown else "muted", _SHAPES[build.index])
            for build in dict.fromkeys(point.build for point in points)}


def _legend(looks: dict[Build, _Look]) -> str:
    items = [f"<li>{swatch(look.style, look.shape)}{escape(look.name)}</li>"
             for look in looks.values() if look.style != "muted"]
    if len(items) < len(looks):
        items.append(f'<li>{swatch("muted", "circle")}others (point at one to see what it is)</li>')
    return f'<ul class="legend">{"".join(items)}</ul>'


def _curves(points: Sequence[Point], looks: dict[Build, _Look], best: Recommendation) -> str:
    recall = recall_axis(f"recall@{best.point.k} (stretched towards 1)", [point.recall_low for point in points])
    limit = wanted_recall(best.goal)
    parts = [_figure("Recall and query time", "Up and to the left is better. A line is one index, searched ever more "
                     "broadly; whiskers are 95 % intervals, the dashed line is the goal.",
                     lines(log_axis("median time of a single query", [point.median_us for point in points], time_text),
                           recall, _drawn(points, looks, "median_us"), limit))]
    for name in ("ef_search", "nprobe"):
        mine = [point for point in points if point.breadth_name == name]
        if len({point.breadth for point in mine}) > 1:
            x = log_axis(name, [point.breadth for point in mine], lambda value: f"{value:g}")
            parts.append(_figure(f"Recall and {name}", f"What a larger {name} brings.",
                                 lines(x, recall, _drawn(mine, looks, "breadth"), limit)))
    return "".join(parts)


def _drawn(points: Sequence[Point], looks: dict[Build, _Look], field: str) -> list[Line]:
    drawn = []
    for build in dict.fromkeys(point.build for point in points):
        mine = sorted((point for point in points if point.build == build), key=lambda point: point.breadth)
        marks = [Mark(float(getattr(point, field)), point.recall, point.recall_low, point.recall_high,
                      f"{describe(point)}\n{summary(point)}") for point in mine]
        drawn.append(Line(looks[build].style, looks[build].shape, marks))
    return drawn


def _build_bars(points: Sequence[Point], looks: dict[Build, _Look]) -> str:
    first = {point.build: point for point in reversed(points)}
    rows = [(look.name, look.style, first[build]) for build, look in looks.items()]
    slow = bars([(name, style, each.build_s, time_text(each.build_s * 1e6)) for name, style, each in rows],
                "time to build")
    large = bars([(name, style, float(each.search_bytes), size_text(each.search_bytes)) for name, style, each in rows],
                 "memory of a search")
    threads = {0: "On all cores.", 1: "On one thread."}.get(points[0].threads, f"On {points[0].threads} threads.")
    return (_figure("Time to build", threads, slow)
            + _figure("Memory of a search", "Codes and links, or whatever it reads; float32 vectors for exact scores "
                      "may stay in a mapped file.", large))


def _growth(points: Sequence[Point], looks: dict[Build, _Look], best: Recommendation) -> str:
    """Over the number of vectors: the quickest point of every build that keeps the goal's recall, and build time."""
    limit = wanted_recall(best.goal) or 0.0
    asked, built = [], []
    for build, look in looks.items():
        mine = sorted((point for point in points if replace(point.build, size=build.size) == build),
                      key=lambda each: each.size)
        sizes = [list(group) for _, group in groupby(mine, key=lambda each: each.size)]
        quick = [min(kept, key=lambda each: each.median_us) for group in sizes
                 if (kept := [each for each in group if each.recall >= limit])]
        asked.append(_grown(look, quick, "median_us"))
        built.append(_grown(look, [group[0] for group in sizes], "build_s"))
    x = log_axis("vectors", [point.size for point in points], lambda value: f"{value:,.0f}")
    found = [mark.y for line in asked for mark in line.marks]
    parts = []
    if found:
        parts.append(_figure("Query time and number of vectors", f"The quickest search with a mean recall of {limit:g} "
                             "or more.", lines(x, log_axis("median time", found, time_text), asked)))
    y = log_axis("time to build", [mark.y for line in built for mark in line.marks],
                 lambda value: time_text(value * 1e6))
    return "".join([*parts, _figure("Build time and number of vectors", "", lines(x, y, built))])


def _grown(look: _Look, points: Sequence[Point], field: str) -> Line:
    marks = [Mark(point.size, value, value, value, f"{describe(point)}, {point.size:,} vectors\n{summary(point)}")
             for point in points for value in [float(getattr(point, field))]]
    return Line(look.style, look.shape, marks)


def wanted_recall(goal: Goal) -> float | None:
    """The recall a goal asks for, or None."""
    return max((limit.value for limit in goal.limits if limit.field == "recall_low"), default=None)


def _table(points: Sequence[Point], best: Recommendation) -> str:
    good = pareto(points)
    columns = [column for column in _COLUMNS if any(column[1](point) is not None for point in points)]
    rows = []
    for point in points:
        cells = [value(point) for _, value in columns]
        style = "chosen" if point == best.point else "good" if point in good else ""
        rows.append(f'<tr class="{style}">' + "".join(f"<td>{'' if cell is None else escape(str(cell))}</td>"
                                                      for cell in cells) + "</tr>")
    head = "".join(f"<th>{escape(name)}</th>" for name, _ in columns)
    return ("<section><h2>All points</h2><p>Bold: no other point of the same size is at least as good in recall, "
            "median time and memory. Marked: the recommended one. efc: ef_construction; ef: ef_search; in all: memory "
            "with the float32 vectors.</p>"
            f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
            "</section>")


def _measured(data: Data, study: Study) -> str:
    told = machine()
    facts = {"machine": f"{told['processor']}, {told['cores']} cores, {told['instructions']}, {told['system']}",
             "versions": f"Madang {told['madang']} (kernel {told['kernel']}), Python {told['python']}, "
                         f"NumPy {told['numpy']}",
             "signature": f"{told['signature']} on data {data.fingerprint}, queries {data.queries_fingerprint}",
             "recall": "the share of the k nearest, found by exact search, that were returned; the interval is a "
                       "bootstrap over the queries",
             "time": f"of one query on one thread, called from Python: for every query the median of "
                     f"{study.points[0].repeats} repetitions, then the median and the 95th percentile over the queries",
             "memory": "as the index counts it; the process needs more"}
    rows = "".join(f"<dt>{name}</dt><dd>{escape(fact)}</dd>" for name, fact in facts.items())
    aside = (f"<p>{study.aside} points in the same file were measured by another machine or release and are not shown."
             "</p>" if study.aside else "")
    return f"<section><h2>How it was measured</h2><dl>{rows}</dl>{aside}</section>"


def _figure(title: str, note: str, chart: str) -> str:
    return f"<figure><figcaption><b>{escape(title)}</b> {escape(note)}</figcaption>{chart}</figure>"
