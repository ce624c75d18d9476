"""`madang train`: models of pictures and texts, made or tuned here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from madang.base.errors import MissingDependency
from madang.cli import options, render

if TYPE_CHECKING:
    from madang.multimodal.training import Outcome, Told

_Command = Callable[..., Any]


@click.group()
def train() -> None:
    """Make or tune models, on this machine. Stopped at any moment, the same command goes on."""


def _shared(every: int) -> Callable[[_Command], _Command]:
    """The options of every training; it looks at what is learnt after `every` steps, unless told otherwise."""

    def add(command: _Command) -> _Command:
        for option in (
            click.option(
                "--seed",
                default=0,
                show_default=True,
                type=click.IntRange(min=0),
                help="Of the weights and the order.",
            ),
            click.option(
                "--threads", default=0, type=click.IntRange(min=0), help="Cores to use. Default: as torch likes."
            ),
            click.option(
                "--every",
                default=every,
                show_default=True,
                type=click.IntRange(min=1),
                help="Steps between looks at what it knows.",
            ),
        ):
            command = option(command)
        return command

    return add


_PAINTED = click.option(
    "--groups",
    default=20_000,
    show_default=True,
    type=click.IntRange(min=1),
    help="Scenes to paint, each with seven that differ in one respect.",
)


def _on_a_clip(command: _Command) -> _Command:
    """The options of trainings that stand on a CLIP."""
    command = click.option(
        "--pool",
        default=None,
        metavar="DIR",
        type=click.Path(path_type=Path, file_okay=False),
        help="Where painted scenes are kept, for several trainings. Default: OUT/training.",
    )(command)
    return click.option(
        "--clip",
        default="bundled/clip",
        show_default=True,
        metavar="MODEL",
        help="The CLIP that it stands on: a folder, or a name of the hub.",
    )(command)


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
@_PAINTED
@_shared(every=200)
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
    with _needed():
        from madang.multimodal.clip.job import Wish, run
        from madang.multimodal.clip.train import Recipe
    rate = learning_rate or (5e-5 if start else 1e-3)
    recipe = Recipe(
        steps=steps, batch=batch, learning_rate=rate, warmup=min(100, steps // 10), seed=seed, threads=threads
    )
    with _Bar(quiet=as_json) as bar:
        found = run(Wish(out, start, data, recipe, groups, lora, text_column, every), tell=bar.told, say=_say(as_json))
    return _show(found, as_json, steps=steps)


@train.command()
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--data",
    default="scenes",
    show_default=True,
    metavar="FILE",
    help='Conversations about pictures in LLaVA\'s format (see madang data instruct); "scenes" are painted here, and '
    '"pages" of four scenes each.',
)
@click.option(
    "--from",
    "start",
    default="",
    metavar="MODEL",
    help="A LLaVA to start from: a folder, bundled/llava, or a name of the hub, e.g. llava-hf/llava-1.5-7b-hf. "
    "Default: a small one from nothing.",
)
@click.option("--lora", default=0, metavar="RANK", help="Low-rank updates of this rank instead of training everything.")
@click.option(
    "--tiles", is_flag=True, help="See pictures whole, and in four tiles that are twice as sharp (LLaVA-NeXT); slower."
)
@click.option("--steps", default=4000, show_default=True, type=click.IntRange(min=1), help="Of the last stage.")
@click.option("--batch", default=48, show_default=True, type=click.IntRange(min=2), help="Conversations in a step.")
@click.option(
    "--language-steps",
    default=None,
    type=click.IntRange(min=0),
    help="Of the stage that teaches the language model to speak. Default: 1500 from nothing, else 0.",
)
@click.option(
    "--align-steps",
    default=None,
    type=click.IntRange(min=0),
    help="Of the stage that teaches the projector. Default: 200 from nothing, else 0.",
)
@click.option(
    "--learning-rate",
    default=None,
    type=click.FloatRange(min=0, min_open=True, max=1, max_open=True),
    help="Default: 0.002 from nothing, 0.00002 from a model.",
)
@_on_a_clip
@_PAINTED
@_shared(every=500)
@options.common
def llava(
    out: Path,
    data: str,
    start: str,
    lora: int,
    tiles: bool,
    steps: int,
    batch: int,
    language_steps: int | None,
    align_steps: int | None,
    learning_rate: float | None,
    clip: str,
    pool: Path | None,
    groups: int,
    every: int,
    threads: int,
    seed: int,
    workspace: str,
    as_json: bool,
) -> int:
    """Train a model that describes pictures and answers questions about them (LLaVA) into the folder OUT.

    Two stages, as in the paper: the projector alone on captions, then projector and language model on conversations;
    before them, a small model from nothing learns to speak. OUT gets the model in Hugging Face's format, and training/
    with checkpoints, the scores on what is held out, and what it says of some pictures (sheet.png).

    \b
    A small one from nothing:     madang train llava my-llava
    Tuned to your own pictures:   madang train llava my-llava --from llava-hf/llava-1.5-7b-hf --lora 8 --data told.jsonl
    With sharper eyes:            madang train llava my-llava --from bundled/llava --tiles --data pages
    Used:                         madang image describe photo.jpg --model transformers/./my-llava
    """
    with _needed():
        from madang.multimodal.llava.job import Wish, run
        from madang.multimodal.llava.train import Recipe
    recipe = Recipe(
        steps=steps,
        batch=batch,
        learning_rate=learning_rate or (2e-5 if start else 2e-3),
        warmup=min(100, steps // 10),
        seed=seed,
        threads=threads,
        language=(0 if start else 1500) if language_steps is None else language_steps,
        align=(0 if start else 200) if align_steps is None else align_steps,
    )
    wish = Wish(out, start, clip, data, recipe, groups, lora, tiles, every, pool)
    with _Bar(quiet=as_json) as bar:
        found = run(wish, tell=bar.part, say=_say(as_json))
    return _show(found, as_json)


@train.command()
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--data",
    default="scenes",
    show_default=True,
    metavar="WHAT",
    help='Pictures with captions, as for madang train clip; "scenes" are painted here.',
)
@click.option("--text-column", default="", metavar="NAME", help="Which column or key holds the captions.")
@click.option("--prior-steps", default=5000, show_default=True, type=click.IntRange(min=1), help="Of the prior.")
@click.option(
    "--layout-steps",
    default=3000,
    show_default=True,
    type=click.IntRange(min=1),
    help="Of the decoder's layout: what is where.",
)
@click.option("--steps", default=8000, show_default=True, type=click.IntRange(min=1), help="Of the decoder.")
@click.option("--batch", default=64, show_default=True, type=click.IntRange(min=2), help="Pictures in a step.")
@_on_a_clip
@_PAINTED
@_shared(every=500)
@options.common
def unclip(
    out: Path,
    data: str,
    text_column: str,
    prior_steps: int,
    layout_steps: int,
    steps: int,
    batch: int,
    clip: str,
    pool: Path | None,
    groups: int,
    every: int,
    threads: int,
    seed: int,
    workspace: str,
    as_json: bool,
) -> int:
    """Train a model that draws (unCLIP) into the folder OUT.

    First the decoder's layout, what is where in a picture by its vector; then the prior, from the vector of a text to
    that of a picture; then the decoder, from that to pixels. OUT gets both in diffusers' formats, and training/ with
    checkpoints, the scores on what is held out, and what is drawn from some prompts (decoder/sheet.png).

    \b
    madang train unclip my-unclip
    madang image draw "a red star at night" --model diffusers/./my-unclip
    """
    with _needed():
        from madang.multimodal.unclip import decoder, prior, sketch
        from madang.multimodal.unclip.job import Wish, run
    wish = Wish(
        out,
        clip,
        data,
        prior.Recipe(steps=prior_steps, warmup=min(100, prior_steps // 10), seed=seed, threads=threads),
        decoder.Recipe(steps=steps, batch=batch, warmup=min(200, steps // 10), seed=seed, threads=threads),
        sketch.Recipe(steps=layout_steps, warmup=min(100, layout_steps // 10), seed=seed, threads=threads),
        groups,
        text_column,
        every,
        pool,
    )
    with _Bar(quiet=as_json) as bar:
        found = run(wish, tell=bar.part, say=_say(as_json))
    return _show(found, as_json)


@train.command()
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--data",
    default="python",
    show_default=True,
    metavar="WHAT",
    help="A file of UTF-8 text, or a folder of them; \"python\" is the source of Python's standard library, which is "
    "here already.",
)
@click.option(
    "--kind",
    default="mamba",
    show_default=True,
    type=click.Choice(["mamba", "transformer"]),
    help="A transformer of the same size is there to compare with.",
)
@click.option("--steps", default=1500, show_default=True, type=click.IntRange(min=1), help="How many.")
@click.option("--batch", default=8, show_default=True, type=click.IntRange(min=2), help="Windows of text in a step.")
@click.option("--length", default=512, show_default=True, type=click.IntRange(min=8), help="Bytes of a window.")
@click.option("--width", default=96, show_default=True, type=click.IntRange(min=32), help="Numbers of a token.")
@click.option("--layers", default=6, show_default=True, type=click.IntRange(min=1), help="Of the Mamba-2.")
@click.option(
    "--learning-rate",
    default=2e-3,
    show_default=True,
    type=click.FloatRange(min=0, min_open=True, max=1, max_open=True),
    help="At its highest.",
)
@_shared(every=200)
@options.common
def mamba(
    out: Path,
    data: str,
    kind: Literal["mamba", "transformer"],
    steps: int,
    batch: int,
    length: int,
    width: int,
    layers: int,
    learning_rate: float,
    every: int,
    threads: int,
    seed: int,
    workspace: str,
    as_json: bool,
) -> int:
    """Train a small language model of bytes (Mamba-2) into the folder OUT.

    It remembers a state of fixed size, however much it has read, where a transformer remembers everything. OUT gets the
    model in Hugging Face's format, and training/ with a checkpoint and the bits per byte on files that are held out.

    \b
    madang train mamba my-mamba
    madang train mamba my-mamba --data notes/ --steps 5000
    """
    with _needed():
        from madang.multimodal.mamba.job import Recipe, Wish, run
    recipe = Recipe(
        steps=steps,
        batch=batch,
        learning_rate=learning_rate,
        warmup=min(100, steps // 10),
        seed=seed,
        threads=threads,
        length=length,
    )
    with _Bar(quiet=as_json) as bar:
        found = run(Wish(out, kind, data, recipe, width, layers, every), tell=bar.told, say=_say(as_json))
    return _show(found, as_json)


@contextmanager
def _needed() -> Iterator[None]:
    """Raise `MissingDependency` for the libraries that training needs."""
    try:
        yield
    except ImportError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("torch", "transformers", "peft", "diffusers"):
            extra = "train,diffusers" if missing == "diffusers" else "train"
            raise MissingDependency("Training", extra=extra) from None
        raise


def _say(as_json: bool) -> Callable[[str], None]:
    return (lambda _: None) if as_json else (lambda line: click.echo(line, err=True))


def _show(found: Outcome, as_json: bool, **more: object) -> int:
    """What came of it; 1 where some pictures could not be read."""
    for name, fault in found.broken:
        click.echo(f"error: {name}: {' '.join(fault.split())}", err=True)
    if as_json:
        told = [{"name": name, "fault": fault} for name, fault in found.broken]
        render.emit({"folder": str(found.folder), **more, "scores": found.scores, "broken": told})
    else:
        render.table(
            ["held out", "score"], [[name, f"{value:.3f}"] for name, value in found.scores.items()], render.console()
        )
        click.echo(f"{found.folder}: the model. {found.folder / 'training'}: how it went.")
    return 1 if found.broken else 0


class _Bar:
    """Steps, loss, speed and what the last look found, on stderr."""

    def __init__(self, quiet: bool) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            disable=quiet or not render.interactive(),
        )
        self._task = self._progress.add_task("training", total=None, state="")

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def part(self, name: str) -> Callable[[Told], None]:
        """For one of several trainings."""
        self._progress.reset(self._task, description=name)
        return self.told

    def told(self, now: Told) -> None:
        """Take in one step."""
        seen = " · ".join(f"{name} {value:.2f}" for name, value in list(now.scores.items())[:3])
        self._progress.update(
            self._task,
            completed=now.step,
            total=now.steps,
            state=f"loss {now.loss:.3f} · {now.seconds / max(1, now.step):.2f} s a step{' · ' + seen if seen else ''}",
        )
