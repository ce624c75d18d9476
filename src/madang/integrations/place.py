"""Where a store of another library keeps its records: a namespace of a collection, made with its first vectors."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from madang.base.errors import Conflict, InvalidInput
from madang.base.records import Filter, Match, Record
from madang.models.protocol import Embedder
from madang.store import Collection, Fusion
from madang.store.backends.sharing import Shared
from madang.workspace import Workspace
from madang.workspace.workspace import DEFAULT_DIRECTORY

_FETCHED = 1000
MOST = 10_000        # matches of one query, ids of one page

# Stores of one process that name one directory share it: a workspace is written by one holder.
_workspaces: Shared[Workspace] = Shared(lambda _, workspace: workspace.close())


class Place:
    """A namespace of a collection of a workspace. Nothing is made before the first write."""

    def __init__(self, workspace: Workspace | str | Path | None, collection: str, namespace: str = "",
                 metric: str = "cosine", index: Any = None) -> None:
        """A workspace that is named, and not given, is opened at the first use and closed by `close`."""
        if workspace is not None and not isinstance(workspace, Workspace | str | Path):
            raise InvalidInput(f"workspace must be a Workspace or the path of one, not {workspace!r:.80}.")
        given = workspace or os.environ.get("MADANG_WORKSPACE") or DEFAULT_DIRECTORY
        self._given = given if isinstance(given, Workspace) else None
        self.path = given.path if isinstance(given, Workspace) else Path(given).expanduser().absolute()
        self.name, self.namespace, self.metric, self.index = collection, namespace, metric, index
        self._opened: Workspace | None = None
        self._opening = threading.Lock()

    @property
    def workspace(self) -> Workspace:
        """The workspace, opened."""
        if self._given is not None:
            return self._given
        with self._opening:
            if self._opened is None:
                self._opened = _workspaces.acquire(self._shared, lambda: Workspace(self.path))
            return self._opened

    @property
    def _shared(self) -> str:
        """One name of the directory, however it was written."""
        return str(self.path.resolve())

    def found(self) -> Collection | None:
        """The collection, or None while nothing was written."""
        workspace = self.workspace
        return workspace.collection(self.name) if self.name in workspace.collections() else None

    def made(self, dim: int, embedder: str | None = None) -> Collection:
        """The collection, made if it is not there; `embedder` names the model whose vectors it will hold."""
        there = self.found()
        if there is not None:
            return there
        try:
            return self.workspace.create_collection(self.name, dim, self.metric, self.index, embedder=embedder)
        except Conflict:                # another thread was faster
            return self.workspace.collection(self.name)

    def embedder(self) -> Embedder:
        """The model that the collection was made with, or that a new one would be made with."""
        found = self.found()
        workspace = self.workspace
        return workspace.models.embedder(workspace.settings.models.embed) if found is None \
            else workspace.embedder_of(found)

    def write(self, records: Sequence[Record], embedder: str | None = None) -> int:
        """Insert or replace. Returns how many were written."""
        if not records:
            return 0
        first = records[0].values
        if first is None:
            raise InvalidInput(f"record {records[0].id!r:.60} has no values.", remedy="Give it a vector.")
        return self.made(len(first), embedder).upsert(records, self.namespace)

    def read(self, ids: Sequence[str]) -> dict[str, Record]:
        """Records by id; unknown ids are left out."""
        found = self.found()
        return {} if found is None else found.fetch(ids, self.namespace)

    def matching(self, filter: Filter | None = None) -> Iterator[Record]:  # noqa: A002
        """Every record that a filter matches, in the order of ids."""
        found = self.found()
        cursor: str | None = None
        while found is not None:
            page = found.list_ids(limit=MOST, cursor=cursor, namespace=self.namespace, filter=filter or None)
            for start in range(0, len(page.ids), _FETCHED):
                yield from found.fetch(page.ids[start:start + _FETCHED], self.namespace).values()
            cursor = page.cursor
            if cursor is None:
                return

    def remove(self, ids: Sequence[str] | None = None, filter: Filter | None = None) -> int:  # noqa: A002
        """Delete by ids, by filter, or (neither given) everything in the namespace. Returns how many records went."""
        found = self.found()
        if found is None:
            return 0
        if ids is not None:
            return found.delete(ids=ids, namespace=self.namespace)
        if filter:
            return found.delete(filter=filter, namespace=self.namespace)
        return found.delete(delete_all=True, namespace=self.namespace)

    def count(self, filter: Filter | None = None) -> int:  # noqa: A002
        """How many records there are, or match a filter."""
        found = self.found()
        return 0 if found is None else found.count(filter or None, self.namespace)

    def search(self, top_k: int, vector: Any = None, text: str | None = None, filter: Filter | None = None,  # noqa: A002
               values: bool = False, fusion: Fusion | None = None) -> list[Match]:
        """The best records by vector, by words or both, with metadata and documents; fewer where there are fewer."""
        found = self.found()
        if found is None or top_k < 1:
            return []
        return found.query(vector=vector, text=text, top_k=min(top_k, MOST), namespace=self.namespace,
                           filter=filter or None, include_values=values, include_document=True,
                           fusion=fusion).matches

    def close(self) -> None:
        """Let go of a workspace that this opened; the next use opens it again."""
        with self._opening:
            if self._opened is not None:
                self._opened = None
                _workspaces.release(self._shared)

