"""What a collection's directory holds, read from the file itself: what tests compare."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TypeAlias

from madang.store import Database, copies

Contents: TypeAlias = list[tuple[object, ...]]


def contents_of(directory: Path) -> Contents:
    """Every record with its vector, sparse vector and source, and every source's text."""
    with closing(copies.connect(directory)) as connection:
        records = connection.execute(
            "SELECT r.namespace, r.id, r.metadata, r.document, r.context, s.uri, v.data, p.indices, p.data "
            "FROM records r JOIN vectors v USING (row) LEFT JOIN sparse p USING (row) "
            "LEFT JOIN sources s ON s.source = r.source ORDER BY r.namespace, r.id").fetchall()
        sources = connection.execute("SELECT namespace, uri, content_hash, media_type, title, size_bytes, pages, text "
                                     "FROM sources ORDER BY namespace, uri").fetchall()
    return records + sources


def sequence_of(directory: Path) -> int:
    with closing(copies.connect(directory)) as connection:
        (value,) = connection.execute("SELECT value FROM meta WHERE key = 'sequence'").fetchone()
    return int(value)


def fill(directory: Path, version: int, count: int = 20) -> None:
    """A commit that gives each of `count` records this version; the collection is made where it is not there."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    workspace = directory.parent.parent / f"{directory.parent.name}-workspace"
    workspace.mkdir(exist_ok=True)
    link = workspace / "collections"
    if not link.exists():
        link.symlink_to(directory.parent.resolve())
    database = Database(workspace)
    docs = database.open(directory.name) if directory.name in database.names() else database.create(directory.name, 3)
    docs.upsert([{"id": f"r{n}", "values": [version, n, 1], "metadata": {"v": version}} for n in range(count)])
    database.close()
