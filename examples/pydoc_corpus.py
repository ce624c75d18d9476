"""The documentation of Python's standard library as `pydoc` prints it: real input that every machine has."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import pkgutil
import pydoc
import re
import sys
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

# Well-known modules: enough to ask about, few enough to embed in a minute.
WELL_KNOWN = (
    "abc", "argparse", "asyncio", "base64", "bisect", "calendar", "collections", "configparser",
    "contextlib", "copy", "csv", "dataclasses", "datetime", "decimal", "difflib",
    "fnmatch", "fractions", "functools", "getpass", "glob", "gzip", "hashlib", "heapq", "hmac", "html",
    "itertools", "json", "locale", "logging", "math", "mimetypes", "os", "pathlib",
    "pickle", "platform", "posixpath", "pprint", "queue", "random", "re", "secrets", "shelve", "shlex", "shutil",
    "socket", "sqlite3", "statistics", "string", "struct", "subprocess", "tarfile", "tempfile",
    "textwrap", "threading", "time", "timeit", "tomllib", "traceback", "unittest", "urllib.parse",
    "urllib.request", "uuid", "venv", "warnings", "xml.etree.ElementTree", "zipfile", "zlib",
)

# Importing these opens a browser, a window or a joke, or runs a test suite.
_NOT_IMPORTED = {"antigravity", "this", "idlelib", "lib2to3", "test", "tkinter", "turtle", "turtledemo"}


def every_module() -> Iterator[str]:
    """Names of all public standard-library modules, those inside packages included."""
    for name in sorted(sys.stdlib_module_names):
        if not name.startswith("_") and name not in _NOT_IMPORTED:
            yield name
            yield from _inside(name)


def _inside(package: str) -> Iterator[str]:
    """Public modules below a package, found without importing them."""
    spec = importlib.util.find_spec(package)
    folders = spec.submodule_search_locations if spec is not None else None
    for found in pkgutil.iter_modules(folders) if folders else ():
        if not found.name.startswith("_") and found.name not in {"test", "tests", "idle_test"}:
            name = f"{package}.{found.name}"
            yield name
            if found.ispkg:
                yield from _inside(name)


def render(name: str) -> str | None:
    """What `pydoc` prints for a module, or None if it cannot be imported here.

    Addresses, file paths and the environment differ from run to run and machine to machine; they are left out.
    """
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            module = importlib.import_module(name)
            text = pydoc.plain(pydoc.render_doc(module))
        except Exception:  # a module of another platform may fail with anything
            return None
    text = re.sub(r" at 0x[0-9a-fA-F]+", "", text)
    text = re.sub(r"(?m)^FILE\n(?:    .*\n?)+", "", text)
    return re.sub(r"(?m)^ *environb? = .*\n", "", text)


def write(directory: Path, names: Iterable[str] = WELL_KNOWN) -> list[Path]:
    """One text file a module; files that hold the same text already are not touched."""
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for name in names:
        text = render(name)
        if text is None:
            continue
        path = directory / f"{name}.txt"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
        written.append(path)
    return written
