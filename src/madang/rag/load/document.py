"""Nouns of loading: a document is one text, and blocks of it. All offsets refer to that text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

Kind = Literal["heading", "paragraph", "list", "table", "code", "definition", "metadata"]

SEPARATOR = " > "
_TITLE_CHARS = 120
_SPACE = re.compile(r"\s+")


class Box(NamedTuple):
    """A rectangle on a PDF page: `page` from 1, sides in points of the page's own user space.

    The origin is the bottom-left corner of an unrotated page whose MediaBox starts at (0, 0); a viewer
    applies /Rotate and the offset of the CropBox itself.
    """

    page: int
    x0: float
    y0: float
    x1: float
    y1: float


@dataclass(frozen=True, slots=True)
class Block:
    """document.text[start:end], a part that belongs together.

    `level` > 0 opens a section: 1 to 6 for headings, the depth for definitions of source code. `heading` is
    the path that the block stands under, its own name included ("Vacation > Carry-over"). `boxes` (PDF only)
    holds one box for each line of the block.
    """

    start: int
    end: int
    kind: Kind
    level: int = 0
    heading: str = ""
    boxes: tuple[Box, ...] = ()


@dataclass(frozen=True, slots=True)
class Document:
    """What a loader made of a file. Blocks are ascending, disjoint and cover every character but white space.

    For plain text, Markdown and source code `text` is the decoded file itself: without its byte order mark
    and with newlines as \\n, exactly what `path.open(encoding=...).read()` returns. For HTML, PDF and DOCX it
    is what was extracted. `title` is empty where the file names none. `pages` are the offsets where the pages
    of a PDF start.
    """

    text: str
    blocks: list[Block]
    media_type: str
    title: str = ""
    pages: tuple[int, ...] = ()


class Outline:
    """The headings above the current position, as a path."""

    def __init__(self) -> None:
        self._open: list[tuple[int, str]] = []
        self.path = ""

    def enter(self, level: int, title: str) -> str:
        """Open a section of `level` (from 1), closing those as deep or deeper; returns its path."""
        while self._open and self._open[-1][0] >= level:
            self._open.pop()
        name = clean(title)
        if name:
            self._open.append((level, name))
        self.path = SEPARATOR.join(name for _, name in self._open)
        return self.path


def clean(title: str) -> str:
    """A heading as one part of a path: one line, bounded, without the separator of paths."""
    name = _SPACE.sub(" ", title).strip()
    if len(name) > _TITLE_CHARS:
        name = name[:_TITLE_CHARS - 1].rstrip() + "…"
    return name.replace(SEPARATOR, " › ")


def join(*parts: str) -> str:
    """A path from its parts; empty ones are left out."""
    return SEPARATOR.join(part for part in parts if part)


def trim(text: str, start: int, end: int) -> tuple[int, int]:
    """The span without white space around it; start == end when nothing is left."""
    piece = text[start:end]
    stripped = piece.lstrip()
    start += len(piece) - len(stripped)
    return start, start + len(stripped.rstrip())


def trim_lines(text: str, start: int, end: int) -> tuple[int, int]:
    """The span without blank lines around it; unlike `trim` the indentation of its first line stays."""
    first, last = trim(text, start, end)
    return (max(start, text.rfind("\n", start, first) + 1), last) if first < last else (first, last)


def cover(text: str, blocks: Iterable[Block]) -> list[Block]:
    """`blocks` (ascending, disjoint), with paragraphs for what lies between them: nothing gets lost."""
    out: list[Block] = []
    position, heading = 0, ""
    for block in blocks:
        if block.start > position and (gap := trim(text, position, block.start))[0] < gap[1]:
            out.append(Block(*gap, "paragraph", 0, heading))
        out.append(block)
        position, heading = block.end, block.heading
    if position < len(text) and (gap := trim(text, position, len(text)))[0] < gap[1]:
        out.append(Block(*gap, "paragraph", 0, heading))
    return out
