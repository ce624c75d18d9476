"""Metadata by column: which slots hold which values, and which pass a filter, as roaring bitmaps.

Strings, booleans and the strings of lists are found by value; a range of numbers is a slice of a sorted column; `$ne`
and `$nin` are complements within the live slots. What a filter means is `madang.store.filters`, the oracle of this.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

from madang.base.errors import Corrupt, InvalidInput
from madang.base.records import Metadata, MetadataValue
from madang.store.bitmaps import bitmap_of, union
from madang.store.column import Column
from madang.store.filters import COMPARISONS, All, Condition, Either, Tree
from madang.store.postings import Postings, Run

_SERIES = ("numbers", "integers", "words")
_AT_ONCE = 8192                      # records turned into columns at a time
_Fields = dict[str, tuple[list[int], list[MetadataValue]]]
_DAMAGED = "Index the collection's metadata again."


class Columns:
    """The metadata of slots 0, 1, 2, ... in the order they were added, at most 2**32 of them.

    Metadata must have passed `validate.metadata`. A bitmap that was handed out is never changed later. Methods may be
    called from several threads; they wait for each other.
    """

    def __init__(self) -> None:
        self._size = 0
        self._live, self._dead = BitMap(), BitMap()
        self._columns: dict[str, Column] = {}
        self._stored: dict[str, _Stored] = {}    # columns of a file that no filter has named yet
        self._lock = threading.RLock()

    def __len__(self) -> int:
        """Slots ever added."""
        return self._size

    def add(self, metadata: Sequence[Metadata]) -> None:
        """Append one slot for each."""
        with self._lock:
            for start in range(0, len(metadata), _AT_ONCE):
                part = metadata[start:start + _AT_ONCE]
                self._append(len(part), _by_field({}, part, self._size))

    def add_json(self, texts: Sequence[str]) -> None:
        """Append one slot for each metadata object written as JSON.

        Raises InvalidInput where the texts are not one object each; nothing was added then.
        """
        with self._lock:
            fields: _Fields = {}
            for start in range(0, len(texts), _AT_ONCE):
                _by_field(fields, _parsed(texts[start:start + _AT_ONCE]), self._size + start)
            self._append(len(texts), fields)

    def _append(self, count: int, fields: _Fields) -> None:
        self._live.add_range(self._size, self._size + count)
        self._size += count
        for field, (slots, values) in fields.items():
            column = self._column(field)
            if column is None:
                column = self._columns[field] = Column()
            column.add(slots, values)

    def remove(self, slots: NDArray[np.int64]) -> None:
        """Never select these slots again. Raises InvalidInput for a slot that was never added."""
        if not len(slots):
            return
        if slots.min() < 0 or slots.max() >= self._size:
            raise InvalidInput(f"slots must be from 0 to {self._size - 1}, not {slots.min()} to {slots.max()}.")
        with self._lock:
            gone = bitmap_of(np.sort(slots).astype(np.uint32))
            self._live -= gone
            self._dead |= gone

    def select(self, tree: Tree) -> BitMap:
        """The live slots whose metadata the filter matches."""
        with self._lock:
            return self._select(tree) & self._live

    def _select(self, tree: Tree) -> BitMap:
        """Slots that match, dead ones perhaps among them. The result may be a column's own: it must not be changed."""
        match tree:
            case All():
                return self._all(tree.parts)
            case Either():
                return union([self._select(part) for part in tree.parts])
        return self._where(tree)

    def _all(self, parts: Sequence[Tree]) -> BitMap:
        """The intersection; comparisons of one field are one slice of its sorted column."""
        ranges: dict[str, list[Condition]] = {}
        others: list[Tree] = []
        for part in parts:
            if isinstance(part, Condition) and part.name in COMPARISONS:
                ranges.setdefault(part.field, []).append(part)
            else:
                others.append(part)
        found: BitMap | None = None
        for each in (*others, *ranges.values()):
            selected = self._between(each) if isinstance(each, list) else self._select(each)
            found = selected if found is None else found & selected
            if not found:
                break
        return self._live if found is None else found

    def _between(self, conditions: Sequence[Condition]) -> BitMap:
        column = self._column(conditions[0].field)
        bounds = [(condition.name, condition.operand) for condition in conditions]
        return BitMap() if column is None else column.between(bounds, self._dead)

    def _where(self, condition: Condition) -> BitMap:
        if condition.name in COMPARISONS:
            return self._between([condition])
        column = self._column(condition.field)
        if condition.name == "$exists":
            wanted, found = condition.operand, BitMap() if column is None else column.exists()
        else:
            wanted = condition.name in ("$eq", "$in")
            operands = condition.operand if condition.name in ("$in", "$nin") else (condition.operand,)
            found = BitMap() if column is None else column.equal(operands, self._dead)
        return found if wanted else self._live - found

    def _column(self, field: str) -> Column | None:
        stored = self._stored.pop(field, None)
        if stored is not None:
            self._columns[field] = stored.column()
        return self._columns.get(field)

    def to_arrays(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Settings that JSON can hold, and one-dimensional arrays, for `container.write`; no dead slot is in them."""
        with self._lock:
            for field in list(self._stored):
                self._column(field)
            settings: dict[str, Any] = {"slots": self._size, "live": 0, "fields": []}
            parts: dict[str, list[NDArray[Any]]] = {name: [] for name in _ARRAYS}
            settings["live"] = _put_bitmap(parts, self._live)
            for field, column in self._columns.items():
                column.absorb()
                bitmaps = [column.present & self._live, *(column.bools[key] & self._live for key in (False, True))]
                lengths = [_put_bitmap(parts, bitmap) for bitmap in bitmaps]
                for name in _SERIES:
                    lengths += _put_run(parts, name, getattr(column, name).settled(self._dead))
                settings["fields"].append([field, *lengths])     # a list: its order is that of the arrays
            arrays = {name: np.concatenate([np.empty(0, dtype=_ARRAYS[name]), *parts[name]]) for name in _ARRAYS}
            return settings, arrays

    @classmethod
    def from_arrays(cls, settings: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Columns:
        """What `to_arrays` returned. A column is only looked at when a filter or a record first names its field.

        Raises Corrupt for settings that do not describe the arrays.
        """
        found = cls()
        try:
            reader = _Reader(arrays)
            found._size = int(settings["slots"])
            found._live = BitMap.deserialize(reader.take("bitmaps", settings["live"]).tobytes())
            for field, *lengths in settings["fields"]:
                found._stored[field] = _Stored(reader, lengths)
            reader.finish()
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Corrupt(f"the columns of metadata do not fit their description: {error}.", remedy=_DAMAGED) from None
        if found._live and found._live.max() >= found._size:
            raise Corrupt(f"slot {found._live.max()} is live, but only {found._size} exist.", remedy=_DAMAGED)
        everything = BitMap()
        everything.add_range(0, found._size)
        found._dead = everything - found._live
        return found

    def size_bytes(self) -> int:
        """Bytes in memory of the columns that were named, with the bitmaps kept for questions so far."""
        with self._lock:
            return len(self._live.serialize()) + sum(column.size_bytes() for column in self._columns.values())


def _by_field(fields: _Fields, metadata: Sequence[Metadata], first: int) -> _Fields:
    """Turn records (slots from `first` on) into columns of slots and values, added to `fields`."""
    for slot, items in enumerate(metadata, first):
        for field, value in items.items():
            try:
                slots, values = fields[field]
            except KeyError:
                slots, values = fields[field] = [], []
            slots.append(slot)
            values.append(value)
    return fields


def _parsed(texts: Sequence[str]) -> list[Metadata]:
    """The objects of JSON texts, by one call of the parser: half the time of one call for each."""
    try:
        found: list[Metadata] = json.loads(f"[{','.join(texts)}]")
    except ValueError as error:
        raise InvalidInput(f"metadata is not JSON: {error}.") from None
    if len(found) != len(texts) or not all(isinstance(item, dict) for item in found):
        raise InvalidInput("metadata must be one JSON object for each record.")
    return found


_ARRAYS: dict[str, type] = {"bitmaps": np.uint8, "places": np.uint32, "numbers": np.float64, "integers": np.int64,
                            "words": np.uint64}


def _put_bitmap(parts: dict[str, list[NDArray[Any]]], bitmap: BitMap) -> int:
    bitmap.run_optimize()                 # the smallest form: equal sets have equal bytes
    data = np.frombuffer(bitmap.serialize(), dtype=np.uint8)
    parts["bitmaps"].append(data)
    return len(data)


def _put_run(parts: dict[str, list[NDArray[Any]]], name: str, run: Run | None) -> list[int]:
    """Append a run's arrays; returns the numbers of its keys and of its slots."""
    if run is None:
        return [0, 0]
    parts[name] += [run.keys] if run.checks is None else [run.keys, run.checks]
    parts["places"] += [run.slots] if run.starts is None else [run.starts, run.slots]
    return [len(run.keys), len(run.slots)]


class _Reader:
    """Hands out the arrays from their beginning to their end, without copying."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._arrays = {name: arrays[name] for name in _ARRAYS}
        self._at = dict.fromkeys(_ARRAYS, 0)

    def take(self, name: str, length: int) -> NDArray[Any]:
        start, end = self._at[name], self._at[name] + length
        if length < 0 or end > len(self._arrays[name]):
            raise ValueError(f"{name} has {len(self._arrays[name])} elements, not {end}")
        self._at[name] = end
        return self._arrays[name][start:end]

    def finish(self) -> None:
        for name, array in self._arrays.items():
            if self._at[name] != len(array):
                raise ValueError(f"{name} has {len(array)} elements, not {self._at[name]}")


class _Stored:
    """A column as parts of the arrays of a file."""

    def __init__(self, reader: _Reader, lengths: Sequence[int]) -> None:
        self._bitmaps = [reader.take("bitmaps", length) for length in lengths[:3]]
        self._runs = {name: self._run(reader, name, *lengths[place:place + 2])
                      for name, place in zip(_SERIES, (3, 5, 7), strict=True)}

    @staticmethod
    def _run(reader: _Reader, name: str, keys: int, slots: int) -> Run:
        found = reader.take(name, keys)
        checks = reader.take(name, keys) if name == "words" else None
        starts = None if keys == slots else reader.take("places", keys + 1)
        return Run(found, checks, starts, reader.take("places", slots))

    def column(self) -> Column:
        column = Column()
        try:
            column.present, column.bools[False], column.bools[True] = (
                BitMap.deserialize(part.tobytes()) for part in self._bitmaps)
        except ValueError as error:
            raise Corrupt(f"a column of metadata is damaged: {error}.", remedy=_DAMAGED) from None
        for name, run in self._runs.items():
            setattr(column, name, Postings(run))
        return column


