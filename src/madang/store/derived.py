"""The index of a collection on disk, so that opening it does not build it again.

It is derived: `records.db` is the truth, and what is missing, damaged or of other parameters is built anew. Two files:
the index itself, under a name of its own, and beside it the view of the records that it belongs to. The second is
replaced last and names the first, so a crash leaves the old pair or the new. A token says which history of
`records.db` they belong to: it is written there before them, so that a database restored from a backup, whose numbers
may have grown again with other content, is not taken for theirs.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pyroaring import BitMap

from madang.base.errors import MadangError
from madang.index import Lexical, Metric, Sparse, container
from madang.index.graph import SmallWorld
from madang.index.specs import AnyIndex, class_of
from madang.store import bitmaps
from madang.store.columns import Columns
from madang.store.embeddings import Embedding
from madang.store.names import Growing, Names
from madang.store.view import View

_PREFIXES = ("index", "index2")     # by the table of the vectors
_KIND, _VERSION = "view", 1
TOKENS = ("derived", "derived2")    # keys of the tokens in `records.db`, by table: the newest, and the one before


def _view_of(directory: Path, table: int) -> Path:
    return directory / f"{_PREFIXES[table]}.view"


def _indexes(directory: Path, table: int) -> list[Path]:
    return list(directory.glob(f"{_PREFIXES[table]}-*.bin"))


def _files(directory: Path, table: int) -> list[Path]:
    return [path for path in (_view_of(directory, table), *_indexes(directory, table)) if path.exists()]


def token() -> str:
    """A new token, to be written to `records.db` first."""
    return secrets.token_hex(8)


@dataclass(frozen=True, slots=True)
class Captured:
    """A view at one moment, as it is written; the index goes on changing only where its own thread does it."""

    settings: dict[str, Any]
    arrays: container.Arrays


def capture(view: View) -> Captured:
    """The caller holds the guard."""
    columns, arrays = view.columns.to_arrays()
    offsets, text = view.names.arrays()
    lexical, words = view.lexical.to_arrays()
    sparse, sparsely = view.sparse.to_arrays()
    return Captured(
        {"lexical": lexical, "sparse": sparse, "generation": view.generation,
         "last_tombstone": view.last_tombstone, "absorbed": view.dense.absorbed, "spaces": list(view.spaces),
         "columns": columns},
        {"rows": view.rows.view(), "codes": view.codes.view(), "offsets": offsets, "text": text,
         "live": np.frombuffer(view.all_live().serialize(), dtype=np.uint8),
         **{f"columns.{key}": value for key, value in arrays.items()},
         **{f"lexical.{key}": value for key, value in words.items()},
         **{f"sparse.{key}": value for key, value in sparsely.items()}})


def save(directory: Path, embedding: Embedding, index: AnyIndex, captured: Captured, mark: str) -> None:
    """Write the pair of files into a collection's directory and remove the pair before. Raises OSError."""
    name = f"{_PREFIXES[embedding.table]}-{secrets.token_hex(8)}.bin"
    try:
        index.save(directory / name)
        container.write(_view_of(directory, embedding.table), _KIND, _VERSION,
                        {"index": name, "spec": embedding.spec, "made": embedding.made, "token": mark,
                         **captured.settings}, captured.arrays)
    except BaseException:
        (directory / name).unlink(missing_ok=True)
        raise
    for old in _indexes(directory, embedding.table):
        if old.name != name:
            old.unlink(missing_ok=True)


def remove(directory: Path, table: int) -> None:
    """Remove the files, if there are any. Raises OSError."""
    for path in _files(directory, table):
        path.unlink(missing_ok=True)


def size_bytes(directory: Path, table: int) -> int:
    """What they take."""
    return sum(path.stat().st_size for path in _files(directory, table))


def damaged(directory: Path) -> tuple[str, ...]:
    """The names of files that are not what was written, by their checksums."""
    found = []
    for path in sorted(path for table in range(len(_PREFIXES)) for path in _files(directory, table)):
        try:
            container.check(path)
        except MadangError:
            found.append(path.name)
    return tuple(found)


def load(directory: Path, embedding: Embedding, metric: Metric, tokens: list[str]) -> View | None:
    """The view with its index, but for the vectors that it had not absorbed and the postings; None where there is
    nothing that can be used."""
    try:
        settings, arrays = container.read(_view_of(directory, embedding.table), _KIND, _VERSION)
        if settings["spec"] != embedding.spec or settings["token"] not in tokens or (
                settings.get("made", "") != embedding.made):
            return None
        view = View(embedding.dim, metric, embedding.spec)
        index = class_of(embedding.spec).load(directory / settings["index"])
        absorbed, n = int(settings["absorbed"]), len(arrays["rows"])
        ever = int(index.stats()["rows_ever"])
        if not (isinstance(index, SmallWorld) and ever <= absorbed <= n):
            return None
        if not n == len(arrays["codes"]) == len(arrays["offsets"]) - 1:
            return None
        view.dense.index, view.dense.absorbed = index, absorbed
        view.rows, view.codes = Growing(arrays["rows"]), Growing(arrays["codes"])
        view.names = Names(arrays["offsets"], arrays["text"])
        view.columns = Columns.from_arrays(settings["columns"], _named(arrays, "columns."))
        view.lexical = Lexical.from_arrays(settings["lexical"], _named(arrays, "lexical."))
        view.sparse = Sparse.from_arrays(settings["sparse"], _named(arrays, "sparse."))
        view.generation, view.token = int(settings["generation"]), str(settings["token"])
        view.spaces = [str(space) for space in settings["spaces"]]
        live = BitMap.deserialize(arrays["live"].tobytes())
        view.live = _by_space(live, arrays["codes"], len(view.spaces))
        view.last_tombstone = int(settings["last_tombstone"])
        view.dense.gone = bitmaps.bitmap_of(index.live_rows().astype(np.uint32)) - live
        return view
    except (MadangError, KeyError, TypeError, ValueError, OSError, IndexError):
        return None


def _named(arrays: container.Arrays, prefix: str) -> dict[str, Any]:
    return {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}


def _by_space(live: BitMap, codes: Any, count: int) -> list[BitMap]:
    if count == 1:
        return [live]
    slots = bitmaps.rows(live)
    mine = codes[slots]
    return [bitmaps.bitmap_of(slots[mine == code].astype(np.uint32)) for code in range(count)]
