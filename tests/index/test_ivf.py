"""The IVF index: agreement with exact search where all cells are read, cells under churn, files, threads, refusals."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from madang.base.errors import Corrupt, InvalidInput, NotFound
from madang.index import IVF, Flat, Index, _kernel, reference
from madang.index.ivf import Quantization
from madang.index.kmeans import kmeans, means, nearest
from madang.index.protocol import METRICS, Metric, Vectors

F32 = np.float32
ALL = 10**6         # cells and candidates: everything
QUANTIZATIONS: list[Quantization | None] = ["int8", "int4", None]


@pytest.fixture(params=_kernel.available_isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    _kernel.set_isa(request.param)
    yield request.param
    _kernel.set_isa("auto")


def random(n: int, dim: int, seed: int = 0) -> Vectors:
    return np.random.default_rng(seed).standard_normal((n, dim), dtype=F32)


def clustered(n: int, dim: int, seed: int = 0) -> Vectors:
    """Around 40 centres, which the seed does not change."""
    centres = random(40, dim, 1234)
    return centres[np.random.default_rng(seed).integers(0, 40, n)] + F32(0.3) * random(n, dim, seed)


def filled(n: int = 200, dim: int = 5, metric: Metric = "cosine", **options: Any) -> IVF:
    index = IVF(dim, metric, **({"nlist": 7} | options))
    index.add(random(n, dim), threads=1)
    return index


def assert_same(found: tuple[Any, ...], expected: tuple[Any, ...]) -> None:
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


def test_it_is_an_index() -> None:
    assert isinstance(IVF(3), Index)
    assert repr(IVF(3, "dot", nlist=9)) == "IVF(dim=3, metric='dot', nlist=9, nprobe=None, seed=0, quantization='int8')"


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
@pytest.mark.parametrize("metric", METRICS)
def test_it_agrees_with_the_twin_where_it_reads_everything(isa: str, metric: Metric, quantization: Quantization | None) -> None:
    for n, dim, nlist in ((300, 24, 9), (130, 1, 4), (257, 130, 16), (40, 65, 1)):
        vectors, queries = random(n, dim), random(9, dim, seed=1)
        index = IVF(dim, metric, nlist=nlist, quantization=quantization)
        np.testing.assert_array_equal(index.add(vectors[:n // 2]), np.arange(n // 2))
        np.testing.assert_array_equal(index.add(vectors[n // 2:]), np.arange(n // 2, n))
        truth = Flat(dim, metric)
        truth.add(vectors)
        for restricted in ({}, {"allow": np.arange(0, n, 3)}, {"allow": np.arange(n) % 2 == 0}):
            found = index.run(queries, 10, nprobe=ALL, depth=ALL, **restricted)
            expected = truth.search(queries, 10, **restricted)
            np.testing.assert_allclose(found[1], expected[1], rtol=1e-5, atol=1e-5)
            if dim > 1:
                np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_allclose(found[1], reference.search(vectors, queries, 10, metric, np.arange(n) % 2 == 0)[1],
                                   rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
@pytest.mark.parametrize("metric", METRICS)
def test_a_share_of_the_cells_finds_most_neighbours(metric: Metric, quantization: Quantization | None) -> None:
    vectors, queries = clustered(4000, 48), clustered(50, 48, seed=1)
    index, truth = IVF(48, metric, quantization=quantization), Flat(48, metric)
    index.add(vectors)
    truth.add(vectors)
    expected, _ = truth.search(queries, 10)
    found, _, compared = index.run(queries, 10)
    assert np.mean([np.isin(a, b).mean() for a, b in zip(expected, found, strict=True)]) > 0.9
    assert compared < 50 * 4000 / 4
    mask = np.random.default_rng(2).random(4000) < 0.3
    expected, _ = truth.search(queries, 10, allow=mask)
    found, _ = index.search(queries, 10, allow=mask)
    assert mask[found].all()
    assert np.mean([np.isin(a, b).mean() for a, b in zip(expected, found, strict=True)]) > 0.9


def test_codes_tell_apart_what_is_near_to_each_other_and_far_from_the_rest() -> None:
    vectors = clustered(2000, 32) * F32(1e-3) + random(1, 32, 5) * 10
    queries = vectors[:50] + F32(1e-6) * random(50, 32, 3)
    index, truth = IVF(32, "euclidean", nlist=40), Flat(32, "euclidean")
    index.add(vectors)
    truth.add(vectors)
    assert np.mean(index.search(queries, 1)[0] == truth.search(queries, 1)[0]) > 0.9


def test_one_query_or_many_and_one_thread_or_two_find_the_same() -> None:
    index, queries = filled(3000, 20, nlist=60), random(300, 20, seed=4)
    for restricted in ({}, {"allow": np.arange(0, 3000, 2)}, {"allow": np.arange(0, 3000, 100)}, {"allow": np.arange(3000) % 3 > 0}):
        expected = index.search(queries, 10, nprobe=5, **restricted)
        assert_same(index.search(queries, 10, nprobe=5, threads=2, **restricted), expected)
        alone = [index.search(queries[i:i + 1], 10, nprobe=5, **restricted) for i in range(300)]
        assert_same(tuple(np.concatenate(part) for part in zip(*alone, strict=True)), expected)


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_the_same_calls_give_the_same_bytes_on_any_number_of_threads(tmp_path: Path, quantization: Quantization | None) -> None:
    for threads in (1, 2):
        index = IVF(24, "dot", quantization=quantization, seed=3)
        index.add(clustered(1500, 24), threads=threads)
        index.add(clustered(5000, 24, 1), threads=threads)
        index.remove(np.arange(0, 4000, 3))
        index.update(np.arange(1, 300, 3), clustered(100, 24, 2), threads=threads)
        index.save(tmp_path / str(threads))
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_many_equal_vectors_are_found_in_the_order_of_their_rows() -> None:
    index = IVF(4, "euclidean", nlist=4)
    index.add(random(100, 4))
    rows = index.add(np.repeat(random(1, 4, 9), 60, axis=0))
    index.remove(rows[:5])
    index.update(rows[20:21], random(1, 4, 7))
    index.update(rows[20:21], random(1, 4, 9))
    assert index.search(random(1, 4, 9), 40)[0][0].tolist() == rows[5:45].tolist()


@pytest.mark.parametrize("metric", METRICS)
def test_zero_vectors_and_queries(metric: Metric) -> None:
    index = IVF(3, metric, nlist=2)
    index.add(np.zeros((40, 3), F32))
    index.add(random(40, 3))
    rows, scores = index.search(np.zeros((2, 3), F32), 80, nprobe=ALL)
    assert sorted(rows[0].tolist()) == list(range(80))
    assert np.isfinite(scores).all()
    assert rows[0, :40].tolist() == (list(range(40)) if metric == "euclidean" else rows[0, :40].tolist())


@pytest.mark.parametrize("metric", ["dot", "euclidean"])
def test_very_long_and_very_short_vectors(metric: Metric) -> None:
    for factor in (1e-38, 1e-20, 1e15):
        vectors = random(200, 6) * F32(factor)
        index, truth = IVF(6, metric, nlist=5), Flat(6, metric)
        index.add(vectors)
        truth.add(vectors)
        np.testing.assert_array_equal(index.run(vectors[:5], 3, nprobe=ALL, depth=ALL)[1], truth.search(vectors[:5], 3)[1])


class Life(RuleBasedStateMachine):
    """Any history of writes, saves and loads, against a dictionary of rows."""

    rows = Bundle("rows")

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()

    @initialize(metric=st.sampled_from(METRICS), dim=st.integers(1, 20), nlist=st.sampled_from([1, 3, 11]),
                quantization=st.sampled_from(QUANTIZATIONS))
    def begin(self, metric: Metric, dim: int, nlist: int, quantization: Quantization | None) -> None:
        self.index, self.model = IVF(dim, metric, nlist=nlist, quantization=quantization), dict[int, Any]()
        self.ever, self.seed = 0, 0

    @rule(target=rows, n=st.integers(0, 40))
    def add(self, n: int) -> Any:
        self.seed += 1
        new = random(n, self.index.dim, self.seed)
        added = self.index.add(new)
        assert added.tolist() == list(range(self.ever, self.ever + n))
        self.ever += n
        self.model |= dict(zip(added.tolist(), new, strict=True))
        return multiple(*added.tolist())

    @rule(removed=st.lists(consumes(rows), max_size=30), unknown=st.integers(-3, 3))
    def remove(self, removed: list[int], unknown: int) -> None:
        nobody = [-1, self.ever + abs(unknown)]
        assert self.index.remove(np.array(removed + removed + nobody)) == len(set(removed) & set(self.model))
        for row in removed:
            self.model.pop(row, None)

    @rule(n=st.integers(0, 20))
    def update(self, n: int) -> None:
        self.seed += 1
        chosen = np.random.default_rng(self.seed).permutation(np.array(list(self.model), dtype=np.int64))[:n]
        new = random(len(chosen), self.index.dim, self.seed)
        self.index.update(chosen, new)
        self.model |= dict(zip(chosen.tolist(), new, strict=True))

    @rule(mmap=st.booleans())
    def reload(self, mmap: bool) -> None:
        path = Path(self.folder.name) / "index"
        self.index.save(path)
        self.index = IVF.load(path, mmap=mmap)

    @rule(seed=st.integers(0, 99), k=st.integers(1, 30), share=st.floats(0, 1), as_mask=st.booleans())
    def search(self, seed: int, k: int, share: float, as_mask: bool) -> None:
        generator = np.random.default_rng(seed)
        mask = generator.random(self.ever) < share
        allow = mask if as_mask else generator.permutation(np.repeat(np.flatnonzero(mask), 2))
        vectors = np.zeros((self.ever, self.index.dim), dtype=F32)
        for row, vector in self.model.items():
            vectors[row] = vector
        live = np.array([row for row in self.model if mask[row]], dtype=np.int64)
        queries = random(2, self.index.dim, seed)
        rows, scores, _ = self.index.run(queries, k, nprobe=ALL, allow=allow, depth=ALL)
        _, best = reference.search(vectors, queries, k, self.index.metric, live)
        np.testing.assert_allclose(scores, best, rtol=1e-4, atol=1e-5)
        assert set(rows[rows >= 0].tolist()) <= set(live.tolist())

    @invariant()
    def sizes(self) -> None:
        if hasattr(self, "index"):
            assert len(self.index) == len(self.model)
            assert self.index.live_rows().tolist() == sorted(self.model)

    def teardown(self) -> None:
        self.folder.cleanup()


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)


def test_added_then_removed_leaves_no_trace(tmp_path: Path) -> None:
    index = filled(300, 8)
    index.save(tmp_path / "before")
    rows = index.add(random(200, 8, seed=2))
    assert index.remove(rows) == 200
    assert index.remove(rows) == 0
    index._rows_ever = 300
    index.save(tmp_path / "after")
    assert (tmp_path / "before").read_bytes() == (tmp_path / "after").read_bytes()


def test_removed_vectors_give_their_memory_back() -> None:
    index = IVF(8, "dot", nlist=10)
    for start in range(0, 5000, 100):
        rows = index.add(random(100, 8, seed=start))
        assert rows[0] == start
        index.remove(rows[:-1])
    assert len(index) == 50
    assert index.stats()["total_bytes"] < 400 * (8 * 5 + 60) + 10 * 200


def test_cells_are_made_when_there_are_enough_vectors_and_again_when_they_grew() -> None:
    index = IVF(6)
    sizes = []
    for step in range(60):
        index.add(random(100, 6, step))
        sizes.append(index.stats()["nlist"])
    assert sizes[:10] == [1] * 10
    assert sizes[10] == round(4 * 1100**0.5)
    assert len(set(sizes)) == 3
    truth = Flat(6)
    for step in range(60):
        truth.add(random(100, 6, step))
    queries = random(20, 6, 999)
    assert_same(index.run(queries, 5, nprobe=ALL, depth=ALL), truth.search(queries, 5))


def test_an_updated_row_is_found_where_it_is_now() -> None:
    index = filled(300, 8)
    far = random(3, 8, seed=77)
    index.update(np.array([250, 3, 120]), far)
    assert index.search(far, 1)[0].reshape(-1).tolist() == [250, 3, 120]
    assert len(index) == 300
    np.testing.assert_allclose(index.vectors(np.array([3]))[0], far[1] / np.linalg.norm(far[1]), rtol=1e-6)


@pytest.mark.parametrize("allow", [[3, 9, 3, 17], np.array([17, 9, 3, 3], np.int32), np.isin(np.arange(200), [3, 9, 17])])
def test_allowed_rows_in_every_form(allow: Any) -> None:
    index = filled()
    assert sorted(index.search(random(1, 5), 20, allow=allow)[0][0]) == [-1] * 17 + [3, 9, 17]
    index.remove(np.array([9]))
    assert sorted(index.search(random(1, 5), 3, allow=allow)[0][0]) == [-1, 3, 17]


def test_as_many_allowed_vectors_are_compared_as_without_a_filter() -> None:
    index = filled(5000, 16, nlist=100)
    queries = random(20, 16, 1)
    _, _, free = index.run(queries, 10, nprobe=4)
    far = index.search(-queries[:1], 2500, nprobe=ALL)[0][0]     # the half of the vectors opposite to the first query
    for allow in (np.arange(0, 5000, 10), np.arange(5000) % 7 == 0, np.sort(far)):
        rows, _, compared = index.run(queries, 10, nprobe=4, allow=allow)
        assert (rows >= 0).all()
        assert compared >= 20 * 4 * 50
        assert compared < 3 * free + 20 * 300


def test_nothing_allowed_and_nothing_there() -> None:
    for allow in ([], np.zeros(200, bool), np.array([], np.int64)):
        rows, scores = filled().search(random(2, 5), 3, allow=allow)
        assert rows.tolist() == [[-1] * 3] * 2
        assert scores.tolist() == [[-np.inf] * 3] * 2
    gone = filled()
    gone.remove(np.arange(200))
    for index in (IVF(5), IVF(), gone):
        rows, scores = index.search(random(2, 5), 3)
        assert rows.tolist() == [[-1] * 3] * 2
        assert scores.tolist() == [[-np.inf] * 3] * 2
        assert index.remove(np.array([1])) == 0
    assert [part.shape for part in filled().search(random(0, 5), 4)] == [(0, 4), (0, 4)]
    assert filled().add(random(0, 5)).shape == (0,)
    assert gone.add(random(1, 5)).tolist() == [200]


def test_the_first_vectors_decide_an_open_dimension() -> None:
    index = IVF()
    index.add(random(0, 9))
    assert index.dim == 0
    index.add(random(2, 5))
    assert index.dim == 5
    with pytest.raises(InvalidInput, match="vectors must have dimension 5, got 4"):
        index.add(random(2, 4))


@pytest.mark.parametrize(("call", "message"), [
    (lambda: IVF(0), "dim must be from 1"),
    (lambda: IVF(3, "l2"), "metric 'l2' is unknown"),  # type: ignore[arg-type]
    (lambda: IVF(3, nlist=0), "nlist must be from 1"),
    (lambda: IVF(3, nprobe=2.5), "nprobe must be a whole number"),  # type: ignore[arg-type]
    (lambda: IVF(3, seed=-1), "seed must be from 0"),
    (lambda: IVF(3, quantization="int2"), "quantization 'int2' is unknown. Choose \"int8\""),  # type: ignore[arg-type]
    (lambda: filled().add(np.ones((1, 5))), "vectors must have dtype float32"),
    (lambda: filled().add(np.array([[1, 1, 1, np.nan, 1]], F32)), "vectors: row 0 contains NaN or infinity"),
    (lambda: filled(metric="dot").add(np.full((1, 5), 1e19, F32)), "vectors: row 0 is longer than 9.1e18"),
    (lambda: IVF(2).add(np.array([[1, np.inf]], F32)), "vectors: row 0 contains NaN or infinity"),
    (lambda: filled().search(np.array([[1, 1, 1, 1, np.inf]], F32), 1), "queries: row 0 contains NaN or infinity"),
    (lambda: IVF(2).search(np.array([[1, np.inf]], F32), 1), "queries: row 0 contains NaN or infinity"),
    (lambda: filled().search(np.ones((1, 6), F32), 1), "queries must have dimension 5, got 6"),
    (lambda: filled().search(random(1, 5), 0), "k must be from 1"),
    (lambda: filled().search(random(1, 5), 1, nprobe=0), "nprobe must be from 1"),
    (lambda: filled().search(random(1, 5), 1, threads=-1), "threads must be from 0"),
    (lambda: filled().search(random(1, 5), 1, allow=[200]), "allow contains row 200; the rows are 0 to 199"),
    (lambda: filled().search(random(1, 5), 1, allow=np.ones(19, bool)), r"allow must be a mask of the shape \(200,\)"),
    (lambda: filled().remove(np.array([0.0])), "rows must be int64 row numbers"),
    (lambda: filled().vectors(np.array([1, 200])), "rows contains 200, which is not in the index"),
    (lambda: filled().update(np.array([200]), random(1, 5)), "rows contains 200, which is not in the index"),
    (lambda: filled().update(np.array([2, 2]), random(2, 5)), "rows contains a row twice"),
    (lambda: filled().update(np.array([2]), random(2, 5)), "rows and vectors must be as many, got 1 and 2"),
    (lambda: IVF(5).update(np.array([0]), random(1, 5)), "rows contains 0, which is not in the index"),
])
def test_refuses(call: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        call()


def test_a_refused_batch_changes_nothing() -> None:
    index, vectors = filled(), random(30, 5, seed=3)
    vectors[29, 0] = np.nan
    before = index.search(random(2, 5), 30)
    for write in (lambda: index.add(vectors), lambda: index.update(np.arange(30), vectors)):
        with pytest.raises(InvalidInput, match="row 29"):
            write()
    assert len(index) == 200
    assert_same(index.search(random(2, 5), 30), before)
    assert index.add(vectors[:1]).tolist() == [200]


@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize("quantization", QUANTIZATIONS)
@pytest.mark.parametrize("metric", METRICS)
def test_a_file_brings_everything_back(tmp_path: Path, metric: Metric, quantization: Quantization | None, mmap: bool) -> None:
    index = filled(400, 9, metric, quantization=quantization, nprobe=3)
    index.remove(np.array([0, 7, 399]))
    index.save(tmp_path / "a")
    before = (tmp_path / "a").read_bytes()
    again = IVF.load(tmp_path / "a", mmap=mmap)
    assert (len(again), again.dim, again.metric, again.rows_ever, again.nprobe) == (397, 9, metric, 400, 3)
    for allow in (None, [1, 7, 8], np.arange(400) % 2 == 0):
        assert_same(again.search(random(3, 9, seed=1), 22, allow=allow), index.search(random(3, 9, seed=1), 22, allow=allow))
    for written in (index, again):
        assert written.add(random(50, 9, 8)).tolist() == list(range(400, 450))
        written.update(np.arange(1, 7), random(6, 9, 9))
        written.remove(np.arange(50, 300))
    assert_same(again.search(random(3, 9, seed=1), 22), index.search(random(3, 9, seed=1), 22))
    assert (tmp_path / "a").read_bytes() == before
    index.save(tmp_path / "b")
    again.save(tmp_path / "c")
    assert (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes()


@pytest.mark.parametrize("index", [IVF(), IVF(7, "dot")])
def test_empty_indexes_are_saved_too(tmp_path: Path, index: IVF) -> None:
    index.save(tmp_path / "a")
    again = IVF.load(tmp_path / "a")
    assert (len(again), again.dim, again.metric) == (0, index.dim, index.metric)
    assert again.add(random(1, index.dim or 4)).tolist() == [0]


def test_an_emptied_index_goes_on_after_loading(tmp_path: Path) -> None:
    index = filled()
    index.remove(np.arange(200))
    index.save(tmp_path / "a")
    again = IVF.load(tmp_path / "a")
    assert len(again) == 0
    assert again.add(random(3, 5)).tolist() == [200, 201, 202]
    assert again.search(random(3, 5), 1)[0].reshape(-1).tolist() == [200, 201, 202]


@pytest.mark.parametrize("mmap", [True, False])
def test_damaged_files_are_refused(tmp_path: Path, mmap: bool) -> None:
    path, index = tmp_path / "a", filled(40, 3)
    index.save(path)
    whole = path.read_bytes()
    damaged = [whole[:n] for n in range(0, len(whole), 97)] + [whole + b"\0"]
    damaged += [whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1:] for i in range(len(whole)) if whole[i] and i % 5 == 0]
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(Corrupt, match=r"index file .*a (is|has|holds) .*Restore it from a copy"):
            IVF.load(path, mmap=mmap)
    Flat(3).save(path)
    with pytest.raises(Corrupt, match="holds a flat index, not a ivf one"):
        IVF.load(path)
    with pytest.raises(NotFound, match="does not exist"):
        IVF.load(tmp_path / "nothing")


@pytest.mark.parametrize(("change", "message"), [
    ({"sizes": np.array([9, 9, 9, 9, 9], np.int64)}, "sizes do not add up"),
    ({"order": np.zeros(40, np.uint32)}, "order does not put the rows in order"),
    ({"rows": np.arange(39)}, "rows: must have 40 values, got 39"),
    ({"facts": np.zeros(80)}, "facts: must have dtype"),
])
def test_parts_that_contradict_each_other(change: dict[str, Any], message: str) -> None:
    index = filled(40, 3)
    assert index._cells is not None
    parts = index._cells.parts()
    with pytest.raises(ValueError, match=message):
        _kernel.Cells(3, "cosine", "int8").restore(parts | change)


def test_searches_beside_a_writer_see_whole_batches() -> None:
    """Every batch is added whole and removed whole; each search must see only whole ones, and right scores."""
    index, dim, size = IVF(16, "dot", nlist=6), 16, 8
    index.add(random(100, dim) * F32(1e-3))
    unit = np.eye(1, dim, dtype=F32)
    stop, failures = threading.Event(), list[str]()

    def searches() -> None:
        while not stop.is_set():
            rows, scores, _ = index.run(unit, 600, nprobe=ALL, depth=ALL)
            mine = rows[0] >= 100
            found = rows[0][mine] - 100
            if len(found) % size or len(np.unique(found)) != len(found):
                failures.append(f"a torn batch: {np.sort(found)}")
            if not np.array_equal(scores[0][mine], (found // size % 50 + 1).astype(F32)):
                failures.append("a wrong score")

    readers = [threading.Thread(target=searches) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for batch in range(150):
            rows = index.add(np.repeat(unit * (batch % 50 + 1), size, axis=0))
            if batch >= 40:
                index.remove(rows - 40 * size)
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    assert not failures
    assert len(index) == 100 + 40 * size


# k-means


@pytest.mark.parametrize("spherical", [True, False])
def test_kmeans_finds_clusters_that_are_apart(spherical: bool) -> None:
    centres = np.eye(8, dtype=F32) * 10
    points = np.repeat(centres, 50, axis=0) + F32(0.05) * random(400, 8)
    if spherical:
        points /= np.linalg.norm(points, axis=1, keepdims=True)
    found = kmeans(points, 24, spherical=spherical, seed=1)
    cells, _ = nearest(points, found, spherical=spherical)
    clusters = np.repeat(np.arange(8), 50)
    assert all(len(np.unique(clusters[cells == cell])) == 1 for cell in range(len(found)))
    if spherical:
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)


def test_kmeans_of_few_different_points_gives_few_centroids() -> None:
    points = np.repeat(random(3, 4), 20, axis=0)
    assert len(kmeans(points, 10, spherical=False, seed=0)) == 3
    assert len(kmeans(points[:1], 10, spherical=False, seed=0)) == 1


def test_means_are_those_of_numpy() -> None:
    points, cells = random(100, 3), np.random.default_rng(0).integers(0, 6, 100)
    cells[cells == 4] = 5
    found, sizes = means(points, cells, 6)
    for cell in range(6):
        mine = points[cells == cell]
        assert sizes[cell] == len(mine)
        np.testing.assert_allclose(found[cell], mine.mean(axis=0) if len(mine) else np.zeros(3), atol=1e-6)
