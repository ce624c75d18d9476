"""Any history of writes, saves, loads and repairs of a graph, against a dictionary of rows and exact search."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from madang.base.errors import InvalidInput
from madang.index import HNSW, NSW, _kernel, reference
from madang.index.protocol import METRICS, Metric, Vectors

F32 = np.float32


def some(n: int, dim: int, seed: int) -> Vectors:
    """Random vectors; of some seeds all are equal, or zero, or whole numbers, so that there are ties."""
    generator = np.random.default_rng(seed)
    made = generator.standard_normal((n, dim)).astype(F32)
    if seed % 5 == 1:
        return np.ones_like(made)
    if seed % 5 == 2:
        made[generator.random(n) < 0.3] = 0
    return np.round(made) if seed % 5 == 3 else made


class Life(RuleBasedStateMachine):
    rows = Bundle("rows")

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.model: dict[int, Any] = {}
        self.ever = self.seed = 0

    @initialize(metric=st.sampled_from(METRICS), dim=st.integers(1, 20), m=st.integers(2, 5), layered=st.booleans(),
                quantization=st.sampled_from([None, "int8", "int4"]), isa=st.sampled_from(_kernel.available_isas()))
    def begin(self, metric: Metric, dim: int, m: int, layered: bool, quantization: Any, isa: str) -> None:
        _kernel.set_isa(isa)
        self.index = (HNSW if layered else NSW)(dim, metric, m=m, ef_construction=8, quantization=quantization)

    @rule(target=rows, n=st.integers(0, 60), threads=st.integers(1, 3))
    def add(self, n: int, threads: int) -> Any:
        self.seed += 1
        new = some(n, self.index.dim, self.seed)
        added = self.index.add(new, threads=threads)
        assert added.tolist() == list(range(self.ever, self.ever + n))
        self.ever += n
        self.model |= dict(zip(added.tolist(), new, strict=True))
        return multiple(*added.tolist())

    @rule(removed=st.lists(consumes(rows), max_size=40), unknown=st.integers(0, 3))
    def remove(self, removed: list[int], unknown: int) -> None:
        nobody = [-1, self.ever + unknown]
        assert self.index.remove(np.array(removed + removed + nobody)) == len(set(removed) & set(self.model))
        for row in removed:
            self.model.pop(row, None)

    @rule(share=st.floats(0, 1))
    def remove_many(self, share: float) -> None:
        gone = [row for i, row in enumerate(self.model) if (i * 0.618) % 1 < share]
        assert self.index.remove(np.array(gone, dtype=np.int64)) == len(gone)
        for row in gone:
            del self.model[row]

    @rule(updated=st.lists(rows, max_size=30, unique=True))
    def update(self, updated: list[int]) -> None:
        self.seed += 1
        new = some(len(updated), self.index.dim, self.seed)
        if not set(updated) <= set(self.model):
            with pytest.raises(InvalidInput, match="is not in the index"):
                self.index.update(np.array(updated), new)
            return
        self.index.update(np.array(updated, dtype=np.int64), new)
        self.model |= dict(zip(updated, new, strict=True))

    @rule(mmap=st.booleans())
    def reload(self, mmap: bool) -> None:
        path = Path(self.folder.name) / "index"
        self.index.save(path)
        self.index = type(self.index).load(path, mmap=mmap)

    @rule()
    def repair(self) -> None:
        assert self.index.repair() == 0

    @rule(seed=st.integers(0, 99), k=st.integers(1, 30), share=st.floats(0, 1), how=st.sampled_from(["none", "mask", "rows"]),
          plan=st.sampled_from([None, "codes", "exact"]))
    def search(self, seed: int, k: int, share: float, how: str, plan: Any) -> None:
        """With as much breadth as there are vectors, every search is exact."""
        mask = np.random.default_rng(seed).random(self.ever) < (share if how != "none" else 1)
        allow = {"none": None, "mask": mask, "rows": np.flatnonzero(mask)}[how]
        vectors = np.zeros((self.ever, self.index.dim), dtype=F32)
        for row, vector in self.model.items():
            vectors[row] = vector
        live = np.array([row for row in self.model if mask[row]], dtype=np.int64)
        queries, breadth = some(3, self.index.dim, seed), max(1, len(self.model))
        if plan == "codes":  # which compares all codes, but ranks only the best: let them be all
            k = breadth
        rows, scores, _, _ = self.index.run(queries, k, breadth, allow=allow, plan=plan)
        expected, best = reference.search(vectors, queries, k + 1, self.index.metric, live)
        if self.index.quantization is None or plan in ("codes", "exact"):
            np.testing.assert_allclose(scores, best[:, :k], rtol=1e-4, atol=1e-4)
            gaps = -np.diff(np.nan_to_num(best, neginf=-1e6), axis=1, prepend=1e6)
            sure = (gaps[:, :k] > 1e-3) & (gaps[:, 1:] > 1e-3)  # rows of nearly equal scores may swap
            np.testing.assert_array_equal(rows[sure], expected[:, :k][sure])
        for mine in rows.tolist():
            real = [row for row in mine if row >= 0]
            assert len(real) == len(set(real)) == min(k, len(live))
            assert set(real) <= set(live.tolist())

    @rule(seed=st.integers(0, 99), k=st.integers(1, 9), ef=st.integers(1, 9))
    def walk(self, seed: int, k: int, ef: int) -> None:
        """With little breadth it finds k rows, all of them live, best first."""
        rows, scores, _, _ = self.index.run(some(2, self.index.dim, seed), k, ef, plan="graph")
        for mine, values in zip(rows.tolist(), scores, strict=True):
            real = [row for row in mine if row >= 0]
            assert len(real) == len(set(real)) == min(k, len(self.model))
            assert set(real) <= set(self.model)
            assert np.all(np.diff(values[:len(real)]) <= 0)

    @invariant()
    def everything_is_there(self) -> None:
        if not hasattr(self, "index"):
            return
        assert len(self.index) == len(self.model) == self.index.reachable()
        assert self.index.rows_ever == self.ever
        assert self.index.live_rows().tolist() == sorted(self.model)

    def teardown(self) -> None:
        _kernel.set_isa("auto")
        self.folder.cleanup()


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=settings.default.max_examples // 2, stateful_step_count=25)
