"""`madang collection reembed|cut-over|roll-back|forget-shadow`: a collection goes over to another model."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.markup import escape

from madang.cli import options, render
from madang.rag.retrieve import MODES, Mode

if TYPE_CHECKING:
    from madang.base.stats import Interval
    from madang.workspace.reembed import ReembedReport, Side, Turned

_name = click.argument("name")


@click.command()
@_name
@click.option("--embedder", required=True, metavar="MODEL", help="The other model: bundled/minilm, SERVICE/MODEL, ...")
@click.option("--queries", type=click.Path(path_type=Path), metavar="FILE",
              help='What both are asked, a line {"query": "...", "relevant": ["id"]} each; relevant may be missing. '
                   "Default: what was asked.")
@click.option("--top-k", type=click.IntRange(1, 10_000), default=10, show_default=True, help="How many answers count.")
@click.option("--mode", type=click.Choice(MODES), default="hybrid", show_default=True, help="How both are asked.")
@options.common
def reembed(name: str, embedder: str, queries: Path | None, top_k: int, mode: Mode, workspace: str,
            as_json: bool) -> None:
    """Build the vectors of another model beside those of a collection, and compare the two.

    The collection answers as before. Interrupted, it goes on when called again. Then go over, or give it up.
    """
    with options.opened(workspace) as ws, render.progress(f"embedding {name}", "records") as told:
        report = ws.reembed(name, embedder, queries=queries, top_k=top_k, mode=mode, progress=told)
    if as_json:
        render.emit(report.to_dict())
    else:
        _show(report)


def _show(report: ReembedReport) -> None:
    screen = render.console()
    rate = f" in {report.seconds:,.1f} s ({report.texts_per_second:,.0f}/s)" if report.embedded else ""
    reused = f", {report.reused:,} were there already" if report.reused else ""
    screen.print(f"[bold]{escape(report.collection)}[/]: {report.embedded:,} records embedded, "
                 f"{report.characters:,} characters{rate}{reused}", soft_wrap=True)
    sides = [side for side in (report.old, report.new) if side is not None]
    rows: list[list[Any]] = [["dimensions", *(side.dim for side in sides)], ["index", *(side.index for side in sides)]]
    if report.judged:
        rows.append([f"nDCG@{report.top_k}", *(_interval(side.ndcg) for side in sides)])
    rows += [["index finds", *(f"{side.recall:.1%}" for side in sides)],
             ["a query", *(_ms(side) for side in sides)],
             ["vectors and index", *(render.size(side.size_bytes) for side in sides)]]
    render.table(["", *(side.embedder.partition("@")[0] for side in sides)], rows, screen)
    if report.gain is not None:
        gain = report.gain
        screen.print(f"nDCG changes by {gain.difference:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}], "
                     f"p = {gain.p_value:.3g} ({gain.n} judged queries)", markup=False, soft_wrap=True)
    if report.overlap is not None:
        screen.print(f"of the first {report.top_k}, both find {_interval(report.overlap)}; rank-biased overlap "
                     f"{_interval(report.agreement)} ({report.queries} queries, {report.mode})", markup=False,
                     soft_wrap=True)
    for note in report.notes:
        screen.print(f"[yellow]note:[/] {escape(note)}", soft_wrap=True)
    screen.print(f"next: madang collection cut-over {report.collection}\n  or: madang collection forget-shadow "
                 f"{report.collection}", markup=False, soft_wrap=True)


def _interval(found: Interval | None) -> str:
    return "" if found is None else f"{found.mean:.3f} [{found.low:.3f}, {found.high:.3f}]"


def _ms(side: Side) -> str:
    return "" if side.query_ms is None else f"{side.query_ms:.2f} ms"


@click.command("cut-over")
@_name
@options.common
def cut_over(name: str, workspace: str, as_json: bool) -> None:
    """Search a collection with the model that was built beside it, from one moment to the next.

    What was written since is embedded first. The old vectors are kept, so that it can be rolled back.
    """
    with options.opened(workspace) as ws, render.busy(f"cutting {name} over"):
        turned = ws.cut_over(name)
    _turned(turned, as_json, f"back: madang collection roll-back {name}\n"
                             f"free the old vectors: madang collection forget-shadow {name}")


@click.command("roll-back")
@_name
@options.common
def roll_back(name: str, workspace: str, as_json: bool) -> None:
    """Search a collection with the model again that it had before the cut-over."""
    with options.opened(workspace) as ws, render.busy(f"rolling {name} back"):
        turned = ws.roll_back(name)
    _turned(turned, as_json, f"over again: madang collection cut-over {name}")


def _turned(turned: Turned, as_json: bool, then: str) -> None:
    if as_json:
        render.emit(asdict(turned))
        return
    new = f" ({turned.embedded:,} records were embedded for it)" if turned.embedded else ""
    click.echo(f"{turned.collection} is searched with {turned.embedder or 'your own vectors'} now{new}\n{then}")


@click.command("forget-shadow")
@_name
@options.common
def forget_shadow(name: str, workspace: str, as_json: bool) -> None:
    """Remove the vectors that are not searched: those of a re-embedding, or those a roll-back would need."""
    with options.opened(workspace) as ws:
        found = ws.collection(name).shadow.stats()
        ws.forget_shadow(name)
    if as_json:
        render.emit({"forgotten": None if found is None else found.embedder})
    else:
        told = "your own vectors" if found is None or found.embedder is None else found.embedder
        click.echo(f"removed {told} from {name}")


COMMANDS = (reembed, cut_over, roll_back, forget_shadow)      # of `madang collection`
