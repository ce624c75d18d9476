"""The Flat index: rows, filters, files, threads, and what it refuses."""

from __future__ import annotations

import struct
import sys
import threading
import zlib
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from madang.base.errors import Corrupt, InvalidInput, NotFound
from madang.index import _kernel, reference
from madang.index.flat import Flat
from madang.index.protocol import METRICS, Index, Metric, Vectors

F32 = np.float32


def random(n: int, dim: int, seed: int = 0) -> Vectors:
    return np.random.default_rng(seed).standard_normal((n, dim), dtype=F32)


def filled(n: int = 20, dim: int = 5, metric: Metric = "cosine", removed: tuple[int, ...] = ()) -> Flat:
    index = Flat(dim, metric)
    index.add(random(n, dim))
    index.remove(np.array(removed, dtype=np.int64))
    return index


def test_it_is_an_index() -> None:
    assert isinstance(Flat(3), Index)
    assert repr(Flat(3, "dot")) == "Flat(dim=3, metric='dot')"


@pytest.mark.parametrize("metric", METRICS)
def test_it_agrees_with_the_twin(metric: Metric) -> None:
    index, vectors, queries = Flat(24, metric), random(200, 24), random(30, 24, seed=1)
    np.testing.assert_array_equal(index.add(vectors[:150]), np.arange(150))
    np.testing.assert_array_equal(index.add(vectors[150:]), np.arange(150, 200))
    rows, scores = index.search(queries, 10)
    expected = reference.search(vectors, queries, 10, metric)
    np.testing.assert_array_equal(rows, expected[0])
    np.testing.assert_allclose(scores, expected[1], rtol=1e-5, atol=1e-5)


class Life(RuleBasedStateMachine):
    """Any history of writes, saves and loads, against a dictionary of rows."""

    rows = Bundle("rows")

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()

    @initialize(metric=st.sampled_from(METRICS), dim=st.integers(1, 20))
    def begin(self, metric: Metric, dim: int) -> None:
        self.index, self.model = Flat(dim, metric), dict[int, Any]()
        self.ever, self.seed = 0, 0

    @rule(target=rows, n=st.integers(0, 12))
    def add(self, n: int) -> Any:
        self.seed += 1
        new = random(n, self.index.dim, self.seed)
        added = self.index.add(new)
        assert added.tolist() == list(range(self.ever, self.ever + n))
        self.ever += n
        self.model |= dict(zip(added.tolist(), new, strict=True))
        return multiple(*added.tolist())

    @rule(removed=st.lists(consumes(rows), max_size=9), unknown=st.integers(-3, 3))
    def remove(self, removed: list[int], unknown: int) -> None:
        nobody = [-1, self.ever + abs(unknown)]
        assert self.index.remove(np.array(removed + removed + nobody)) == len(set(removed) & set(self.model))
        for row in removed:
            self.model.pop(row, None)

    @rule(mmap=st.booleans())
    def reload(self, mmap: bool) -> None:
        path = Path(self.folder.name) / "index"
        self.index.save(path)
        self.index = Flat.load(path, mmap=mmap)

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
        rows, scores = self.index.search(queries, k, allow=allow)
        expected, best = reference.search(vectors, queries, k + 1, self.index.metric, live)
        np.testing.assert_allclose(scores, best[:, :k], rtol=1e-5, atol=1e-5)
        assert set(rows[rows >= 0].tolist()) <= set(live.tolist())
        gaps = -np.diff(np.nan_to_num(best, neginf=-1e6), axis=1, prepend=1e6)
        sure = (gaps[:, :k] > 1e-4) & (gaps[:, 1:] > 1e-4)  # rows of nearly equal scores may swap
        np.testing.assert_array_equal(rows[sure], expected[:, :k][sure])

    @invariant()
    def counts_and_vectors(self) -> None:
        assert len(self.index) == len(self.model)
        assert self.index.stats()["rows_ever"] == self.ever
        if self.model:
            live = np.array(sorted(self.model), dtype=np.int64)
            kept = np.stack([self.model[row] for row in live.tolist()])
            if self.index.metric == "cosine":
                kept = reference.unit(kept.astype(np.float64))
            np.testing.assert_allclose(self.index.vectors(live), kept, rtol=1e-5)

    def teardown(self) -> None:
        self.folder.cleanup()


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=settings.default.max_examples // 3, stateful_step_count=20)


