"""The compiled kernel on every instruction set this CPU has, against the NumPy twin."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from madang.index import _kernel, reference
from madang.index.protocol import METRICS, Allow, Metric, Scores, Vectors

ISAS = _kernel.available_isas()
ONE = np.ones((1, 3), dtype=np.float32)


@pytest.fixture(autouse=True)
def _best_isa_afterwards() -> Iterator[None]:
    yield
    _kernel.set_isa("auto")


def prepared(vectors: Vectors, metric: Metric) -> Vectors:
    out = np.empty_like(vectors)
    _kernel.prepare(vectors, metric, out)
    return out


def vectors_of(seed: int, n: int, dim: int) -> Vectors:
    """Random vectors with some zeros and some repeated ones, so that ties happen."""
    generator = np.random.default_rng(seed)
    made = generator.standard_normal((n, dim)).astype(np.float32)
    made[generator.random(n) < 0.1] = 0
    return made[generator.integers(0, n, n)] if n and seed % 2 else made


def assert_same_up_to_ties(found: tuple[Any, Scores], expected: tuple[Any, Scores], everything: Scores) -> None:
    """Scores agree, and every row found has the score that stands beside it; rows within a tie may differ."""
    rows, scores = found
    assert (rows >= 0).tolist() == (expected[0] >= 0).tolist()
    tolerance = 1e-5 * max(1.0, float(np.abs(everything).max(initial=0)))
    real = rows >= 0
    np.testing.assert_allclose(scores[real], expected[1][real], rtol=1e-5, atol=tolerance)
    own = np.take_along_axis(everything, np.where(real, rows, 0), axis=1) if everything.shape[1] else scores
    np.testing.assert_allclose(scores[real], own[real], rtol=1e-5, atol=tolerance)
    for mine in rows:
        assert len(set(mine[mine >= 0])) == np.count_nonzero(mine >= 0)


def assert_ordered(rows: Any, scores: Scores) -> None:
    """Best first, ties to the lower row, padding last."""
    for mine, values in zip(rows, scores, strict=True):
        n = np.count_nonzero(mine >= 0)
        assert np.all(mine[n:] == -1)
        assert np.all(values[n:] == -np.inf)
        pairs = list(zip(-values[:n], mine[:n], strict=True))
        assert pairs == sorted(pairs)


@given(seed=st.integers(0, 2**32), n=st.integers(0, 300), q=st.integers(0, 9), dim=st.integers(1, 70),
       k=st.integers(1, 40), metric=st.sampled_from(METRICS), isa=st.sampled_from(ISAS), threads=st.integers(0, 3),
       restrict=st.sampled_from(["nothing", "rows", "mask", "both"]))
def test_it_agrees_with_the_twin(seed: int, n: int, q: int, dim: int, k: int, metric: Metric, isa: str, threads: int,
                                 restrict: str) -> None:
    vectors, queries = vectors_of(seed, n, dim), vectors_of(seed + 1, q, dim)
    mask = np.random.default_rng(seed).random(n) < 0.5
    rows = np.flatnonzero(np.random.default_rng(seed + 1).random(n) < 0.5)
    allow: Allow | None = {"nothing": None, "rows": rows, "mask": mask, "both": rows[mask[rows]]}[restrict]
    _kernel.set_isa(isa)
    found = _kernel.search(prepared(vectors, metric), queries, k, metric, rows if restrict in ("rows", "both") else None,
                           mask if restrict in ("mask", "both") else None, threads)
    assert found[0].shape == found[1].shape == (q, k)
    assert found[0].dtype == np.int64
    assert found[1].dtype == np.float32
    everything = reference.scores_of(vectors, queries, metric).astype(np.float32)
    assert_same_up_to_ties(found, reference.search(vectors, queries, k, metric, allow), everything)
    assert_ordered(*found)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dim", [1, 4, 8, 15, 16, 17, 384])
def test_a_score_depends_on_its_two_vectors_only(isa: str, metric: Metric, dim: int) -> None:
    """Not on the batch, the filter, the number of threads or where the row lies: bit for bit."""
    _kernel.set_isa(isa)
    n = 1500_000 // (dim + 100)  # enough for the work to be shared out
    vectors, queries = prepared(vectors_of(3, n, dim), metric), vectors_of(4, 100, dim)
    rows, scores = _kernel.search(vectors, queries, 10, metric)
    for threads in (0, 2, 3):
        again = _kernel.search(vectors, queries, 10, metric, threads=threads)
        np.testing.assert_array_equal(again[0], rows)
        np.testing.assert_array_equal(again[1], scores)
    for i in range(0, 100, 17):
        for threads in (1, 3):
            alone = _kernel.search(vectors, queries[i:i + 1], 10, metric, threads=threads)
            np.testing.assert_array_equal(alone[0][0], rows[i])
            np.testing.assert_array_equal(alone[1][0], scores[i])
        only = np.sort(rows[i])
        listed = _kernel.search(vectors, queries[i:i + 2], 10, metric, rows=only)
        np.testing.assert_array_equal(listed[1][0], scores[i])


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("metric", METRICS)
def test_a_lone_query_over_more_than_the_cache_scores_the_same(isa: str, metric: Metric) -> None:
    """Such a scan goes row after row on some instruction sets."""
    _kernel.set_isa(isa)
    vectors, queries = np.tile(prepared(vectors_of(5, 700, 403), metric), (32, 1)), vectors_of(6, 2, 403)
    assert vectors.nbytes > 33 << 20
    together, alone = (_kernel.search(vectors, queries[:n], 50, metric) for n in (2, 1))
    np.testing.assert_array_equal(alone[0][0], together[0][0])
    np.testing.assert_array_equal(alone[1][0], together[1][0])


@pytest.mark.parametrize("isa", ISAS)
def test_ties_go_to_the_lower_row(isa: str) -> None:
    _kernel.set_isa(isa)
    vectors = np.ones((40_000, 32), dtype=np.float32)
    for threads in (1, 2):
        rows, _ = _kernel.search(vectors, vectors[:20], 7, "dot", threads=threads)
        np.testing.assert_array_equal(rows, np.tile(np.arange(7), (20, 1)))
        rows, _ = _kernel.search(vectors, vectors[:1], 7, "euclidean", threads=threads)
        np.testing.assert_array_equal(rows, [np.arange(7)])


@pytest.mark.parametrize("isa", ISAS)
def test_near_neighbours_far_from_the_origin_keep_their_distances(isa: str) -> None:
    """|q|^2 + |x|^2 - 2qx would return rounding errors here."""
    _kernel.set_isa(isa)
    vectors = np.full((5, 64), 1000, dtype=np.float32)
    vectors[:, 0] += np.arange(5, dtype=np.float32) / 8
    rows, scores = _kernel.search(vectors, vectors[:1], 5, "euclidean")
    np.testing.assert_array_equal(rows, [[0, 1, 2, 3, 4]])
    np.testing.assert_array_equal(scores, -(np.arange(5, dtype=np.float32)[None] / 8) ** 2)
    assert not np.signbit(scores[0, 0])


def test_a_zero_vector_has_cosine_zero_with_everything() -> None:
    vectors = prepared(np.array([[-1, 0], [0, 0], [1, 0]], dtype=np.float32), "cosine")
    queries = np.array([[2, 0], [0, 0]], dtype=np.float32)
    rows, scores = _kernel.search(vectors, queries, 3, "cosine")
    np.testing.assert_array_equal(rows, [[2, 1, 0], [0, 1, 2]])
    np.testing.assert_array_equal(scores, [[1, 0, -1], [0, 0, 0]])


@pytest.mark.parametrize("scale", [1e-38, 1e-20, 1e20, 1e38])
def test_cosine_takes_every_finite_vector(scale: float) -> None:
    vectors = (np.random.default_rng(0).uniform(-1, 1, (9, 5)) * scale).astype(np.float32)
    np.testing.assert_allclose(prepared(vectors, "cosine"), reference.unit(vectors.astype(np.float64)), rtol=1e-6)


@given(k=st.integers(1, 60), more=st.integers(0, 60), seed=st.integers(0, 2**32))
def test_fewer_neighbours_are_the_first_of_more(k: int, more: int, seed: int) -> None:
    vectors, queries = vectors_of(seed, 50, 9), vectors_of(seed + 1, 3, 9)
    few, many = (_kernel.search(vectors, queries, n, "euclidean") for n in (k, k + more))
    np.testing.assert_array_equal(few[0], many[0][:, :k])
    np.testing.assert_array_equal(few[1], many[1][:, :k])


F32, F64, I64 = np.float32, np.float64, np.int64


@pytest.mark.parametrize(("change", "message"), [
    ({"vectors": None}, "vectors: must be a NumPy array"),
    ({"vectors": [[1.0]]}, "vectors: must be a NumPy array"),
    ({"vectors": np.ones((2, 3), F64)}, r"vectors: must have dtype float32; convert with .astype\(np.float32\)"),
    ({"vectors": np.ones((2, 3), ">f4")}, "vectors: "),
    ({"vectors": np.ones((2, 3), I64)}, "vectors: must have dtype float32"),
    ({"vectors": np.ones(3, F32)}, r"vectors: must have 2 dimension\(s\), got 1"),
    ({"vectors": np.ones((2, 2, 3), F32)}, r"vectors: must have 2 dimension\(s\), got 3"),
    ({"vectors": np.ones((2, 0), F32), "queries": np.ones((1, 0), F32)}, "at least 1 column"),
    ({"vectors": np.ones((2, 6), F32)[:, ::2]}, "vectors: must be contiguous; use np.ascontiguousarray"),
    ({"vectors": np.ones((3, 2), F32).T}, "vectors: must be contiguous"),
    ({"vectors": np.ones((4, 3), F32)[::2]}, "vectors: must be contiguous"),
    ({"vectors": np.ones((2, 3), F32)[::-1]}, "vectors: must be contiguous"),
    ({"vectors": np.full((2, 3), np.nan, F32)}, "vectors: a score is NaN"),
    ({"queries": np.ones((1, 4), F32)}, "queries: have 4 columns and vectors 3"),
    ({"queries": np.array([[1, 1, 1], [1, np.nan, 1]], F32)}, "queries: row 1 contains NaN or infinity"),
    ({"queries": np.full((1, 3), -np.inf, F32)}, "queries: row 0 contains NaN or infinity"),
    ({"queries": np.full((1, 3), 3e38, F32)}, "queries: row 0 is longer than 9.1e18"),
    ({"queries": np.ones((1, 3), "U1")}, "queries: "),
    ({"k": 0}, "k: must be from 1 to 2147483647, got 0"),
    ({"k": 2**31}, "k: must be from 1"),
    ({"metric": "l2"}, "metric: 'l2' is unknown; choose cosine, dot or euclidean"),
    ({"threads": -1}, "threads: must be 0"),
    ({"rows": np.array([0, 2])}, "rows: 2 is out of range; there are 2 rows"),
    ({"rows": np.array([-1])}, "rows: -1 is out of range"),
    ({"rows": np.array([1, 0])}, "rows: must be strictly ascending; use np.unique"),
    ({"rows": np.array([1, 1])}, "rows: must be strictly ascending"),
    ({"rows": np.array([1], np.int32)}, "rows: must have dtype int64"),
    ({"rows": np.array([[1]])}, r"rows: must have 1 dimension\(s\)"),
    ({"mask": np.ones(3, bool)}, "mask: has 3 entries for 2 vectors"),
    ({"mask": np.ones(2, np.uint8)}, r"mask: must have dtype bool; convert with .astype\(bool\)"),
    ({"mask": np.ones((2, 1), bool)}, r"mask: must have 1 dimension\(s\)"),
    ({"mask": "ab"}, "mask: must be a NumPy array"),
])
def test_search_refuses(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"vectors": np.ones((2, 3), F32), "queries": ONE, "k": 1, "metric": "dot"}
    with pytest.raises(ValueError, match=message):
        _kernel.search(**arguments | change)


READ_ONLY = np.ones((1, 3), F32)
READ_ONLY.flags.writeable = False


@pytest.mark.parametrize(("vectors", "metric", "out", "message"), [
    (np.ones((1, 3), F64), "dot", None, "vectors: must have dtype float32"),
    (ONE, "cos", None, "metric: 'cos' is unknown"),
    (ONE, "dot", READ_ONLY, "out: must be a NumPy array of float32 that can be read here and written to"),
    (ONE, "dot", np.ones((1, 3), F64), "out: must have dtype float32"),
    (ONE, "dot", np.ones((2, 3), F32), "out: must have the shape of vectors"),
    (np.array([[0, 0], [0, np.inf]], F32), "cosine", None, "vectors: row 1 contains NaN or infinity"),
    (np.full((1, 3), 1e19, F32), "dot", None, "vectors: row 0 is longer than 9.1e18"),
])
def test_prepare_refuses(vectors: Any, metric: str, out: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _kernel.prepare(vectors, metric, out)


def test_prepare_names_the_first_bad_row_on_any_number_of_threads() -> None:
    vectors = np.ones((30_000, 100), dtype=np.float32)
    vectors[[20_001, 29_000, 25_000], 7] = np.nan
    for threads in (1, 0, 3):
        with pytest.raises(ValueError, match="row 20001 contains NaN"):
            _kernel.prepare(vectors, "dot", threads=threads)


def test_read_only_arrays_are_read() -> None:
    rows, _ = _kernel.search(READ_ONLY, READ_ONLY, 1, "dot")
    assert rows.tolist() == [[0]]


@pytest.mark.parametrize("metric", ["dot", "euclidean"])
def test_the_longest_vectors_allowed_do_not_overflow(metric: Metric) -> None:
    vectors = np.array([[9.1e18, 0], [-9.1e18, 0], [0, 9.1e18]], dtype=np.float32)
    rows, scores = _kernel.search(prepared(vectors, metric), vectors, 3, metric)
    assert np.isfinite(scores).all()
    assert rows[0].tolist() == [0, 2, 1]


def test_isas_are_chosen_by_name() -> None:
    assert ISAS[-1] == "plain"
    assert _kernel.isa() == ISAS[0]
    for isa in ISAS:
        _kernel.set_isa(isa)
        assert _kernel.isa() == isa
    with pytest.raises(ValueError, match=r"isa: 'mmx' is not available here; choose one of: auto, .*plain"):
        _kernel.set_isa("mmx")
    assert _kernel.isa() == ISAS[-1]


def test_the_environment_chooses_the_isa() -> None:
    program = "from madang.index import _kernel; print(_kernel.isa())"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True,
                         env=os.environ | {"MADANG_ISA": "plain", "PYTHONPATH": os.pathsep.join(sys.path)})
    assert run.stdout.strip() == "plain"


def test_other_threads_run_during_a_search() -> None:
    """With the GIL held, nothing could count between the two readings: the switch interval is an hour."""
    vectors = np.ones((20_000, 64), dtype=np.float32)
    ticks, progress, done = 0, 0, threading.Event()

    def searches() -> None:
        nonlocal progress
        for _ in range(100):
            before = ticks
            _kernel.search(vectors, vectors[:64], 1, "dot")
            progress = ticks - before
            if progress:
                break
        done.set()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(3600)
    try:
        searcher = threading.Thread(target=searches)
        searcher.start()
        while not done.is_set():
            ticks += 1
            time.sleep(0)  # gives the GIL back
        searcher.join()
    finally:
        sys.setswitchinterval(interval)
    assert progress


@pytest.mark.parametrize("n", [0, 1, 5, 16, 33, 400])
def test_finite_sees_every_place(n: int) -> None:
    values = np.linspace(-3e38, 3e38, n, dtype=np.float32) if n > 1 else np.zeros(n, np.float32)
    assert _kernel.all_finite(values)
    for place in range(n):
        for wrong in (np.nan, np.inf, -np.inf):
            changed = values.copy()
            changed[place] = wrong
            assert not _kernel.all_finite(changed)
    with pytest.raises(ValueError, match="values: must have dtype float32"):
        _kernel.all_finite(np.zeros(3))
