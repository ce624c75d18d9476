"""`madang data scenes`: data sets made here."""

from __future__ import annotations

from pathlib import Path

import click

from madang.base.errors import Conflict
from madang.cli import options, render


@click.group()
def data() -> None:
    """Data sets to learn from and to try things out with."""


@data.command()
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
@click.option("--count", default=1000, show_default=True, type=click.IntRange(1, 1_000_000), help="How many pictures.")
@click.option("--start", default=0, show_default=True, type=click.IntRange(min=0), help="The first seed.")
@click.option("--split", default="train", show_default=True, type=click.Choice(["train", "held-out", "combinations"]),
              help="Which scenes: none of one split is in another.")
@click.option("--language", default="en", show_default=True, type=click.Choice(["en", "ko"]), help="Of the prompts.")
@click.option("--side", default=256, show_default=True, type=click.IntRange(16, 2048), help="Pixels.")
@click.option("--layout", default="folder", show_default=True, type=click.Choice(["folder", "diffusiondb", "parquet"]),
              help="Pictures with metadata.jsonl, DiffusionDB's parts, or one Parquet file as `datasets` writes it.")
@click.option("--format", "kind", default="png", show_default=True, type=click.Choice(["png", "jpg"]),
              help="Of the files.")
@options.common
def scenes(out: Path, count: int, start: int, split: str, language: str, side: int, layout: str, kind: str,
           workspace: str, as_json: bool) -> None:
    """Paint scenes with their prompts and their truth into the folder OUT.

    One to three shapes over a background at a time of day; every attribute is drawn evenly and on its own. The same
    seed gives the same picture. DiffusionDB's columns that mean nothing here (cfg, step, sampler) hold one value each.
    """
    from madang.multimodal.scenes.dataset import write

    if out.exists() and any(out.iterdir()):
        raise Conflict(f"OUT: {out} is not empty.", remedy="Name a new folder.")
    with render.progress("painting", "pictures") as bar:
        write(out, count, start=start, split=split, language=language, side=side,  # type: ignore[arg-type]
              layout=layout, kind=kind, progress=None if as_json else bar)  # type: ignore[arg-type]
    if as_json:
        render.emit({"folder": str(out), "pictures": count, "layout": layout})
    else:
        click.echo(f"{out}: {count:,} pictures with prompts ({layout})")
