"""Source code: one block per definition, under a path such as "module > Class > method".

Python is read by a scanner of its own that knows strings, comments and brackets: unlike `ast` it survives
syntax errors and deep nesting, needs a fraction of the time and never warns. Other languages are split where
something new starts at column 0 after a blank line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from madang.rag.load.decode import decode
from madang.rag.load.document import Block, Document, Kind, clean, join, trim_lines
from madang.rag.load.text import paragraphs

LANGUAGES = {
    ".py": "python", ".pyi": "python", ".pyw": "python",
    ".js": "javascript", ".mjs": "javascript", ".cjs": "javascript", ".jsx": "javascript",
    ".ts": "typescript", ".tsx": "typescript", ".vue": "vue", ".svelte": "svelte",
    ".java": "java", ".kt": "kotlin", ".kts": "kotlin", ".scala": "scala", ".groovy": "groovy", ".go": "go",
    ".rs": "rust", ".c": "c", ".h": "c", ".cc": "cpp", ".cpp": "cpp", ".cxx": "cpp", ".hpp": "cpp",
    ".hh": "cpp", ".cu": "cuda", ".m": "objective-c", ".cs": "csharp", ".swift": "swift", ".dart": "dart",
    ".rb": "ruby", ".php": "php", ".pl": "perl", ".pm": "perl", ".lua": "lua", ".r": "r", ".jl": "julia",
    ".hs": "haskell", ".ml": "ocaml", ".ex": "elixir", ".exs": "elixir", ".erl": "erlang", ".clj": "clojure",
    ".zig": "zig", ".nim": "nim", ".sh": "shell", ".bash": "shell", ".zsh": "shell", ".ps1": "powershell",
    ".sql": "sql", ".css": "css", ".scss": "scss", ".proto": "protobuf", ".graphql": "graphql",
    ".tf": "terraform", ".cmake": "cmake", ".mk": "make",
}

# Strings (an unterminated one ends with its line, or with the file), comments, brackets, ends of lines.
_TOKEN = re.compile(r"""\"{3}(?:[^\\"]|\\.|"(?!""))*+(?:\"{3}|\\?\Z)"""
                    r"""|'{3}(?:[^\\']|\\.|'(?!''))*+(?:'{3}|\\?\Z)"""
                    r"""|"(?:[^"\\\n]|\\.)*+"?|'(?:[^'\\\n]|\\.)*+'?"""
                    r"""|#[^\n]*|[(\[{]|[)\]}]|\\\n|\n""", re.DOTALL)
_STATEMENT = re.compile(r"([ \t\f]*)(?:(?:async[ \t]+)?(def|class)[ \t]+(\w+)|([@#])|(?=[^\s#@]))")
_TOP = re.compile(r"(?:async[ \t]+)?(?:def|class)[ \t]+\w+[ \t]*[(:\[]")
_DOCSTRING = re.compile(r"""[rRuU]?(?:"|')""")

_CONTINUED = re.compile(r"\s|[)\]}]|(?:end|else|elsif|elif|catch|finally|fi|done|esac)\b|#endif|\*/")
_COMMENT = re.compile(r"\s*(?://|#(?!\w)|/?\*|--|;|@\w|\[|#\[|<!--|template\b|$)")
_WORDS = ("function|func|fn|class|struct|enum|union|interface|trait|impl|type|module|namespace|object|"
          "protocol|extension|message|service|resource|sub|package|record|mod|procedure|table|view|trigger|"
          "defmodule|defp?")
_NAMED = re.compile(rf"(?:[^\s=]{{1,60}}[^\S\n]+){{0,6}}?(?:{_WORDS})\b[^\S\n]+(?:\([^)\n]*\)[^\S\n]*)?"
                    r"(?:if[^\S\n]+not[^\S\n]+exists[^\S\n]+)?[\"`]?(\w[\w.:$-]*)", re.IGNORECASE)
_BOUND = re.compile(r"(?:export[^\S\n]+)?(?:const|let|var)[^\S\n]+(\w+)[^=\n]*=[^\S\n]*"
                    r"(?:async\b|function\b|\()"
                    r"|(\w[\w.-]*)[^\S\n]*(?:\(\)[^\S\n]*\{|<-[^\S\n]*function\b)")
_CALLED = re.compile(r"(?!(?:if|for|while|switch|return|else|do|try)\b)(?:[^\s(=;]{1,60}[^\S\n]+){1,6}?"
                     r"[*&]*([A-Za-z_][\w:~]*)[^\S\n]*\([^;=]*$")
_SIGNATURE_CHARS = 300


def read(data: bytes, path: Path) -> Document:
    """Raises: Unreadable when it is not UTF-8 text."""
    name = path.parent.name if path.stem == "__init__" and path.parent.name else path.stem
    return parse(decode(data, path), path.suffix.lower(), name)


def parse(text: str, suffix: str = ".py", name: str = "module") -> Document:
    """Blocks of decoded source code; `name` is what their paths begin with."""
    language = LANGUAGES.get(suffix, "plain")
    name = clean(name)
    blocks = list(_python(text, name) if language == "python" else _generic(text, name))
    return Document(text, blocks, f"text/x-{language}")


