"""Collections in and out: between engines, to and from files, from snapshots and what is left after damage."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from madang.base.errors import Conflict, InvalidInput, NotFound
from madang.index.distance import check_metric
from madang.index.specs import index_of
from madang.store import Collection, Database, copying
from madang.store.addresses import open_store
from madang.store.backends.engine import EngineCollection
from madang.store.copying import Copied
from madang.store.protocol import CollectionProtocol

if TYPE_CHECKING:
    from madang.store.parquet_import import Loaded


def copy(database: Database, source: str, target: str, *, batch: int = 500, resume: bool = True, lossy: bool = False,
         sample: int | None = None, progress: copying.Progress | None = None) -> Copied:
    """Copy a collection to another address, both a name in the workspace or the URL of an engine, and verify it.

    Raises `InvalidInput` for one and the same collection, and where the target cannot hold everything and not `lossy`.
    """
    if source == target:
        raise InvalidInput(f"{source!r} cannot be copied to itself.", remedy="Name another target.")
    others: list[Database] = []

    def workspaces(name: str, directory: Path | None, dim: int | None, metric: str) -> CollectionProtocol:
        there = database
        if directory is not None:
            if not (directory / "collections").is_dir():
                raise NotFound(f"there is no workspace at {directory}.", remedy="Name the directory of one.")
            there = Database(directory)
            others.append(there)
        if dim is not None and name not in there.names():
            return there.create(name, dim, metric)
        return there.open(name)

    with ExitStack() as engines:
        engines.callback(_close, others)

        def at(address: str, **options: Any) -> CollectionProtocol:
            found = open_store(address, workspaces, **options)
            if isinstance(found, EngineCollection):      # a connection of ours; a workspace closes its collections
                engines.callback(found.close)
            return found

        opened = at(source)
        stats = opened.stats()
        return copying.copy(opened, at(target, dim=stats.dim, metric=stats.metric), batch=batch, resume=resume,
                            lossy=lossy, sample=sample, progress=progress)


def _close(others: Sequence[Database]) -> None:
    for other in others:
        other.close()


def import_parquet(database: Database, path: Path, name: str, *, metric: str | None = None, index: Any = None,
                   skip: Sequence[str] = (), sources: bool = True, progress: Any = None) -> Loaded:
    """Write the records of a Parquet file into a collection, which is made if it is not there. Goes on where an
    interrupted import stopped."""
    from madang.store import parquet, parquet_import

    with parquet.Reader(path, skip) as reader:
        return parquet_import.load(_fitting(database, name, reader, metric, index), reader, sources, progress)


def _fitting(database: Database, name: str, reader: Any, metric: str | None, index: Any) -> Collection:
    if name in database.names():
        if metric is not None or index is not None:
            raise Conflict(f"collection {name!r} exists already: it has a metric and an index.",
                           remedy="Leave them out, or import into a new collection.")
        return database.open(name)
    known = reader.settings
    if known is None:
        return database.create(name, reader.dim, metric or "cosine", index)
    chosen = check_metric(metric or known.metric)
    made = index_of(known.index, known.dim, chosen) if index is None else index
    return database.create(name, known.dim, chosen, made, embedder=known.embedder)
