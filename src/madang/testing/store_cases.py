"""What the parts of the stores' suite share: records, expected scores, and the fixtures a store's test overrides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest

from madang.base.records import Metadata, Record
from madang.store.backends.capabilities import Capabilities
from madang.testing.filter_table import ROWS

Make = Callable[[int, str], Any]
DIM = 3
ONE = [1.0, 0.0, 0.0]
IDS = ["a", "A", "ß", "마당", "\u1100\u1161", "🏡", "with space", "it's \"quoted\"", "a/b?c#d%20", "100%_",
       "back\\slash", "-1", "00", "line\nbreak", "x" * 512, "가" * 512]
SPACES = ["", "ns", "마당", "it's \"so\"", "__default__"]


def record(identity: str, values: Any = None, **rest: Any) -> Record:
    """A record with a vector that stands for its id."""
    if values is None:
        values = np.random.default_rng(list(identity.encode())).normal(size=DIM)
    return Record(identity, np.asarray(values, dtype=np.float32), **rest)


def scores(metric: str, query: Any, stored: Any) -> Any:
    """The metric in double precision, as `madang.index.distance` defines it: (n,) from (dim,) and (n, dim)."""
    q, x = np.asarray(query, dtype=np.float64), np.asarray(stored, dtype=np.float64)
    if metric == "euclidean":
        return -((x - q) ** 2).sum(axis=1)
    dots = x @ q
    if metric == "dot":
        return dots
    norms = np.linalg.norm(x, axis=1) * np.linalg.norm(q)
    return np.divide(dots, norms, out=np.zeros_like(dots), where=norms > 0)


def table() -> dict[str, Metadata]:
    """Every distinct metadata of the filter table, by an id; 1, 1.0 and true are distinct."""
    distinct = {repr(sorted(row.metadata.items())): row.metadata for row in ROWS}
    return {f"m{number:03}": metadata for number, metadata in enumerate(distinct.values())}


def same(one: Any, other: Any) -> bool:
    """Equal in value and in type, which `==` is not."""
    return repr(sorted(one.items())) == repr(sorted(other.items()))


class StoreCases:
    """What a store's test says about its store, and how the suite looks into it."""

    capabilities: ClassVar[Capabilities] = Capabilities()
    large: ClassVar[int] = 2500         # records of a batch that takes several requests

    @pytest.fixture
    def make(self) -> Make:
        """`make(dim, metric)` gives a new, empty collection each time it is called."""
        raise NotImplementedError("Override the fixture `make`.")

    def drop(self, store: Any) -> None:
        """Drop the collection; override where it has no method `drop`."""
        store.drop()

    def reopen(self, store: Any) -> Any:
        """The same collection through a new connection, or None where it lives in this process only."""
        return None

    @pytest.fixture
    def store(self, make: Make) -> Any:
        """An empty collection of dimension 3, by dot products where declared."""
        return make(DIM, "dot" if "dot" in self.capabilities.metrics else self.capabilities.metrics[0])

    def everything(self, store: Any, namespace: str = "", **options: Any) -> list[str]:
        """The ids of all records that a query finds, sorted."""
        found = store.query(vector=ONE, top_k=min(1000, self.capabilities.max_top_k), namespace=namespace, **options)
        return sorted(match.id for match in found.matches)

    def spaces(self) -> list[str]:
        """The namespaces to test with."""
        return SPACES if self.capabilities.namespaces else [""]

    def assert_values(self, read: Any, written: Any) -> None:
        """Bit for bit, or but for rounding."""
        assert read.dtype == np.float32
        if self.capabilities.exact_values:
            assert read.tolist() == written.tolist()
        else:
            assert read == pytest.approx(written, rel=1e-5, abs=1e-6)
