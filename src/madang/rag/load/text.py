"""Plain text: paragraphs, lists, and the headings that people draw in it with lines, capitals and numbers.

Headings come from underlines (reStructuredText), `== Title` (AsciiDoc), capitals over an indented body
(manual pages, pydoc), "Chapter 3" and the articles of Korean regulations (제2장, 제15조). Their levels follow
the order in which the styles first appear, as in reStructuredText.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from madang.rag.load import numbering
from madang.rag.load.decode import decode
from madang.rag.load.document import Block, Document, Kind, Outline, clean, cover, join, trim, trim_lines

PROSE = frozenset({"", ".txt", ".text", ".rst", ".adoc", ".asciidoc", ".tex", ".srt", ".vtt"})
TABLES = {".csv": "text/csv", ".tsv": "text/tab-separated-values"}
LINES = {".log": "text/plain", ".json": "application/json", ".jsonl": "application/jsonl",
         ".ndjson": "application/x-ndjson", ".yaml": "application/yaml", ".yml": "application/yaml",
         ".toml": "application/toml", ".ini": "text/plain", ".cfg": "text/plain", ".conf": "text/plain",
         ".properties": "text/plain", ".xml": "application/xml"}

_BLANK = re.compile(r"\n(?:[^\S\n]*\n)+")
_BLANK_OR_ARTICLE = re.compile(rf"{_BLANK.pattern}|\n(?={numbering.START})")
# pydoc draws a bar beside the members of a class.
_BLANK_OR_BAR = re.compile(r"\n(?:[^\S\n]*(?:\|[^\S\n]*)?\n)+")
_BULLET = re.compile(r"^[^\S\n]*(?:[-*+•·▪‣○●※]|\d{1,3}[.)]|[①-⑳]|[가-하]\.)[^\S\n]+(?=\S)", re.MULTILINE)
_RULE = re.compile(r"([=\-~^\"'`#*+.:_])\1{2,}[^\S\n]*$")
_MANUAL = re.compile(r"^(?=\S)(?=[^\n]*[^\W\d_])[^a-z\n]{1,59}[^a-z\s.,;:!?]\n(?:[^\S\n]*\n)?[^\S\n]{3,}\S",
                     re.MULTILINE)
_ASCIIDOC = re.compile(r"(={1,6})[^\S\n]+(\S[^\n]*)")
_MARGIN = re.compile(r"(?:[^\S\n]|\|)*")
_SENTENCE_END = (".", ",", ";", ":", "。", "!", "?")
_HEADING_CHARS = 80


def read(data: bytes, path: Path) -> Document:
    """Raises: Unreadable when it is not UTF-8 text."""
    return parse(decode(data, path), path.suffix.lower())


def parse(text: str, suffix: str = ".txt") -> Document:
    """Blocks of decoded plain text."""
    if suffix in TABLES:
        whole = trim(text, 0, len(text))
        blocks = [Block(*whole, "table")] if whole[0] < whole[1] else []
        return Document(text, blocks, TABLES[suffix])
    if suffix in LINES:
        spans = (trim_lines(text, start, end) for start, end in paragraphs(text))
        return Document(text, [Block(*span, "code") for span in spans], LINES[suffix])
    manual = len(list(islice(_MANUAL.finditer(text), 2))) == 2
    prose = _Prose(text, suffix, manual)
    blocks = cover(text, prose.blocks())
    return Document(text, blocks, "text/plain", "" if manual else prose.title)


def paragraphs(text: str, blank: re.Pattern[str] = _BLANK) -> Iterator[tuple[int, int]]:
    """Spans between blank lines, from the start of a line, none blank; bars stay with what is above."""
    position = 0
    for gap in blank.finditer(text):
        if text[position:gap.start()].strip():
            yield position, gap.start() if blank is not _BLANK_OR_BAR else gap.end()
        position = gap.end()
    if text[position:].strip():
        yield position, len(text)


class _Prose:
    """One pass over the paragraphs of a text."""

    def __init__(self, text: str, suffix: str, manual: bool) -> None:
        self.title = ""
        self._text, self._asciidoc, self._manual = text, suffix in {".adoc", ".asciidoc"}, manual
        self._outline, self._styles = Outline(), dict[str, int]()
        self._terms: list[tuple[int, str]] = []      # open definitions of a manual: indentation and name
        self._spans = list(paragraphs(text, _BLANK_OR_BAR if manual else _BLANK_OR_ARTICLE))

    def blocks(self) -> Iterator[Block]:
        for number, (start, end) in enumerate(self._spans):
            following = self._spans[number + 1][0] if number + 1 < len(self._spans) else None
            heading = self._heading(start, end, following)
            if heading is not None:
                style, title, stop = heading
                level = self._styles.setdefault(style, min(len(self._styles) + 1, 6))
                path = self._outline.enter(level, title)
                self._terms.clear()
                if number == 0:
                    self.title = clean(title)
                yield Block(*trim(self._text, start, stop), "heading", level, path)
                start = stop
            yield from self._body(start, end, following)

    def _heading(self, start: int, end: int, following: int | None) -> tuple[str, str, int] | None:
        """(style, title, end of the heading) when the paragraph begins with one."""
        text = self._text
        first_end = _line_end(text, start, end)
        first = text[start:first_end].rstrip()
        bare = first.lstrip()
        if found := numbering.numbered(bare, first_end >= end):
            return found.style, found.title, start + len(first) - len(bare) + found.length
        if bare != first:
            return None
        if drawn := self._drawn(first, start, first_end, end):
            return drawn
        if self._asciidoc and (marked := _ASCIIDOC.match(first)):
            return f"={len(marked[1])}", marked[2].rstrip("= "), first_end
        if self._capitals(first, first_end, end, following):
            return "capitals", first, first_end
        return None

    def _drawn(self, first: str, start: int, first_end: int, end: int) -> tuple[str, str, int] | None:
        """A title over, or between, lines of one repeated sign."""
        text = self._text
        if first_end >= end:
            return None
        second_end = _line_end(text, first_end + 1, end)
        over = _RULE.match(first)
        if over is None:
            under = _RULE.match(text, first_end + 1, second_end)
            if under and len(first) <= 2 * _HEADING_CHARS and 2 * len(under[0].rstrip()) >= len(first):
                return under[1], first, second_end
            return None
        title = text[first_end + 1:second_end]
        third_end = _line_end(text, second_end + 1, end)
        if title.strip() and second_end < end and text[second_end + 1:third_end].rstrip() == first:
            return over[1] * 2, title.strip(), third_end
        return None

    def _capitals(self, first: str, first_end: int, end: int, following: int | None) -> bool:
        """NAME over an indented body, or, alone on its line, A LINE OF CAPITALS."""
        if (len(first) > _HEADING_CHARS or first.upper() != first or first.endswith(_SENTENCE_END)
                or not any(char.isalpha() for char in first)):
            return False
        if not self._manual:
            return first_end >= end and len(first) >= 4 and first.isascii()
        below = first_end + 1 if first_end < end else following
        return below is not None and self._text[below:below + 3].isspace()

    def _body(self, start: int, end: int, following: int | None) -> Iterator[Block]:
        text = self._text
        start, end = trim(text, start, end)
        if start == end:
            return
        kind: Kind = "paragraph"
        if self._manual:
            kind = self._define(start, end, following)
        path = join(self._outline.path, *(name for _, name in self._terms))
        position = start
        for bullet in _BULLET.finditer(text, start, end) if kind == "paragraph" else ():
            if bullet.start() > position:
                yield Block(*trim(text, position, bullet.start()), kind, 0, path)
            position, kind = max(bullet.start(), start), "list"
        yield Block(*trim(text, position, end), kind, 0, path)

    def _define(self, start: int, end: int, following: int | None) -> Kind:
        """In a manual a line over a deeper indented body names what the body is about."""
        text = self._text
        indent = _indentation(text, start)
        while self._terms and self._terms[-1][0] >= indent:
            self._terms.pop()
        first_end = _line_end(text, start, end)
        term = text[start:first_end].strip(" |\t")
        below = first_end + 1 if first_end < end else following
        if (below is None or len(term) > 2 * _HEADING_CHARS or term.endswith(_SENTENCE_END) or not indent
                or _BULLET.match(text, start) or _indentation(text, below) < indent + 2):
            return "paragraph"
        self._terms.append((indent, clean(term)))
        return "definition"


def _line_end(text: str, start: int, end: int) -> int:
    found = text.find("\n", start, end)
    return end if found < 0 else found


def _indentation(text: str, position: int) -> int:
    """Columns before the first character of the line at `position` that is neither blank nor a bar."""
    start = text.rfind("\n", 0, position) + 1
    margin = _MARGIN.match(text, start)
    return len(margin[0]) if margin else 0
