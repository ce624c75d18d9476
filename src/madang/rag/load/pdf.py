"""PDF through pypdfium2: the text of each page in reading order, with the box of every line.

Lines of a paragraph are separated by newlines, paragraphs and pages by an empty line. A word that a hyphen
divides at the end of a line is put together again on the first of the two, with its hyphen only where the
document also writes it so elsewhere. Headings are lines in a larger font than the body, and numbered ones.
"""

from __future__ import annotations

import ctypes
import re
import statistics
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from madang.base.errors import Unreadable
from madang.rag.load.decode import shown
from madang.rag.load.document import Block, Box, Document, Kind, Outline, clean
from madang.rag.load.numbering import numbered

MEDIA_TYPE = "application/pdf"

_HYPHEN = "\x02"                                   # how pdfium reports a hyphen that divides a word
_DROPPED = re.compile("[\x00-\x01\x03-\x08\x0b\x0c\x0e-\x1f\x7f\ufffe\uffff]")
_BULLET = re.compile(r"(?:[-*+•·▪‣○●※–]|\d{1,3}[.)]|[①-⑳])\s+\S")
# Titles that a program left behind, not a person.
_LEFTOVER = re.compile(r"microsoft \w+ - |untitled|제목 ?없음"
                       r"|.*\.(?:docx?|hwpx?|pptx?|xlsx?|indd|pdf|tex|dvi)$", re.IGNORECASE)
_PAGE_NUMBER = re.compile(r"^\W*\d+\W+(?=\w+\W+\w)|(\w\W+\w+)\W+\d+\W*$")
_HEADING_SCALE = 1.15                              # times the size of the body
_HEADING_CHARS = 200
_PARAGRAPH_GAP = 1.35                              # times the usual distance of lines

# pdfium keeps global state: one thread at a time may be inside it.
_lock = threading.Lock()


@dataclass(slots=True)
class _Line:
    """A line of a page: its characters, box, font size, and the baselines it has from top to bottom."""

    text: str
    box: Box
    size: float
    top: float
    bottom: float                  # another than `top` where a divided word took in whole lines below


@dataclass(slots=True)
class _Paragraph:
    """Lines that belong together."""

    lines: list[_Line] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "\n".join(line.text for line in self.lines)


def read(data: bytes, path: Path) -> Document:
    """Raises: Unreadable when it is empty, damaged, encrypted, or has no text."""
    if not data:
        raise Unreadable(f"{shown(path)} is empty (0 bytes), not a PDF.",
                         remedy="Copy or export the file again.")
    with _lock:
        pages, title = _extract(data, path)
    if not any(page for page in pages):
        raise Unreadable(f"{shown(path)} has no text layer ({len(pages):,} pages; scanned?).",
                         remedy="Run OCR first, e.g.: ocrmypdf in.pdf out.pdf")
    _mend(pages)
    text, blocks, starts = _assemble(pages)
    return Document(text, blocks, MEDIA_TYPE, title, starts)


def _extract(data: bytes, path: Path) -> tuple[list[list[_Line]], str]:
    """The lines of every page, and the title that the file names."""
    import pypdfium2

    try:
        pdf = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        if any(word in str(error).lower() for word in ("password", "security")):
            raise Unreadable(f"{shown(path)} is encrypted.", remedy="Remove its password, e.g.: "
                             "qpdf --decrypt --password=... in.pdf out.pdf") from None
        raise _damaged(path) from None
    try:
        title = clean(_DROPPED.sub("", str(pdf.get_metadata_dict().get("Title") or "")))
        pages = [list(_page_lines(pdf, number)) for number in range(len(pdf))]
        return pages, "" if _LEFTOVER.match(title) else title
    except pypdfium2.PdfiumError:
        raise _damaged(path) from None
    finally:
        pdf.close()


