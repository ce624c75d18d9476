"""The audit and the calibration: what they measure is true, and they say it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from madang.base.errors import InvalidInput
from madang.index import HNSW, NSW, audit
from madang.index.calibrate import Calibration, check_target, recalls, smallest, stand_ins
from madang.index.protocol import METRICS, Allow, Metric, Rows, Scores, Vectors

F32 = np.float32


def random(n: int, dim: int, seed: int = 0) -> Vectors:
    return np.random.default_rng(seed).standard_normal((n, dim), dtype=F32)


class Forgetful:
    """An index that is exact but for what it was told to lose."""

    def __init__(self, n: int, lost: float = 0.0, unreachable: int = 0) -> None:
        self.all, self.lost, self.unreachable, self.asked = random(n, 4), lost, unreachable, 0

    @property
    def changes(self) -> int:
        return len(self.all)

    def __len__(self) -> int:
        return len(self.all)

    def reachable(self) -> int:
        return len(self.all) - self.unreachable

    def live_rows(self) -> Rows:
        return np.arange(len(self.all))

    def sample(self, n: int, seed: int = 0) -> tuple[Rows, Vectors]:
        return self.live_rows()[:n], self.all[:n]

    def run(self, queries: Vectors, k: int, ef: int, *, allow: Allow | None = None, threads: int = 1,
            plan: Any = None) -> tuple[Rows, Scores, int, bool]:
        self.asked += 1
        allowed = self.live_rows() if allow is None else np.asarray(allow, np.int64)
        scores = queries @ self.all[allowed].T
        order = np.argsort(-scores, axis=1)[:, :k]
        rows = np.pad(allowed[order], ((0, 0), (0, max(0, k - len(allowed)))), constant_values=-1)
        if plan is None:
            rows = np.where(np.arange(k) < round(k * (1 - self.lost)), rows, -1)
        return rows, np.zeros(rows.shape, F32), 7 * len(queries), len(allowed) < 50


def test_it_counts_what_is_lost() -> None:
    result = audit.audit(Forgetful(1000, lost=0.3, unreachable=5), random(20, 4, 1), 10, 64, (0.01, 1.0, 0.1), 200)
    assert (result.live, result.unreachable, result.k, result.ef_search, result.real_queries) == (1000, 5, 10, 64, True)
    assert [bucket.selectivity for bucket in result.buckets] == [1.0, 0.1, 0.01]
    assert [bucket.allowed for bucket in result.buckets] == [1000, 100, 10]
    assert [bucket.scanned for bucket in result.buckets] == [0, 0, 1]
    for bucket in result.buckets:
        assert (bucket.queries, bucket.evaluations) == (20, 7)
        assert bucket.recall == bucket.low == bucket.high == pytest.approx(0.7)
        assert bucket.median_us > 0
    assert str(result).splitlines()[0] == "1,000 vectors, 5 of them unreachable; recall@10 at ef_search=64 on given queries:"
    assert "100.0% allowed (1,000): 0.7000 [0.7000, 0.7000]" in str(result)
    assert str(result).splitlines()[-1].endswith("7 comparisons, scanned")


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("cls", [HNSW, NSW])
def test_an_index_audits_itself(cls: type[HNSW], metric: Metric) -> None:
    index, queries = cls(16, metric, m=6, ef_construction=30), random(80, 16, seed=1)
    index.add(random(2000, 16))
    index.remove(np.arange(0, 2000, 10))
    result = index.audit(queries, ef_search=20, selectivities=(1.0, 0.3, 0.001))
    assert (result.live, result.unreachable, result.ef_search) == (1800, 0, 20)
    free, some, few = result.buckets
    truth = index.run(queries, 10, 10, plan="exact")[0]
    mine = np.concatenate([index.search(queries[i:i + 1], 10, ef_search=20)[0] for i in range(80)])
    assert free.recall == pytest.approx(recalls(mine, truth).mean())
    for bucket in result.buckets:
        assert 0 <= bucket.low <= bucket.recall <= bucket.high <= 1
    assert free.scanned == 0
    assert 0 < free.evaluations < 1800
    assert some.allowed == 540
    assert (few.allowed, few.recall, few.scanned) == (2, 1, 1)
    made_up = index.audit(samples=10)
    assert not made_up.real_queries
    assert {bucket.queries for bucket in made_up.buckets} == {10}
    assert "on made-up queries" in str(made_up)


def test_an_empty_index_has_no_buckets() -> None:
    assert HNSW().audit() == audit.Audit(0, 0, 10, 64, False, ())
    assert HNSW(3).audit(random(5, 3)).buckets == ()


@pytest.mark.parametrize(("call", "message"), [
    (lambda index: index.audit(k=0), "k must be from 1"),
    (lambda index: index.audit(ef_search=0), "ef_search must be from 1"),
    (lambda index: index.audit(samples=0), "samples must be from 1"),
    (lambda index: index.audit(selectivities=(1.5,)), "selectivities must be above 0 and at most 1, got 1.5"),
    (lambda index: index.audit(np.ones((3, 5), F32)), "queries"),
    (lambda index: index.audit(np.ones((3, 4))), "queries: must have dtype float32"),
    (lambda index: index.audit(np.ones(4, F32)), "queries: must have 2 dimension"),
    (lambda index: index.audit(np.full((3, 4), np.nan, F32)), "queries: row 0 contains NaN or infinity"),
])
def test_it_refuses(call: Callable[[HNSW], Any], message: str) -> None:
    index = HNSW(4)
    index.add(random(9, 4))
    with pytest.raises(InvalidInput, match=message):
        call(index)


def test_recall_counts_true_rows_only() -> None:
    truth = np.array([[1, 2, 3], [4, -1, -1], [-1, -1, -1]])
    found = np.array([[3, 9, 1, 7], [4, 5, -1, -1], [1, 2, 3, -1]])
    np.testing.assert_allclose(recalls(found, truth), [2 / 3, 1, 0])


@given(threshold=st.integers(1, 20_000), least=st.integers(1, 500), most=st.integers(500, 16_384))
def test_the_smallest_breadth_that_suffices(threshold: int, least: int, most: int) -> None:
    asked: list[int] = []

    def measure(ef: int) -> float:
        asked.append(ef)
        return float(ef >= threshold)

    found = smallest(measure, least, 0.5, most)
    assert least <= found <= most
    if least <= threshold <= most:
        assert threshold <= found <= threshold * 1.06 + 1
    assert len(asked) < 30
    assert all(least <= ef <= most for ef in asked)


@pytest.mark.parametrize("value", [0, -0.1, 1.01, True, "0.9", float("nan")])
def test_a_target_is_a_share(value: Any) -> None:
    with pytest.raises(InvalidInput, match="target_recall must be above 0 and at most 1"):
        check_target(value)
    assert [check_target(good) for good in (None, 1, 0.5)] == [None, 1.0, 0.5]


def test_stand_ins_are_no_stored_vectors() -> None:
    index = HNSW(8)
    index.add(random(300, 8))
    made = stand_ins(index, 50)
    assert (made.shape, made.dtype) == ((50, 8), F32)
    np.testing.assert_array_equal(made, stand_ins(index, 50))
    assert np.median(index.search(made, 1)[1]) < 0.999
    assert stand_ins(HNSW(8), 50).shape == (0, 8)


def test_a_breadth_is_measured_again_when_much_has_changed_and_only_then() -> None:
    index, calibration = Forgetful(1000), Calibration()

    def measured(queries: Vectors, target: float = 0.9, k: int = 10) -> bool:
        before = index.asked
        calibration.breadth(index, target, k, queries)
        return index.asked > before

    assert measured(random(3, 4, 1))          # the first time
    assert not measured(random(3, 4, 2))
    assert measured(random(3, 4, 3), 0.8)     # another target
    assert measured(random(3, 4, 3), k=5)     # another k
    assert not measured(random(3, 4, 3), k=5)
    assert measured(random(80, 4, 4))         # there are real queries now
    assert not measured(random(80, 4, 5))
    index.all = random(1100, 4)
    assert not measured(random(3, 4, 6))      # a tenth was added
    index.all = random(1200, 4)
    assert measured(random(3, 4, 7))          # a fifth
    assert not measured(random(3, 4, 8))


def test_a_target_that_cannot_be_reached_looks_at_everything() -> None:
    assert Calibration().breadth(Forgetful(700, lost=0.5), 0.9, 10, random(3, 4)) == 700


def test_updates_count_as_changes() -> None:
    """As many vectors as before, but other ones: the breadth that suited those may not suit these."""
    index = HNSW(8, m=4, ef_construction=20, target_recall=0.9)
    index.add(random(1000, 8))
    index.search(random(100, 8, 1), 10)
    before = dict(index._calibration._found)
    index.update(np.arange(1000), random(1000, 8, 2) + F32(2))
    index.search(random(3, 8, 3), 10)
    assert index._calibration._found[(0.9, 10)] is not before[(0.9, 10)]
