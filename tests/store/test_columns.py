"""Columns find exactly the records that the filters' own evaluator matches, through adds, removals and files."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pyroaring import BitMap

from madang.base.errors import Corrupt, InvalidInput
from madang.base.records import Metadata
from madang.index import container
from madang.store import column, postings
from madang.store.columns import Columns
from madang.store.filters import COMPARISONS, parse
from madang.testing.filter_table import BIG, NFC, NFD, ROWS, Row


def of(metadata: list[Metadata]) -> Columns:
    columns = Columns()
    columns.add(metadata)
    return columns


def through_json(settings: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(settings, sort_keys=True))
    return found


def through_arrays(columns: Columns) -> Columns:
    settings, arrays = columns.to_arrays()
    return Columns.from_arrays(through_json(settings), arrays)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits so low that a few records take every path, and digests whose first halves often agree."""
    for name, value in {"_GROWTH": 2, "_LARGE": 2, "_DIRECT": 2, "_PREFIXES": 3, "_CLEANED": 6}.items():
        monkeypatch.setattr(postings, name, value)
    monkeypatch.setattr(column, "_WAITING", 5)
    hashed = column._hashed

    def colliding(words: Any) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        first, second = hashed(words)
        return first % np.uint64(2), second

    monkeypatch.setattr(column, "_hashed", colliding)


# The table

@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_verdicts(row: Row) -> None:
    columns = of([{}, row.metadata, {"unrelated": 1}])
    assert (1 in columns.select(parse(row.filter))) is row.verdict


def test_every_filter_of_the_table_over_every_record_of_the_table() -> None:
    metadata = [row.metadata for row in ROWS]
    columns = of(metadata)
    loaded = through_arrays(columns)
    for row in ROWS:
        tree = parse(row.filter)
        expected = BitMap(slot for slot, items in enumerate(metadata) if tree.matches(items))
        assert columns.select(tree) == expected, row.name
        assert loaded.select(tree) == expected, row.name


# Any filter over any records

FIELDS = ("x", "y", "z")
STRINGS = ("a", "b", "", "1", "true", "마당", NFC, NFD)
NUMBERS = (0, -0.0, 1, 1.0, 2, 2.5, -3, 5e-324, 0.1, 0.30000000000000004, BIG - 1, BIG, BIG + 1, BIG + 2, float(BIG),
           -BIG - 1, 2**60, float(2**60), 2**60 + 1, 2**63 - 1, float(2**63), -2**63, 1e300, -1e300)
SCALARS = (*STRINGS, *NUMBERS, True, False)