def _damaged(path: Path) -> Unreadable:
    return Unreadable(f"{shown(path)} is damaged or no PDF: pdfium cannot parse it.",
                      remedy="Copy or export the file again.")


def _page_lines(pdf: Any, index: int) -> Iterator[_Line]:
    from pypdfium2 import raw

    page = pdf[index]
    try:
        content = page.get_textpage()
        try:
            codes = [raw.FPDFText_GetUnicode(content, number) for number in range(content.count_chars())]
            limits = page.get_bbox()
            start = 0
            for number, code in enumerate([*codes, 10]):
                if code in (10, 13, 2):
                    stop = number + (code == 2)
                    if line := _line(content, codes, start, stop, index + 1, limits):
                        yield line
                    start = number + 1
        finally:
            content.close()
    finally:
        page.close()


def _line(content: Any, codes: Sequence[int], start: int, stop: int, page: int,
          limits: Sequence[float]) -> _Line | None:
    """The characters start to stop of a page; None when there is nothing to see among them."""
    from pypdfium2 import raw

    while start < stop and codes[start] in (9, 32, 160):
        start += 1
    while stop > start and codes[stop - 1] in (9, 32, 160):
        stop -= 1
    text = "".join(map(chr, codes[start:stop]))
    if not text.isascii():  # characters beyond U+FFFF come as surrogate pairs
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    text = _DROPPED.sub("", text).strip(" \t\xa0")
    if not text.strip():
        return None
    matrix, x, y = raw.FS_MATRIX(), ctypes.c_double(), ctypes.c_double()
    size = float(raw.FPDFText_GetFontSize(content, start))
    if raw.FPDFText_GetMatrix(content, start, matrix):
        size *= (matrix.c ** 2 + matrix.d ** 2) ** 0.5
    raw.FPDFText_GetCharOrigin(content, start, x, y)
    return _Line(text, _box(content, start, stop, page, limits), round(size, 1), y.value, y.value)


def _box(content: Any, start: int, stop: int, page: int, limits: Sequence[float]) -> Box:
    """The ink of all characters, widened to the full font height of the first and last; within the page."""
    from pypdfium2 import raw

    full = raw.FS_RECTF()
    corners = [content.get_rect(number) for number in range(content.count_rects(start, stop - start))]
    corners += [(full.left, full.bottom, full.right, full.top) for number in (start, stop - 1)
                if raw.FPDFText_GetLooseCharBox(content, number, full)]
    if not corners:
        return Box(page, limits[0], limits[1], limits[0], limits[1])
    left, bottom, right, top = zip(*corners, strict=True)

    def within(value: float, axis: int) -> float:
        return float(min(max(round(value, 2), limits[axis]), limits[axis + 2]))

    return Box(page, within(min(left), 0), within(min(bottom), 1), within(max(right), 0), within(max(top), 1))


def _mend(pages: Sequence[list[_Line]]) -> None:
    """Put words together that a hyphen divides between two lines."""
    if not any(line.text.endswith(_HYPHEN) for page in pages for line in page):
        return
    known = {word.lower() for page in pages for line in page
             for word in re.findall(r"\w+(?:-\w+)+", line.text)}
    for page in pages:
        for number in range(len(page) - 1, -1, -1):  # backwards: a word may go over three lines
            line = page[number]
            if not line.text.endswith(_HYPHEN):
                continue
            following = page[number + 1] if number + 1 < len(page) else None
            head, _, rest = following.text.partition(" ") if following is not None else ("", "", "")
            before, after = re.search(r"\w*$", line.text[:-1]), re.match(r"\w*", head)
            word = f"{before[0] if before else ''}-{after[0] if after else ''}"
            hyphen = "-" if following is None or word.lower() in known else ""
            line.text = line.text[:-1] + hyphen + head
            if following is None:
                continue
            following.text = rest.lstrip()
            if not following.text:
                line.box, line.bottom = _around(line.box, following.box), following.bottom
                del page[number + 1]


