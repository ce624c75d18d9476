"""Which vectors a collection is searched with, and those of another model beside them.

There are two tables of vectors. `table` in the metadata says which one is searched; `dim`, `embedder`, `index` and
`made` describe it, and `shadow` describes the other one the same way, or is null. So one transaction, which swaps these
entries, makes the collection another model's, and makes it the old one's again. `made` names a set of vectors for good:
a view, or a file of an index, that knows another name is of other vectors.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from madang.index.specs import Spec
from madang.store import checksums
from madang.store.schema import VECTORS, get_meta, put_meta

Meta = Callable[[str], Any]     # the value of a key, None where it was never set


@dataclass(frozen=True, slots=True)
class Embedding:
    """One set of vectors: where it is, what made it (a signature; None: the caller), how it is searched, its name."""

    table: int
    dim: int
    embedder: str | None
    spec: Spec
    made: str = ""
    previous: bool = False       # a shadow that was searched before, and can be again


def live(meta: Meta) -> Embedding:
    """The vectors that are searched."""
    return _of(meta("table") or 0, {key: meta(key) for key in ("dim", "embedder", "index", "made")})


def shadow(meta: Meta) -> Embedding | None:
    """The vectors of another model beside them, if there are any."""
    stored = meta("shadow")
    return None if stored is None else _of(1 - (meta("table") or 0), stored)


def _of(table: int, entries: dict[str, Any]) -> Embedding:
    index = entries["index"]
    return Embedding(table, entries["dim"], entries["embedder"], {"kind": index} if isinstance(index, str) else index,
                     entries["made"] or "", bool(entries.get("previous")))


def _put_shadow(connection: sqlite3.Connection, found: Embedding | None) -> None:
    put_meta(connection, "shadow", None if found is None else {
        "dim": found.dim, "embedder": found.embedder, "index": found.spec, "made": found.made,
        "previous": found.previous})


# Inside the caller's write transaction

def begin(connection: sqlite3.Connection, path: Path, dim: int, embedder: str | None, spec: Spec) -> Embedding:
    """An empty shadow in place of the one there is."""
    table = 1 - (get_meta(connection, path, "table") or 0)
    connection.execute(f"DELETE FROM {VECTORS[table]}")
    made = Embedding(table, dim, embedder, spec, secrets.token_hex(8))
    _put_shadow(connection, made)
    return made


def drop(connection: sqlite3.Connection, path: Path) -> None:
    """Remove the shadow with its vectors."""
    connection.execute(f"DELETE FROM {VECTORS[1 - (get_meta(connection, path, 'table') or 0)]}")
    _put_shadow(connection, None)


def put(connection: sqlite3.Connection, table: int, rows: Sequence[int], vectors: NDArray[np.float32]) -> int:
    """Vectors (n, dim) of rows; those that are gone by now, or have one, are left out: no view looks at a row twice.
    Returns how many were stored."""
    data = [vector.tobytes() for vector in np.ascontiguousarray(vectors, dtype="<f4")]
    before = connection.total_changes
    connection.executemany(f"INSERT OR IGNORE INTO {VECTORS[table]} SELECT row, ?2, ?3 FROM records WHERE row = ?1",
                           zip(rows, data, checksums.of_many(data, rows), strict=True))
    return connection.total_changes - before


def swap(connection: sqlite3.Connection, meta: Meta, previous: bool) -> Embedding:
    """Make the shadow what is searched, and what was searched the shadow. Returns what is searched now."""
    old, new = live(meta), shadow(meta)
    assert new is not None
    for key, value in {"table": new.table, "dim": new.dim, "embedder": new.embedder, "index": new.spec,
                       "made": new.made}.items():
        put_meta(connection, key, value)
    _put_shadow(connection, Embedding(old.table, old.dim, old.embedder, old.spec, old.made, previous))
    return Embedding(new.table, new.dim, new.embedder, new.spec, new.made)


@contextmanager
def carried(connection: sqlite3.Connection, path: Path, identity: str, namespace: str) -> Iterator[None]:
    """A record is written anew with the same text: its vector of the other model is still right under the new row."""
    table = VECTORS[1 - (get_meta(connection, path, "table") or 0)]
    found = connection.execute(f"SELECT r.row, v.data, COALESCE(v.checksum, r.vector_sum) FROM records r "
                               f"JOIN {table} v USING (row) WHERE r.namespace = ? AND r.id = ?",
                               (namespace, identity)).fetchone()
    yield
    if found is not None and checksums.of(found[1], found[0]) == found[2]:   # a damaged one is made again
        (row,) = connection.execute("SELECT row FROM records WHERE namespace = ? AND id = ?",
                                    (namespace, identity)).fetchone()
        connection.execute(f"INSERT INTO {table} VALUES(?, ?, ?)", (row, found[1], checksums.of(found[1], row)))
