"""HTML through selectolax (lexbor): the visible text and its structure. Nothing is fetched or run.

White space is collapsed as a browser does it, except in <pre>; list items get "- " or their number, the cells
of a table row " | " between them. What is not shown is left out: scripts, styles, templates, and elements
that are hidden by an attribute or an inline style. Navigation and footers stay: dropping them by guess loses
content.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from madang.base.errors import Unreadable
from madang.rag.load.decode import decode, marked, normalize_newlines, shown
from madang.rag.load.document import Block, Document, Kind, Outline, clean, join

if TYPE_CHECKING:
    from selectolax.lexbor import LexborHTMLParser

MEDIA_TYPE = "text/html"

_DROPPED = frozenset({"script", "style", "noscript", "template", "head", "svg", "iframe", "object", "embed",
                      "canvas", "audio", "video", "datalist", "select", "annotation", "-comment", "!--"})
_INLINE = frozenset({
    "a", "abbr", "acronym", "area", "b", "bdi", "bdo", "big", "button", "cite", "code", "data", "del",
    "dfn", "em", "font", "i", "img", "input", "ins", "kbd", "label", "map", "mark", "math", "meter",
    "nobr", "output", "picture", "progress", "q", "rp", "rt", "ruby", "s", "samp", "slot", "small",
    "span", "strike", "strong", "sub", "sup", "textarea", "time", "tt", "u", "var", "wbr",
})
_HIDDEN = ('[hidden], [style*="display:none"], [style*="display: none"], [style*="visibility:hidden"], '
           '[style*="visibility: hidden"], dialog:not([open])')
_LAYOUT = "table, h1, h2, h3, h4, h5, h6, pre, article, section"
_PERMALINKS = frozenset({"¶", "#", "§", "🔗"})

_META = re.compile(rb"<meta\b[^>]*?charset\s*=\s*[\"']?\s*([\w.:-]+)", re.IGNORECASE)
_XML = re.compile(rb"\s*<\?xml[^>]*?encoding\s*=\s*[\"']([\w.:-]+)", re.IGNORECASE)
_META_BYTES = 4096
# The web's names for encodings mean their supersets (WHATWG Encoding, section 4.2).
_SUPERSETS = {"euc-kr": "cp949", "ks_c_5601-1987": "cp949", "ksc5601": "cp949", "ks_c_5601": "cp949",
              "shift_jis": "cp932", "shift-jis": "cp932", "sjis": "cp932", "x-sjis": "cp932",
              "gb2312": "gb18030", "gbk": "gb18030", "big5": "big5hkscs", "iso-8859-1": "cp1252",
              "latin1": "cp1252", "ascii": "cp1252", "us-ascii": "cp1252", "iso-8859-9": "cp1254",
              "utf-16": "utf-8", "utf-16le": "utf-8", "utf-16be": "utf-8"}
_DAMAGED_SHARE = 0.01


def read(data: bytes, path: Path) -> Document:
    """Raises: Unreadable when its bytes are not in the encoding that it names (UTF-8 where it names none)."""
    return parse(_decode(data, path))


def parse(source: str) -> Document:
    """The visible text of decoded HTML and its blocks; the title is <title>, else the first <h1>."""
    from selectolax.lexbor import LexborHTMLParser

    if not source.strip():
        return Document("", [], MEDIA_TYPE)
    tree = LexborHTMLParser(source)
    page = _Page(tree)
    title = tree.css_first("head > title")
    name = clean(title.text()) if title is not None else ""
    if not name:
        name = next((each.heading for each in page.blocks if each.kind == "heading" and each.level == 1), "")
    return Document("".join(page.out), page.blocks, MEDIA_TYPE, name)


def _decode(data: bytes, path: Path) -> str:
    named = _META.search(data[:_META_BYTES]) or _XML.match(data[:_META_BYTES])
    if marked(data) is not None or named is None:
        return decode(data, path)
    label = named[1].decode("ascii").lower()
    encoding = _SUPERSETS.get(label, label)
    try:
        codecs.lookup(encoding)
    except LookupError:
        raise Unreadable(f"{shown(path)} names an unknown encoding, {label!r}.",
                         remedy="Correct its charset, or convert it to UTF-8.") from None
    # A stray byte is shown as U+FFFD, as in a browser; a wrong charset is refused.
    text = data.decode(encoding, "replace")
    if text.count("\ufffd") > max(1, _DAMAGED_SHARE * len(text)):
        raise Unreadable(f"{shown(path)} says that its encoding is {label}, but its bytes are not.",
                         remedy="Correct its charset, or convert it to UTF-8.")
    return normalize_newlines(text)


class _Page:
    """A walk over the tree that gathers inline text until a block ends."""

    def __init__(self, tree: LexborHTMLParser) -> None:
        self.out: list[str] = []
        self.blocks: list[Block] = []
        self._length = 0
        self._outline = Outline()
        self._parts: list[str] = []              # inline text since the last block
        self._pre = 0
        self._heading = 0                        # level of the open h1 to h6
        self._lists: list[int | None] = []       # open lists: the next number of an ol, None for ul
        self._marker = ""                        # waits for the first text of an item
        self._items = 0                          # open li
        self._terms: list[str] = []              # open dl: the current dt
        self._table: list[list[str]] | None = None
        self._cell = False                       # inside a td or th of it
        self._hidden = {node.mem_id for node in tree.css(_HIDDEN)}
        if tree.body is not None:
            self._walk(tree.body)
            self._flush()

    def _walk(self, root: Any) -> None:
        """Depth first without recursion: pages nest deeper than Python may."""
        node, root_id = root, root.mem_id
        while True:
            tag = node.tag
            child = None
            if tag == "-text":
                self._parts.append(node.text_content or "")
            elif tag not in _DROPPED and (not self._hidden or node.mem_id not in self._hidden):
                self._enter(tag, node)
                child = node.child
                if child is None:
                    self._leave(tag)
            while child is None:
                if node.mem_id == root_id:
                    return
                child = node.next
                if child is None:
                    node = node.parent
                    self._leave(node.tag)
            node = child

    def _enter(self, tag: str, node: Any) -> None:
        if tag in _INLINE:
            return
        if tag == "br":
            self._parts.append("\v")             # survives the collapsing of white space
        elif self._table is not None:
            if tag == "tr":
                self._end_cell()
                self._table.append([])
            elif tag in {"td", "th"}:
                self._end_cell()
                self._cell = True
            else:
                self._parts.append(" ")
        else:
            self._flush()
            self._open(tag, node)

    def _open(self, tag: str, node: Any) -> None:
        if tag == "pre" or tag == "listing":
            self._pre += 1
        elif len(tag) == 2 and tag[0] == "h" and tag[1] in "123456":
            self._heading = int(tag[1])
        elif tag in {"ul", "menu", "ol"}:
            start = str((node.attributes.get("start") if tag == "ol" else None) or "1")
            self._lists.append((int(start) if start.isdecimal() else 1) if tag == "ol" else None)
        elif tag == "li":
            self._items += 1
            number = self._lists[-1] if self._lists else None
            self._marker = "- " if number is None else f"{number}. "
            if number is not None:
                self._lists[-1] = number + 1
        elif tag == "dl":
            self._terms.append("")
        elif tag == "table" and not any(each.mem_id != node.mem_id for each in node.css(_LAYOUT)):
            self._table = []                     # one that holds headings or tables only lays out the page

    def _leave(self, tag: str) -> None:
        if tag in _INLINE or tag == "br":
            return
        if self._table is not None:
            if tag == "table":
                self._end_table()
            elif tag in {"td", "th", "tr"}:
                self._end_cell()
            else:
                self._parts.append(" ")
            return
        self._flush("definition" if tag == "dt" else "paragraph")
        if tag == "pre" or tag == "listing":
            self._pre -= 1
        elif self._heading and tag == f"h{self._heading}":
            self._heading = 0
        elif tag in {"ul", "menu", "ol"} and self._lists:
            self._lists.pop()
        elif tag == "li":
            self._items -= 1
            self._marker = ""
        elif tag == "dl" and self._terms:
            self._terms.pop()

    def _flush(self, kind: Kind = "paragraph") -> None:
        """End the block: what was gathered, as one."""
        raw, self._parts = "".join(self._parts), []
        if self._pre:
            text, kind = normalize_newlines(raw).replace("\v", "\n").strip("\n").rstrip(), "code"
            if not text.strip():
                return
        else:
            text = _collapse(raw)
            if not text:
                return
        if self._heading:
            name = text.replace("\n", " ")
            while name and name[-1] in _PERMALINKS:
                name = name[:-1].rstrip()
            self._write(name, "heading", self._heading, self._outline.enter(self._heading, name))
            return
        if kind == "definition" and self._terms:
            self._terms[-1] = clean(text)
        elif self._items and kind == "paragraph":
            text, kind, self._marker = self._marker + text, "list", ""
        self._write(text, kind)

    def _write(self, text: str, kind: Kind, level: int = 0, path: str | None = None) -> None:
        if not text:
            return
        if self.blocks:
            above = self.blocks[-1].kind
            gap = "\n" if above == "definition" or kind == above == "list" else "\n\n"
            self.out.append(gap)
            self._length += len(gap)
        start = self._length
        self.out.append(text)
        self._length += len(text)
        where = join(self._outline.path, *self._terms) if path is None else path
        self.blocks.append(Block(start, self._length, kind, level, where))

    def _end_cell(self) -> None:
        text = _collapse("".join(self._parts)).replace("\n", " ")
        self._parts = []
        if self._table is not None and (text or self._cell):
            if not self._table:
                self._table.append([])           # a caption
            self._table[-1].append(text)
        self._cell = False

    def _end_table(self) -> None:
        self._end_cell()
        rows, self._table = self._table or [], None
        text = "\n".join(" | ".join(row).strip() for row in rows if any(row))
        if text:
            self._write(text, "table")


def _lines(raw: str) -> Iterator[str]:
    for line in raw.split("\v"):
        if line := " ".join(line.split()):
            yield line


def _collapse(raw: str) -> str:
    """White space as one space, <br> as a newline, none of either at the ends."""
    return "\n".join(_lines(raw))
