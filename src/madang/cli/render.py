"""Nouns to text for people, with rich, and to JSON for machines."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from madang.base.messages import Answer, Citation, IngestReport, Location, Passage

_QUOTE_CHARS = 400


def console() -> Console:
    """A console on stdout; plain when it is not a terminal."""
    return Console(highlight=False, soft_wrap=False)


def emit(document: Any) -> None:
    """One JSON document on stdout."""
    click.echo(json.dumps(document, ensure_ascii=False, indent=2, default=str))


def where(uri: str, location: Location) -> str:
    """A place a person can go to: a path relative to here when it is below, the line or page, the section."""
    name = shown_path(uri) or "(no source)"
    place = f"{name}:{location.line}" if location.page is None else f"{name}, page {location.page}"
    return f"{place} · {location.heading}" if location.heading else place


def shown_path(uri: str) -> str:
    """A path relative to the working directory when it is inside it."""
    try:
        return str(Path(uri).relative_to(Path.cwd()))
    except (ValueError, OSError):
        return uri


def answer(result: Answer, screen: Console, *, show_text: bool = True) -> None:
    """The answer, its citations with places and quotes, notes and timings."""
    if show_text:
        screen.print(Text(result.text, style="bold" if result.status == "not_found" else ""))
    if result.citations:
        screen.print()
    for citation in result.citations:
        _citation(citation, screen)
    for note in result.notes:
        screen.print(f"[yellow]note:[/] {escape(note)}")
    steps = ", ".join(f"{name} {value:.0f}" for name, value in result.timings_ms.items() if name != "total")
    tokens = f" · {result.usage.total_tokens} tokens" if result.usage.total_tokens else ""
    screen.print(f"[dim]{escape(result.model)} · {result.timings_ms.get('total', 0):.0f} ms ({steps}){tokens}[/]")


def _citation(citation: Citation, screen: Console) -> None:
    check = "[green]✓[/]" if citation.verified else "[red]✗ not found in the source[/]"
    screen.print(f"[cyan]\\[{citation.number}][/] {escape(where(citation.source, citation.location))} {check}")
    screen.print(Padding(Text(_shorten(citation.quote), style="dim"), (0, 0, 0, 4)))


def passages(found: list[Passage], screen: Console) -> None:
    """Search results, best first."""
    for number, passage in enumerate(found, start=1):
        screen.print(f"[cyan]{number:>2}.[/] {escape(where(passage.source, passage.location))} "
                     f"[dim]score {passage.score:.4g}[/]")
        screen.print(Padding(Text(_shorten(passage.text)), (0, 0, 1, 4)))
    if not found:
        screen.print("nothing found")


def report(result: IngestReport, screen: Console) -> None:
    """What an ingest did, in one line, and the files that could not be read."""
    counts = [f"{count} {word}" for word, count in [("added", result.added), ("updated", result.updated),
              ("unchanged", result.unchanged), ("removed", result.removed), ("failed", result.failed)]
              if count or word == "added"]
    rate = f", {result.chunks:,} chunks in {result.seconds:.1f} s ({result.chunks_per_second:,.0f}/s)" \
        if result.chunks else ""
    screen.print(f"[bold]{escape(result.collection)}[/]: {', '.join(counts)}{rate}")
    if result.skipped:
        screen.print(f"[dim]{result.skipped} files of other kinds were skipped[/]")


def table(columns: list[str], rows: list[list[Any]], screen: Console) -> None:
    """A plain table."""
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        grid.add_column(column, overflow="fold")
    for row in rows:
        grid.add_row(*(escape(str(cell)) for cell in row))
    screen.print(grid)


def _shorten(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= _QUOTE_CHARS else flat[:_QUOTE_CHARS].rstrip() + " …"


def size(count: int) -> str:
    """Bytes for people."""
    value = float(count)
    for unit in ("B", "KB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


@contextmanager
def busy(what: str) -> Iterator[None]:
    """A spinner on stderr while something takes its time, if anybody is there to see it."""
    if not interactive():
        yield
        return
    with Console(stderr=True).status(escape(what)):
        yield


@contextmanager
def stage() -> Iterator[Callable[[str], None]]:
    """A spinner on stderr that is told what is being done, if anybody is there to see it."""
    if not interactive():
        yield lambda _: None
        return
    with Console(stderr=True).status("") as status:
        yield lambda what: status.update(escape(what))


@contextmanager
def progress(what: str, unit: str) -> Iterator[Callable[[int, int], None] | None]:
    """A bar on stderr that is told how much is done and how much there is; None where nobody looks."""
    if not interactive():
        yield None
        return
    count = DownloadColumn() if unit == "bytes" else MofNCompleteColumn()
    with Progress(TextColumn("{task.description}"), BarColumn(), count, TimeRemainingColumn(),
                  console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(escape(what), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def interactive() -> bool:
    """Whether stderr is a terminal that progress may be drawn on."""
    return os.isatty(2)
