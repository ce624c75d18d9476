"""From the paths a caller names to the files to read: which are there, which belong, which are gone."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from madang.base.errors import InvalidInput, NotFound
from madang.base.messages import Problem
from madang.rag.load import is_supported

# Folders that hold no documents a person wrote.
_SKIPPED = {"node_modules", "__pycache__", "site-packages"}
# A workspace's own files: settings may hold keys, and keys must not become passages.
_OWN = {"madang.toml", "writer.json", "writer.lock"}


@dataclass(slots=True)
class Found:
    """`files` in a stable order, absolute and without duplicates; `roots` the folders that were walked whole."""

    files: list[Path] = field(default_factory=list)
    roots: list[Path] = field(default_factory=list)
    skipped: int = 0
    problems: list[Problem] = field(default_factory=list)   # folders that could not be listed

    @property
    def size_bytes(self) -> int:
        return sum(_size(path) for path in self.files)


def discover(paths: Sequence[str | Path], exclude: Iterable[Path] = ()) -> Found:
    """Walk folders and keep files a loader knows; a file named outright is kept whatever its suffix.

    Hidden files, hidden folders, virtual environments and `exclude` (the workspace itself) are skipped.

    Raises:
        NotFound: a path does not exist. InvalidInput: no path at all, or one that holds a workspace's settings.
    """
    if isinstance(paths, str | Path):
        paths = [paths]
    if not paths:
        raise InvalidInput("no paths were given.", remedy="Name at least one file or folder.")
    found, seen, excluded = Found(), set[Path](), {path.resolve() for path in exclude}
    for given in paths:
        path = _existing(given)
        if path.is_dir():
            found.roots.append(path)
            for file in _walk(path, excluded, found):
                if is_supported(file):
                    _add(file, found, seen)
                else:
                    found.skipped += 1
        elif path.name in _OWN:
            raise InvalidInput(f"{given} belongs to a workspace and may hold keys.", remedy="Name documents.")
        else:
            _add(path, found, seen)
    return found


def is_gone(uri: str) -> bool:
    """Whether a file certainly does not exist any more; one that cannot be looked at is not gone."""
    try:
        os.stat(uri)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return False
    return False


def _existing(given: str | Path) -> Path:
    try:
        path = Path(given).expanduser()
        path.stat()
        return path.resolve()
    except FileNotFoundError:
        raise NotFound(f"{given} does not exist.", remedy="Check the path; nothing was ingested.") from None
    except (OSError, RuntimeError, ValueError) as error:  # too long, forbidden, a user that is not there
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise InvalidInput(f"{str(given)[:200]} cannot be read: {reason}.",
                           remedy="Check the path; nothing was ingested.") from None


def _add(file: Path, found: Found, seen: set[Path]) -> None:
    real = file.resolve()
    if real not in seen:
        seen.add(real)
        found.files.append(real)


def _walk(root: Path, excluded: set[Path], found: Found) -> Iterable[Path]:
    def failed(error: OSError) -> None:
        found.problems.append(Problem(str(error.filename), f"folder {error.filename} cannot be read: "
                                      f"{error.strerror}. What was known of it is kept."))

    for folder, names, files in os.walk(root, onerror=failed):
        here = Path(folder)
        workspace = here in excluded or ("collections" in names and "writer.lock" in files)
        names[:] = sorted(name for name in names if not name.startswith(".") and name not in _SKIPPED
                          and not (workspace and name == "collections") and not _is_environment(here / name)
                          and (here / name).resolve() not in excluded)
        for name in sorted(files):
            if not name.startswith(".") and name not in _OWN and os.path.isfile(here / name):
                yield here / name


def _is_environment(folder: Path) -> bool:
    return os.path.exists(folder / "pyvenv.cfg")  # unlike Path.exists, False where it may not look


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