def _around(first: Box, second: Box) -> Box:
    return Box(first.page, min(first.x0, second.x0), min(first.y0, second.y0), max(first.x1, second.x1),
               max(first.y1, second.y1))


def _assemble(pages: Sequence[list[_Line]]) -> tuple[str, list[Block], tuple[int, ...]]:
    sizes: Counter[float] = Counter()
    for line in (line for page in pages for line in page):
        sizes[line.size] += len(line.text)
    body = sizes.most_common(1)[0][0]
    large = sorted((size for size in sizes if size >= _HEADING_SCALE * body), reverse=True)
    styles: dict[float | str, int] = {size: min(rank, 6) for rank, size in enumerate(large, 1)}
    running = _running(pages)
    outline, out, blocks, starts, length = Outline(), list[str](), list[Block](), list[int](), 0
    for page in pages:
        starts.append(length)
        for paragraph in _paragraphs(page):
            text = paragraph.text
            kind, level = _role(paragraph, styles, running)
            if kind == "heading":
                outline.enter(level, text)
            boxes = tuple(line.box for line in paragraph.lines)
            blocks.append(Block(length, length + len(text), kind, level, outline.path, boxes))
            out.append(text)
            length += len(text) + 2
    return "\n\n".join(out), blocks, tuple(min(start, max(length - 2, 0)) for start in starts)


def _running(pages: Sequence[list[_Line]]) -> set[str]:
    """What begins or ends more than one page, whatever the page number beside it: headers and footers."""
    counts = Counter(key for page in pages if page for key in {_unpaged(page[0].text), _unpaged(page[-1].text)})
    return {key for key, count in counts.items() if count > 1}


def _unpaged(line: str) -> str:
    return _PAGE_NUMBER.sub(lambda found: found[1] or "", line)


def _role(paragraph: _Paragraph, styles: dict[float | str, int], running: set[str]) -> tuple[Kind, int]:
    text, first = paragraph.text, paragraph.lines[0]
    if first.size in styles and len(text) <= _HEADING_CHARS:
        return "heading", styles[first.size]
    found = numbered(first.text, len(paragraph.lines) == 1)
    if found is not None and found.length >= len(text) and _unpaged(text) not in running:
        return "heading", styles.setdefault(found.style, min(len(styles) + 1, 6))
    return ("list" if _BULLET.match(text) else "paragraph"), 0


def _paragraphs(lines: Sequence[_Line]) -> Iterator[_Paragraph]:
    """Lines of one page, parted at wide gaps, other font sizes, indented first lines, bullets, articles."""
    gaps = [above.bottom - below.top for above, below in pairwise(lines)
            if above.size == below.size and 0 < above.bottom - below.top < 3 * above.size]
    usual = statistics.median_low(gaps) if gaps else 0.0
    current = _Paragraph()
    for line in lines:
        if current.lines and _parts(current, line, usual):
            yield current
            current = _Paragraph()
        article = numbered(line.text, alone=False)
        if article is not None and not current.lines and article.length < len(line.text):
            # The heading of an article and its body share a line, and so its box.
            yield _Paragraph([replace(line, text=line.text[:article.length])])
            line = replace(line, text=line.text[article.length:].lstrip())
        current.lines.append(line)
    if current.lines:
        yield current


def _parts(current: _Paragraph, line: _Line, usual: float) -> bool:
    above, first = current.lines[-1], current.lines[0]
    gap = above.bottom - line.top
    indented = len(current.lines) > 1 and line.box.x0 - above.box.x0 > 0.8 * line.size \
        and abs(above.box.x0 - current.lines[1].box.x0) < 0.5 * line.size
    apart = gap < -line.size or gap > _PARAGRAPH_GAP * (usual or 1.3 * line.size)
    return (apart or indented or abs(line.size - first.size) > 0.5 or bool(_BULLET.match(line.text))
            or numbered(line.text, alone=False) is not None)