@given(scale=st.floats(1e-30, 1e30), seed=st.integers(0, 999))
def test_cosine_ignores_lengths(scale: float, seed: int) -> None:
    vectors, query = random(30, 7, seed), random(1, 7, seed + 1)
    plain, scaled = Flat(7), Flat(7)
    plain.add(vectors)
    scaled.add((vectors * scale).astype(F32))
    _, expected = plain.search(query, 30)
    rows, scores = scaled.search((query * scale).astype(F32), 30)
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    assert sorted(rows[0].tolist()) == list(range(30))


def test_added_then_removed_leaves_no_trace() -> None:
    index, query = filled(), random(4, 5, seed=9)
    before = index.search(query, 25)
    rows = index.add(random(40, 5, seed=2))
    assert index.remove(rows) == 40
    assert index.remove(rows) == 0
    after = index.search(query, 25)
    np.testing.assert_array_equal(after[0], before[0])
    np.testing.assert_array_equal(after[1], before[1])
    assert index.add(query).tolist() == [60, 61, 62, 63]


def test_removed_vectors_give_their_memory_back() -> None:
    index = Flat(8, "dot")
    for start in range(0, 5000, 100):
        rows = index.add(random(100, 8, seed=start))
        assert rows[0] == start
        index.remove(rows[:-1])
    assert len(index) == 50
    assert index.stats()["size_bytes"] < 500 * (8 * 4 + 8 + 1)
    np.testing.assert_array_equal(np.sort(index.search(random(1, 8), 60)[0][0, :50]), np.arange(99, 5000, 100))


@pytest.mark.parametrize("allow", [[3, 9, 3, 17], np.array([17, 9, 3, 3], np.int32), np.isin(np.arange(20), [3, 9, 17])])
def test_allowed_rows_in_every_form(allow: Any) -> None:
    assert sorted(filled().search(random(1, 5), 20, allow=allow)[0][0]) == [-1] * 17 + [3, 9, 17]
    assert sorted(filled(removed=(9,)).search(random(1, 5), 3, allow=allow)[0][0]) == [-1, 3, 17]


@pytest.mark.parametrize("allow", [[], np.zeros(20, bool), np.array([], np.int64)])
def test_nothing_allowed(allow: Any) -> None:
    rows, scores = filled().search(random(2, 5), 3, allow=allow)
    assert rows.tolist() == [[-1] * 3] * 2
    assert scores.tolist() == [[-np.inf] * 3] * 2


def test_empty_indexes_and_empty_batches() -> None:
    for index in (Flat(5), Flat(), filled(3, removed=(0, 1, 2))):
        rows, scores = index.search(random(2, 5), 3)
        assert rows.tolist() == [[-1] * 3] * 2
        assert scores.tolist() == [[-np.inf] * 3] * 2
    assert [part.shape for part in filled().search(random(0, 5), 4)] == [(0, 4), (0, 4)]
    assert filled().add(random(0, 5)).shape == (0,)
    assert filled().remove(np.array([], np.int64)) == 0
    assert filled().vectors(np.array([], np.int64)).shape == (0, 5)


def test_the_first_vectors_decide_an_open_dimension() -> None:
    index = Flat()
    assert index.dim == 0
    index.add(random(0, 9))
    index.add(random(2, 5))
    assert index.dim == 5
    with pytest.raises(InvalidInput, match="vectors must have dimension 5, got 4"):
        index.add(random(2, 4))


def test_strided_input_is_copied() -> None:
    index, wide = Flat(5), random(20, 10)
    index.add(wide[::2, ::2])
    np.testing.assert_array_equal(index.search(np.asfortranarray(wide[::2, ::2]), 1)[0][:, 0], np.arange(10))


def test_what_was_added_is_not_shared_with_the_caller() -> None:
    index, vectors = Flat(5, "dot"), random(4, 5)
    index.add(vectors)
    kept = index.vectors(np.arange(4))
    vectors[:] = kept[:] = 0
    np.testing.assert_array_equal(index.vectors(np.arange(4)), random(4, 5))


