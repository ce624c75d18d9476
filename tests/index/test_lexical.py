"""BM25 against a dictionary, a hand-computed value, and what it refuses."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from madang.base.errors import Corrupt, InvalidInput, NotFound
from madang.index.lexical import Lexical

Documents = Mapping[int, Mapping[int, float]]


def naive(documents: Documents, query: Mapping[int, float], k1: float, b: float) -> dict[int, float]:
    """BM25 in float64, one document and one term at a time."""
    n = len(documents)
    average = sum(sum(d.values()) for d in documents.values()) / n if n else 0.0
    scores = {}
    for row, document in documents.items():
        score = 0.0
        for term, factor in query.items():
            if term in document:
                df = sum(term in other for other in documents.values())
                idf = math.log(1 + (n - df + 0.5) / (df + 0.5))
                tf = document[term]
                score += factor * idf * tf / (tf + k1 * (1 - b + b * sum(document.values()) / average))
        if score > 0:
            scores[row] = score
    return scores


def add(index: Lexical, documents: Documents) -> None:
    indptr = np.cumsum([0, *(len(d) for d in documents.values())])
    index.add(np.array(list(documents), np.int64), indptr,
              np.array([t for d in documents.values() for t in d], np.int64),
              np.array([w for d in documents.values() for w in d.values()], np.float32))


def search(index: Lexical, query: Mapping[int, float], k: int, allow: Any = None) -> list[tuple[int, float]]:
    terms, factors = np.array(list(query), np.int64), np.array(list(query.values()), np.float32)
    rows, scores = index.search(terms, factors, k, allow)
    assert rows.dtype == np.int64
    assert scores.dtype == np.float32
    return list(zip(rows.tolist(), scores.tolist(), strict=True))


def check(index: Lexical, documents: Documents, query: Mapping[int, float], k: int,
          allow: set[int] | None = None) -> None:
    expected = naive(documents, query, index.k1, index.b)
    if allow is not None:
        expected = {row: score for row, score in expected.items() if row in allow}
    rows = None if allow is None else np.array(sorted(allow), np.int64)
    found = search(index, query, k, rows)
    assert len(found) == min(k, len(expected))
    for (row, score), best in zip(found, sorted(expected.values(), reverse=True), strict=False):
        assert score == pytest.approx(expected[row], rel=1e-5)
        assert score == pytest.approx(best, rel=1e-5)
    assert found == sorted(found, key=lambda pair: (-pair[1], pair[0]))
    if allow is not None:
        mask = np.zeros(max(allow, default=-1) + 1, np.bool_)
        mask[list(allow)] = True
        assert search(index, query, k, mask) == found


def test_hand_computed() -> None:
    # Three documents of lengths 2, 3 and 1 (average 2), k1 1.2, b 0.75. Term 7 is in two of three:
    # idf = ln(1 + 1.5 / 2.5) = ln 1.6 = 0.470004.
    # Row 0: K = 1.2 * (0.25 + 0.75 * 2 / 2) = 1.2, tf 1: 1 / 2.2.
    # Row 1: K = 1.2 * (0.25 + 0.75 * 3 / 2) = 1.65, tf 2: 2 / 3.65.
    index = Lexical()
    add(index, {0: {7: 1, 8: 1}, 1: {7: 2, 9: 1}, 2: {9: 1}})
    rows, scores = index.search([7], [1.0], 10)
    assert rows.tolist() == [1, 0]
    assert scores == pytest.approx([0.257536, 0.213638], abs=1e-6)
    assert index.search([7], [2.0], 1)[1] == pytest.approx([2 * 0.257536], abs=2e-6)


weights = st.floats(0.0625, 8, width=32)
bags = st.dictionaries(st.integers(0, 12) | st.sampled_from([2**31, 2**32 - 1, 2**62]), weights, max_size=6)
steps = st.one_of(
    st.tuples(st.just("add"), st.dictionaries(st.integers(0, 60), bags, max_size=12)),
    st.tuples(st.just("remove"), st.lists(st.integers(0, 70), max_size=25)),
    st.tuples(st.just("reload"), st.none()),
    st.tuples(st.just("search"), st.tuples(bags, st.integers(1, 20),
                                           st.none() | st.sets(st.integers(0, 70), max_size=30))),
)


@given(st.lists(steps, max_size=14), st.sampled_from([(1.2, 0.75), (0.0, 0.5), (2.0, 0.0), (0.9, 1.0)]))
@settings(deadline=None)
def test_against_a_dictionary(script: list[tuple[str, Any]], parameters: tuple[float, float]) -> None:
    index = Lexical(*parameters)
    documents: dict[int, Mapping[int, float]] = {}
    for step, argument in script:
        if step == "add":
            new = {row: bag for row, bag in argument.items() if row not in documents}
            add(index, new)
            documents.update(new)
        elif step == "remove":
            live = set(argument) & set(documents)
            assert index.remove(np.array(argument, np.int64)) == len(live)
            documents = {row: bag for row, bag in documents.items() if row not in live}
        elif step == "reload":
            index = Lexical.from_arrays(*index.to_arrays())
        else:
            check(index, documents, *argument)
        assert len(index) == len(documents)


@pytest.mark.parametrize("batch", [1, 7, 100])
def test_many_segments_and_removals(batch: int) -> None:
    rng = np.random.default_rng(5)
    index = Lexical()
    documents: dict[int, Mapping[int, float]] = {}
    rows = rng.permutation(600)
    for start in range(0, len(rows), batch):
        new: dict[int, Mapping[int, float]] = {
            int(row): {int(t): float(rng.integers(1, 4)) for t in rng.zipf(1.3, 30) if t < 500}
            for row in rows[start:start + batch]}
        add(index, new)
        documents.update(new)
    check(index, documents, {1: 1, 2: 1, 5: 0.5, 499: 3}, 25)
    assert index.stats()["segments"] < 8
    gone = rng.choice(600, 450, replace=False)
    for part in np.array_split(gone, 9):
        index.remove(part)
        for row in part.tolist():
            del documents[row]
        check(index, documents, {1: 1, 3: 1, 40: 2}, 30, set(range(0, 600, 3)))
    assert index.stats()["dead_rows"] <= len(index)
    add(index, {int(gone[0]): {3: 9}})  # a removed row may come back
    assert len(index) == 151


def test_a_bulk_add_equals_single_adds() -> None:
    rng = np.random.default_rng(1)
    documents = {row: {int(t): float(w) for t, w in zip(rng.integers(0, 2000, 80), rng.uniform(0.1, 3, 80),
                                                        strict=True)} for row in range(300)}
    bulk, single = Lexical(), Lexical()
    add(bulk, documents)
    for row, bag in documents.items():
        add(single, {row: bag})
    query = {int(t): 1.0 for t in rng.integers(0, 2000, 8)}
    assert [r for r, _ in search(bulk, query, 50)] == [r for r, _ in search(single, query, 50)]
    assert bulk.stats()["postings"] == single.stats()["postings"]


def test_sizes_of_segments_fall_geometrically() -> None:
    index = Lexical()
    rng = np.random.default_rng(2)
    for start in range(0, 100 * 60, 60):
        index.add(np.arange(start, start + 60), np.arange(0, 60 * 101, 100),
                  np.concatenate([rng.permutation(500)[:100] for _ in range(60)]), np.ones(6000))
        sizes = [segment.size for segment in index._state.segments]
        assert sum(sizes) == (start + 60) * 100
        assert all(before >= 3 * after for before, after in pairwise(sizes))


def test_ties_go_to_the_lower_row() -> None:
    index = Lexical()
    for row in (9, 4, 30, 2, 11):
        add(index, {row: {1: 1.0}})
    add(index, {7: {1: 1.0}, 5: {1: 1.0}})
    assert [row for row, _ in search(index, {1: 1}, 4)] == [2, 4, 5, 7]


def test_empty_documents_and_repeated_query_terms() -> None:
    index = Lexical()
    assert search(index, {1: 1}, 3) == []
    add(index, {0: {}, 1: {}})
    assert len(index) == 2
    assert search(index, {1: 1}, 3) == []
    add(index, {2: {1: 1.0}})
    once = search(index, {1: 3}, 3)
    assert [row for row, _ in once] == [2]
    rows, scores = index.search([1, 1, 5], [1.0, 2.0, 1.0], 3)
    assert list(zip(rows.tolist(), scores.tolist(), strict=True)) == once
    assert search(index, {}, 3) == []
    assert search(index, {1: 0}, 3) == []
    assert search(index, {1: 1}, 3, np.zeros(0, np.bool_)) == []
    assert search(index, {1: 1}, 3, np.zeros(0, np.int64)) == []
    assert index.remove([0, 0, 2, 99]) == 2
    assert index.stats()["rows"] == 1
    assert index.remove([1]) == 1
    assert index.stats() == Lexical().stats()


def test_extreme_but_finite_weights() -> None:
    index = Lexical()
    add(index, {0: {1: 1e-45, 2: 1e29}, 1: {1: 1e-45}, 2: {3: 1e-45}})
    assert {row for row, _ in search(index, {2: 1e29, 3: 1e29}, 3)} >= {0}
    index.remove([0])
    assert [row for row, _ in search(index, {1: 1}, 3)] == [1]


def test_a_search_sees_one_state() -> None:
    index = Lexical()
    add(index, {0: {1: 1.0}, 1: {1: 2.0}})
    before = index._state
    index.remove([1])
    assert before.live_count == 2
    assert before.segments[0].live.all()


@pytest.mark.parametrize(("arguments", "message"), [
    (([0, 1], [0, 1], [5], [1.0]), "indptr has 2 entries for 2 rows"),
    (([0], [0, 2], [5], [1.0]), "ascend from 0 to 1"),
    (([0], [1, 1], [5], [1.0]), "ascend from 0 to 1"),
    (([0, 1], [0, 2, 1], [5], [1.0]), "ascend from 0 to 1"),
    (([0], [0, 1], [5], [1.0, 2.0]), "weights has shape"),
    (([0], [0, 1], [5], [float("nan")]), "not finite"),
    (([0], [0, 1], [5], [1e300]), "not finite"),
    (([0], [0, 1], [5], [0.0]), "weights holds 0"),
    (([0], [0, 1], [5], [-1.0]), "weights holds -1"),
    (([0], [0, 2], [5, 6], [9e29, 9e29]), "row 0 add up"),
    (([-1], [0, 1], [5], [1.0]), "rows holds -1"),
    (([0], [0, 1], [-5], [1.0]), "term_ids holds -5"),
    (([0.5], [0, 1], [5], [1.0]), "rows has shape"),
    (([[0]], [0, 1], [5], [1.0]), "rows has shape"),
    (([3, 3], [0, 1, 2], [5, 6], [1.0, 1.0]), "Row 3 is given twice"),
    (([3], [0, 2], [5, 5], [1.0, 1.0]), "Term 5 occurs twice in row 3"),
    (([8], [0, 1], [5], [1.0]), "Row 8 is already"),
])
def test_a_refused_add_changes_nothing(arguments: tuple[Any, Any, Any, Any], message: str) -> None:
    index = Lexical()
    add(index, {8: {1: 1.0}})
    before = index.stats()
    with pytest.raises(InvalidInput, match=message):
        index.add(*arguments)
    assert index.stats() == before


@pytest.mark.parametrize(("arguments", "message"), [
    (([1], [1.0], 0), "k is 0"),
    (([1], [1.0], True), "k is True"),
    (([1], [1.0], 1.5), "k is 1.5"),
    (([1], [1.0, 1.0], 1), "query_weights has shape"),
    (([1], [float("inf")], 1), "not finite"),
    (([1], [-1.0], 1), "query_weights holds -1"),
    (([1, 2], [9e29, 9e29], 1), "query_weights add up"),
    (([1.0], [1.0], 1), "term_ids has shape"),
    (([1], [1.0], 1, np.array([0.5])), "allow has shape"),
    (([1], [1.0], 1, np.array([-1])), "allow holds -1"),
])
def test_a_refused_search(arguments: Any, message: str) -> None:
    index = Lexical()
    add(index, {8: {1: 1.0}})
    with pytest.raises(InvalidInput, match=message):
        index.search(*arguments)


@pytest.mark.parametrize("parameters", [(-1, 0.5), (float("nan"), 0.5), (1.2, 1.5), (1.2, float("nan"))])
def test_refused_parameters(parameters: tuple[float, float]) -> None:
    with pytest.raises(InvalidInput):
        Lexical(*parameters)


def test_a_saved_index_is_the_same_and_goes_on(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    index = Lexical(0.9, 0.4)
    for start, size in ((0, 300), (400, 70), (900, 3)):
        add(index, {row: {int(t): float(rng.integers(1, 4)) for t in rng.integers(0, 900, 40)}
                    for row in range(start, start + size)})
    index.remove(np.arange(0, 450, 5))
    assert index.stats()["segments"] > 1
    path = tmp_path / "postings.bin"
    index.save(path)
    before = path.read_bytes()
    for mmap in (True, False):
        loaded = Lexical.load(path, mmap)
        assert (loaded.k1, loaded.b) == (0.9, 0.4)
        assert loaded.stats() == index.stats()
        assert search(loaded, {3: 1, 77: 2}, 100) == search(index, {3: 1, 77: 2}, 100)
        add(loaded, {0: {10**6: 1}})
        loaded.remove([1, 401])
        assert [row for row, _ in search(loaded, {10**6: 1}, 5)] == [0]
        assert len(loaded) == len(index) - 1
    assert path.read_bytes() == before
    path.write_bytes(before[:-5000])
    with pytest.raises(Corrupt, match="truncated"):
        Lexical.load(path)
    with pytest.raises(NotFound):
        Lexical.load(tmp_path / "nothing.bin")


@pytest.mark.parametrize("settings", [
    {}, {"k1": 1.2}, {"k1": 1.2, "b": 0.75, "c": 1}, {"k1": "1.2", "b": 0.75}, {"k1": 1.2, "b": None},
    {"k1": -1, "b": 0.75}, {"k1": float("nan"), "b": 0.75}, {"k1": 1.2, "b": 1.5}, {"k1": True, "b": 0.75},
])
def test_saved_settings_that_are_refused(settings: dict[str, Any]) -> None:
    index = Lexical()
    add(index, {0: {1: 1.0}})
    _, arrays = index.to_arrays()
    with pytest.raises(Corrupt, match="settings"):
        Lexical.from_arrays({"segments": 1, **settings}, arrays)
    assert len(Lexical.from_arrays({"segments": 1, "k1": 1, "b": 0}, arrays)) == 1
