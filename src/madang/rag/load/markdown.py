"""Markdown (CommonMark and tables), through markdown-it-py's block tokens: their line maps become offsets.

The text is the raw file; inline markup stays in it. Only headings are parsed inline, for their names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from madang.rag.load.decode import decode
from madang.rag.load.document import Block, Document, Kind, Outline, clean, cover, trim, trim_lines

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

MEDIA_TYPE = "text/markdown"

_FRONT_MATTER = re.compile(r"---[^\S\n]*\n(?:[^\n]*\n)*?(?:---|\.\.\.)[^\S\n]*(?:\n|\Z)")
_TITLE = re.compile(r"^title[^\S\n]*:[^\S\n]*(?:\"([^\"\n]+)\"|'([^'\n]+)'|([^\n#|>]+))", re.MULTILINE)
_PLAIN = re.compile(r"[^\\`*_\[\]<>&!]*")
_KINDS: dict[str, Kind] = {"paragraph_open": "paragraph", "blockquote_open": "paragraph",
                           "html_block": "paragraph", "list_item_open": "list", "table_open": "table",
                           "fence": "code", "code_block": "code"}


def read(data: bytes, path: Path) -> Document:
    """Raises: Unreadable when it is not UTF-8 text."""
    return parse(decode(data, path))


def parse(text: str) -> Document:
    """Blocks of decoded Markdown. The title is that of the front matter, else the first level 1 heading."""
    front = _FRONT_MATTER.match(text)
    blocks: list[Block] = []
    title = ""
    if front is not None:
        blocks.append(Block(*trim(text, 0, front.end()), "metadata"))
        if named := _TITLE.search(front[0]):
            title = clean(named[1] or named[2] or named[3])
    blocks.extend(_blocks(text, front.end() if front is not None else 0))
    if not title:
        title = next((block.heading for block in blocks if block.kind == "heading" and block.level == 1), "")
    return Document(text, cover(text, blocks), MEDIA_TYPE, title)


@lru_cache(maxsize=1)
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark").enable("table")
    # Normalizing would move offsets, and has been done; inline parsing costs most and nothing here reads it.
    parser.core.ruler.disable(["normalize", "inline", "text_join"])
    return parser


def _blocks(text: str, offset: int) -> Iterator[Block]:
    outline = Outline()
    starts = _line_starts(text, offset)
    tokens = _parser().parse(text[offset:] if offset else text)
    for number, token in enumerate(tokens):
        if token.map is None or not _outermost(token):
            continue
        first, last = starts[token.map[0]], starts[min(token.map[1], len(starts) - 1)]
        if token.type == "heading_open":
            path = outline.enter(level := int(token.tag[1]), _name(tokens[number + 1].content))
            yield Block(*trim(text, first, last), "heading", level, path)
        elif (kind := _KINDS.get(token.type)) is not None:
            start, end = trim_lines(text, first, last) if kind == "code" else trim(text, first, last)
            if start < end:
                yield Block(start, end, kind, 0, outline.path)


def _outermost(token: Token) -> bool:
    """Whether a token makes a block: what stands at the top, and the items of lists there."""
    return token.level == 0 or (token.level == 1 and token.type == "list_item_open")


def _line_starts(text: str, offset: int) -> Sequence[int]:
    starts = [offset]
    while (found := text.find("\n", offset)) >= 0:
        offset = found + 1
        starts.append(offset)
    starts.append(len(text))
    return starts


def _name(inline: str) -> str:
    """The visible text of a heading's inline Markdown."""
    if _PLAIN.fullmatch(inline):
        return inline
    parts = []
    stack = list(reversed(_inline_parser().parseInline(inline)))
    while stack:
        token = stack.pop()
        if token.children and token.type != "image":
            stack.extend(reversed(token.children))
        elif token.type in {"softbreak", "hardbreak"}:
            parts.append(" ")
        elif token.type in {"text", "code_inline", "image", "text_special"}:
            parts.append(token.content)
    return "".join(parts)


@lru_cache(maxsize=1)
def _inline_parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark")
