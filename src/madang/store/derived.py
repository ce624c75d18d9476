"""The graph of a collection on disk, so that opening it does not build it again.

It is derived: `records.db` is the truth, and a graph that is missing, damaged or of other parameters is built anew.
Two files: the index itself, under a name of its own, and beside it which database row each of its rows is, with the
last row and tombstone it has seen. The second is replaced last and names the first, so a crash leaves the old pair or
the new.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from madang.base.errors import MadangError
from madang.index import container
from madang.index.specs import AnyIndex, Spec, class_of

_NAME = "index.rows"
_KIND, _VERSION = "rows", 1


@dataclass(frozen=True, slots=True)
class Derived:
    """An index and what it covers: `rows` (rows ever added,) are database rows, ascending."""

    index: AnyIndex
    rows: NDArray[np.int64]
    last_tombstone: int


def save(directory: Path, spec: Spec, derived: Derived) -> None:
    """Write the pair of files into a collection's directory and remove the pair before."""
    name = f"index-{secrets.token_hex(8)}.bin"
    derived.index.save(directory / name)
    container.write(directory / _NAME, _KIND, _VERSION,
                    {"index": name, "spec": spec, "last_tombstone": derived.last_tombstone},
                    {"rows": derived.rows})
    for old in directory.glob("index-*.bin"):
        if old.name != name:
            old.unlink(missing_ok=True)


def load(directory: Path, spec: Spec) -> Derived | None:
    """The index of a collection, or None where there is none that can be used."""
    try:
        settings, arrays = container.read(directory / _NAME, _KIND, _VERSION)
        if settings["spec"] != spec:
            return None
        index = class_of(spec).load(directory / settings["index"])
        rows = arrays["rows"].astype(np.int64)
        if index.stats()["rows_ever"] != len(rows):
            return None
        return Derived(index, rows, int(settings["last_tombstone"]))
    except (MadangError, KeyError, TypeError, OSError):
        return None
