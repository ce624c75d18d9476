"""Bitmaps become arrays and masks, and back, whatever kinds of containers they hold."""

from __future__ import annotations

import numpy as np
import pytest
from pyroaring import BitMap

from madang.store import bitmaps

_random = np.random.default_rng(7)
MEMBERS = {
    "none": np.empty(0, dtype=np.uint32),
    "the first": np.array([0], dtype=np.uint32),
    "the ends of a container": np.array([65_535, 65_536, 131_071], dtype=np.uint32),
    "few": np.sort(_random.choice(300_000, 50, replace=False)).astype(np.uint32),
    "arrays": np.sort(_random.choice(300_000, 15_000, replace=False)).astype(np.uint32),
    "bitsets": np.sort(_random.choice(300_000, 150_000, replace=False)).astype(np.uint32),
    "nearly all": np.sort(_random.choice(300_000, 295_000, replace=False)).astype(np.uint32),
    "all": np.arange(300_000, dtype=np.uint32),
    "one run": np.arange(60_000, 70_000, dtype=np.uint32),
    "a run in each of two": np.r_[0:40_000, 65_536:120_000].astype(np.uint32),
    "a gap": np.r_[0:1000, 262_144:280_000].astype(np.uint32),
}


@pytest.mark.parametrize("optimized", [False, True])
@pytest.mark.parametrize("name", MEMBERS)
def test_there_and_back(name: str, optimized: bool) -> None:
    members = MEMBERS[name]
    bitmap = bitmaps.bitmap_of(members)
    if optimized:
        bitmap.run_optimize()
    assert bitmap == BitMap(members.tolist())
    assert bitmaps.rows(bitmap).dtype == np.int64
    assert bitmaps.rows(bitmap).tolist() == members.tolist()
    for n in (0, 1, 1000, 65_535, 65_536, 65_537, 290_001, 300_000, 400_000):
        expected = np.isin(np.arange(n), members)
        found = bitmaps.mask(bitmap, n)
        assert found.dtype == np.bool_
        assert found.shape == (n,)
        assert (found == expected).all(), n
        assert set(np.unique(found.view(np.uint8)).tolist()) <= {0, 1}   # the kernel reads bytes


def test_order_and_repetition_do_not_matter() -> None:
    assert bitmaps.bitmap_of(np.array([9, 3, 70_000, 3], dtype=np.uint32)) == BitMap([3, 9, 70_000])


@pytest.mark.parametrize("name", [*MEMBERS, "4,096 in one container", "4,097 in one container"])
def test_from_any_order(name: str) -> None:
    members = MEMBERS[name] if name in MEMBERS else np.r_[
        np.arange(0, 2 * int(name[:5].replace(",", "")), 2), 65_536:75_000].astype(np.uint32)
    mixed = np.random.default_rng(3).permutation(np.concatenate([members, members[::3]]))
    found, expected = bitmaps.bitmap_in_any_order(mixed), BitMap(members.tolist())
    assert found == expected
    for bitmap in (found, expected):
        bitmap.run_optimize()
    assert found.serialize() == expected.serialize()     # as it is saved


def test_union_of_none_one_and_several() -> None:
    assert bitmaps.union([]) == BitMap()
    assert bitmaps.union([BitMap([1])]) == BitMap([1])
    assert bitmaps.union([BitMap([1]), BitMap([2]), BitMap([1, 70_000])]) == BitMap([1, 2, 70_000])
