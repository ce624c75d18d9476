"""`madang image ingest|search|calibrate|classify`."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.markup import escape

from madang.base.errors import InvalidInput, MadangError
from madang.cli import options, render

if TYPE_CHECKING:
    from madang.multimodal.images import ImageProgress, Thumbnails
    from madang.multimodal.search import ImageHit

_Command = Callable[..., Any]


@click.group()
def image() -> None:
    """Collections of pictures: found by words, by a picture, or by both."""


def _collection(command: _Command) -> _Command:
    return click.option("--collection", "-c", metavar="NAME", default="images", show_default=True,
                        help="The collection.")(command)


@image.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@_collection
@click.option("--model", metavar="NAME",
              help="Which model sees, for a new collection: bundled/clip, or a CLIP or SigLIP (hub or folder) "
                   "as transformers/MODEL. Default: [models] see in madang.toml.")
@click.option("--every", default=2.0, show_default=True, metavar="SECONDS", type=click.FloatRange(min=0, min_open=True),
              help="Between the frames that are taken of a video.")
@options.common
def ingest(paths: tuple[str, ...], collection: str, model: str | None, every: float, workspace: str,
           as_json: bool) -> int:
    """Bring a collection up to date with pictures.

    Reads JPEG, PNG, WebP, GIF, BMP, TIFF, videos, and Parquet files with a column of pictures. Captions come from
    metadata.jsonl or .csv, from DiffusionDB's files, or from a .txt beside a picture. Only what changed is done again;
    files that disappeared from a folder are removed. A file that cannot be read is reported and does not stop the run
    (the exit code is 1).
    """
    with options.opened(workspace, create=True) as ws, render.progress("ingesting", "files") as bar:
        def told(now: ImageProgress) -> None:
            if bar is not None and not as_json:
                bar(now.files_done, now.files_total)

        result = ws.ingest_images(list(paths), collection, model=model, every_s=every, progress=told)
    for problem in result.problems:
        click.echo(f"error: {' '.join(problem.message.split())}", err=True)
    if as_json:
        render.emit(result.to_dict())
    else:
        rate = result.pictures / result.seconds if result.seconds else 0.0
        click.echo(f"{collection}: {result.pictures:,} pictures ({result.added:,} files added, {result.updated:,} "
                   f"updated, {result.unchanged:,} unchanged, {result.removed:,} removed, {result.failed:,} failed), "
                   f"{result.duplicates:,} of them nearly the same as another; {result.seconds:.1f} s, {rate:,.0f}/s")
    return 1 if result.problems else 0


@image.command()
@click.argument("text", required=False)
@click.option("--image", "picture", type=click.Path(path_type=Path, dir_okay=False),
              help="A picture to find others like.")
@_collection
@click.option("--top-k", "-k", default=10, show_default=True, type=click.IntRange(min=1), help="How many.")
@click.option("--weight", default=0.5, show_default=True, type=click.FloatRange(0, 1),
              help="Of the words, where both are given.")
@click.option("--filter", "condition", metavar="JSON", help='By metadata, e.g. \'{"width": {"$gte": 1024}}\'.')
@click.option("--duplicates", is_flag=True, help="Also those that are nearly the same as another one.")
@click.option("--all", "everything", is_flag=True, help="Also those below the collection's cut-off (see calibrate).")
@click.option("--sheet", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Also write a contact sheet: FILE.png or FILE.html.")
@options.common
def search(text: str | None, picture: Path | None, collection: str, top_k: int, weight: float, condition: str | None,
           duplicates: bool, everything: bool, sheet: Path | None, workspace: str, as_json: bool) -> None:
    """Show the pictures that fit TEXT, a picture, or both.

    \b
    madang image search "a red circle at night" --sheet found.html
    madang image search --image photo.jpg
    madang image search "the same at night" --image photo.jpg --weight 0.7
    """
    if sheet is not None and sheet.suffix.lower() not in (".png", ".html"):
        raise InvalidInput(f"--sheet: {sheet} ends in neither .png nor .html.", remedy="Choose one of them.")
    with options.opened(workspace) as ws:
        found = ws.search_images(text, collection, picture=picture, weight=weight, top_k=top_k,
                                 filter=_filter(condition), duplicates=duplicates)
        shown = [hit for hit in found if everything or hit.relevant is not False]
        if sheet is not None:
            _write_sheet(sheet, _title(text, picture), shown, ws.pictures.thumbnails(collection))
    if as_json:
        render.emit({"text": text, "image": None if picture is None else str(picture),
                     "pictures": [asdict(hit) for hit in shown], "below_cut_off": len(found) - len(shown)})
        return
    screen = render.console()
    render.table(["score", "picture", "caption"],
                 [[f"{hit.score:.3f}", escape(render.shown_path(hit.id)), escape(hit.caption)] for hit in shown],
                 screen)
    if len(found) > len(shown):
        screen.print(f"[dim]{len(found) - len(shown)} more are below the cut-off; see them with --all[/]")
    if sheet is not None:
        click.echo(f"{sheet}: the contact sheet")


def _filter(condition: str | None) -> dict[str, Any] | None:
    if condition is None:
        return None
    try:
        found = json.loads(condition)
    except ValueError as error:
        raise InvalidInput(f"--filter: not JSON ({error}).") from None
    if not isinstance(found, dict):
        raise InvalidInput("--filter: a JSON object is expected.")
    return found


def _title(text: str | None, picture: Path | None) -> str:
    return " + ".join(filter(None, (text, picture.name if picture is not None else None)))


def _write_sheet(path: Path, title: str, hits: Sequence[ImageHit], thumbnails: Thumbnails) -> None:
    from PIL import Image

    from madang.multimodal import sheet

    cells = []
    for hit in hits:
        try:
            thumbnail = Image.open(io.BytesIO(thumbnails.read(hit.id)))
        except MadangError:
            continue
        cells.append(sheet.Cell(thumbnail, f"{hit.score:.3f} {hit.caption or Path(hit.id).name}"))
    rows = [sheet.Row(title if start == 0 else "", cells[start:start + 5]) for start in range(0, len(cells), 5)]
    if path.suffix.lower() == ".png":
        path.write_bytes(sheet.png(rows, side=160))
        if sheet.lacks_letters(rows):
            click.echo("note: this machine has no font with Hangul, so the sheet shows boxes. Install one (on Debian "
                       "or Ubuntu: apt-get install fonts-nanum), or write FILE.html.", err=True)
    else:
        path.write_text(sheet.page(rows, title=title, side=192), encoding="utf-8")


@image.command()
@_collection
@click.option("--questions", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="FILE",
              help='JSON Lines with "text" and "relevant", a list of ids. Default: the captions of the collection.')
@options.common
def calibrate(collection: str, questions: Path | None, workspace: str, as_json: bool) -> None:
    """Find the score from which on a picture is relevant to words, and keep it for searches.

    It is chosen on half of the questions; precision and recall are measured on the other half.
    """
    from madang.multimodal.search import read_questions

    with options.opened(workspace) as ws, render.busy("calibrating"):
        found = ws.calibrate_images(collection, None if questions is None else read_questions(questions))
    if as_json:
        render.emit(asdict(found))
    else:
        click.echo(f"{collection}: pictures from a score of {found.score:.3f} on are relevant: precision "
                   f"{found.precision:.3f}, recall {found.recall:.3f}, by {found.questions} questions among "
                   f"{found.pictures:,} pictures")


@image.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True), metavar="FILE...")
@click.option("--label", "labels", multiple=True, required=True, help="A class; give at least two.")
@click.option("--template", "templates", multiple=True, metavar="TEXT",
              help='How a picture of a class is described; "{}" is the label. Several are averaged.')
@click.option("--model", metavar="NAME", help="Which model sees. Default: [models] see in madang.toml.")
@options.common
def classify(files: tuple[Path, ...], labels: tuple[str, ...], templates: tuple[str, ...], model: str | None,
             workspace: str, as_json: bool) -> int:
    """Which of some labels fits each picture best, without training (zero-shot).

    \b
    madang image classify photos/ --label "a cat" --label "a dog" --template "a photo of {}"
    """
    from madang.base import settings
    from madang.models.resolve import Models
    from madang.multimodal.pairs import pictures_in
    from madang.multimodal.zero_shot import TEMPLATES, ZeroShot
    from madang.workspace.pictures import pixels

    chosen = settings.load(Path(workspace))
    seer = Models(chosen).image_embedder(model or chosen.models.see)
    classes = ZeroShot.of(seer, labels, templates or TEMPLATES)
    rows, broken = [], 0
    for path in [each for file in files for each in (pictures_in(file) if file.is_dir() else [file])]:
        try:
            shares = classes.shares(seer.embed_images([pixels(path)]), seer.scale)[0]
        except MadangError as error:
            click.echo(f"error: {error}", err=True)
            broken += 1
            continue
        named = {label: round(float(share), 4) for label, share in zip(classes.labels, shares, strict=True)}
        rows.append((str(path), max(named, key=named.__getitem__), named))
    if as_json:
        render.emit([{"file": file, "label": label, "shares": named} for file, label, named in rows])
    else:
        render.table(["picture", "label", "share"],
                     [[escape(render.shown_path(file)), escape(label), f"{named[label]:.3f}"]
                      for file, label, named in rows], render.console())
    return 1 if broken else 0
