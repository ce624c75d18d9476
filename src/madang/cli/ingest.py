"""`madang ingest`."""

from __future__ import annotations

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from madang.base.messages import IngestReport
from madang.cli import options, render
from madang.rag.ingest import IngestProgress


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@options.collection_option
@click.option("--embedder", metavar="NAME",
              help="Which model embeds a new collection: bundled/minilm, bundled/static (fast, weaker), or "
                   "SERVICE/MODEL. Default: [models] embed in madang.toml.")
@options.common
def ingest(paths: tuple[str, ...], collection: str, embedder: str | None, workspace: str, as_json: bool) -> int:
    """Bring a collection up to date with files and folders.

    Reads text, Markdown, HTML, PDF, DOCX and source code. Only what changed is done again; files that disappeared from
    a folder are removed. A file that cannot be read is reported and does not stop the run (the exit code is 1).
    """
    with options.opened(workspace, create=True) as ws, Bar(quiet=as_json) as bar:
        result = ws.ingest(list(paths), collection, embedder=embedder, progress=bar.update)
    _show(result, as_json)
    return 1 if result.problems else 0


def _show(result: IngestReport, as_json: bool) -> None:
    for problem in result.problems:
        click.echo(f"error: {' '.join(problem.message.split())}", err=True)
    if as_json:
        render.emit(result.to_dict())
    else:
        render.report(result, render.console())


class Bar:
    """A progress bar on stderr with files, chunks, rate and remaining time; silent where nobody looks."""

    def __init__(self, quiet: bool = False) -> None:
        self._progress = Progress(
            TextColumn("ingesting"), BarColumn(), TaskProgressColumn(),
            TextColumn("{task.fields[files]} files · {task.fields[chunks]} chunks · {task.fields[rate]}/s"),
            TimeRemainingColumn(), console=Console(stderr=True), transient=True,
            disable=quiet or not render.interactive())
        self._task = self._progress.add_task("ingest", total=None, files="0", chunks="0", rate="0")

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def update(self, state: IngestProgress) -> None:
        """Take in one event."""
        rate = state.chunks / state.seconds if state.seconds else 0.0
        # An empty file has no bytes: the files carry the bar then.
        done, total = ((state.bytes_done, state.bytes_total) if state.bytes_total
                       else (state.files_done, state.files_total))
        self._progress.update(self._task, completed=done, total=total, files=f"{state.files_done}/{state.files_total}",
                              chunks=f"{state.chunks:,}", rate=f"{rate:,.0f}")