class Chance:
    """Seeded records and filters. Numbers come often, since they have the most edges."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def value(self) -> Any:
        kind = self.random.random()
        if kind < 0.2:
            return self.random.choices(STRINGS, k=self.random.randrange(4))
        return self.random.choice(NUMBERS if kind < 0.5 else SCALARS)

    def metadata(self) -> Metadata:
        return {field: self.value() for field in FIELDS if self.random.random() < 0.75}

    def condition(self) -> dict[str, Any]:
        chance = self.random
        name = chance.choice(("$eq", "$ne", "$in", "$nin", "$exists", *COMPARISONS, *COMPARISONS))
        if name in COMPARISONS:
            bounds = {name: chance.choice(NUMBERS)}
            if chance.random() < 0.4:
                bounds[chance.choice(COMPARISONS)] = chance.choice(NUMBERS)
            return bounds
        if name == "$exists":
            return {name: chance.random() < 0.5}
        return {name: chance.choice(SCALARS) if name in ("$eq", "$ne") else
                chance.choices(SCALARS, k=chance.randrange(6))}

    def filter(self, depth: int = 0) -> dict[str, Any]:
        chance = self.random
        if depth < 3 and chance.random() < 0.3:
            return {chance.choice(("$and", "$or")): [self.filter(depth + 1) for _ in range(chance.randint(1, 3))]}
        return {field: self.condition() for field in chance.sample(FIELDS, k=chance.choice((0, 1, 1, 1, 1, 2)))}


class Twin:
    """Columns beside the records themselves, asked one by one."""

    def __init__(self) -> None:
        self.columns, self.metadata, self.live = Columns(), list[Metadata](), list[int]()

    def add(self, metadata: list[Metadata]) -> None:
        self.columns.add(metadata)
        self.live += range(len(self.metadata), len(self.metadata) + len(metadata))
        self.metadata += metadata

    def remove(self, slots: list[int]) -> None:
        self.columns.remove(np.array(slots, dtype=np.int64))
        self.live = [slot for slot in self.live if slot not in set(slots)]

    def agree(self, filter: dict[str, Any]) -> None:  # noqa: A002
        tree = parse(filter)
        matches, metadata = tree.matches, self.metadata
        expected = [slot for slot in self.live if matches(metadata[slot])]
        assert list(self.columns.select(tree)) == expected, filter


def churn(seed: int, filters: int) -> None:
    """Add, remove, save and load, and ask many filters in each state; about 60 records live at any time."""
    chance, twin = Chance(seed), Twin()
    for state in range(filters // 200):
        twin.add([chance.metadata() for _ in range(chance.random.choice((0, 1, 1, 2, 10, 30)))])
        extra = len(twin.live) - 60
        twin.remove(chance.random.sample(twin.live, k=max(extra, min(len(twin.live), chance.random.randrange(3)))))
        if state % 7 == 3:
            twin.columns = through_arrays(twin.columns)
        for _ in range(200):
            twin.agree(chance.filter())
    assert len(twin.metadata) > len(twin.live) > 20


def test_fifty_thousand_random_filters() -> None:
    churn(seed=1, filters=50_000)


@pytest.mark.usefixtures("small")
def test_fifty_thousand_random_filters_with_low_limits_and_colliding_digests() -> None:
    churn(seed=2, filters=50_000)


values = st.one_of(st.sampled_from(SCALARS), st.lists(st.sampled_from(STRINGS), max_size=3), st.text(max_size=3),
                   st.integers(-2**63, 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False))
operands = st.one_of(st.sampled_from(SCALARS), st.text(max_size=3), st.integers(-2**63, 2**63 - 1),
                     st.floats(allow_nan=False, allow_infinity=False))
bounds = st.one_of(st.sampled_from(NUMBERS), st.integers(-2**63, 2**63 - 1),
                   st.floats(allow_nan=False, allow_infinity=False))
conditions = st.one_of(
    st.dictionaries(st.sampled_from(("$eq", "$ne")), operands, min_size=1),
    st.dictionaries(st.sampled_from(("$in", "$nin")), st.lists(operands, max_size=4), min_size=1),
    st.dictionaries(st.sampled_from(COMPARISONS), bounds, min_size=1),
    st.fixed_dictionaries({"$exists": st.booleans()}))
filters_ = st.recursive(
    st.dictionaries(st.sampled_from(FIELDS), conditions, max_size=2),
    lambda inner: st.dictionaries(st.sampled_from(("$and", "$or")), st.lists(inner, min_size=1, max_size=3),
                                  min_size=1, max_size=1), max_leaves=6)
metadatas = st.dictionaries(st.sampled_from(FIELDS), values)


@given(st.lists(st.tuples(st.lists(metadatas, max_size=6), filters_), min_size=1, max_size=4), st.data())
def test_any_filter_over_any_records(batches: list[tuple[list[Metadata], dict[str, Any]]], data: st.DataObject) -> None:
    twin = Twin()
    for metadata, filter_ in batches:
        twin.add(metadata)
        twin.agree(filter_)
        if twin.live:
            twin.remove(data.draw(st.lists(st.sampled_from(twin.live), max_size=2)))
            twin.agree(filter_)
    twin.columns = through_arrays(twin.columns)
    for _, filter_ in batches:
        twin.agree(filter_)


# Many slots, against NumPy

SIZE = 150_000


@pytest.fixture(scope="module")
def many() -> dict[str, NDArray[Any]]:
    chance = np.random.default_rng(3)
    return {"price": chance.random(SIZE) * 1000, "year": chance.integers(1990, 2026, SIZE),
            "rank": chance.integers(0, 5000, SIZE), "big": BIG + chance.integers(0, 1000, SIZE),
            "lang": chance.choice(["ko", "en", "ja"], SIZE, p=[0.9, 0.09, 0.01])}


@pytest.mark.parametrize("pieces", [1, 4, 30])
def test_ranges_and_values_of_many_slots(many: dict[str, NDArray[Any]], pieces: int) -> None:
    """In several pieces with a question in between, so that runs of several sizes arise."""
    records = [dict(zip(many, row, strict=True)) for row in zip(*(a.tolist() for a in many.values()), strict=True)]
    columns = Columns()
    for start in np.linspace(0, SIZE, pieces + 1).astype(int)[:-1].tolist():
        columns.add(records[start:start + -(-SIZE // pieces)])
        for field in many:
            columns.select(parse({field: {"$in": [1, "ko"]}}))
    assert len(columns) == SIZE
    gone = np.random.default_rng(4).choice(SIZE, 5000, replace=False)
    columns.remove(gone)
    live = ~np.isin(np.arange(SIZE), gone)
    for field in ("price", "year", "rank", "big"):
        values_, ordered = many[field], np.sort(many[field])
        for low in (0.0, 0.001, 0.02, 0.3, 0.501, 0.97, 0.9999):
            for width in (0.0, 0.0001, 0.03, 0.2, 0.6, 1.0):
                least, most = ordered[int(low * SIZE)].item(), ordered[min(SIZE - 1, int((low + width) * SIZE))].item()
                found = columns.select(parse({field: {"$gte": least, "$lt": most}}))
                assert np.array_equal(np.array(found), np.flatnonzero(live & (values_ >= least) & (values_ < most)))
                found = columns.select(parse({"$or": [{field: {"$lte": least}}, {field: {"$gt": most}}]}))
                assert np.array_equal(np.array(found), np.flatnonzero(live & ((values_ <= least) | (values_ > most))))
    for field, asked in (("year", list(range(1995, 2020))), ("rank", list(range(100, 2000, 3))), ("lang", ["ja", "ko"])):
        inside = np.isin(many[field], asked)
        assert np.array_equal(np.array(columns.select(parse({field: {"$in": asked}}))), np.flatnonzero(live & inside))
        assert np.array_equal(np.array(columns.select(parse({field: {"$nin": asked}}))), np.flatnonzero(live & ~inside))


def test_a_different_string_in_every_record_costs_few_bytes() -> None:
    columns = of([{"url": f"https://example.com/{number:0200d}"} for number in range(20_000)])
    url = f"https://example.com/{777:0200d}"
    assert list(columns.select(parse({"url": url}))) == [777]
    assert columns.size_bytes() < 21 * 20_000
    assert list(columns.select(parse({"url": {"$in": [url, "https://example.com/", url[:-1]]}}))) == [777]


# Removal

EVERYTHING: list[dict[str, Any]] = [
    {}, {"x": {"$exists": True}}, {"x": {"$exists": False}}, {"x": {"$ne": "q"}}, {"x": {"$nin": []}}, {"x": 1},
    {"x": {"$gte": 0}}, {"x": "a"}, {"x": True}, {"missing": {"$ne": 1}}, {"$or": [{"x": 1}, {"x": {"$ne": 1}}]}]
RECORDS: list[Metadata] = [{"x": 1}, {"x": 1.0}, {"x": "a"}, {"x": ["a", "b"]}, {"x": True}, {}, {"x": BIG + 1}, {"x": 2}]


@pytest.mark.parametrize("asked_before", [False, True])
@pytest.mark.parametrize("saved", [False, True])
def test_removed_slots_are_never_selected(asked_before: bool, saved: bool) -> None:
    columns = of(RECORDS * 3)
    before = [columns.select(parse(filter_)) for filter_ in EVERYTHING] if asked_before else []
    gone = np.arange(0, 20, dtype=np.int64)
    columns.remove(gone[::-1])
    columns.remove(gone[:3])                      # twice is no error
    columns.remove(gone[:0])
    if saved:
        columns = through_arrays(columns)
    for filter_ in EVERYTHING:
        tree = parse(filter_)
        expected = [slot for slot in range(20, 24) if tree.matches((RECORDS * 3)[slot])]
        assert list(columns.select(tree)) == expected
    assert all(len(found) for found in before)
    columns.add([{"x": 1}])
    assert list(columns.select(parse({"x": 1}))) == [24]
    assert len(columns) == 25


def test_saved_columns_hold_nothing_of_removed_slots() -> None:
    columns = of([{"x": number, "s": f"s{number}", "b": True} for number in range(1000)])
    columns.remove(np.arange(10, 1000))
    _, arrays = columns.to_arrays()
    assert len(arrays["numbers"]) == 10
    assert len(arrays["words"]) == 20
    assert len(arrays["bitmaps"]) < 200


@pytest.mark.parametrize("slots", [[-1], [3], [0, 1, 2, 3]])
def test_a_slot_that_was_never_added_is_refused(slots: list[int]) -> None:
    columns = of([{"x": 1}] * 3)
    with pytest.raises(InvalidInput, match="slots must be from 0 to 2"):
        columns.remove(np.array(slots))
    assert len(columns.select(parse({}))) == 3


# Snapshots

@pytest.mark.usefixtures("small")
def test_a_selected_bitmap_never_changes_and_changing_it_changes_nothing() -> None:
    columns = of(RECORDS * 4)
    trees = [parse(filter_) for filter_ in EVERYTHING]
    found = [columns.select(tree) for tree in trees]
    kept = [list(bitmap) for bitmap in found]
    columns.add(RECORDS * 4)
    columns.remove(np.arange(0, 30))
    later = [columns.select(tree) for tree in trees]
    assert [list(bitmap) for bitmap in found] == kept
    expected = [list(bitmap) for bitmap in later]
    assert expected != kept
    for bitmap in later:
        bitmap.clear()
    assert [list(columns.select(tree)) for tree in trees] == expected


def test_threads_see_whole_batches() -> None:
    columns, wrong = Columns(), list[str]()
    done = threading.Event()
    ask: list[Callable[[], dict[str, Any]]] = [dict, lambda: {"n": {"$gte": 0}}, lambda: {"s": "a"},
                                               lambda: {"n": {"$ne": -1}}]

    def reader(make: Callable[[], dict[str, Any]]) -> None:
        while not done.is_set():
            found = columns.select(parse(make()))
            if len(found) % 10 or found != BitMap(range(len(found))):
                wrong.append(f"{make()}: {len(found)}")

    threads = [threading.Thread(target=reader, args=(make,)) for make in ask]
    for thread in threads:
        thread.start()
    for start in range(0, 3000, 10):
        columns.add([{"n": number, "s": ["a"]} for number in range(start, start + 10)])
    done.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(columns.select(parse({"n": {"$gte": 0}}))) == 3000


# JSON

def test_json_texts_are_the_same_records(small: None) -> None:
    chance = Chance(5)
    metadata = [chance.metadata() for _ in range(9000)]
    one, other = of(metadata), Columns()
    other.add_json([json.dumps(items, ensure_ascii=False) for items in metadata[:8500]])
    other.add_json([json.dumps(items) for items in metadata[8500:]])
    other.add_json([])
    assert len(one) == len(other) == 9000
    for _ in range(300):
        tree = parse(chance.filter())
        assert one.select(tree) == other.select(tree)


@pytest.mark.parametrize("texts", [["{}", "{"], ["{}", ""], ["{},{}"], ["{}", "[]"], ["{}", "3"], ["null"],
                                   ['{"a": 1', '"b": 2}'], ["{}"] * 9000 + ["1"]])
def test_other_texts_are_refused_whole(texts: list[str]) -> None:
    columns = of([{"x": 1}])
    with pytest.raises(InvalidInput, match="JSON"):
        columns.add_json(texts)
    assert len(columns) == 1
    assert list(columns.select(parse({}))) == [0]


# Files

def test_through_a_file_and_on(tmp_path: Path) -> None:
    chance, twin = Chance(6), Twin()
    twin.add([chance.metadata() for _ in range(300)])
    twin.remove([5, 6, 7])
    settings, arrays = twin.columns.to_arrays()
    container.write(tmp_path / "metadata", "metadata", 1, settings, arrays)
    twin.columns = Columns.from_arrays(*container.read(tmp_path / "metadata", "metadata", 1))
    assert len(twin.columns) == 300
    for _ in range(5):
        for _ in range(200):
            twin.agree(chance.filter())
        twin.add([chance.metadata() for _ in range(20)])
        twin.remove(chance.random.sample(twin.live, k=10))


def test_a_column_is_read_when_a_filter_names_it() -> None:
    columns = of([{"x": number, "y": f"{number}"} for number in range(5000)])
    loaded = through_arrays(columns)
    sizes = [loaded.size_bytes()]
    for filter_ in ({}, {"x": 1}, {"x": 2}, {"y": "1"}):
        loaded.select(parse(filter_))
        sizes.append(loaded.size_bytes())
    assert sizes[0] == sizes[1] < sizes[2] == sizes[3] < sizes[4]


def test_empty_columns_are_saved_and_loaded() -> None:
    loaded = through_arrays(Columns())
    assert len(loaded) == 0
    assert loaded.select(parse({"x": {"$ne": 1}})) == BitMap()
    loaded.add([{"x": 1}])
    assert list(loaded.select(parse({"x": 1}))) == [0]


def test_the_same_records_make_the_same_bytes() -> None:
    """However they were cut into batches and whatever was asked in between."""
    chance = Chance(8)
    metadata = [chance.metadata() for _ in range(500)]
    one, other = of(metadata), Columns()
    for items in metadata:
        other.add([items])
        other.select(parse(chance.filter()))
    settings, arrays = one.to_arrays()
    other_settings, other_arrays = other.to_arrays()
    assert settings == other_settings
    assert {name: array.tobytes() for name, array in arrays.items()} == \
        {name: array.tobytes() for name, array in other_arrays.items()}


def test_settings_that_do_not_fit_are_corrupt() -> None:
    settings, arrays = of(RECORDS).to_arrays()
    wrong: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({}, arrays), ({**settings, "slots": "many"}, arrays), ({**settings, "slots": 3}, arrays),
        ({**settings, "live": 1}, arrays), ({**settings, "live": -1}, arrays), ({**settings, "fields": None}, arrays),
        ({**settings, "fields": []}, arrays), ({**settings, "fields": [["x", 1, 2]]}, arrays)]
    wrong += [(settings, {**arrays, name: array[:-1]}) for name, array in arrays.items()]
    wrong += [(settings, {**arrays, name: np.append(array, array[:1])}) for name, array in arrays.items()]
    wrong += [(settings, {name: array for name, array in arrays.items() if name != left}) for left in arrays]
    for given_settings, given_arrays in wrong:
        with pytest.raises(Corrupt, match=r"metadata|live"):
            Columns.from_arrays(given_settings, given_arrays)
    assert len(Columns.from_arrays(settings, arrays)) == len(RECORDS)
