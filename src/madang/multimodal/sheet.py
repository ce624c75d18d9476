"""Contact sheets: rows of pictures under what they answer, as one PNG or as one HTML file."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image

_MARGIN, _GAP, _LINE = 16, 10, 18
# Where systems keep a font with Hangul; Pillow's own has Latin letters only.
_FONTS = (
    "NotoSansCJK-Regular.ttc",
    "NotoSansKR-Regular.otf",
    "NanumGothic.ttf",
    "UnDotum.ttf",
    "AppleSDGothicNeo.ttc",
    "malgun.ttf",
)
_FOLDERS = ("/usr/share/fonts", "/usr/local/share/fonts", "/System/Library/Fonts", "/Library/Fonts", "C:/Windows/Fonts")


@dataclass(frozen=True, slots=True)
class Cell:
    """A picture and what stands below it."""

    picture: Image.Image
    text: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """What was asked, and the pictures that answer it."""

    title: str
    cells: Sequence[Cell]


def png(rows: Sequence[Row], *, side: int = 128, title: str = "") -> bytes:
    """A sheet as PNG: pictures fit squares of `side` pixels."""
    from PIL import Image, ImageDraw

    across = max([len(row.cells) for row in rows], default=0)
    width = max(2 * _MARGIN + across * (side + _GAP), 480)
    height = 2 * _MARGIN + (28 if title else 0) + len(rows) * (side + 3 * _LINE + _GAP)
    sheet = Image.new("RGB", (width, height), (250, 250, 248))
    pen = ImageDraw.Draw(sheet)
    top = _MARGIN
    if title:
        pen.text((_MARGIN, top), _fitting(title, width - 2 * _MARGIN, 17), fill=(20, 20, 20), font=_font(17))
        top += 28
    for row in rows:
        pen.text((_MARGIN, top), _fitting(row.title, width - 2 * _MARGIN, 13), fill=(20, 20, 20), font=_font(13))
        for at, cell in enumerate(row.cells):
            left = _MARGIN + at * (side + _GAP)
            sheet.paste(fitted(cell.picture, side), (left, top + _LINE))
            for number, line in enumerate(_lines(cell.text, side, 11)):
                place = (left, top + _LINE + side + 2 + 14 * number)
                pen.text(place, line, fill=(90, 90, 90), font=_font(11))
        top += side + 3 * _LINE + _GAP
    out = io.BytesIO()
    sheet.save(out, "PNG", optimize=True)
    return out.getvalue()


def lacks_letters(rows: Sequence[Row]) -> bool:
    """Whether a PNG would show boxes: there is Hangul, and no font here that has it."""
    texts = [text for row in rows for text in (row.title, *(cell.text for cell in row.cells))]
    return _korean_font() is None and any("가" <= letter <= "힣" for text in texts for letter in text)


def page(rows: Sequence[Row], *, side: int = 160, title: str = "Pictures") -> str:
    """A sheet as one HTML file that needs nothing else."""
    parts = []
    for row in rows:
        cells = "".join(
            f'<figure><img alt="{html.escape(cell.text, quote=True)}" '
            f'src="data:image/png;base64,{_encoded(cell.picture, side)}">'
            f"<figcaption>{html.escape(cell.text)}</figcaption></figure>"
            for cell in row.cells
        )
        parts.append(f"<section><h2>{html.escape(row.title)}</h2><div>{cells}</div></section>")
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{html.escape(title)}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem;
  color: #1c1c1c; background: #fafaf8 }}
h1 {{ font-size: 1.4rem }} h2 {{ font-size: 1rem; margin: 1.6rem 0 .4rem; font-weight: 600 }}
div {{ display: flex; flex-wrap: wrap; gap: 12px }} figure {{ margin: 0; width: {side}px }}
img {{ width: {side}px; height: {side}px; object-fit: contain; background: #eee; border-radius: 4px }}
figcaption {{ font-size: .78rem; color: #5a5a5a; overflow-wrap: anywhere }}
@media (prefers-color-scheme: dark) {{
  body {{ background: #161616; color: #eee }} img {{ background: #222 }} figcaption {{ color: #aaa }} }}
</style>
<h1>{html.escape(title)}</h1>
{"".join(parts)}
</html>
"""


def fitted(picture: Image.Image, side: int) -> Image.Image:
    """The picture in the middle of a square of `side` pixels; a small one is enlarged."""
    from PIL import Image

    scale = side / max(1, *picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    square = Image.new("RGB", (side, side), (232, 232, 230))
    square.paste(
        picture.convert("RGB").resize(size, Image.Resampling.LANCZOS), ((side - size[0]) // 2, (side - size[1]) // 2)
    )
    return square


def _encoded(picture: Image.Image, side: int) -> str:
    out = io.BytesIO()
    fitted(picture, side).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def _lines(text: str, width: int, size: int) -> list[str]:
    """The text in two lines at most, broken between words; the second one is cut where it is too long."""
    font, first = _font(size), ""
    words = text.split(" ")
    while words and font.getlength(f"{first} {words[0][:width]}".strip()) <= width:
        first = f"{first} {words.pop(0)}".strip()
    if not first:               # not even a word fits
        return [_fitting(text, width, size)]
    return [first, _fitting(" ".join(words), width, size)] if words else [first]


def _fitting(text: str, width: int, size: int) -> str:
    """The text, cut where it is wider than `width` pixels."""
    font = _font(size)
    text = text[:width]                # no letter is narrower than a pixel, and measuring takes time
    if font.getlength(text) <= width:
        return text
    fits, over = 0, len(text)          # letters that fit with the dots, and that do not
    while over - fits > 1:
        middle = (fits + over) // 2
        fits, over = (middle, over) if font.getlength(f"{text[:middle]}…") <= width else (fits, middle)
    return f"{text[:fits]}…"


@lru_cache(maxsize=8)
def _font(size: int) -> Any:
    from PIL import ImageFont

    path = _korean_font()
    return ImageFont.truetype(path, size) if path else ImageFont.load_default(size)


@lru_cache(maxsize=1)
def _korean_font() -> str | None:
    for folder in map(Path, _FOLDERS):
        for name in _FONTS:
            for found in folder.rglob(name) if folder.is_dir() else ():
                return str(found)
    return None
