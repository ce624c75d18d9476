"""Headings that announce themselves by their numbering: "Chapter 3", 제2장, 제15조(연차)."""

from __future__ import annotations

import re
from typing import NamedTuple

_SENTENCE_END = (".", ",", ";", ":", "。", "!", "?")
_CHARS = 80

# An article carries its name in brackets, its body follows on the line; "제15조 제1항에" only refers to one.
_ARTICLE = re.compile(r"제\s?\d{1,4}\s?조(?:의\s?\d{1,3})?\s?[(（][^)）\n]{1,60}[)）](?=\s|$)")
_CHAPTER = re.compile(r"(?:(chapter|part|section|article|appendix)\s+"
                      r"(?:\d{1,4}|[ivxlc]{1,7}|[a-z])(?:[.:\s]|$)"
                      r"|제\s?\d{1,4}\s?(편|장|절|관|조)(?:의\s?\d{1,3})?(?=[\s:.]|$))", re.IGNORECASE)
# Articles stand line below line in many regulations: a paragraph that starts without a blank line before it.
START = (r"[^\S\n]*제\s?\d{1,4}\s?"
         r"(?:[편장절관](?=[\s:.])|조(?:의\s?\d{1,3})?\s?[(（][^)）\n]{1,60}[)）](?=\s|$))")


class Numbered(NamedTuple):
    """`style` tells kinds of numbering apart; `length` is how much of the line the heading takes."""

    style: str
    title: str
    length: int


def numbered(line: str, alone: bool) -> Numbered | None:
    """The heading that `line` (stripped at its start) begins with; `alone` when no more text follows it."""
    if article := _ARTICLE.match(line):
        return Numbered("조", article[0], article.end())
    if not alone or len(line) > _CHARS or line.rstrip().endswith(_SENTENCE_END):
        return None
    chapter = _CHAPTER.match(line)
    if chapter is None:
        return None
    return Numbered((chapter[1] or chapter[2]).lower(), line.rstrip(), len(line.rstrip()))
