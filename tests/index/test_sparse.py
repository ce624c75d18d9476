"""Sparse inner products against a dense matrix, life in segments, and files."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from madang.base.errors import Corrupt, InvalidInput, NotFound
from madang.index import container
from madang.index.sparse import Sparse

Vectors = Mapping[int, Mapping[int, float]]
Found = list[tuple[int, float]]

INDICES = [*range(13), 2**31, 2**32 - 1]
COLUMN = {index: column for column, index in enumerate(INDICES)}


def dense(vector: Mapping[int, float]) -> np.ndarray[Any, Any]:
    """(len(INDICES),) float64."""
    row = np.zeros(len(INDICES))
    row[[COLUMN[index] for index in vector]] = [np.float32(value) for value in vector.values()]
    return row


def oracle(vectors: Vectors, query: Mapping[int, float], allow: set[int] | None = None) -> dict[int, float]:
    """All inner products by matrix, of the rows that share an index."""
    matrix = np.array([dense(vector) for vector in vectors.values()]).reshape(-1, len(INDICES))
    scores = matrix @ dense(query)
    return {row: float(score) for (row, vector), score in zip(vectors.items(), scores, strict=True)
            if set(vector) & set(query) and (allow is None or row in allow)}


def add(index: Sparse, vectors: Vectors) -> None:
    index.add(np.array(list(vectors), np.int64), np.cumsum([0, *(len(v) for v in vectors.values())]),
              np.array([i for v in vectors.values() for i in v], np.uint32),
              np.array([x for v in vectors.values() for x in v.values()], np.float32))


def search(index: Sparse, query: Mapping[int, float], k: int, allow: Any = None) -> Found:
    rows, scores = index.search(np.array(list(query), np.uint32), np.array(list(query.values()), np.float32), k, allow)
    assert rows.dtype == np.int64
    assert scores.dtype == np.float32
    return list(zip(rows.tolist(), scores.tolist(), strict=True))


def check(index: Sparse, vectors: Vectors, query: Mapping[int, float], k: int, allow: set[int] | None = None) -> None:
    expected = oracle(vectors, query, allow)
    rows = None if allow is None else np.array(sorted(allow), np.int64)
    found = search(index, query, k, rows)
    best = sorted(expected.values(), reverse=True)[:k]
    assert [score for _, score in found] == pytest.approx(best, rel=1e-6, abs=1e-6)
    assert [score for _, score in found] == pytest.approx([expected[row] for row, _ in found], rel=1e-6, abs=1e-6)
    assert found == sorted(found, key=lambda pair: (-pair[1], pair[0]))
    assert len({row for row, _ in found}) == len(found)
    if allow is not None:
        mask = np.zeros(max(allow, default=-1) + 1, np.bool_)
        mask[list(allow)] = True
        assert search(index, query, k, mask) == found
    if set(expected.values()) and all(float(np.float32(s)).is_integer() for s in expected.values()):
        ordered = sorted(expected, key=lambda row: (-expected[row], row))[:k]
        assert [row for row, _ in found] == ordered     # exact sums: ties are certain


def test_hand_computed() -> None:
    index = Sparse()
    add(index, {4: {1: 2.0, 9: -1.0}, 2: {9: 3.0}, 7: {5: 8.0}, 1: {}})
    assert search(index, {1: 0.5, 9: 2.0, 30: 7.0}, 10) == [(2, 6.0), (4, -1.0)]
    assert search(index, {1: 1.0, 9: 2.0}, 10) == [(2, 6.0), (4, 0.0)]      # a score of 0, but an index in common
    assert search(index, {9: -1.0}, 1) == [(4, 1.0)]


values = st.integers(-4, 4).map(float) | st.floats(-8, 8, width=32)
vectors_ = st.dictionaries(st.sampled_from(INDICES), values, max_size=6)
steps = st.one_of(
    st.tuples(st.just("add"), st.dictionaries(st.integers(0, 60), vectors_, max_size=12)),
    st.tuples(st.just("remove"), st.lists(st.integers(0, 70), max_size=25)),
    st.tuples(st.just("reload"), st.none()),
    st.tuples(st.just("search"), st.tuples(vectors_, st.integers(1, 20),
                                           st.none() | st.sets(st.integers(0, 70), max_size=30))),
)


@given(st.lists(steps, max_size=14))
@settings(deadline=None)
def test_against_a_dense_matrix(script: list[tuple[str, Any]]) -> None:
    index = Sparse()
    vectors: dict[int, Mapping[int, float]] = {}
    for step, argument in script:
        if step == "add":
            new = {row: vector for row, vector in argument.items() if row not in vectors}
            add(index, new)
            vectors.update(new)
        elif step == "remove":
            live = set(argument) & set(vectors)
            assert index.remove(np.array(argument, np.int64)) == len(live)
            vectors = {row: vector for row, vector in vectors.items() if row not in live}
        elif step == "reload":
            index = Sparse.from_arrays(*index.to_arrays())
        else:
            check(index, vectors, *argument)
        assert len(index) == len(vectors)
        assert index.stats()["negative_values"] == sum(x < 0 for v in vectors.values() for x in v.values())


def random_vectors(rng: np.random.Generator, rows: Any) -> dict[int, dict[int, float]]:
    return {int(row): {int(i): float(x) for i, x in zip(rng.choice(INDICES, 5, replace=False),
                                                        rng.normal(size=5).astype(np.float32), strict=True)}
            for row in rows}


@pytest.mark.parametrize("batch", [1, 7, 400])
def test_segments_and_removals_change_no_score(batch: int) -> None:
    rng = np.random.default_rng(3)
    rows = rng.permutation(400)
    vectors = random_vectors(rng, rows)
    bulk, index = Sparse(), Sparse()
    add(bulk, vectors)
    for start in range(0, len(rows), batch):
        add(index, {int(row): vectors[int(row)] for row in rows[start:start + batch]})
    query = {int(i): float(x) for i, x in zip(INDICES, rng.normal(size=len(INDICES)).astype(np.float32), strict=True)}
    assert search(index, query, 400) == search(bulk, query, 400)     # to the last bit
    check(index, vectors, query, 30)
    gone = rng.choice(400, 300, replace=False)
    for part in np.array_split(gone, 7):
        index.remove(part)
        for row in part.tolist():
            del vectors[row]
        check(index, vectors, query, 50, set(range(0, 400, 3)))
    add(index, {int(gone[0]): {3: 99.0}})     # a removed row may come back
    assert search(index, {3: 1.0}, 1) == [(int(gone[0]), 99.0)]


def test_repeated_and_empty_queries() -> None:
    index = Sparse()
    assert search(index, {1: 1.0}, 3) == []
    add(index, {0: {1: 2.0}, 1: {}})
    assert index.search([1, 1, 5], [1.0, 2.0, 1.0], 3)[1].tolist() == [6.0]
    assert search(index, {}, 3) == []
    assert search(index, {1: 0.0}, 3) == [(0, 0.0)]
    assert search(index, {1: 1.0}, 3, np.zeros(0, np.bool_)) == []
    assert search(index, {1: 1.0}, 3, np.zeros(0, np.int64)) == []
    assert index.remove([0, 0, 1, 9]) == 2
    assert index.stats() == Sparse().stats()


def test_scores_beyond_float32_are_its_largest() -> None:
    index = Sparse()
    add(index, {0: {1: 3e38, 2: -3e38}, 1: {1: 3e38}, 2: {2: 3e38}})
    largest = float(np.finfo(np.float32).max)
    assert search(index, {1: 3e38, 2: 3e38}, 3) == [(1, largest), (2, largest), (0, 0.0)]
    assert search(index, {1: -3e38}, 1) == [(0, -largest)]


def test_the_floor_is_zero_only_where_nothing_is_negative() -> None:
    index = Sparse()
    add(index, {0: {1: 2.0, 3: 0.0}})
    assert index.floor([1.0, 0.0]) == 0
    assert index.floor([1.0, -0.5]) is None
    add(index, {1: {1: -2.0}})
    assert index.floor([1.0]) is None
    assert Sparse.from_arrays(*index.to_arrays()).floor([1.0]) is None
    index.remove([1])
    assert index.floor([1.0]) == 0


def test_readers_beside_a_writer_see_whole_states() -> None:
    """Row r and row r + 1000 have opposite values and come and go together: their scores always cancel out."""
    index = Sparse()
    stop, wrong = threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            rows, scores = index.search([7], [1.0], 5000)
            if len(rows) % 2 or scores.sum() or set(rows % 1000) != set(rows[rows < 1000].tolist()):
                wrong.append(rows)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for turn in range(150):
        rows = np.arange(turn * 3, turn * 3 + 3)
        values = np.concatenate([rows + 1.0, -rows - 1.0])
        index.add(np.concatenate([rows, rows + 1000]), np.arange(7), np.full(6, 7), values)
        if turn % 2:
            index.remove([turn * 3, turn * 3 + 1000, turn * 2, turn * 2 + 1000])
    stop.set()
    for reader in readers:
        reader.join()
    assert not wrong


def grown(rng: np.random.Generator) -> Sparse:
    """Several segments, some rows dead."""
    index = Sparse()
    for start, size in ((0, 3000), (5000, 900), (9000, 20)):
        add(index, random_vectors(rng, range(start, start + size)))
    index.remove(np.arange(0, 6000, 7))
    assert index.stats()["segments"] > 1
    assert index.stats()["dead_rows"] > 0
    return index


def test_a_saved_index_is_the_same_and_goes_on(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    index = grown(rng)
    query = {3: 1.0, 7: -0.5, 2**32 - 1: 2.0}
    expected = search(index, query, 3000)
    path = tmp_path / "sparse.bin"
    index.save(path)
    before = path.read_bytes()
    for mmap in (True, False):
        loaded = Sparse.load(path, mmap=mmap)
        assert loaded.stats() == index.stats()
        assert search(loaded, query, 3000) == expected
        loaded.remove([1, 2, 5001])
        add(loaded, {0: {3: 50.0}})
        assert search(loaded, query, 1) == [(0, 50.0)]
        assert not {1, 2, 5001} & {row for row, _ in search(loaded, query, 3000)}
    assert path.read_bytes() == before
    Sparse().save(path)
    assert len(Sparse.load(path)) == 0


def test_loaded_arrays_are_those_of_the_file(tmp_path: Path) -> None:
    index = grown(np.random.default_rng(6))
    index.save(tmp_path / "sparse.bin")
    settings, arrays = container.read(tmp_path / "sparse.bin", "sparse", 1)
    _, kept = Sparse.from_arrays(settings, arrays).to_arrays()
    assert kept.keys() == arrays.keys()
    assert all(np.shares_memory(kept[name], arrays[name]) for name in arrays)


def test_files_that_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "sparse.bin"
    with pytest.raises(NotFound):
        Sparse.load(path)
    grown(np.random.default_rng(5)).save(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(Corrupt, match="checksum"):
        Sparse.load(path)
    container.write(path, "lexical", 1, *Sparse().to_arrays())
    with pytest.raises(Corrupt, match="holds a lexical index"):
        Sparse.load(path)


@pytest.mark.parametrize(("settings", "message"), [
    ({}, "number of segments is None"), ({"segments": -1}, "number of segments is -1"),
    ({"segments": True}, "number of segments is True"), ({"segments": "2"}, "number of segments is '2'"),
    ({"segments": 10**9}, "number of segments is 1000000000"), ({"segments": 2}, "not those of 2 segments"),
    ({"segments": 0}, "not those of 0 segments"), ({"segments": 1, "b": 0.5}, "has the settings"),
])
def test_settings_that_are_refused(settings: dict[str, Any], message: str) -> None:
    index = Sparse()
    add(index, {0: {1: 2.0}})
    _, arrays = index.to_arrays()
    with pytest.raises(Corrupt, match=message):
        Sparse.from_arrays(settings, arrays)


@pytest.mark.parametrize(("name", "array"), [
    ("rows", [1, 0]), ("rows", [-1, 0]), ("rows", [0]), ("rows", [0, 0]), ("totals", [np.nan, 0]), ("totals", [0]),
    ("live", [True]), ("keys", [5, 1]), ("keys", [1]), ("keys", [-1, 5]), ("offsets", [0, 1]),
    ("offsets", [1, 1, 3]), ("offsets", [0, 0, 3]), ("offsets", [0, 1, 2]), ("offsets", [0, 4, 3]),
    ("documents", [0, 1, 2]), ("documents", [0, 1, -1]), ("documents", [0, 1]), ("weights", [1, 2]),
    ("weights", [1, np.inf, 2]),
])
def test_arrays_that_are_refused(name: str, array: list[Any]) -> None:
    index = Sparse()
    add(index, {0: {1: 2.0, 5: 1.0}, 1: {5: 4.0}})
    settings, arrays = index.to_arrays()
    wrong = np.array(array, arrays[f"0.{name}"].dtype)
    with pytest.raises(Corrupt):
        Sparse.from_arrays(settings, {**arrays, f"0.{name}": wrong})
    with pytest.raises(Corrupt, match=f"0.{name} has shape"):
        Sparse.from_arrays(settings, {**arrays, f"0.{name}": arrays[f"0.{name}"].astype(np.float64)})


def test_a_truth_value_that_is_neither_is_refused() -> None:
    index = Sparse()
    add(index, {0: {1: 2.0}})
    settings, arrays = index.to_arrays()
    with pytest.raises(Corrupt, match=r"0\.live"):
        Sparse.from_arrays(settings, {**arrays, "0.live": np.array([2], np.uint8).view(np.bool_)})


@pytest.mark.parametrize(("arguments", "message"), [
    (([0, 1], [0, 1], [5], [1.0]), "indptr has 2 entries for 2 rows"),
    (([0], [0, 2], [5], [1.0]), "ascend from 0 to 1, the number of indices"),
    (([0], [0, 1], [5], [1.0, 2.0]), "values has shape"),
    (([0], [0, 1], [5], [float("nan")]), "values holds a value not finite"),
    (([0], [0, 1], [5], [1e300]), "not finite"),
    (([0], [0, 1], [2**32], [1.0]), "indices holds 4294967296"),
    (([0], [0, 1], [-1], [1.0]), "indices holds -1"),
    (([0], [0, 1], [np.uint64(2**63)], [1.0]), "indices holds 9223372036854775808"),
    (([-1], [0, 1], [5], [1.0]), "rows holds -1"),
    (([3, 3], [0, 1, 2], [5, 6], [1.0, 1.0]), "Row 3 is given twice"),
    (([3], [0, 2], [5, 5], [1.0, 1.0]), "Index 5 occurs twice in row 3"),
    (([8], [0, 1], [5], [1.0]), "Row 8 is already"),
])
def test_a_refused_add_changes_nothing(arguments: tuple[Any, Any, Any, Any], message: str) -> None:
    index = Sparse()
    add(index, {8: {1: 1.0}})
    before = index.stats()
    with pytest.raises(InvalidInput, match=message):
        index.add(*arguments)
    assert index.stats() == before


@pytest.mark.parametrize(("arguments", "message"), [
    (([1], [1.0], 0), "k is 0"),
    (([1], [1.0, 1.0], 1), "values has shape"),
    (([1], [float("inf")], 1), "not finite"),
    (([2**32], [1.0], 1), "indices holds 4294967296"),
    (([1.0], [1.0], 1), "indices has shape"),
    (([1], [1.0], 1, np.array([0.5])), "allow has shape"),
])
def test_a_refused_search(arguments: Any, message: str) -> None:
    index = Sparse()
    add(index, {8: {1: 1.0}})
    with pytest.raises(InvalidInput, match=message):
        index.search(*arguments)
