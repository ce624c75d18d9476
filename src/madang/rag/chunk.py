"""Documents into chunks: disjoint slices that respect sections, blocks, sentences, lines and graphemes.

A chunk stays within one section. Two exceptions keep documents of many short sections from becoming many
useless chunks: a heading without a body goes with the section below it, and neighbours under the same parent
are put together while they fill at most a quarter of `max_chars`. Such a chunk is named after what its
sections share.

Chunks do not overlap: each character is indexed, counted and cited once, so offsets, term statistics and "n
chunks" stay exact. What overlap is meant to give, context across a border, retrieval gets by merging
neighbours.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, takewhile

from madang.base.errors import InvalidInput
from madang.rag.load.document import SEPARATOR, Block, Box, Document, trim
from madang.text import sentences

MIN_CHARS = 100
_CONTEXT_CHARS = 199
_COLUMNS_CHARS = 199

_JOINER = "\u200d"
# What extends a character without being a mark: joiners, skin tones, halfwidth voicing, tags.
_EXTENDING = frozenset({"\u200c", _JOINER, "\uff9e", "\uff9f",
                        *map(chr, range(0x1F3FB, 0x1F400)), *map(chr, range(0xE0020, 0xE0080))})
_FLAG_FIRST, _FLAG_LAST = "\U0001f1e6", "\U0001f1ff"


@dataclass(frozen=True, slots=True)
class Chunk:
    """document.text[start:end], at most `max_chars` long and never blank.

    `heading` is the path of its section; `line` counts from 1; `page` from 1, None where there are no pages.
    `boxes` (PDF only) are those of its lines. `columns` is the first row of the table that the chunk
    continues.
    """

    start: int
    end: int
    heading: str
    line: int
    page: int | None = None
    boxes: tuple[Box, ...] = ()
    columns: str = ""


@dataclass(slots=True)
class _Draft:
    """A chunk that is being filled: its units (spans that stay whole) and the blocks that they come from."""

    units: list[tuple[int, int, int]] = field(default_factory=list)    # start, end, number of the block

    @property
    def start(self) -> int:
        return self.units[0][0]

    @property
    def end(self) -> int:
        return self.units[-1][1]


def chunk(document: Document, *, max_chars: int = 800) -> list[Chunk]:
    """Cut a document into chunks of at most `max_chars` characters, ascending, disjoint, and complete.

    Every character that is no white space lies in exactly one chunk. The same document gives the same chunks.

    Raises:
        InvalidInput: `max_chars` is below 100.
    """
    if type(max_chars) is not int or max_chars < MIN_CHARS:
        raise InvalidInput(f"max_chars is {max_chars!r}.", remedy=f"Give a whole number from {MIN_CHARS}.")
    drafts: list[_Draft] = []
    for first, last in _groups(document.blocks, max_chars // 4):
        drafts.extend(_pack(document, first, last, max_chars))
    return list(_finish(document, drafts))


def embedding_text(piece: Chunk, document: Document) -> str:
    """What embedders and BM25 read: title, section and table columns, then the chunk itself.

    It always ends with document.text[piece.start:piece.end]; at most 400 characters come before. A heading
    that the chunk begins with is not repeated.
    """
    body = document.text[piece.start:piece.end]
    opening = body.partition("\n")[0]
    parts = piece.heading.split(SEPARATOR) if piece.heading else []
    if parts and parts[-1] in opening:
        del parts[-1]
    if document.title and document.title not in parts and document.title not in opening:
        parts.insert(0, document.title)
    context = SEPARATOR.join(parts)
    if len(context) > _CONTEXT_CHARS:  # the end of a path says most
        context = "…" + context[1 - _CONTEXT_CHARS:]
    return "\n".join(part for part in (context, piece.columns, body) if part)


def _groups(blocks: Sequence[Block], tiny: int) -> Iterator[tuple[int, int]]:
    """Ranges of blocks that may share a chunk: sections, or several of them (see the module)."""
    first, scope, bodied = 0, "", False
    for start, stop in _sections(blocks):
        path = blocks[start].heading
        if start > first:
            below = not bodied and _within(path, blocks[start - 1].heading)
            short = blocks[stop - 1].end - blocks[first].start <= tiny
            if not below and not (short and _within(path, scope)):
                yield first, start
                first, bodied = start, False
        if not bodied:
            scope = path.rpartition(SEPARATOR)[0]
            bodied = any(blocks[number].kind != "heading" for number in range(start, stop))
    if blocks:
        yield first, len(blocks)


def _sections(blocks: Sequence[Block]) -> Iterator[tuple[int, int]]:
    start = 0
    for number, block in enumerate(blocks):
        if block.level and number > start:
            yield start, number
            start = number
    if blocks:
        yield start, len(blocks)


def _within(path: str, upper: str) -> bool:
    return not upper or path == upper or path.startswith(upper + SEPARATOR)


def _pack(document: Document, first: int, last: int, max_chars: int) -> list[_Draft]:
    """The blocks first to last as drafts: whole blocks where they fit, pieces of them where they do not."""
    drafts = [_Draft()]
    for number in range(first, last):
        block, draft = document.blocks[number], drafts[-1]
        if not draft.units:
            whole = block.end - block.start <= max_chars
        elif _closes(document.blocks, draft, block, max_chars):
            drafts.append(_Draft())
            whole = block.end - block.start <= max_chars
        else:
            whole = block.end - draft.start <= max_chars
        if whole:
            drafts[-1].units.append((block.start, block.end, number))
            continue
        units = drafts[-1].units
        for piece in _pieces(document.text, block, max_chars):
            parts = [piece]
            if units and piece[1] - units[0][0] > max_chars and _bare(document.blocks, drafts[-1]):
                room = units[0][0] + max_chars - piece[0]
                parts = list(_cut(document.text, *piece, max_chars, room if room > max_chars // 2 else max_chars))
            for start, end in parts:
                if units and end - units[0][0] > max_chars:
                    drafts.append(_Draft(units := []))
                units.append((start, end, number))
    _balance(document.blocks, drafts, max_chars)
    return drafts


def _closes(blocks: Sequence[Block], draft: _Draft, block: Block, max_chars: int) -> bool:
    """Whether `block` starts a new chunk rather than filling up this one."""
    filled = draft.end - draft.start
    if block.kind == "definition" and filled >= max_chars // 2:
        return True
    if block.end - draft.start <= max_chars or block.end - block.start > max_chars:
        return False
    if _bare(blocks, draft):
        return False
    return filled >= max_chars // 4 or block.kind in {"code", "table"}


def _bare(blocks: Sequence[Block], draft: _Draft) -> bool:
    """Whether a draft holds headings only: without a text they match everything and say nothing."""
    return all(blocks[number].kind == "heading" for _, _, number in draft.units)


def _balance(blocks: Sequence[Block], drafts: list[_Draft], max_chars: int) -> None:
    """Give a last chunk that would be a mere remnant a fair share of the one before it."""
    if len(drafts) < 2 or drafts[-1].end - drafts[-1].start >= max_chars // 8:
        return
    units = drafts[-2].units + drafts[-1].units
    end = units[-1][1]
    best = len(drafts[-2].units)
    longest = drafts[-2].end - drafts[-2].start
    for cut in range(len(units) - 1, 0, -1):
        before, after = units[cut - 1][1] - units[0][0], end - units[cut][0]
        if after > max_chars or after > longest or blocks[units[cut - 1][2]].kind == "heading":
            break
        best, longest = cut, max(before, after)
    drafts[-2].units, drafts[-1].units = units[:best], units[best:]


def _pieces(text: str, block: Block, max_chars: int) -> Iterator[tuple[int, int]]:
    """A block in parts of at most `max_chars`: lines of code and tables, sentences of everything else."""
    parts = _lines if block.kind in {"code", "table"} else _sentences
    for start, end in parts(text, block.start, block.end):
        if end - start <= max_chars:
            yield start, end
        else:
            yield from _cut(text, *trim(text, start, end), max_chars)


def _lines(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    while start < end:
        stop = text.find("\n", start, end)
        stop = end if stop < 0 else stop
        if line := text[start:stop].rstrip():
            yield start, start + len(line)
        start = stop + 1


def _sentences(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    # Only the starts count, so that nothing between two sentences is lost.
    starts = [start, *(start + first for first, _ in sentences.split(text[start:end])[1:]), end]
    for first, following in pairwise(starts):
        piece = text[first:following].rstrip()
        if piece and not piece[0].isspace():
            yield first, first + len(piece)
        elif piece:
            yield trim(text, first, following)


def _cut(text: str, start: int, end: int, max_chars: int, room: int = 0) -> Iterator[tuple[int, int]]:
    """A span with no better places to cut: at newlines, other white space, and else between graphemes.

    The first part has at most `room` characters, if given, and the others at most `max_chars`.
    """
    room = room or max_chars
    while end - start > room:
        limit = start + room
        stop = text.rfind("\n", start + room // 2, limit + 1)
        if stop < 0:
            stop = (_last_space(text, start, limit, start + room // 4)
                    or _last_grapheme(text, start, limit))
        yield trim(text, start, stop)
        start, room = stop, max_chars
        while text[start].isspace():  # the span ends with a character that is none
            start += 1
    yield start, end


def _last_space(text: str, start: int, limit: int, least: int) -> int:
    """The last white space in text[least:limit + 1], or 0; one that carries a combining mark is none."""
    for stop in range(limit, least, -1):
        if text[stop].isspace() and not _glued(text, start, stop + 1):
            return stop
    return 0


def _last_grapheme(text: str, start: int, limit: int) -> int:
    """Where the last grapheme that ends by `limit` ends; `limit` itself when one fills the whole window."""
    for stop in range(limit, start, -1):
        if not _glued(text, start, stop):
            return stop
    return limit


def _glued(text: str, start: int, position: int) -> bool:
    """Whether a cut before text[position] tears a grapheme apart (after Unicode Annex 29, section 3.1.1).

    `start` is where the current piece begins: flags are pairs of letters, counted from there.
    """
    char, before = text[position], text[position - 1]
    if char < "\u0300":
        return False
    if before == _JOINER or char in _EXTENDING or unicodedata.category(char) in {"Mn", "Mc", "Me"}:
        return True
    if "\u1160" <= char <= "\u11ff" or "\ud7b0" <= char <= "\ud7fb":      # Hangul vowels and finals
        return True
    if "\u1100" <= char <= "\u115f" or "\ua960" <= char <= "\ua97c":      # Hangul initials
        return "\u1100" <= before <= "\u115f" or "\ua960" <= before <= "\ua97c"
    if _FLAG_FIRST <= char <= _FLAG_LAST:
        letters = 0
        while position - letters > start and _FLAG_FIRST <= text[position - letters - 1] <= _FLAG_LAST:
            letters += 1
        return letters % 2 == 1
    return False


def _finish(document: Document, drafts: Sequence[_Draft]) -> Iterator[Chunk]:
    text, line, position = document.text, 1, 0
    for draft in drafts:
        start, end = draft.start, draft.end
        line += text.count("\n", position, start)
        position = start
        page = bisect_right(document.pages, start) if document.pages else None
        boxes = _boxes(document, draft) if document.pages else ()
        first = document.blocks[draft.units[0][2]]
        row_end = text.find("\n", first.start, start) if first.kind == "table" else -1
        columns = text[first.start:row_end].strip()[:_COLUMNS_CHARS] if row_end >= 0 else ""
        yield Chunk(start, end, _shared(document.blocks, draft), line, page, boxes, columns)


def _shared(blocks: Sequence[Block], draft: _Draft) -> str:
    """The path of a chunk: that of its blocks, or what these have in common; headings over a body aside."""
    paths = list(dict.fromkeys(blocks[number].heading for _, _, number in draft.units
                               if blocks[number].kind != "heading"))
    if not paths:
        return blocks[draft.units[0][2]].heading
    if len(paths) == 1:
        return paths[0]
    levels = zip(*(path.split(SEPARATOR) for path in paths), strict=False)
    return SEPARATOR.join(names[0] for names in takewhile(lambda names: len(set(names)) == 1, levels))


def _boxes(document: Document, draft: _Draft) -> tuple[Box, ...]:
    """The boxes of the lines that the chunk covers, wholly or in part."""
    spans: dict[int, tuple[int, int]] = {}
    for start, end, number in draft.units:
        spans[number] = (spans.get(number, (start, end))[0], end)
    found: list[Box] = []
    for number, (start, end) in spans.items():
        block = document.blocks[number]
        before = document.text.count("\n", block.start, start)
        found.extend(block.boxes[before:before + document.text.count("\n", start, end) + 1])
    return tuple(found)
