"""`madang train`: models of pictures and texts, made or tuned here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from madang.base.errors import MissingDependency
from madang.cli import options, render

if TYPE_CHECKING:
    from madang.multimodal.clip.train import Told


@click.group()
def train() -> None:
    """Make or tune models, on this machine. Stopped at any moment, the same command goes on."""


@train.command()
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--data",
    default="scenes",
    show_default=True,
    metavar="WHAT",
    help="Pictures with captions: a folder (metadata.jsonl or .csv, a .txt beside each picture, or a folder for each "
    'label), a Parquet file, DiffusionDB; "scenes" are painted here.',
)
@click.option(
    "--from",
    "start",
    default="",
    metavar="MODEL",
    help="A CLIP or SigLIP to start from: a folder, bundled/clip, or a name of the hub, e.g. "
    "openai/clip-vit-base-patch32. "
    "Default: a small model from nothing.",
)
@click.option("--lora", default=0, metavar="RANK", help="Low-rank updates of this rank instead of training everything.")
@click.option("--text-column", default="", metavar="NAME", help="Which column or key holds the captions.")
@click.option("--steps", default=2000, show_default=True, type=click.IntRange(min=1), help="How many.")
@click.option("--batch", default=256, show_default=True, type=click.IntRange(min=2), help="Pictures in a step.")
@click.option(
    "--learning-rate",
    default=None,
    type=click.FloatRange(min=0, min_open=True, max=1, max_open=True),
    help="Default: 0.001 from nothing, 0.00005 from a model.",
)
@click.option(
    "--groups",
    default=20_000,
    show_default=True,
    type=click.IntRange(min=1),
    help="Scenes to paint, each with seven that differ in one respect.",
)
@click.option(
    "--every", default=200, show_default=True, type=click.IntRange(min=1), help="Steps between looks at what it knows."
)
@click.option("--threads", default=0, type=click.IntRange(min=0), help="Cores to use. Default: as torch likes.")
@click.option("--seed", default=0, show_default=True, help="Of the weights and the order.")
@options.common
def clip(
    out: Path,
    data: str,
    start: str,
    lora: int,
    text_column: str,
    steps: int,
    batch: int,
    learning_rate: float | None,
    groups: int,
    every: int,
    threads: int,
    seed: int,
    workspace: str,
    as_json: bool,
) -> int:
    """Train a model of pictures and texts (CLIP) into the folder OUT.

    OUT gets the model in Hugging Face's format with ONNX graphs beside it, and training/ with a checkpoint, the
    scores on what is held out (history.jsonl, curves.html), and what a few prompts find (sheet.png).

    \b
    A small one from nothing:         madang train clip my-clip
    Tuned to your own pictures:       madang train clip my-clip --from openai/clip-vit-base-patch32 --data photos/
    """
    try:
        from madang.multimodal.clip.job import Wish, run
        from madang.multimodal.clip.train import Recipe
    except ImportError as error:
        if (error.name or "").partition(".")[0] in ("torch", "transformers", "peft"):
            raise MissingDependency("Training", extra="train") from None
        raise
    rate = learning_rate or (5e-5 if start else 1e-3)
    recipe = Recipe(
        steps=steps, batch=batch, learning_rate=rate, warmup=min(100, steps // 10), seed=seed, threads=threads
    )
    with _Bar(quiet=as_json) as bar:
        found = run(
            Wish(out, start, data, recipe, groups, lora, text_column, every),
            tell=bar.told,
            say=(lambda _: None) if as_json else (lambda line: click.echo(line, err=True)),
        )
    for name, fault in found.broken:
        click.echo(f"error: {name}: {' '.join(fault.split())}", err=True)
    if as_json:
        render.emit(
            {
                "folder": str(found.folder),
                "steps": found.steps,
                "scores": found.scores,
                "broken": [{"name": name, "fault": fault} for name, fault in found.broken],
            }
        )
    else:
        render.table(
            ["held out", "score"], [[name, f"{value:.3f}"] for name, value in found.scores.items()], render.console()
        )
        click.echo(f"{found.folder}: the model. {found.folder / 'training' / 'curves.html'}: how it went.")
    return 1 if found.broken else 0


class _Bar:
    """Steps, loss, speed and what the last look found, on stderr."""

    def __init__(self, quiet: bool) -> None:
        self._progress = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            disable=quiet or not render.interactive(),
        )
        self._task = self._progress.add_task("train", total=None, state="")

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def told(self, now: Told) -> None:
        """Take in one step."""
        seen = " · ".join(f"{name} {value:.2f}" for name, value in list(now.scores.items())[:3])
        self._progress.update(
            self._task,
            completed=now.step,
            total=now.steps,
            state=f"loss {now.loss:.3f} · {now.seconds / max(1, now.step):.2f} s a step{' · ' + seen if seen else ''}",
        )
