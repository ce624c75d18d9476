"""What the lab builds and measures: every combination of the parameters that an index has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from importlib import import_module
from importlib.util import find_spec
from itertools import product
from typing import Any

from madang.base.errors import InvalidInput
from madang.index.distance import check_count
from madang.index.lab_data import Data

KINDS = {"hnsw": "HNSW", "nsw": "NSW", "ivf": "IVF", "flat": "Flat"}
GRAPHS = ("hnsw", "nsw")
QUANTIZATIONS = ("auto", "int8", "int4", "none")
_USUAL = ("hnsw", "ivf", "flat")   # nsw is for study: hnsw is better at everything
_MEANINGS = {"m": "links for each vector, 8 to 48 as a rule", "ef_construction": "candidates while building",
             "ef_search": "candidates while searching", "nlist": "cells, or 0 to let the index choose",
             "nprobe": "cells to look into", "sizes": "vectors, or 0 for all"}


@dataclass(frozen=True, slots=True)
class Build:
    """One index to build; parameters that its kind does not have are None."""

    index: str
    size: int                            # vectors
    quantization: str = "none"
    m: int | None = None
    ef_construction: int | None = None
    nlist: int | None = None             # 0: the index chooses

    def __str__(self) -> str:
        words = [KINDS[self.index]]
        if self.m is not None:
            words.append(f"m={self.m} efc={self.ef_construction}")
        if self.nlist is not None:
            words.append(f"nlist={self.nlist or 'auto'}")
        return " ".join([*words, *([] if self.index == "flat" else [self.quantization])])


@dataclass(frozen=True, slots=True)
class Grid:
    """The parameters to combine. Raises InvalidInput for one that is out of range or unknown."""

    indexes: Sequence[str] = ()          # none: hnsw, ivf and flat
    m: Sequence[int] = (8, 16, 32)
    ef_construction: Sequence[int] = (100, 200)
    ef_search: Sequence[int] = (10, 20, 40, 80, 160, 320)
    nlist: Sequence[int] = (0,)
    nprobe: Sequence[int] = (1, 2, 4, 8, 16, 32, 64)
    sizes: Sequence[int] = (0,)          # vectors; 0: all
    quantization: Sequence[str] = ("auto",)
    k: int = 10
    threads: int = 1                     # for building and batches; single queries take one
    repeats: int = 3                     # of every single query

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in _MEANINGS:
                least = 0 if field.name in ("nlist", "sizes") else 2 if field.name == "m" else 1
                for each in _some(field.name, value):
                    check_count(each, field.name, least, _MEANINGS[field.name])
        _known("index", self.indexes, tuple(KINDS))
        _known("quantization", _some("quantization", self.quantization), QUANTIZATIONS)
        check_count(self.k, "k", 1, "how many neighbours count")
        check_count(self.threads, "threads", 0, "0 for all cores")
        check_count(self.repeats, "repeats", 1, "how often to ask every query")
        for kind in self.indexes:
            if not available(kind):
                raise InvalidInput(f"index {kind!r} is not part of this release.",
                                   remedy=f"Choose among {', '.join(each for each in KINDS if available(each))}.")

    def plan(self, data: Data) -> list[tuple[Build, list[int]]]:
        """What to build, and with which breadths (`ef_search` or `nprobe`; 0 where there is none) to search it."""
        kinds = self.indexes or [kind for kind in _USUAL if available(kind)]
        found = []
        for size in self._sizes(data):
            for kind in dict.fromkeys(kinds):
                if kind in GRAPHS:
                    combined = product(self.quantization, self.m, self.ef_construction)
                    builds = [Build(kind, size, code, m, ef) for code, m, ef in combined]
                elif kind == "ivf":
                    cells = [min(nlist, size) for nlist in self.nlist]
                    builds = [Build(kind, size, code, nlist=nlist) for code, nlist in product(self.quantization, cells)]
                else:
                    builds = [Build(kind, size)]
                found += [(build, self._breadths(build)) for build in dict.fromkeys(builds)]
        return found

    def _sizes(self, data: Data) -> list[int]:
        here = len(data.vectors)
        for size in self.sizes:
            if size > here:
                raise InvalidInput(f"sizes contains {size:,}, but there are {here:,} vectors beside the queries.",
                                   remedy='Choose fewer, or "all".')
            if size and size < self.k:
                raise InvalidInput(f"sizes contains {size}, fewer than k={self.k}.",
                                   remedy="Choose more, or a smaller k.")
        if here < self.k:
            raise InvalidInput(f"k={self.k} neighbours are asked of {here} vectors.", remedy="Choose a smaller k.")
        return sorted({size or here for size in self.sizes})

    def _breadths(self, build: Build) -> list[int]:
        if build.index in GRAPHS:
            return sorted({max(ef, self.k) for ef in self.ef_search})  # less than k is k
        if build.index == "ivf":
            return sorted({min(nprobe, build.nlist or nprobe) for nprobe in self.nprobe})
        return [0]


def available(kind: str) -> bool:
    """Whether this release has an index of that kind."""
    return find_spec(f"madang.index.{kind}") is not None


def make(build: Build, data: Data) -> Any:
    """An empty index for a build."""
    options: dict[str, Any] = {}
    if build.index in GRAPHS:
        options = {"m": build.m, "ef_construction": build.ef_construction}
    elif build.nlist:
        options = {"nlist": build.nlist}
    if build.quantization == "none" and build.index != "flat":
        options["quantization"] = None
    elif build.quantization != "none" and (build.quantization != "auto" or build.index in GRAPHS):
        options["quantization"] = build.quantization  # "auto" of any other index is its own default
    kind: Any = getattr(import_module(f"madang.index.{build.index}"), KINDS[build.index])
    return kind(data.dim, data.metric, **options)


def python(build: Build, breadth: int) -> str:
    """The expression that makes such an index."""
    given: dict[str, Any] = {"m": build.m, "ef_construction": build.ef_construction, "nlist": build.nlist or None}
    if build.index in GRAPHS:
        given["ef_search"] = breadth
    elif build.index == "ivf":
        given["nprobe"] = breadth
    words = [f"{name}={value}" for name, value in given.items() if value is not None]
    if build.index != "flat" and build.quantization != "auto":
        words.append("quantization=" + ("None" if build.quantization == "none" else f'"{build.quantization}"'))
    return f"madang.{KINDS[build.index]}({', '.join(words)})"


def _some(name: str, values: Sequence[Any]) -> Sequence[Any]:
    if len(values) == 0:
        raise InvalidInput(f"{name} is empty.", remedy="Give at least one value.")
    return values


def _known(name: str, values: Sequence[str], known: tuple[str, ...]) -> None:
    for value in values:
        if value not in known:
            raise InvalidInput(f"{name} {value!r} is unknown.", remedy=f"Choose among {', '.join(known)}.")
