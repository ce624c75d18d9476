"""The collections of a workspace directory: create, open, list, drop."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from madang.base.errors import Conflict, InvalidInput, MadangError, NotFound
from madang.index.protocol import METRICS
from madang.index.specs import spec_of
from madang.store import backup, pulse, schema, snapshots, validate
from madang.store.collection import Collection
from madang.store.copies import Progress
from madang.store.lock import WriterLock
from madang.store.salvage import Salvaged, salvage
from madang.text.analyzer import default_analyzer


class Database:
    """Every collection is a directory under `directory/collections`; SQLite in it is the truth."""

    def __init__(self, directory: Path, kind: type[Collection] | None = None) -> None:
        """`kind`: what `open` makes, where that is more than a `Collection`."""
        self._directory = directory / "collections"
        try:
            _make_directory(self._directory)
        except OSError as error:
            raise InvalidInput(f"workspace {directory} cannot be made: {error.strerror or error}.",
                               remedy="Check its permissions and the disk.") from error
        self.lock = WriterLock(directory)
        self._kind, self._open = kind, dict[str, Collection]()
        self._guard = threading.RLock()

    def create(self, name: str, dim: int, metric: str = "cosine", index: Any = None,
               embedder: str | None = None, keep_queries: bool = True,
               attributes: Mapping[str, Any] | None = None) -> Collection:
        """Create a collection.

        Args:
            dim: 1 to 20,000. metric: "cosine", "dot" or "euclidean". index: None (exact), or an empty
                `Flat()`, `HNSW(m=16, ...)` or `NSW(...)`, which takes `dim` and `metric` from the collection.
            embedder: signature of the model whose vectors it holds, if one does.
            keep_queries: keep a bounded sample of query vectors, which `audit` measures with.
            attributes: what the caller wants to remember with it; see `Collection.attributes`.

        Raises:
            Conflict: it exists already. InvalidInput: a bad name, dimension, metric or index.
        """
        name = validate.collection_name(name)
        if isinstance(dim, bool) or not isinstance(dim, int) or not 1 <= dim <= validate.MAX_DIM:
            raise InvalidInput(f"dim must be a whole number from 1 to {validate.MAX_DIM:,}, not {dim!r}.")
        if metric not in METRICS:
            raise InvalidInput(f"metric {metric!r} is unknown.", remedy=f"Known: {', '.join(METRICS)}.")
        meta = {"dim": dim, "metric": metric, "index": spec_of(index, dim, metric), "embedder": embedder,
                "keep_queries": bool(keep_queries), "attributes": validate.attributes(attributes),
                "analyzer": default_analyzer().signature,
                "sequence": 0, "next_row": 1,
                "created_at": datetime.now(UTC).isoformat(timespec="seconds")}
        with self._guard:
            self.lock.acquire()
            if name in self.names():
                raise Conflict(f"collection {name!r} exists already.", remedy="Open it, or drop it first.")
            self._make(name, meta)
            try:
                return self.open(name)
            except MadangError:  # it says that nothing was changed: so it must be
                self._remove(name)
                raise

    def _make(self, name: str, meta: dict[str, Any]) -> None:
        # Made beside and renamed, so that a crash leaves no half collection under its name.
        new, there = self._directory / f".new-{uuid.uuid4().hex}", self._directory / name
        try:
            new.mkdir()
            schema.create(new / schema.FILE_NAME, meta)
            new.rename(there)
            _sync_directory(self._directory)
        except (sqlite3.Error, OSError) as error:
            shutil.rmtree(new, ignore_errors=True)
            if there.exists():
                self._remove(name)
            raise schema.explained(there / schema.FILE_NAME, error) from error

    def _remove(self, name: str) -> None:
        """Take a collection's directory away. A crash meanwhile leaves all of it or nothing under its name."""
        gone = self._directory / f".dropped-{uuid.uuid4().hex}"
        try:
            (self._directory / name).rename(gone)
            pulse.beat(gone)
            _sync_directory(self._directory)
        except OSError as error:
            raise InvalidInput(f"collection {name!r} could not be removed: {error.strerror or error}.",
                               remedy="Check the permissions and the disk, and drop it then.") from error
        for leftover in [*self._directory.glob(".dropped-*"), *self._directory.glob(".new-*")]:
            shutil.rmtree(leftover, ignore_errors=True)

    def open(self, name: str) -> Collection:
        """Open a collection; the same object for the same name. Raises `NotFound` with the names there are."""
        there = self._open.get(name) if type(name) is str else None
        if there is not None and there.surely_there:      # as a rule
            return there
        name = validate.collection_name(name)
        with self._guard:
            known = self._open.get(name)
            if known is not None and (known.surely_there or not known.dropped):
                return known
            if known is not None:  # another process dropped it, and may have made a new one of that name
                self._open.pop(name).close()
            if name not in self.names():
                raise self._missing(name)
            self._open[name] = (self._kind or Collection)(self._directory / name, self.lock)
            return self._open[name]

    def _missing(self, name: str) -> NotFound:
        return NotFound(f"no collection is called {name!r} in {self._directory.parent}.",
                        remedy=f"There are: {', '.join(self.names()) or 'none yet'}.")

    def names(self) -> list[str]:
        """The collections, sorted."""
        return sorted(path.parent.name for path in self._directory.glob(f"*/{schema.FILE_NAME}")
                      if not path.parent.name.startswith("."))

    def opened(self) -> dict[str, Collection]:
        """Those that are open, by name."""
        with self._guard:
            return dict(self._open)

    def recent(self, most: int) -> list[str]:
        """The collections that were written to last, newest first."""
        def written(name: str) -> float:
            files = (self._directory / name / f"{schema.FILE_NAME}{suffix}" for suffix in ("", "-wal"))
            return max((path.stat().st_mtime for path in files if path.exists()), default=0.0)

        return sorted(self.names(), key=written, reverse=True)[:most]

    def drop(self, name: str) -> None:
        """Remove a collection and all it holds. Raises `NotFound` if it does not exist."""
        name = validate.collection_name(name)
        with self._guard:
            if name not in self.names():
                raise self._missing(name)
            self.lock.acquire()
            collection = self._open.pop(name, None)
            if collection is not None:
                collection.close(keep=False)
            self._remove(name)

    def restore(self, name: str, snapshot: str, progress: Progress | None = None) -> Collection:
        """Replace what a collection holds by one of its snapshots, which is verified first. Nothing is changed if that
        fails."""
        return self._replaced(name, lambda directory: snapshots.restore(directory, snapshot, progress))

    def restore_backup(self, path: str | Path, name: str, replace: bool = False,
                       progress: Progress | None = None) -> Collection:
        """Make a collection from a backup file, verified first; in place of one of that name only where `replace`."""
        return self._replaced(name, lambda directory: backup.restore(Path(path), directory, replace, progress),
                              new=True)

    def _replaced(self, name: str, replace: Callable[[Path], object], new: bool = False) -> Collection:
        name = validate.collection_name(name)
        with self._guard:
            if name not in self.names() and not new:
                raise self._missing(name)
            self.lock.acquire()
            collection = self._open.pop(name, None)
            if collection is not None:
                collection.close(keep=False)
            replace(self._directory / name)
            return self.open(name)

    def salvage(self, name: str, into: str | None = None) -> Salvaged:
        """Copy what survives of a damaged collection into a new one, `NAME-salvaged` unless `into` names another.

        The damaged one is not touched. Raises `NotFound`, `Conflict` where `into` exists, `Corrupt` where nothing can
        be read.
        """
        name = validate.collection_name(name)
        wanted = validate.collection_name(f"{name}-salvaged" if into is None else into)
        with self._guard:
            if name not in self.names():
                raise self._missing(name)
            self.lock.acquire()
            if wanted in self.names():
                raise Conflict(f"collection {wanted!r} exists already.", remedy="Name another one to salvage into.")
            new = self._directory / f".new-{uuid.uuid4().hex}"
            try:
                salvaged = salvage(self._directory / name, new)
                new.rename(self._directory / wanted)
                _sync_directory(self._directory)
            except (sqlite3.Error, OSError) as error:
                raise schema.explained(self._directory / wanted / schema.FILE_NAME, error) from error
            finally:
                shutil.rmtree(new, ignore_errors=True)
            return salvaged

    def close(self) -> None:
        """Close every collection and let go of the writer lock."""
        with self._guard:
            for collection in self._open.values():
                collection.close()
            self._open.clear()
            self.lock.release()


def _make_directory(path: Path) -> None:
    """Make it and what is missing above it, so that none of them is lost in a power cut."""
    if path.is_dir():
        return
    if not path.parent.is_dir():
        _make_directory(path.parent)
    path.mkdir(exist_ok=True)
    _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    """Make a rename survive power loss, where directories can be synced."""
    if os.name == "posix":
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
