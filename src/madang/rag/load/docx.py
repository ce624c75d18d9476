"""DOCX through python-docx: headings, paragraphs, lists and tables of the body, in their order.

Read are tracked insertions (not deletions), links, content controls and text boxes. Left out are headers,
footers, footnotes, comments and numbers that Word computes: every list item begins with "- ". Nothing outside
the file is opened, and XML entities are not expanded.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from madang.base.errors import Unreadable
from madang.rag.load.decode import shown
from madang.rag.load.document import Block, Document, Kind, Outline, clean
from madang.rag.load.numbering import numbered

MEDIA_TYPE = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"

# A text of 100 MB is 20,000 pages; archives that claim more are made to fill the memory.
MAX_EXPANDED_BYTES = 512 << 20
MAX_XML_BYTES = 128 << 20

_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_MC = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"
_VAL = f"{_W}val"
# "heading 1" is what Word writes in every language; the others come from programs that translate it.
_HEADING = re.compile(r"(?:heading|제목|개요|überschrift|titre|título|titolo|rubrik|kop|заголовок"
                      r"|見出し|标题|標題)\s*([1-9])$", re.IGNORECASE)
_TITLE = re.compile(r"(?:title|제목|titel|titre|título|titolo|표제|表題|标题)$", re.IGNORECASE)
_LIST = re.compile(r"list\b|목록", re.IGNORECASE)
_BREAKS = {f"{_W}br", f"{_W}cr"}
_SPACE = re.compile(r"[^\S\n]+")


def read(data: bytes, path: Path) -> Document:
    """Raises: Unreadable when it is empty, no DOCX, protected by a password, or too large when unpacked."""
    _check(data, path)
    root, styles, title = _open(data, path)
    body = _Body(_Styles(styles))
    body.read(root)
    if not title:
        title = body.title or next((block.heading for block in body.blocks if block.kind == "heading"), "")
    return Document("".join(body.out), body.blocks, MEDIA_TYPE, title)


def _open(data: bytes, path: Path) -> tuple[Any, Any, str]:
    """The XML of the body and of the styles, and the title that the file names."""
    import docx

    try:
        document = docx.Document(io.BytesIO(data))
        title = str(document.core_properties.title or "")
        return document.element.body[:], document.styles.element, clean(title)
    except Exception as error:  # python-docx passes on whatever a malformed package makes it trip over
        raise _no_docx(path, f"{type(error).__name__} while parsing") from error


def _no_docx(path: Path, why: str) -> Unreadable:
    return Unreadable(f"{shown(path)} is damaged or no DOCX ({why}).",
                      remedy="Open it in a word processor and save it as DOCX again.")


def _check(data: bytes, path: Path) -> None:
    """Refuse what is no DOCX before a parser sees it."""
    if not data:
        raise Unreadable(f"{shown(path)} is empty (0 bytes), not a DOCX.",
                         remedy="Copy or export the file again.")
    if data.startswith(_OLE):
        if "EncryptedPackage".encode("utf-16-le") in data:
            raise Unreadable(f"{shown(path)} is protected by a password.",
                             remedy="Open it in a word processor and save it without one.")
        raise Unreadable(f"{shown(path)} is in the old binary Word format.",
                         remedy="Convert it with: soffice --convert-to docx FILE")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            # zipfile never unpacks more of an entry than the directory declares, so these bounds hold
            sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError):
        raise _no_docx(path, "not a ZIP archive") from None
    if "[Content_Types].xml" not in sizes:
        raise _no_docx(path, "a ZIP archive of something else")
    largest = max((size for name, size in sizes.items() if name.endswith((".xml", ".rels"))), default=0)
    if largest > MAX_XML_BYTES or sum(sizes.values()) > MAX_EXPANDED_BYTES:
        raise Unreadable(f"{shown(path)} unpacks to {sum(sizes.values()):,} bytes, more than a text needs.",
                         remedy="Open it in a word processor and save its text alone.")


class _Styles:
    """What the styles of a document say: outline level, list or not; inherited along basedOn."""

    def __init__(self, element: Any) -> None:
        self._found: dict[str, tuple[int, bool, bool]] = {}
        self._styles = {style.get(f"{_W}styleId"): style for style in element.iterchildren(f"{_W}style")}

    def of(self, style_id: str | None) -> tuple[int, bool, bool]:
        """(heading level or 0, is the title, is a list)."""
        if style_id is None:
            return 0, False, False
        if style_id not in self._found:
            self._found[style_id] = self._look_up(style_id)
        return self._found[style_id]

    def _look_up(self, style_id: str) -> tuple[int, bool, bool]:
        level: int | None = None
        title, listed, seen = False, False, set[str]()
        current: str | None = style_id
        while current is not None and current not in seen and current in self._styles:
            seen.add(current)
            style = self._styles[current]
            name = _value(style, "name") or current
            if level is None and (outline := _number(style, "pPr/outlineLvl")) is not None:
                level = outline + 1 if outline < 9 else 0  # 9 is body text, whatever its parent is
            if level is None and (found := _HEADING.match(name)):
                level = int(found[1])
            title = title or bool(_TITLE.match(name))
            listed = listed or bool(_LIST.match(name)) or style.find(f"{_W}pPr/{_W}numPr") is not None
            current = _value(style, "basedOn")
        return min(level or 0, 6), title, listed and not level


def _value(element: Any, path: str) -> str | None:
    found = element.find("/".join(_W + part for part in path.split("/")))
    return None if found is None else found.get(_VAL)


def _number(element: Any, path: str) -> int | None:
    value = _value(element, path)
    return int(value) if value is not None and re.fullmatch(r"[0-9]{1,9}", value) else None


class _Body:
    """The blocks of a document's body."""

    def __init__(self, styles: _Styles) -> None:
        self.out: list[str] = []
        self.blocks: list[Block] = []
        self.title = ""
        self._styles, self._outline, self._length = styles, Outline(), 0
        self._numbering: dict[str, int] = {}

    def read(self, element: Any) -> None:
        """Paragraphs and tables below `element`, also those inside content controls and insertions."""
        for child in element:
            if child.tag == f"{_W}p":
                self._paragraph(child)
            elif child.tag == f"{_W}tbl":
                self._table(child)
            elif child.tag in {f"{_W}sdt", f"{_W}sdtContent", f"{_W}ins", f"{_W}moveTo", f"{_W}customXml",
                               f"{_W}smartTag"}:
                self.read(child)

    def _paragraph(self, element: Any) -> None:
        text, boxes = _text(element)
        if text:
            level, title, listed = self._styles.of(_value(element, "pPr/pStyle"))
            if (outline := _number(element, "pPr/outlineLvl")) is not None:
                level = min(outline + 1, 6) if outline < 9 else 0
            if element.find(f"{_W}pPr/{_W}numPr") is not None and _number(element, "pPr/numPr/numId") != 0:
                listed = not level
            if title and not level and not self.title:
                self.title, level = clean(text), 1
            self._write(text, level, listed)
        for box in boxes:
            self.read(box)

    def _write(self, text: str, level: int, listed: bool) -> None:
        if level:
            self._add(text, "heading", level, self._outline.enter(level, text))
        elif listed:
            self._add(f"- {text}", "list", 0, self._outline.path)
        elif found := numbered(text, alone="\n" not in text):
            level = self._numbering.setdefault(found.style, min(len(self._numbering) + 1, 6))
            self._add(found.title, "heading", level, self._outline.enter(level, found.title))
            if rest := text[found.length:].strip():
                self._add(rest, "paragraph", 0, self._outline.path)
        else:
            self._add(text, "paragraph", 0, self._outline.path)

    def _add(self, text: str, kind: Kind, level: int, path: str) -> None:
        if self.blocks:
            gap = "\n" if kind == "list" and self.blocks[-1].kind == "list" else "\n\n"
            self.out.append(gap)
            self._length += len(gap)
        self.out.append(text)
        self.blocks.append(Block(self._length, self._length + len(text), kind, level, path))
        self._length += len(text)

    def _table(self, element: Any) -> None:
        grid = [list(_children(row, "tc")) for row in _children(element, "tr")]
        if len(grid) == 1 and len(grid[0]) == 1:
            self.read(grid[0][0])                # a frame around text
            return
        rows = [[" ".join(_cell(cell).split()) for cell in row] for row in grid]
        lines = [" | ".join(row).strip() for row in rows if any(row)]
        if lines:
            self._add("\n".join(lines), "table", 0, self._outline.path)