@pytest.mark.parametrize(("call", "message"), [
    (lambda: Flat(0), "dim must be from 1 to 2147483647, got 0"),
    (lambda: Flat(2.5), "dim must be a whole number, got 2.5"),  # type: ignore[arg-type]
    (lambda: Flat(3, "l2"), "metric 'l2' is unknown. Choose one of cosine, dot, euclidean"),  # type: ignore[arg-type]
    (lambda: filled().add([[1.0] * 5]), r"vectors must have dtype float32, got float64. Convert with .astype\(np.float32\)"),
    (lambda: filled().add(np.ones((1, 5), int)), r"vectors must have dtype float32, got int64. Convert with .astype\(np.float32\)"),
    (lambda: filled().add(np.ones((1, 5), ">f4")), "vectors must have dtype float32, got >f4"),
    (lambda: filled().add([[1], [2, 3]]), "vectors is no array"),
    (lambda: filled().add(np.ones(5, F32)), r"vectors must have the shape \(n, dim\), got \(5,\). Pass vectors\[None, :\]"),
    (lambda: filled().add(np.ones((1, 1, 5), F32)), r"vectors must have the shape \(n, dim\), got \(1, 1, 5\)"),
    (lambda: filled().add(np.ones((1, 4), F32)), "vectors must have dimension 5, got 4"),
    (lambda: Flat().add(np.ones((1, 0), F32)), "vectors must have dimension at least 1, got 0"),
    (lambda: filled().add(np.array([[1, 1, 1, np.nan, 1]], F32)), "vectors: row 0 contains NaN or infinity"),
    (lambda: filled(metric="dot").add(np.full((1, 5), 1e19, F32)), "vectors: row 0 is longer than 9.1e18"),
    (lambda: filled().add(random(1, 5), threads=-1), "threads must be from 0"),
    (lambda: filled().search(np.ones((1, 5)), 1), "queries must have dtype float32, got float64"),
    (lambda: filled().search(np.ones(5, F32), 1), r"queries must have the shape \(n, dim\), got \(5,\). Pass queries\[None, :\]"),
    (lambda: filled().search(np.ones((1, 6), F32), 1), "queries must have dimension 5, got 6"),
    (lambda: filled().search(np.array([[1, 1, 1, 1, np.inf]], F32), 1), "queries: row 0 contains NaN or infinity"),
    (lambda: filled(metric="euclidean").search(np.full((1, 5), 1e30, F32), 1), "queries: row 0 is longer than 9.1e18"),
    (lambda: filled().search(random(1, 5), 0), "k must be from 1 to 2147483647, got 0. Pass how many neighbours you want"),
    (lambda: filled().search(random(1, 5), True), "k must be from 1"),
    (lambda: filled().search(random(1, 5), "3"), "k must be a whole number, got '3'"),
    (lambda: filled().search(random(1, 5), 10**20), "k must be from 1"),
    (lambda: filled().search(random(1, 5), 1, allow=[20]), "allow contains row 20; the rows are 0 to 19"),
    (lambda: filled().search(random(1, 5), 1, allow=[3, -1]), "allow contains row -1; the rows are 0 to 19"),
    (lambda: filled().search(random(1, 5), 1, allow=[0.5]), "allow must be int64 row numbers, got float64"),
    (lambda: filled().search(random(1, 5), 1, allow=np.zeros((2, 2), int)), "allow must be one-dimensional"),
    (lambda: filled().search(random(1, 5), 1, allow=np.ones(19, bool)), r"allow must be a mask of the shape \(20,\)"),
    (lambda: filled().search(random(1, 5), 1, threads=1.5), "threads must be a whole number, got 1.5"),
    (lambda: filled().remove(np.array([0.0])), "rows must be int64 row numbers, got float64"),
    (lambda: filled().remove(np.ones(20, bool)), "rows must be int64 row numbers, got bool"),
    (lambda: filled().remove(np.array([1], np.uint64)), r"rows must be int64 row numbers, got uint64. Convert with .astype\(np.int64\)"),
    (lambda: filled().vectors(np.array([1, 20])), "rows contains 20, which is not in the index"),
    (lambda: filled(removed=(1,)).vectors(np.array([1, 20])), "rows contains 1, which is not in the index"),
])
def test_refuses(call: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        call()


def test_a_refused_batch_changes_nothing() -> None:
    index, vectors = filled(), random(30, 5, seed=3)
    vectors[29, 0] = np.nan
    before = index.search(random(2, 5), 30)
    with pytest.raises(InvalidInput, match="row 29"):
        index.add(vectors)
    assert len(index) == 20
    np.testing.assert_array_equal(index.search(random(2, 5), 30)[0], before[0])
    assert index.add(vectors[:1]).tolist() == [20]


@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize("removed", [(), (0, 7, 19)])
@pytest.mark.parametrize("metric", METRICS)
def test_a_file_brings_everything_back(tmp_path: Path, metric: Metric, removed: tuple[int, ...], mmap: bool) -> None:
    index = filled(metric=metric, removed=removed)
    index.save(tmp_path / "a.flat")
    again = Flat.load(tmp_path / "a.flat", mmap=mmap)
    assert (len(again), again.dim, again.metric) == (len(index), 5, metric)
    assert again.stats()["mapped"] is mmap
    for allow in (None, [1, 7, 8], np.arange(20) % 2 == 0):
        expected = index.search(random(3, 5, seed=1), 22, allow=allow)
        found = again.search(random(3, 5, seed=1), 22, allow=allow)
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_array_equal(found[1], expected[1])
    assert [path.name for path in tmp_path.iterdir()] == ["a.flat"]


@pytest.mark.parametrize("index", [Flat(), Flat(7, "dot"), filled(3, removed=(0, 1, 2))])
def test_empty_indexes_are_saved_too(tmp_path: Path, index: Flat) -> None:
    index.save(tmp_path / "a")
    again = Flat.load(tmp_path / "a")
    assert (len(again), again.dim, again.metric) == (0, index.dim, index.metric)
    assert again.add(random(1, index.dim or 4)).tolist() == [index.stats()["rows_ever"]]


def test_a_mapped_index_is_copied_when_written_to(tmp_path: Path) -> None:
    path = tmp_path / "a"
    filled().save(path)
    before = path.read_bytes()
    index = Flat.load(path)
    assert index.add(random(0, 5)).size == 0
    assert index.remove(np.array([3])) == 1
    assert index.stats()["mapped"]
    assert index.add(random(2, 5)).tolist() == [20, 21]
    assert not index.stats()["mapped"]
    assert path.read_bytes() == before
    index.save(path)
    assert len(Flat.load(path)) == 21


def test_a_mapped_index_survives_its_file_being_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a"
    filled().save(path)
    index = Flat.load(path)
    expected = index.search(random(2, 5), 3)
    filled(4, metric="dot").save(path)
    np.testing.assert_array_equal(index.search(random(2, 5), 3)[0], expected[0])


@pytest.mark.parametrize("removed", [(), (1,)])
@pytest.mark.parametrize("mmap", [True, False])
def test_every_truncation_and_every_flipped_byte_is_noticed(tmp_path: Path, removed: tuple[int, ...], mmap: bool) -> None:
    """Of a file as it is written now, where what fills a page up means nothing, and of a version 1 file."""
    path, index = tmp_path / "a", filled(4, 2, removed=removed)
    index.save(path)
    now = path.read_bytes()
    for whole, step in ((now, 37), (version_1(index), 1)):
        damaged = [whole[:n] for n in range(0, len(whole), step)] + [whole + b"\0"]
        damaged += [whole[:i] + bytes([whole[i] ^ bit]) + whole[i + 1:]
                    for i, bit in zip(range(len(whole)), cycle((1, 128)), strict=False) if whole is not now or i % 37 == 0 or whole[i]]
        for content in damaged:
            path.write_bytes(content)
            if whole is now and len(content) == len(now) and not any(a and a != b for a, b in zip(now, content, strict=True)):
                continue  # where now there is nothing
            with pytest.raises(Corrupt, match=r"index file .*a (is|has|holds) .*Restore it from a copy"):
                Flat.load(path, mmap=mmap)
        path.write_bytes(whole)
        again = Flat.load(path, mmap=mmap)
        np.testing.assert_array_equal(again.search(random(2, 2), 4)[1], index.search(random(2, 2), 4)[1])


def version_1(index: Flat) -> bytes:
    """A file as the first version wrote it."""
    view = index._view
    slots = view.live_slots()
    payload = view.data[slots].tobytes()
    numbered = view.size != view.rows_ever
    if numbered:
        numbers = view.row_numbers(slots).astype("<i8").tobytes()
        payload = numbers + bytes(-len(numbers) % 64) + payload
    fields = struct.pack("<8sIIQQQII12x", b"MADANGFL", 1, METRICS.index(index.metric), index.dim, view.size,
                         view.rows_ever, numbered, zlib.crc32(payload))
    return fields + struct.pack("<I", zlib.crc32(fields)) + payload


@pytest.mark.parametrize("mmap", [True, False])
def test_a_version_1_file_gets_codes_when_it_is_read(tmp_path: Path, mmap: bool) -> None:
    index = filled(300, 70, removed=(5, 9))
    (tmp_path / "a").write_bytes(version_1(index))
    again = Flat.load(tmp_path / "a", mmap=mmap)
    assert again.stats()["coded"]
    assert again.stats()["mapped"] is mmap
    for k in (3, 200):
        for found, expected in zip(again.search(random(2, 70), k), index.search(random(2, 70), k), strict=True):
            np.testing.assert_array_equal(found, expected)
    assert again.add(random(2, 70)).tolist() == [300, 301]


def with_fields(content: bytes, offset: int, form: str, value: int) -> bytes:
    """A header changed on purpose, with a checksum that matches."""
    fields = bytearray(content[:60])
    struct.pack_into(form, fields, offset, value)
    return bytes(fields) + struct.pack("<I", zlib.crc32(fields)) + content[64:]


@pytest.mark.parametrize(("change", "message"), [
    (lambda b: b[:10], "is truncated: its header has 64 bytes, the file 10"),
    (lambda b: b[:-1], "is truncated: it should have 96 bytes and has 95"),
    (lambda b: b + b"\0", "is too long: it should have 96 bytes and has 97"),
    (lambda b: b[:-1] + b"\x77", "is damaged: the checksum of its vectors does not match"),
    (lambda b: b"PK" + b[2:], "is not a flat index"),
    (lambda b: b[:16] + b"\x05" + b[17:], "has a damaged header"),
    (lambda b: with_fields(b, 8, "<I", 2), "has version 2; this Madang reads versions 1 and 2"),
    (lambda b: with_fields(b, 24, "<Q", 2**62), "is truncated: it should have"),
    (lambda b: b[:20], "is truncated: its header has 64 bytes, the file 20"),
    (lambda b: b"", "is truncated: it has 0 bytes, fewer than a header"),
])
def test_corruption_is_told_apart(tmp_path: Path, change: Any, message: str) -> None:
    path = tmp_path / "a"
    path.write_bytes(change(version_1(filled(4, 2))))
    with pytest.raises(Corrupt, match=message):
        Flat.load(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="does not exist"):
        Flat.load(tmp_path / "nothing")


def test_a_failed_save_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        filled().save(tmp_path / "taken")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_searches_beside_a_writer_see_whole_batches(tmp_path: Path) -> None:
    """Every batch is added whole and removed whole; each search must see only whole ones, and right scores."""
    index, dim, size = Flat(16, "dot"), 16, 8
    unit = np.eye(1, dim, dtype=F32)
    stop, failures = threading.Event(), list[str]()

    def searches() -> None:
        while not stop.is_set():
            rows, scores = index.search(unit, 400, threads=2)
            found = rows[rows >= 0]
            if len(found) % size or not np.array_equal(np.sort(found) % size, np.tile(np.arange(size), len(found) // size)):
                failures.append(f"a torn batch: {np.sort(found)}")
            if not np.array_equal(scores[rows >= 0], (found // size % 50 + 1).astype(F32)):
                failures.append("a wrong score")

    readers = [threading.Thread(target=searches) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for batch in range(200):
            rows = index.add(np.repeat(unit * (batch % 50 + 1), size, axis=0))
            if batch >= 40:
                index.remove(rows - 40 * size)
            if batch % 50 == 0:
                index.save(tmp_path / "a")
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    assert not failures
    assert len(index) == 40 * size


@pytest.mark.parametrize("write", [lambda index: index.add(random(9, 5)), lambda index: index.remove(np.arange(9)),
                                   lambda index: [index.add(random(3, 5)) for _ in range(9)]])
@pytest.mark.parametrize("removed", [(), (3,), (3, 4, 5, 6, 7, 8)])
def test_a_write_leaves_what_a_running_search_sees(write: Any, removed: tuple[int, ...]) -> None:
    index = filled(removed=removed)
    index.add(random(1, 5))  # has grown, so that free slots lie behind the used ones
    view = index._view
    before = [part[:view.used].copy() for part in (view.data, view.rows, view.live) if part is not None]
    write(index)
    after = [part[:view.used] for part in (view.data, view.rows, view.live) if part is not None]
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)


def test_writers_take_turns() -> None:
    index, rows = Flat(4, "dot"), list[int]()
    vectors = random(3, 4)

    def adds() -> None:
        for _ in range(150):
            rows.extend(index.add(vectors).tolist())

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # a switch at nearly every step
    try:
        writers = [threading.Thread(target=adds) for _ in range(4)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
    finally:
        sys.setswitchinterval(interval)
    assert sorted(rows) == list(range(1800))
    assert len(index) == 1800


# Codes: whatever they leave out, the answer is the one without them, to the bit.


@pytest.fixture(params=_kernel.available_isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    _kernel.set_isa(request.param)
    yield request.param
    _kernel.set_isa("auto")


def awkward(n: int, dim: int, kind: str, seed: int) -> Vectors:
    """Vectors on which bounds may fail: (n, dim)."""
    generator = np.random.default_rng(seed)
    vectors = generator.standard_normal((n, dim), dtype=F32)
    if kind == "twice":
        vectors[n // 2:] = vectors[:n - n // 2]
    elif kind == "alike":
        vectors = vectors[:1] + vectors * F32(1e-4)
    elif kind == "sparse":
        vectors[generator.random((n, dim)) < 0.95] = 0
    elif kind == "lengths":
        vectors *= (10.0 ** generator.uniform(-12, 12, (n, 1))).astype(F32)
    elif kind == "tiny":
        vectors *= F32(1e-38)
    elif kind == "huge":
        vectors *= F32(9e18) / np.linalg.norm(vectors, axis=1, keepdims=True)
    elif kind == "far":
        vectors += F32(1e4)
    elif kind == "spikes":
        vectors[:, 0] *= F32(1e4)
    elif kind == "zero":
        vectors[::3] = 0
    return vectors


KINDS = ["plain", "twice", "alike", "sparse", "lengths", "tiny", "huge", "far", "spikes", "zero"]


def sieved_and_not(vectors: Vectors, queries: Vectors, k: int, metric: Metric, **restricted: Any) -> None:
    """Assert that both ways of searching agree on any number of threads."""
    n, dim = vectors.shape
    data, codes, facts = np.empty_like(vectors), np.empty((n, -(-dim // 64) * 64), np.uint8), np.empty((n, 4), F32)
    _kernel.prepare(vectors, metric, data)
    _kernel.encode_codes(data, metric, codes, facts)
    expected = _kernel.search(data, queries, k, metric, **restricted)
    for threads in (1, 3):
        found = _kernel.sieved_search(data, codes, facts, queries, k, metric, threads=threads, **restricted)
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_array_equal(found[1], expected[1])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("metric", METRICS)
def test_codes_change_no_answer(isa: str, metric: Metric, kind: str) -> None:
    for n, dim in ((700, 64), (300, 1), (90, 7), (600, 130)):
        vectors = awkward(n, dim, kind, n)
        queries = np.concatenate([awkward(4, dim, kind, n + 1), vectors[-2:], np.zeros((1, dim), F32)])
        sieved_and_not(vectors, queries, 5, metric)
        sieved_and_not(vectors, queries, 5, metric, rows=np.arange(0, n, 3))
        sieved_and_not(vectors, queries, 5, metric, mask=np.arange(n) % 5 == 2)
        sieved_and_not(vectors, queries, n + 2, metric, rows=np.arange(0, n, 3), mask=np.arange(n) % 2 == 0)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), metric=st.sampled_from(METRICS), kind=st.sampled_from(KINDS), n=st.integers(0, 400),
       dim=st.integers(1, 200), k=st.integers(1, 30), seed=st.integers(0, 2**32 - 1))
def test_codes_change_no_answer_whatever_the_data(data: st.DataObject, metric: Metric, kind: str, n: int, dim: int, k: int,
                                                  seed: int) -> None:
    vectors, other = awkward(n, dim, kind, seed), data.draw(st.sampled_from(KINDS))
    mask = np.random.default_rng(seed).random(n) < data.draw(st.floats(0, 1))
    sieved_and_not(vectors, awkward(2, dim, other, seed + 1), k, metric, rows=np.flatnonzero(mask))
    sieved_and_not(vectors, awkward(2, dim, kind, seed + 1), k, metric, mask=mask)


@pytest.mark.parametrize("metric", METRICS)
def test_an_index_with_codes_answers_like_one_without(tmp_path: Path, metric: Metric) -> None:
    with_codes, without = Flat(80, metric), Flat(80, metric, quantization=None)
    for step in range(6):
        removed = np.arange(step * 50, step * 50 + 90)
        for index in (with_codes, without):
            index.add(random(250 + step, 80, step))
            index.remove(removed)
        if step == 3:
            for index, name in ((with_codes, "a"), (without, "b")):
                index.save(tmp_path / name)
            with_codes, without = Flat.load(tmp_path / "a"), Flat.load(tmp_path / "b")
        ever = with_codes.stats()["rows_ever"]
        for allow in (None, np.arange(0, ever, 2), np.arange(ever)[::-3].copy(), np.arange(ever) % 3 == 0):
            for count in (1, 3, 9):
                found, expected = (index.search(random(count, 80, 99 + step), 7, allow=allow) for index in (with_codes, without))
                np.testing.assert_array_equal(found[0], expected[0])
                np.testing.assert_array_equal(found[1], expected[1])
    assert with_codes.stats()["coded"]
    assert not without.stats()["coded"]
    assert (with_codes.quantization, without.quantization) == ("int8", None)


def test_narrow_vectors_get_no_codes() -> None:
    assert not filled(200, 63).stats()["coded"]
    assert filled(200, 64).stats()["coded"]


@pytest.mark.parametrize(("change", "message"), [
    ({"codes": np.empty((5, 64), np.uint8)}, r"codes: must have the shape \(4, 64\)"),
    ({"codes": np.empty((4, 64), np.int8)}, "codes: must have dtype uint8"),
    ({"facts": np.empty((4, 3), F32)}, r"facts: must have the shape \(4, 4\)"),
    ({"queries": np.ones((1, 8), F32)}, "queries: must have as many columns as vectors"),
    ({"queries": np.full((1, 9), np.nan, F32)}, "queries: row 0 contains NaN or infinity"),
    ({"rows": np.array([2, 1])}, "rows: must be strictly ascending"),
    ({"rows": np.array([4])}, "rows: 4 is out of range"),
    ({"mask": np.ones(3, bool)}, "mask: must have one entry for each vector"),
    ({"k": 0}, "k: must be from 1"),
    ({"threads": -1}, "threads: must be 0"),
])
def test_the_kernel_refuses(change: dict[str, Any], message: str) -> None:
    given = {"vectors": random(4, 9), "codes": np.empty((4, 64), np.uint8), "facts": np.empty((4, 4), F32),
             "queries": random(1, 9), "k": 2, "metric": "dot"}
    with pytest.raises(ValueError, match=message):
        _kernel.sieved_search(**(given | change))


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux how much memory is in use")
def test_memory_goes_back_to_the_system() -> None:
    """Small things that stay lie between large ones that go, as in a store that is being loaded."""
    def used() -> int:
        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
        return int(line.split()[1]) * 1024

    vectors = np.random.default_rng(1).standard_normal((256, 384), dtype=np.float32)
    before, indexes, kept = used(), [], []
    for n in range(200):
        indexes.append(Flat())
        indexes[-1].add(vectors)
        kept.append(bytes(n * 100))
    full = used()
    assert full - before > 200 * vectors.nbytes
    indexes.clear()
    assert used() - before < (full - before) / 5
