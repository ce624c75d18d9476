"""Queries in Lucene's classic syntax, as Pinecone's `query_string` takes them: text to a tree.

Words and "phrases", AND, OR, NOT, + and -, parentheses, `field:...`, and `^2` for what counts double. Without an
operator words are alternatives. Wildcards, ranges, regular expressions and fuzzy words are refused, not read as
something else. A backslash takes the meaning of the sign after it. Syntax: https://lucene.apache.org/core/9_0_0/queryparser/
org/apache/lucene/queryparser/classic/package-summary.html
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from madang.wire.pinecone import Malformed

MOST_CHARS, MOST_DEPTH, MOST_BOOST = 4096, 32, 1000.0


@dataclass(frozen=True, slots=True)
class Words:
    """A word, or a phrase whose words follow each other. `fields` None: any that can be searched."""

    text: str
    fields: tuple[str, ...] | None = None
    boost: float = 1.0
    phrase: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """All of `must`, none of `never`; where nothing must be, at least one of `may`. What is there adds to the score."""

    may: tuple[Tree, ...] = ()
    must: tuple[Tree, ...] = ()
    never: tuple[Tree, ...] = ()


Tree: TypeAlias = Words | Group

_TOKEN = re.compile(r"""\s*(?:
      (?P<operator>AND\b|OR\b|NOT\b|&&|\|\||[()+!-])
    | "(?P<phrase>(?:[^"\\]|\\.)*)"
    | (?P<field>(?:[^\s()":^~*?\[\]{}/\\+!-]|\\.)(?:[^\s()":^~*?\[\]{}/\\]|\\.)*):
    | \^(?P<boost>\d+(?:\.\d+)?)
    | (?P<word>(?:[^\s()":^~*?\[\]{}/\\]|\\.)+)
    | (?P<other>\S))""", re.VERBOSE)
_MARK = {"+": "must", "AND": "must", "&&": "must", "-": "never", "!": "never", "NOT": "never"}


def any_of(text: str, fields: Sequence[str]) -> Tree:
    """The words of a text, each of which may be there; no sign in it has a meaning."""
    words = tuple(dict.fromkeys(Words(word, tuple(sorted(set(fields)))) for word in text.split()))
    return words[0] if len(words) == 1 else Group(words)


def parse(text: str) -> Tree:
    """The tree of a query. Raises `Malformed`, naming the place."""
    if len(text) > MOST_CHARS:
        raise Malformed(f"the query has {len(text):,} characters; at most {MOST_CHARS:,} are read")
    return _Parser(text).whole()


def words_of(tree: Tree) -> list[Words]:
    """What a match may hold: every word and phrase but those that must not be there."""
    if isinstance(tree, Words):
        return [tree]
    return [word for part in (*tree.may, *tree.must) for word in words_of(part)]


class _Parser:
    """Recursive descent over the tokens."""

    def __init__(self, text: str) -> None:
        self._tokens = [(match.lastgroup or "", match[match.lastgroup or 0], match.start(match.lastgroup or 0))
                        for match in _TOKEN.finditer(text) if match.lastgroup]
        self._place = 0

    def whole(self) -> Tree:
        tree = self._group(0)
        if self._place < len(self._tokens):
            raise self._wrong()
        if not words_of(tree):
            raise Malformed("the query names nothing that is to be found")
        return tree

    def _next(self) -> tuple[str, str, int]:
        return self._tokens[self._place] if self._place < len(self._tokens) else ("end", "", -1)

    def _wrong(self) -> Malformed:
        kind, text, place = self._next()
        if kind == "end":
            return Malformed("the query ends too early")
        return Malformed(f"the query has {text!r:.40} at character {place}, which is not read here; "
                         "wildcards, ranges and fuzzy words are not served, and \\ takes a sign as it is")

    def _group(self, depth: int) -> Tree:
        if depth > MOST_DEPTH:
            raise Malformed(f"the query has more than {MOST_DEPTH} parentheses within each other")
        parts: list[tuple[str, Tree]] = []
        joined = ""           # the operator before the next part
        while self._next()[0] != "end" and self._next()[:2] != ("operator", ")"):
            kind, text, _ = self._next()
            if kind == "operator" and text in ("AND", "&&", "OR", "||"):
                if not parts or joined:
                    raise self._wrong()
                self._place += 1
                joined = "AND" if text in ("AND", "&&") else "OR"
                continue
            mark = "may"
            if kind == "operator" and text in ("+", "-", "!", "NOT"):
                mark = _MARK[text]
                self._place += 1
            part = self._part(depth)
            if joined == "AND":
                if parts[-1][0] == "may":
                    parts[-1] = ("must", parts[-1][1])
                mark = "must" if mark == "may" else mark
            parts.append((mark, part))
            joined = ""
        if joined or not parts:
            raise self._wrong()
        parts = list(dict.fromkeys(parts))
        if len(parts) == 1 and parts[0][0] != "never":
            return parts[0][1]
        return Group(*(tuple(part for mark, part in parts if mark == wanted) for wanted in ("may", "must", "never")))

    def _part(self, depth: int) -> Tree:
        kind, text, _ = self._next()
        field: str | None = None
        if kind == "field":
            field = _plain(text)
            self._place += 1
            kind, text, _ = self._next()
        if (kind, text) == ("operator", "("):
            self._place += 1
            tree = self._group(depth + 1)
            if self._next()[:2] != ("operator", ")"):
                raise self._wrong()
        elif kind in ("word", "phrase"):
            tree = Words(_plain(text), phrase=kind == "phrase")
        else:
            raise self._wrong()
        self._place += 1
        if field is not None:
            tree = _within(tree, field)
        if self._next()[0] == "boost":
            boost = float(self._next()[1])
            if not 0 < boost <= MOST_BOOST:
                raise Malformed(f"^{boost:g} must be above 0 and at most {MOST_BOOST:g}")
            tree = _boosted(tree, boost)
            self._place += 1
        return tree


def _plain(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def _within(tree: Tree, field: str) -> Tree:
    """The tree in a field; what already names one keeps it."""
    if isinstance(tree, Words):
        return replace(tree, fields=(field,)) if tree.fields is None else tree
    return Group(*(tuple(_within(part, field) for part in parts) for parts in (tree.may, tree.must, tree.never)))


def _boosted(tree: Tree, boost: float) -> Tree:
    if isinstance(tree, Words):
        return replace(tree, boost=tree.boost * boost)
    return Group(*(tuple(_boosted(part, boost) for part in parts) for parts in (tree.may, tree.must, tree.never)))
