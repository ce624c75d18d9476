"""Loaders: a file becomes a `Document`, one text with blocks whose offsets refer to it.

Loaders read; they never execute, follow or fetch anything. The libraries behind HTML, PDF, DOCX and Markdown
are imported when the first such file is read.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from madang.base.errors import InvalidInput, NotFound, Unreadable
from madang.rag.load import code, docx, html, markdown, pdf, text
from madang.rag.load.decode import shown
from madang.rag.load.document import Block, Box, Document, Kind

__all__ = ["SUFFIXES", "Block", "Box", "Document", "Kind", "is_supported", "load"]

_READERS: dict[str, Callable[[bytes, Path], Document]] = {
    **dict.fromkeys((*text.PROSE - {""}, *text.TABLES, *text.LINES), text.read),
    **dict.fromkeys((".md", ".markdown", ".mdown", ".mkd", ".mdx", ".qmd", ".rmd"), markdown.read),
    **dict.fromkeys((".html", ".htm", ".xhtml"), html.read),
    ".pdf": pdf.read,
    ".docx": docx.read,
    **dict.fromkeys(code.LANGUAGES, code.read),
}
SUFFIXES = frozenset(_READERS)

# Files that are known by their name alone.
_NAMES = frozenset({"readme", "license", "licence", "copying", "notice", "authors", "contributors", "changes",
                    "changelog", "contributing", "install", "news", "todo", "history", "copyright", "thanks",
                    "makefile", "dockerfile"})

_REMEDIES = {
    **dict.fromkeys((".doc", ".rtf", ".odt", ".wpd"), "Convert it with: soffice --convert-to docx FILE"),
    **dict.fromkeys((".ppt", ".pptx", ".odp"), "Export it as PDF."),
    **dict.fromkeys((".xls", ".xlsx", ".ods"), "Export its sheets as CSV."),
    **dict.fromkeys((".hwp", ".hwpx"), "Save it as PDF or DOCX in Hancom Office."),
    **dict.fromkeys((".epub", ".mobi"), "Convert it to HTML, e.g.: pandoc book.epub -o book.html"),
    ".ipynb": "Convert it with: jupyter nbconvert --to markdown FILE",
}
_COMMON = ".txt .md .html .pdf .docx .csv .json .py and other source code"


def is_supported(path: Path) -> bool:
    """Whether a loader knows this name; nothing is opened."""
    return _reader(Path(path)) is not None


def load(path: Path, *, max_bytes: int | None = None) -> Document:
    """Read one file; its suffix, in any case, says how.

    An empty text file is a document without blocks. `max_bytes` bounds the size of the file; None does not.

    Raises:
        NotFound: there is no such file.
        Unreadable: it is no regular file, may not be read, is too large, has an unknown suffix, or is not
            what its suffix says. The message is one line and says what to do.
        InvalidInput: `max_bytes` is not positive.
    """
    if max_bytes is not None and (type(max_bytes) is not int or max_bytes < 1):
        raise InvalidInput(f"max_bytes is {max_bytes!r}.", remedy="Give a positive number of bytes, or None.")
    path = Path(path)
    with _explained(path):
        status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        what = "a folder" if stat.S_ISDIR(status.st_mode) else "no regular file"
        raise Unreadable(f"{shown(path)} is {what}.", remedy="Name a file.")
    reader = _reader(path)
    if reader is None:
        raise _unsupported(path)
    size = status.st_size
    if max_bytes is None or size <= max_bytes:
        with _explained(path), path.open("rb") as file:
            data = file.read() if max_bytes is None else file.read(max_bytes + 1)
        size = len(data)  # it may have grown meanwhile
    if max_bytes is not None and size > max_bytes:
        raise Unreadable(f"{shown(path)} has {size:,} bytes, more than max_bytes={max_bytes:,}.",
                         remedy="Raise the limit, or split the file.")
    return reader(data, path)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """The system's errors as ours."""
    try:
        yield
    except FileNotFoundError:
        raise NotFound(f"{shown(path)} does not exist.", remedy="Check the path.") from None
    except PermissionError:
        raise Unreadable(f"{shown(path)} may not be read: permission denied.",
                         remedy="Ask its owner, or: chmod u+r FILE") from None
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise Unreadable(f"{shown(path)} cannot be read: {reason}.",
                         remedy="Check the path and the disk.") from None


def _reader(path: Path) -> Callable[[bytes, Path], Document] | None:
    found = _READERS.get(path.suffix.lower())
    if found is None and path.name.lower() in _NAMES:
        return text.read
    return found


def _unsupported(path: Path) -> Unreadable:
    suffix = path.suffix.lower()
    named = f"its suffix {shown(Path(suffix))} has no loader" if suffix else "it has no suffix"
    return Unreadable(f"{shown(path)} is not supported: {named}.",
                      remedy=_REMEDIES.get(suffix, f"Supported: {_COMMON}."))