class _Line(NamedTuple):
    """A line that starts a statement, a decorator or a comment: not one inside a string or brackets."""

    start: int
    indent: int
    word: str                      # "def", "class", "@", "#" or ""
    name: str


def _statements(text: str) -> Iterator[_Line]:
    def at(start: int) -> Iterator[_Line]:
        if found := _STATEMENT.match(text, start):
            yield _Line(start, len(found[1].expandtabs(8)), found[2] or found[4] or "", found[3] or "")

    depth = 0
    yield from at(0)
    for token in _TOKEN.finditer(text):
        sign = token[0]
        if sign == "\n":
            if depth and _TOP.match(text, token.end()):  # no bracket can hold a definition: one was left open
                depth = 0
            if not depth:
                yield from at(token.end())
        elif sign in {"(", "[", "{"}:
            depth += 1
        elif sign in {")", "]", "}"} and depth:
            depth -= 1


def _python(text: str, module: str) -> Iterator[Block]:
    """The docstring of a module, its definitions, and the statements between them."""
    lines = list(_statements(text))
    first = next((line for line in lines if line.word != "#"), None)
    start, level = 0, 1
    if first is not None and first.indent == 0 and _DOCSTRING.match(text, first.start):
        following = next((line.start for line in lines if line.start > first.start), len(text))
        yield from _span(text, 0, following, level, module, "paragraph")
        start, level = following, 0
        lines = [line for line in lines if line.start >= following]
    yield from _Suite(text, lines, 0, module, 2).blocks(start, len(text), level)


class _Suite:
    """Statements that are indented alike: those of a module, or of a class in it."""

    def __init__(self, text: str, lines: list[_Line], indent: int, path: str, level: int) -> None:
        self._text, self._lines, self._indent = text, lines, indent
        self._path, self._level = path, level      # of the module or class; level of the definitions in it

    def blocks(self, start: int, end: int, opening: int) -> Iterator[Block]:
        """Blocks of text[start:end]; `opening` is the level of the first one when it is no definition."""
        position = start
        number, free = 0, 0
        while number < len(self._lines):
            line = self._lines[number]
            if line.word not in {"def", "class"} or line.indent != self._indent:
                number += 1
                continue
            begin = self._lines[self._first(number, free)].start
            free = self._after(number)
            stop = self._lines[free].start if free < len(self._lines) else end
            yield from _span(self._text, position, begin, opening, self._path)
            yield from self._definition(line, self._lines[number + 1:free], begin, stop)
            position, opening, number = stop, self._level - 1, free
        yield from _span(self._text, position, end, opening, self._path)

    def _first(self, number: int, free: int) -> int:
        """The first of the decorators and comments right above a definition."""
        while number > free:
            above, line = self._lines[number - 1], self._lines[number]
            between = self._text[above.start:line.start]
            if above.indent != self._indent or not (
                    above.word == "@" or (above.word == "#" and between.count("\n") == 1)):
                break
            number -= 1
        return number

    def _after(self, number: int) -> int:
        """The first line after the body of a definition; comments count as what they stand before."""
        number += 1
        while number < len(self._lines):
            following = number
            while following < len(self._lines) - 1 and self._lines[following].word == "#":
                following += 1
            if self._lines[following].indent <= self._indent:
                return self._dedented(number, following)
            number = following + 1
        return number

    def _dedented(self, number: int, stop: int) -> int:
        """Comments at the end of a body that are indented like it belong to it."""
        while number < stop and self._lines[number].indent > self._indent:
            number += 1
        return number

    def _definition(self, line: _Line, body: list[_Line], begin: int, stop: int) -> Iterator[Block]:
        path = join(self._path, clean(line.name))
        inner = next((each.indent for each in body if each.word != "#"), None)
        if line.word != "class" or self._level > 2 or inner is None:
            yield from _span(self._text, begin, stop, self._level, path)
            return
        yield from _Suite(self._text, body, inner, path, self._level + 1).blocks(begin, stop, self._level)


def _span(text: str, start: int, end: int, level: int, path: str, kind: Kind = "code") -> Iterator[Block]:
    start, end = trim_lines(text, start, end)
    if start < end:
        yield Block(start, end, kind, level, path)


def _generic(text: str, module: str) -> Iterator[Block]:
    """One block per group of lines between blank ones; indented groups continue the definition above."""
    path = ""
    for start, end in paragraphs(text):
        level = 0
        if not path or not _CONTINUED.match(text, start):
            name = _defined(text, start, end)
            opened = join(module, clean(name)) if name else module
            level, path = (2 if name else int(opened != path)), opened
        yield from _span(text, start, end, level, path)


def _defined(text: str, start: int, end: int) -> str:
    """The name that a group of lines defines, or ""."""
    while start < end:
        stop = text.find("\n", start, end)
        stop = end if stop < 0 else stop
        if not _COMMENT.match(text, start, stop):
            line = text[start:min(stop, start + _SIGNATURE_CHARS)]
            found = _NAMED.match(line) or _BOUND.match(line) or _CALLED.match(line)
            return next((name for name in found.groups() if name), "") if found else ""
        start = stop + 1
    return ""
