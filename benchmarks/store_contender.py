"""What a contender of benchmarks/store.py has to answer; benchmarks/store_peers.py has them."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.store_data import Chunk, Vectors

Setting = Any       # of one search parameter, or of several together


class Contender:
    """One store. Settings of a ladder cost more and find more, step by step."""

    name: ClassVar[str]
    modules: ClassVar[tuple[str, ...]]          # imported before anything is measured
    packages: ClassVar[tuple[str, ...]]         # whose versions are told
    durable: ClassVar[str]
    ours: ClassVar[bool] = False
    threads: ClassVar[bool] = True              # whether several threads may search at once
    ladders: list[list[Setting]] = [[None]]     # noqa: RUF012  (some set their own when they know n)
    filtered: list[list[Setting]] | None = None     # where a filter needs others
    setting: Setting = None     # the engine's default, until `set`

    def __init__(self, folder: Path, dim: int, n: int) -> None:
        self.folder, self.dim, self.n = folder, dim, n

    def imports(self) -> None:
        """What a program that uses it imports."""
        for module in self.modules:
            import_module(module)

    def create(self) -> None:
        """A new store in the folder."""
        raise NotImplementedError

    def open(self) -> None:
        """What `create` and writing have left there."""
        raise NotImplementedError

    def load(self, chunks: Iterator[Chunk]) -> None:
        """All records; durable and searchable when it returns."""
        for chunk in chunks:
            self.insert(chunk)

    def insert(self, chunk: Chunk) -> None:
        """Records whose ids are new."""
        raise NotImplementedError

    def update(self, chunk: Chunk) -> None:
        """Records whose ids are known."""
        self.insert(chunk)

    def delete(self, ids: list[str]) -> None:
        """By id."""
        raise NotImplementedError

    def finish(self) -> None:
        """Wait for, or ask for, the index that a search wants."""

    def set(self, setting: Setting) -> None:
        """Search with this setting from now on."""
        self.setting = setting

    def search(self, query: Vectors, k: int, below: int | None) -> list[str]:
        """Ids of the k nearest; with `below`, among those whose "part" is smaller."""
        raise NotImplementedError

    def client(self) -> Any:
        """A `search` for one more thread."""
        return self.search

    def close(self) -> None:
        """Everything is on disk afterwards."""