def _children(element: Any, tag: str) -> Iterator[Any]:
    """Rows or cells, also inside content controls."""
    for child in element:
        if child.tag == _W + tag:
            yield child
        elif child.tag in {f"{_W}sdt", f"{_W}sdtContent", f"{_W}ins", f"{_W}customXml"}:
            yield from _children(child, tag)


def _cell(element: Any) -> str:
    return " ".join(_text(paragraph)[0] for paragraph in element.iter(f"{_W}p"))


def _text(paragraph: Any) -> tuple[str, list[Any]]:
    """The text of a paragraph, line breaks as newlines, and the text boxes anchored in it."""
    parts: list[str] = []
    boxes: list[Any] = []
    stack = list(reversed(paragraph))
    while stack:
        element = stack.pop()
        tag = element.tag
        if tag == f"{_W}t":
            parts.append(element.text or "")
        elif tag == f"{_W}tab":
            parts.append(" ")
        elif tag in _BREAKS:
            parts.append("\n")
        elif tag == f"{_W}noBreakHyphen":
            parts.append("-")
        elif tag == f"{_W}txbxContent":
            boxes.append(element)
        elif tag in {f"{_MC}Fallback", f"{_W}pPr", f"{_W}rPr", f"{_W}del", f"{_W}moveFrom", f"{_W}p"}:
            continue  # a fallback repeats the text box before it
        elif isinstance(tag, str):
            stack.extend(reversed(element))
    lines = (_SPACE.sub(" ", line).strip() for line in "".join(parts).split("\n"))
    return "\n".join(line for line in lines if line), boxes
