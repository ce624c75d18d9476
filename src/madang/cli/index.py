"""`madang index ...`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from madang.base.errors import InvalidInput
from madang.cli import options, render

if TYPE_CHECKING:
    from madang.index.lab import Point, Study
    from madang.index.lab import Progress as State
    from madang.index.lab_data import Data
    from madang.index.lab_goal import Recommendation
    from madang.index.lab_grid import Grid
    from madang.store import Collection

_PAGE = 1000     # records fetched at a time


@click.group()
def index() -> None:
    """Study and check the vector index."""


@index.command()
@click.option("--collection", "-c", metavar="NAME", help="Measure on the vectors of a collection.")
@click.option("--data", metavar="NAME",
              help="Or on a built-in set: clustered (like embeddings; the default), uniform, digits-like.")
@click.option("--queries-file", metavar="FILE", help="Queries of your own: .npy, float32 of shape (q, dim). Default: "
              "held out of the collection.")
@click.option("--queries", type=int, default=200, show_default=True, metavar="N", help="How many queries at most.")
@click.option("--index", "indexes", metavar="LIST", help="Of hnsw, nsw, ivf, flat. Default: all but nsw.")
@click.option("--m", default="8,16,32", show_default=True, metavar="LIST", help="Links per vector.")
@click.option("--ef-construction", default="100,200", show_default=True, metavar="LIST",
              help="Candidates while building.")
@click.option("--ef-search", default="10,20,40,80,160,320", show_default=True, metavar="LIST",
              help="Candidates while searching.")
@click.option("--nlist", default="auto", show_default=True, metavar="LIST", help="Cells of ivf.")
@click.option("--nprobe", default="1,2,4,8,16,32,64", show_default=True, metavar="LIST", help="Cells to look into.")
@click.option("--sizes", default="all", show_default=True, metavar="LIST",
              help="Numbers of vectors, such as 1000,5000,all.")
@click.option("--quantization", default="auto", show_default=True, metavar="LIST", help="Of auto, int8, int4, none.")
@click.option("--metric", metavar="NAME", help="cosine, dot or euclidean. Default: what the data is made for.")
@click.option("--k", type=int, default=10, show_default=True, metavar="N", help="How many neighbours count.")
@click.option("--goal", metavar="GOAL",
              help='Limits and a wish. Limits on recall, time, p95, memory, build; wishes: least memory, fastest, '
                   'quickest build, best recall. Default: "recall >= 0.95, least memory".')
@click.option("--threads", type=int, default=1, show_default=True, metavar="N",
              help="For building and for batches; 0: all cores.")
@click.option("--out", metavar="DIR", help="Where results.csv and report.html go. Default: index-lab/ and the name and "
              "fingerprint of the data.")
@click.option("--all", "everything", is_flag=True, help="Show all points, not only those that no other beats.")
@options.common
def lab(workspace: str, as_json: bool, collection: str | None, data: str | None, queries_file: str | None,
        out: str | None, goal: str | None, everything: bool, **given: Any) -> int:
    """Sweep the parameters of the index on your data, and recommend some for a goal.

    Measures recall against exact search, query time, build time and memory of every combination. LIST is values with
    commas between. Every point is written to results.csv at once: the same command goes on where it was stopped. The
    exit code is 1 where a goal that you gave is not reached.
    """
    from madang.index import lab as laboratory
    from madang.index import lab_goal, lab_report

    wish = lab_goal.parse(goal or lab_goal.DEFAULT)
    grid = _grid(given)
    measured = _data(workspace, collection, data, queries_file, grid, given)
    folder = Path(out) if out else Path("index-lab") / f"{measured.name}-{measured.fingerprint[:8]}"
    with Bar(quiet=as_json) as bar:
        study = laboratory.study(measured, grid, folder, bar.update)
    best = lab_goal.recommend(study.points, wish)
    lab_report.write(folder / lab_report.REPORT, measured, study, best)
    if as_json:
        render.emit(_document(measured, study, best, folder))
    else:
        _show(measured, study, best, folder, everything)
    return 1 if goal and not best.reached else 0


def _grid(given: dict[str, Any]) -> Grid:
    from madang.index.lab_grid import Grid

    return Grid(indexes=_words(given["indexes"] or ""), m=_numbers("--m", given["m"]),
                ef_construction=_numbers("--ef-construction", given["ef_construction"]),
                ef_search=_numbers("--ef-search", given["ef_search"]),
                nlist=_numbers("--nlist", given["nlist"], "auto"), nprobe=_numbers("--nprobe", given["nprobe"]),
                sizes=_numbers("--sizes", given["sizes"], "all"),
                quantization=_words(given["quantization"]), k=given["k"], threads=given["threads"])


def _words(text: str) -> list[str]:
    return [word.strip().lower() for word in text.split(",") if word.strip()]


def _numbers(option: str, text: str, zero: str = "") -> list[int]:
    """Whole numbers with commas between; `zero` is the word for 0."""
    try:
        return [0 if zero and word == zero else int(word) for word in _words(text)]
    except ValueError:
        also = f' or "{zero}"' if zero else ""
        raise InvalidInput(f"{option} {text!r} is no list of whole numbers.",
                           remedy=f"Write numbers{also} with commas between, such as {option} 8,16.") from None


def _data(workspace: str, collection: str | None, data: str | None, queries_file: str | None, grid: Grid,
          given: dict[str, Any]) -> Data:
    """The vectors to measure on."""
    from madang.index import lab_data

    if collection is None:
        if queries_file is not None:
            raise InvalidInput("--queries-file needs vectors of your own.", remedy="Name them with --collection.")
        size = max(lab_data.SIZE, *grid.sizes)
        return lab_data.built_in(data or "clustered", given["queries"], size, given["metric"])
    if data is not None:
        raise InvalidInput(f"--collection {collection} and --data {data} are both given.", remedy="Give one of them.")
    asked = None if queries_file is None else lab_data.read_queries(queries_file)
    with options.opened(workspace) as ws:
        target = ws.collection(collection)
        vectors, metric = _vectors(target), given["metric"] or target.metric
    return lab_data.own(collection, vectors, metric, given["queries"], asked)


def _vectors(collection: Collection) -> Any:
    """All vectors of a collection (n, dim), in the order of namespaces and ids."""
    import numpy as np

    parts = []
    for namespace in collection.stats().namespaces:
        cursor = None
        while True:
            page = collection.list_ids(limit=_PAGE, cursor=cursor, namespace=namespace)
            parts += [record.values for record in collection.fetch(page.ids, namespace).values()]
            cursor = page.cursor
            if cursor is None:
                break
    return np.array(parts, dtype=np.float32).reshape(len(parts), collection.dim)


def _document(data: Data, study: Study, best: Recommendation, folder: Path) -> dict[str, Any]:
    from madang.index.lab import RESULTS, machine
    from madang.index.lab_goal import pareto
    from madang.index.lab_report import REPORT

    good = pareto(study.points)
    return {"data": {"name": data.name, "about": data.about, "queries": data.queries_about, "metric": data.metric,
                     "dim": data.dim, "fingerprint": data.fingerprint},
            "points": [{**asdict(point), "pareto": point in good} for point in study.points],
            "recommendation": {"goal": best.goal.text, "reached": best.reached, "missed": list(best.missed),
                               "point": asdict(best.point), "python": best.line},
            "resumed": study.resumed, "machine": machine(), "seconds": round(study.seconds, 3),
            "results": str(folder / RESULTS), "report": str(folder / REPORT)}


def _show(data: Data, study: Study, best: Recommendation, folder: Path, everything: bool) -> None:
    from madang.index.lab import RESULTS
    from madang.index.lab_goal import pareto
    from madang.index.lab_report import REPORT, describe, summary

    good = pareto(study.points)
    shown = study.points if everything else sorted((point for point in study.points if point in good
                                                    or point == best.point), key=lambda each: (each.size, each.recall))
    screen = render.console()
    if not screen.is_terminal:  # a line in a pipe is as long as it is
        screen = Console(width=200, highlight=False)
    _table(shown, best.point, screen)
    hidden = len(study.points) - len(shown)
    count = f"{len(study.points)} points" + (f"; {hidden} that others beat are not shown (--all)" if hidden else "")
    was = f"; {study.resumed} were measured before" if study.resumed else ""
    for line in ("", f"data: {data.about}", f"queries: {data.queries_about}", f"{count}{was}",
                 f"report: {folder / REPORT}", f"numbers: {folder / RESULTS}", "", f"goal: {best.goal.text}"):
        screen.print(line, markup=False, soft_wrap=True)
    if not best.reached:
        screen.print(f"not reached: {', '.join(best.missed)} (for recall the lower end of the interval counts)",
                     markup=False, soft_wrap=True)
    screen.print(f"{'recommended' if best.reached else 'closest'}: {describe(best.point)}", markup=False, style="bold")
    screen.print(f"  {summary(best.point)}", markup=False, soft_wrap=True)
    screen.print(f"  {best.line}", markup=False, soft_wrap=True, style="green" if best.reached else "yellow")


def _table(points: list[Point], best: Point, screen: Console) -> None:
    """The points, with the columns that they need and the terminal has room for."""
    from madang.index.lab_report import size_text, time_text

    room = screen.width >= 110
    several, cells = len({point.size for point in points}) > 1, any(point.nlist is not None for point in points)
    links = any(point.m for point in points)
    columns: list[tuple[str, bool, Callable[[Point], Any]]] = [
        ("", True, lambda each: "*" if each == best else ""),
        ("index", True, lambda each: each.index),
        ("vectors", several, lambda each: f"{each.size:,}"),
        ("m", links, lambda each: each.m or ""),
        ("efc", links, lambda each: each.ef_construction or ""),
        ("ef", links, lambda each: each.breadth if each.m else ""),
        ("nlist", cells, lambda each: "" if each.nlist is None else each.nlist or "auto"),
        ("nprobe", cells, lambda each: "" if each.nlist is None else each.breadth),
        ("code", room or len({each.code for each in points} - {"float32"}) > 1, lambda each: each.code),
        ("recall", True, lambda each: f"{each.recall:.4f}"),
        ("95 %", True, lambda each: f"{each.recall_low:.3f}-{each.recall_high:.3f}"),
        ("median", True, lambda each: time_text(each.median_us)),
        ("p95", room, lambda each: time_text(each.p95_us)),
        ("batch", room, lambda each: f"{each.batch_qps:,.0f}/s"),
        ("build", True, lambda each: time_text(each.build_s * 1e6)),
        ("memory", True, lambda each: size_text(each.search_bytes)),
        ("unreachable", any(each.unreachable for each in points), lambda each: each.unreachable)]
    wanted = [(name, value) for name, there, value in columns if there]
    grid = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name, _ in wanted:
        grid.add_column(name, no_wrap=True, justify="left" if name in ("", "index", "code") else "right")
    for point in points:
        grid.add_row(*(str(value(point)) for _, value in wanted), style="bold" if point == best else "")
    screen.print(grid)


class Bar:
    """A progress bar on stderr with points, what is being done, and the remaining time; silent where nobody looks."""

    def __init__(self, quiet: bool = False) -> None:
        self._progress = Progress(
            TextColumn("measuring"), BarColumn(), TextColumn("{task.fields[points]} points"),
            TextColumn("{task.fields[left]}"), TextColumn("[dim]{task.fields[doing]}"), console=Console(stderr=True),
            transient=True, disable=quiet or not render.interactive())
        self._task = self._progress.add_task("lab", total=None, points="0", doing="", left="")

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def update(self, state: State) -> None:
        """Take in one event; before anything is measured, the remaining time is what it took elsewhere."""
        passed = self._progress.tasks[0].elapsed or 0.0
        left = passed * (state.total - state.done) / state.done if state.done > 0.05 * state.total else state.total
        self._progress.update(self._task, completed=state.done, total=state.total, doing=state.doing,
                              points=f"{state.points}/{state.points_total}", left=f"about {max(0.0, left):.0f} s left")
