"""`madang image describe|draw|reply|roundtrip|roundtrips|vote`: models that say what a picture shows, or draw."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.markup import escape

from madang.base.errors import InvalidInput, MadangError
from madang.cli import options, render

if TYPE_CHECKING:
    from madang.base import settings
    from madang.models.protocol import Drawing
    from madang.models.resolve import Models

WAYS = ("description", "original", "similar")


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True), metavar="FILE...")
@click.option("--question", "-q", default="Describe the picture.", show_default=True, metavar="TEXT",
              help="What to ask, in the language of the answer.")
@click.option("--model", metavar="NAME",
              help="A chat model that sees: bundled/llava, transformers/MODEL, or SERVICE/MODEL. "
                   "Default: [models] describe in madang.toml.")
@options.common
def describe(files: tuple[Path, ...], question: str, model: str | None, workspace: str, as_json: bool) -> int:
    """Say what pictures show, or answer a question about each.

    \b
    madang image describe photo.jpg
    madang image describe photos/ --question "무엇이 보이나요?"
    """
    from madang.multimodal.pairs import pictures_in
    from madang.workspace.pictures import describe as described

    models, chosen = _models(workspace)
    seer = models.chat_model(models.alias(model, "chat").name if model else chosen.describe)
    rows, broken = [], 0
    for path in [each for file in files for each in (pictures_in(file) if file.is_dir() else [file])]:
        try:
            with render.busy(f"looking at {path.name}"):
                rows.append({"file": str(path), "text": described(seer, path, question)})
        except MadangError as error:
            if isinstance(error, ImportError):
                raise
            click.echo(f"error: {error}", err=True)
            broken += 1
    if as_json:
        render.emit({"model": seer.name, "question": question, "pictures": rows})
    else:
        for row in rows:
            said = escape(row["text"])
            render.console().print(said if len(rows) == 1 else f"[bold]{escape(row['file'])}[/]: {said}")
    return 1 if broken else 0


@click.command()
@click.argument("prompt")
@click.option("--out", "-o", default=Path("drawing.png"), show_default=True, metavar="FILE",
              type=click.Path(path_type=Path, dir_okay=False),
              help="Where to: .png, .jpg or .webp. Of several pictures, the others are called FILE-2 and so on.")
@click.option("--count", "-n", default=1, show_default=True, type=click.IntRange(1, 10), help="How many.")
@click.option("--seed", default=None, type=click.IntRange(min=0), help="The same one gives the same pictures.")
@click.option("--size", default="", metavar="WxH", help="E.g. 512x512. Default: the model's own.")
@click.option("--steps", default=None, type=click.IntRange(1, 1000), help="Of denoising. Default: the model's own.")
@click.option("--guidance", default=None, type=click.FloatRange(0, 100),
              help="How closely to follow the prompt. Default: the model's own.")
@click.option("--strip", default=None, metavar="FILE", type=click.Path(path_type=Path, dir_okay=False),
              help="Also a PNG of how the first picture came to be, step by step.")
@click.option("--model", metavar="NAME",
              help="Who draws: bundled/unclip, diffusers/MODEL, or SERVICE/MODEL. "
                   "Default: [models] draw in madang.toml.")
@options.common
def draw(prompt: str, out: Path, count: int, seed: int | None, size: str, steps: int | None, guidance: float | None,
         strip: Path | None, model: str | None, workspace: str, as_json: bool) -> None:
    """Make a picture of what PROMPT says.

    \b
    madang image draw "a large red star at the top left, over the sea at night" --seed 7 --strip steps.png
    madang image draw "눈밭의 파란 하트" --out heart.png --count 4
    """
    from madang.models.protocol import DrawOptions

    kind = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}.get(out.suffix.lower())
    if kind is None:
        raise InvalidInput(f"--out: {out} ends in none of .png, .jpg and .webp.", remedy="Choose one of them.")
    models, chosen = _models(workspace)
    painter = models.image_generator(models.alias(model, "draw").name if model else chosen.draw)
    wanted = DrawOptions(count=count, size=size, output_format="" if kind == "png" else kind, seed=seed, steps=steps,
                         guidance=guidance, frames=strip is not None)
    with render.busy("drawing"):
        drawn = painter.draw(prompt, wanted)
    names = [out if at == 0 else out.with_name(f"{out.stem}-{at + 1}{out.suffix}") for at in range(len(drawn))]
    for name, each in zip(names, drawn, strict=True):
        name.write_bytes(each.data)
    if strip is not None:
        _write_strip(strip, drawn, painter.name)
    if as_json:
        render.emit({"model": painter.name, "prompt": prompt, "seed": seed, "files": [str(name) for name in names],
                     "revised_prompts": [each.prompt for each in drawn]})
        return
    for name, each in zip(names, drawn, strict=True):
        click.echo(f"{name}: drawn by {painter.name}{f' from: {each.prompt}' if each.prompt else ''}")
    if strip is not None:
        click.echo(f"{strip}: step by step")


def _write_strip(path: Path, drawn: Sequence[Drawing], name: str) -> None:
    from PIL import Image

    from madang.multimodal import sheet

    frames = drawn[0].frames if drawn else ()
    if not frames:
        raise InvalidInput(f"--strip: {name} does not show how it draws.", remedy="bundled/unclip does.")
    cells = [sheet.Cell(Image.open(io.BytesIO(frame)), str(at)) for at, frame in enumerate(frames, start=1)]
    path.write_bytes(sheet.png([sheet.Row("", cells[at:at + 10]) for at in range(0, len(cells), 10)], side=64))


@click.command()
@click.argument("text")
@click.option("--image", "picture", default=None, type=click.Path(path_type=Path, dir_okay=False),
              help="A picture that it is about.")
@click.option("--out", "-o", default=Path("reply.png"), show_default=True, metavar="FILE",
              type=click.Path(path_type=Path, dir_okay=False), help="Where a picture goes, if the answer is one.")
@click.option("--seed", default=None, type=click.IntRange(min=0), help="The same one gives the same picture.")
@click.option("--model", metavar="NAME",
              help="A chat model: bundled/llava, transformers/MODEL, or SERVICE/MODEL. "
                   "Default: [models] describe in madang.toml.")
@options.common
def reply(text: str, picture: Path | None, out: Path, seed: int | None, model: str | None, workspace: str,
          as_json: bool) -> None:
    """Say TEXT to a model, with a picture perhaps; it answers with words or with a picture.

    \b
    madang image reply "Draw a small green ring in the desert by day." --out ring.png
    madang image reply "Draw the same at night." --image ring.png --out night.png
    madang image reply "What colour is it?" --image ring.png
    """
    from madang.workspace.pictures import reply_of

    models, chosen = _models(workspace)
    answers = models.chat_model(models.alias(model, "chat").name if model else chosen.describe)
    with render.busy("answering"):
        said, drawn = reply_of(answers, text, picture, seed=seed)
    if drawn is not None:
        out.write_bytes(drawn)
    if as_json:
        render.emit({"model": answers.name, "text": said, "file": None if drawn is None else str(out)})
        return
    if said:
        render.console().print(escape(said))
    if drawn is not None:
        click.echo(f"{out}: drawn by {answers.name}")


@click.command()
@click.argument("picture", type=click.Path(path_type=Path, dir_okay=False), metavar="IMAGE")
@click.option("--prompt", default=None, metavar="TEXT",
              help="What it was made from. Default: the caption beside it, if any.")
@click.option("--collection", "-c", default=None, metavar="NAME",
              help="Of pictures with captions: the stored prompts, and among what the picture is looked for. "
                   'Default: "images" where there is one, else painted scenes.')
@click.option("--describe", "describer", default=None, metavar="NAME",
              help="Who describes. Default: as in madang.toml.")
@click.option("--draw", "painter", default=None, metavar="NAME", help="Who draws. Default: as in madang.toml.")
@click.option("--question", "-q", default="Describe the picture.", show_default=True, metavar="TEXT",
              help="What is asked of who describes.")
@click.option("--way", "ways", multiple=True, type=click.Choice(WAYS),
              help="Which words to draw from; may be given several times. Default: all.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Of who draws.")
@click.option("--sheet", default=None, metavar="FILE", type=click.Path(path_type=Path, dir_okay=False),
              help="Also write the contact sheet here: FILE.png or FILE.html.")
@options.common
def roundtrip(picture: Path, prompt: str | None, collection: str | None, describer: str | None, painter: str | None,
              question: str, ways: tuple[str, ...], seed: int, sheet: Path | None, workspace: str,
              as_json: bool) -> None:
    """Describe IMAGE, draw it again from words, and see how much of it came back.

    It is drawn from what a model says of it, from the prompt that it was made from, and from the stored prompt that is
    nearest to it. Each is compared with it: by CLIP similarity, by the rank at which it is found, and, where it is a
    painted scene, by attributes. Every run is kept with its pictures, models and seed (see madang image roundtrips).

    \b
    madang data scenes scenes/ --count 20 --split held-out
    madang image roundtrip scenes/0000003.png --sheet there-and-back.png
    """
    if sheet is not None and sheet.suffix.lower() not in (".png", ".html"):
        raise InvalidInput(f"--sheet: {sheet} ends in neither .png nor .html.", remedy="Choose one of them.")
    with options.opened(workspace, create=True) as ws, render.stage() as told:
        kept = ws.roundtrip_image(picture, prompt=prompt, collection=collection, describe=describer, draw=painter,
                                  seed=seed, ways=ways or WAYS, question=question,  # type: ignore[arg-type]
                                  progress=told)
    if sheet is not None:
        sheet.write_bytes((kept.folder / f"sheet{sheet.suffix.lower()}").read_bytes())
    if as_json:
        render.emit({"id": kept.id, "folder": str(kept.folder), **kept.trip})
        return
    _table(kept.trip)
    click.echo(f"{kept.folder}: the pictures, sheet.png and sheet.html. Vote on vote.html: "
               f"madang image vote {kept.id} A")
    if sheet is not None:
        click.echo(f"{sheet}: the contact sheet")


def _table(trip: dict[str, Any]) -> None:
    rows = []
    for each in trip["versions"]:
        right = each["attributes"]
        rows.append([each["way"], f"{each['similarity']:.3f}", f"{each['rank']:,} of {each['among']:,}",
                     f"{sum(right.values()) / len(right):.2f}" if right else "", escape(each["prompt"])])
    render.table(["drawn from", "similarity", "rank", "attributes", "words"], rows, render.console())


@click.command()
@options.common
def roundtrips(workspace: str, as_json: bool) -> None:
    """Show the round trips that were kept."""
    with options.opened(workspace) as ws:
        found = ws.roundtrips.list()
    if as_json:
        render.emit([{"id": each.id, "folder": str(each.folder), "vote": each.vote, **each.trip} for each in found])
        return
    rows = []
    for each in found:
        scores = {version["way"]: f"{version['similarity']:.3f}" for version in each.trip["versions"]}
        rows.append([each.id, escape(each.trip["name"]), *(scores.get(way, "") for way in WAYS), each.vote])
    render.table(["run", "picture", *WAYS, "vote"], rows, render.console())


@click.command()
@click.argument("run")
@click.argument("best")
@options.common
def vote(run: str, best: str, workspace: str, as_json: bool) -> None:
    """Keep which version of a round trip a person finds nearest to the picture.

    BEST is description, original, similar or none, or the letter under it on the run's vote.html, which does not say
    which is which.
    """
    with options.opened(workspace) as ws:
        kept = ws.roundtrips.vote(run, best)
    if as_json:
        render.emit({"id": kept.id, "vote": kept.vote})
    else:
        click.echo(f"{kept.id}: {kept.vote}")


def _models(workspace: str) -> tuple[Models, settings.Models]:
    """Models as a workspace configures them, which need not exist, and which of them does what."""
    from madang.base import settings
    from madang.models.resolve import Models

    chosen = settings.load(Path(workspace))
    return Models(chosen, Path(workspace)), chosen.models


COMMANDS = (describe, draw, reply, roundtrip, roundtrips, vote)
