"""`madang data scenes|instruct`: data sets made here."""

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


@data.command()
@click.argument("pictures", type=click.Path(path_type=Path, exists=True))
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--writer", default="", metavar="NAME",
              help="A chat model that writes, e.g. openai/gpt-4o-mini. Default: a grammar, for painted scenes only.")
@click.option("--kind", "kinds", multiple=True, type=click.Choice(["caption", "conversation", "detail", "reasoning"]),
              help="What to write; may be given several times. Default: all of them.")
@click.option("--count", default=0, metavar="N", type=click.IntRange(min=0), help="Pictures at most. Default: all.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Of the grammar.")
@options.common
def instruct(pictures: Path, out: Path, writer: str, kinds: tuple[str, ...], count: int, seed: int, workspace: str,
             as_json: bool) -> int:
    """Write conversations about PICTURES to the file OUT, to train a model that describes (madang train llava).

    From captions, and positions where they are known, a chat model writes what it would say if it saw them: questions
    and answers, detailed descriptions, reasoning. OUT is JSON Lines in LLaVA's format, and must lie beside the pictures
    or above them. Stopped, the same command goes on; what failed is tried again.

    \b
    madang data scenes scenes/ --count 500
    madang data instruct scenes/ scenes/told.jsonl
    madang data instruct photos/ photos/told.jsonl --writer openai/gpt-4o-mini
    """
    from madang.base import settings
    from madang.models.resolve import Models
    from madang.multimodal.instruct import Grammar, Model, write
    from madang.multimodal.pairs import read_pairs
    from madang.multimodal.scenes.talk import KINDS

    found = read_pairs(pictures)[:count or None]
    wanted = [kind for kind in KINDS if not kinds or kind in kinds]
    if writer:
        models = Models(settings.load(Path(workspace)), Path(workspace))
        chosen: Model | Grammar = Model(models.chat_model(models.alias(writer, "chat").name))
    else:
        chosen = Grammar(seed)
    with render.progress("writing", "conversations") as bar:
        done = [0]

        def told(more: int) -> None:
            done[0] += more
            if bar is not None and not as_json:
                bar(done[0], len(found) * len(wanted))

        written = write(found, out, chosen, kinds=wanted, base=pictures if pictures.is_dir() else pictures.parent,
                        progress=told)
    for why, how_many in written.failed.most_common():
        click.echo(f"error: {how_many:,} conversations: {why}", err=True)
    if as_json:
        render.emit({"file": str(out), **written.to_dict()})
    else:
        kept = f", {written.kept:,} were there" if written.kept else ""
        click.echo(f"{out}: {written.conversations:,} conversations of {written.turns:,} turns{kept}")
    return 1 if written.failed else 0
