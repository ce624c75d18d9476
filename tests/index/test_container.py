"""Files of indexes: whole or refused, replaced at once or not at all, and nothing in them is believed."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xxhash

from madang.base.errors import Corrupt, NotFound
from madang.index import HNSW, NSW, Flat, container
from madang.index.graph import SmallWorld
from madang.index.protocol import METRICS, Metric, Vectors

F32 = np.float32
START = struct.Struct("<8sIIQ")


def random(n: int, dim: int, seed: int = 0) -> Vectors:
    return np.random.default_rng(seed).standard_normal((n, dim), dtype=F32)


def filled(n: int = 60, metric: Metric = "cosine", quantization: Any = "int8", removed: int = 0) -> HNSW:
    index = HNSW(9, metric, m=2, ef_construction=8, quantization=quantization)
    index.add(random(n, 9))
    index.remove(np.arange(0, removed))
    return index


def assert_same(one: SmallWorld, other: SmallWorld) -> None:
    assert (len(one), one.rows_ever, one.dim, one.metric) == (len(other), other.rows_ever, other.dim, other.metric)
    np.testing.assert_array_equal(one.live_rows(), other.live_rows())
    queries = random(9, one.dim, seed=1)
    for how in ({}, {"ef_search": 3}, {"allow": np.arange(one.rows_ever) % 2 == 0}):
        for mine, theirs in zip(one.search(queries, 5, **how), other.search(queries, 5, **how), strict=True):  # type: ignore[arg-type]
            np.testing.assert_array_equal(mine, theirs)


# What was written comes back

@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("quantization", [None, "int8", "int4"])
@pytest.mark.parametrize("removed", [0, 3, 40])
def test_a_file_brings_everything_back(tmp_path: Path, removed: int, quantization: Any, metric: Metric, mmap: bool) -> None:
    index = filled(metric=metric, quantization=quantization, removed=removed)
    index.save(tmp_path / "a")
    again = HNSW.load(tmp_path / "a", mmap=mmap)
    assert repr(again) == repr(index)
    assert_same(again, index)
    for row in range(60):
        assert again.neighbours(row) == index.neighbours(row)
    again.save(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


@pytest.mark.parametrize("mmap", [True, False])
def test_a_loaded_index_goes_on_like_the_saved_one_and_leaves_the_file_alone(tmp_path: Path, mmap: bool) -> None:
    index, path = filled(), tmp_path / "a"
    index.save(path)
    before = path.read_bytes()
    again = HNSW.load(path, mmap=mmap)
    for each in (index, again):
        each.remove(np.arange(0, 30))
        assert each.add(random(50, 9, seed=2)).tolist() == list(range(60, 110))
        each.update(np.arange(50, 60), random(10, 9, seed=3))
        assert each.reachable() == len(each) == 80
    assert_same(again, index)
    assert path.read_bytes() == before
    again.save(path)  # over the file it is mapped from
    assert_same(HNSW.load(path), index)
    assert_same(again, index)


def test_a_mapped_index_survives_its_file_being_replaced_or_removed(tmp_path: Path) -> None:
    index, path = filled(), tmp_path / "a"
    index.save(path)
    again = HNSW.load(path)
    filled(3, "dot").save(path)
    assert_same(again, index)
    path.unlink()
    assert_same(again, index)


def test_settings_come_back(tmp_path: Path) -> None:
    index = NSW(9, "dot", m=7, ef_construction=33, ef_search=44, seed=5, quantization="int4", target_recall=0.9)
    for _ in range(2):
        index.save(tmp_path / "a")
        again = NSW.load(tmp_path / "a")
        assert repr(again) == repr(index)
        assert again.target_recall == 0.9
        index.add(random(5, 9))


def test_arrays_of_every_type_and_size(tmp_path: Path) -> None:
    arrays = {"none": np.empty(0, F32), "bytes": np.arange(5000).astype(np.uint8), "one": np.array([7], np.int64),
              "big": np.arange(3_000_000, dtype=np.int32), "end": np.empty(0, np.int64)}
    container.write(tmp_path / "a", "test", 3, {"name": "마당", "value": None}, arrays)
    for mapped in (True, False):
        settings, found = container.read(tmp_path / "a", "test", 3, mapped=mapped)
        assert settings == {"name": "마당", "value": None}
        assert list(found) == list(arrays)
        for name, array in arrays.items():
            assert found[name].dtype == array.dtype
            np.testing.assert_array_equal(found[name], array)
            assert found[name].ctypes.data % 64 == 0 or not mapped
            if len(array):
                found[name][0] = 99
    np.testing.assert_array_equal(container.read(tmp_path / "a", "test", 3)[1]["big"], arrays["big"])


# What was damaged is refused

WHAT = ("damaged", "truncated", "begins with other bytes", "has format", "too long")


def refusal(path: Path, mmap: bool) -> str:
    """What is said of a file that is refused as corrupt; nothing of one that is not."""
    try:
        HNSW.load(path, mmap=mmap)
    except Corrupt as error:
        return str(error)
    return ""


def test_every_flipped_byte_is_noticed(tmp_path: Path) -> None:
    """The settings, the arrays, and the room between them: a file is what was written or is refused."""
    filled(removed=3).save(tmp_path / "a")
    whole = (tmp_path / "a").read_bytes()
    length = START.size + START.unpack(whole[:START.size])[2]
    positions = {*range(START.size), *range(START.size, length, 17), *range(length, len(whole), 97), length, 4095, len(whole) - 1}
    accepted = []
    for position in sorted(positions):
        changed = bytearray(whole)
        changed[position] ^= 0x10
        (tmp_path / "b").write_bytes(changed)
        message = refusal(tmp_path / "b", mmap=position % 2 == 0)
        if f"index file {tmp_path / 'b'} " not in message or not any(what in message for what in WHAT):
            accepted.append(position)
    assert accepted == []


def test_every_truncation_is_noticed(tmp_path: Path) -> None:
    filled(removed=3).save(tmp_path / "a")
    whole = (tmp_path / "a").read_bytes()
    for size in (*range(0, 1200, 23), *range(1200, len(whole), 997), len(whole) - 1):
        (tmp_path / "b").write_bytes(whole[:size])
        with pytest.raises(Corrupt, match=r"index file .*b is truncated.*Restore it from a copy"):
            HNSW.load(tmp_path / "b", mmap=size % 2 == 0)
    for more in (b"\0", b"\0" * 4096):
        (tmp_path / "b").write_bytes(whole + more)
        with pytest.raises(Corrupt, match="is too long: it should have"):
            HNSW.load(tmp_path / "b")


def test_other_kinds_and_versions(tmp_path: Path) -> None:
    path = tmp_path / "a"
    filled().save(path)
    with pytest.raises(Corrupt, match="holds a hnsw index, not a nsw one"):
        NSW.load(path)
    with pytest.raises(Corrupt, match="holds a hnsw index, not a flat one"):
        Flat.load(path)
    assert container.kind_of(path) == "hnsw"
    with pytest.raises(Corrupt, match="has version 3; this Madang reads version 4"):
        container.read(path, "hnsw", 4)
    start = list(START.unpack(path.read_bytes()[:START.size]))
    start[1] = 2
    path.write_bytes(START.pack(*start) + path.read_bytes()[START.size:])
    with pytest.raises(Corrupt, match="has format 2; this Madang reads format 1"):
        HNSW.load(path)
    Flat(3).save(path)
    with pytest.raises(Corrupt, match="holds a flat index, not a hnsw one"):
        HNSW.load(path)
    assert container.kind_of(path) == "flat"
    path.write_bytes(b"something else, which is longer than a header")
    with pytest.raises(Corrupt, match="is not a hnsw index: it begins with other bytes"):
        HNSW.load(path)
    assert container.kind_of(path) is None
    assert container.kind_of(tmp_path / "nothing") is None


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"index file .*nothing does not exist. Save the index first"):
        HNSW.load(tmp_path / "nothing")
    with pytest.raises(NotFound, match="cannot be read: Is a directory"):
        HNSW.load(tmp_path)


# A crash leaves the old file

@pytest.mark.parametrize("where", ["replace", "fsync"])
def test_a_crash_before_the_end_leaves_the_old_file(tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    filled(20).save(path)
    before = path.read_bytes()

    def crash(*_: Any) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patched:
        patched.setattr(os, where, crash)
        with pytest.raises(OSError, match="no space left"):
            filled(40).save(path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]
    filled(40).save(path)
    assert len(HNSW.load(path)) == 40


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        filled().save(tmp_path / "nowhere" / "a")


# A file made with right checksums and wrong contents

def craft(path: Path, change: Callable[[dict[str, Any], dict[str, Any]], None], index: HNSW | None = None) -> None:
    """The file of an index with its settings and arrays changed."""
    (filled(removed=5) if index is None else index).save(path)
    settings, arrays = container.read(path, "hnsw", 3)
    arrays = {name: array.copy() for name, array in arrays.items()}
    change(settings, arrays)
    container.write(path, "hnsw", 3, settings, arrays)


def links_of(arrays: dict[str, Any]) -> Any:
    """The links of the lowest level (n, 4), as a view: they lie behind the 12 bytes of a code."""
    return np.ndarray((55, 4), np.uint32, arrays["records"].data, offset=12, strides=(arrays["records"].size // 55, 4))


def changed(where: str, name: str, value: Any, at: int = 0) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    """A change of a setting, of a value in an array, of a link, of a whole array; or one of them is missing."""
    def change(settings: dict[str, Any], arrays: dict[str, Any]) -> None:
        if where == "link":
            links_of(arrays)[at] = value
        elif where == "value":
            arrays[name][at] = value
        elif where == "short":
            arrays[name] = arrays[name][:-1]
        elif value is MISSING:
            del (settings if where == "setting" else arrays)[name]
        else:
            (settings if where == "setting" else arrays)[name] = value
    return change


MISSING = "missing"


@pytest.mark.parametrize(("where", "name", "value", "at"), [
    ("link", "", 55, 0), ("link", "", 0xFFFFFFFF, 54), ("value", "upper", 55, 0), ("value", "upper", 2**31, 0),
    ("value", "parents", 55, 0), ("value", "parents", 0xFFFFFFFF, 3), ("value", "levels", 40, 0), ("value", "levels", 31, 0),
    ("value", "rows", -1, 0), ("value", "rows", 10**12, 54), ("value", "rows", 3, 7),
    *[("setting", name, value, 0) for name, value in (
        ("entry", 55), ("entry", 2**32 - 1), ("entry", -1), ("entry", 2**40), ("entry", "x"), ("root", 55), ("root", None),
        ("top", 99), ("top", -1), ("top", 0), ("rows_ever", 10), ("rows_ever", -1), ("count", 54), ("count", -1),
        ("count", 2**62), ("count", 1.5), ("dim", 10), ("dim", 0), ("dim", -1), ("m", 3), ("m", 0), ("metric", "l2"),
        ("code", "int4"), ("code", "float32"), ("code", "bits"), ("quantization", "int2"), ("ef_search", 0), ("target_recall", 7))],
    *[("setting", name, MISSING, 0) for name in ("entry", "count", "dim", "m", "metric", "code", "seed", "rows_ever")],
    *[("array", name, MISSING, 0) for name in ("records", "facts", "vectors", "levels", "upper", "parents", "rows")],
    *[("short", name, None, 0) for name in ("records", "facts", "vectors", "levels", "upper", "parents", "rows")],
    ("array", "facts", np.zeros(110, np.float64), 0), ("array", "rows", np.zeros(55, np.int32), 0),
])
def test_inconsistent_contents_are_refused(tmp_path: Path, where: str, name: str, value: Any, at: int) -> None:
    path = tmp_path / "a"
    craft(path, changed(where, name, value, at))
    for mmap in (True, False):
        with pytest.raises(Corrupt, match=r"index file .*a .*(Restore it from a copy|build the index again)"):
            HNSW.load(path, mmap=mmap)


def test_a_list_above_that_leads_below_its_level_is_refused(tmp_path: Path) -> None:
    index = filled(200)

    def change(settings: dict[str, Any], arrays: dict[str, Any]) -> None:
        arrays["upper"][0] = int(np.flatnonzero(arrays["levels"] == 0)[0])

    craft(tmp_path / "a", change, index)
    with pytest.raises(Corrupt, match="is inconsistent: parts: a link leads to a slot without that level"):
        HNSW.load(tmp_path / "a")


@pytest.mark.parametrize(("name", "value"), [("entry", 5), ("root", 0), ("rows_ever", -7), ("top", 31)])
def test_an_empty_graph_that_has_an_entry_is_refused(tmp_path: Path, name: str, value: int) -> None:
    """Adding to it would begin a search at a vector that is not there."""
    index = filled()
    index.remove(index.live_rows())
    craft(tmp_path / "a", changed("setting", name, value), index)
    with pytest.raises(Corrupt):
        HNSW.load(tmp_path / "a")


@pytest.mark.parametrize("name", ["facts", "vectors"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_none_do_no_harm(tmp_path: Path, name: str, value: float) -> None:
    """They can be found by no distance, but a search ends and gives rows."""
    def change(_: dict[str, Any], arrays: dict[str, Any]) -> None:
        (arrays[name].view(np.float16) if name == "vectors" else arrays[name])[::3] = value

    craft(tmp_path / "a", change)
    try:
        index = HNSW.load(tmp_path / "a")
    except Corrupt:
        return
    rows, _ = index.search(random(5, 9), 60, ef_search=60)
    assert rows.max() < index.rows_ever
    index.add(random(50, 9, seed=4))
    index.remove(np.arange(5, 40))
    assert index.reachable() == len(index)


@pytest.mark.parametrize("header", [b"", b"[]", b"{}", b'"x"', b'{"kind": "hnsw"}', b"\xff", b'{"kind":"hnsw","version":3}', b"{" * 100_000,
                                    b'{"kind":"hnsw","version":3,"settings":{},"arrays":[{}]}', b'{"kind":"hnsw","version":3,"settings":[],"arrays":5}'])
def test_a_header_that_is_none_is_refused(tmp_path: Path, header: bytes) -> None:
    path = tmp_path / "a"
    start = START.pack(b"MADANGIX", 1, len(header), xxhash.xxh3_64_intdigest(header)) + header
    path.write_bytes(start + bytes(-len(start) % 4096))
    with pytest.raises(Corrupt):
        HNSW.load(path)
    assert container.kind_of(path) in (None, "hnsw")


@pytest.mark.parametrize(("field", "value"), [("at", -4096), ("at", 2**60), ("at", 1), ("size", -1), ("size", 2**60), ("dtype", "O"), ("dtype", "<U4"),
                                              ("dtype", "nonsense"), ("checksums", []), ("checksums", None), ("name", None)])
def test_a_table_that_points_elsewhere_is_refused(tmp_path: Path, field: str, value: Any) -> None:
    path = tmp_path / "a"
    filled().save(path)
    whole = path.read_bytes()
    length = START.unpack(whole[:START.size])[2]
    header = json.loads(whole[START.size:START.size + length])
    first = -(-(START.size + length) // 4096) * 4096
    header["arrays"][1][field] = value
    text = json.dumps(header).encode()
    start = START.pack(b"MADANGIX", 1, len(text), xxhash.xxh3_64_intdigest(text)) + text
    path.write_bytes(start + bytes(-len(start) % 4096) + whole[first:])
    with pytest.raises(Corrupt):
        HNSW.load(path)
