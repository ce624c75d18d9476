"""From the paths a caller names to the files to read: which are there, which belong, which are gone."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from madang.base.errors import InvalidInput, NotFound
from madang.rag.load import is_supported

# Folders that hold no documents a person wrote.
_SKIPPED = {"node_modules", "__pycache__", "site-packages"}


@dataclass(slots=True)
class Found:
    """`files` in a stable order, absolute and without duplicates; `roots` the folders that were walked whole."""

    files: list[Path] = field(default_factory=list)
    roots: list[Path] = field(default_factory=list)
    skipped: int = 0

    @property
    def size_bytes(self) -> int:
        return sum(_size(path) for path in self.files)


def discover(paths: Sequence[str | Path], exclude: Iterable[Path] = ()) -> Found:
    """Walk folders and keep files a loader knows; a file named outright is kept whatever its suffix.

    Hidden files, hidden folders, virtual environments and `exclude` (the workspace itself) are skipped.

    Raises:
        NotFound: a path does not exist. InvalidInput: nothing to read at all.
    """
    if isinstance(paths, str | Path):
        paths = [paths]
    found, seen, excluded = Found(), set[Path](), {path.resolve() for path in exclude}
    for given in paths:
        path = Path(given).expanduser()
        if not path.exists():
            raise NotFound(f"{given} does not exist.", remedy="Check the path; nothing was ingested.")
        before = len(found.files)
        if path.is_dir():
            root = path.resolve()
            found.roots.append(root)
            for file in _walk(root, excluded):
                if is_supported(file):
                    _add(file, found, seen)
                else:
                    found.skipped += 1
            if len(found.files) == before and not any(file.is_relative_to(root) for file in found.files):
                raise InvalidInput(f"{given} holds no file that can be read ({found.skipped} others skipped).",
                                   remedy="Supported: text, Markdown, HTML, PDF, DOCX and source code.")
        else:
            _add(path.resolve(), found, seen)
    if not found.files:
        raise InvalidInput("no paths were given.", remedy="Name at least one file or folder.")
    return found


def _add(file: Path, found: Found, seen: set[Path]) -> None:
    real = file.resolve()
    if real not in seen:
        seen.add(real)
        found.files.append(real)


def _walk(root: Path, excluded: set[Path]) -> Iterable[Path]:
    for folder, names, files in os.walk(root):
        here = Path(folder)
        names[:] = sorted(name for name in names if not name.startswith(".") and name not in _SKIPPED
                          and not (here / name / "pyvenv.cfg").exists() and (here / name).resolve() not in excluded)
        for name in sorted(files):
            path = here / name
            if not name.startswith(".") and path.is_file():
                yield path


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
