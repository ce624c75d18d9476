"""One metadata field of all slots: which slot holds which of its values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

from madang.base.records import MetadataValue
from madang.store.bitmaps import Slots, bitmap_of, union
from madang.store.postings import Postings

Scalar = str | int | float | bool
_WAITING = 16_384                    # values that wait as Python objects
_EXACT = 2**53                       # whole numbers up to here are floats without rounding


class Column:
    """Strings as sorted 128-bit digests, numbers as sorted floats, booleans as two bitmaps.

    Digests (BLAKE2b) instead of the strings, because a field may hold a different long string in every record: 16 bytes
    and a slot each, whatever their length, and none of them a Python object. Two strings of one digest would take
    2**64 attempts to find. Whole numbers that a float would round are kept apart, as int64.
    """

    __slots__ = ("_slots", "_values", "bools", "integers", "numbers", "present", "words")

    def __init__(self) -> None:
        self.present = BitMap()
        self.bools = {False: BitMap(), True: BitMap()}
        self.numbers, self.integers, self.words = Postings(), Postings(), Postings()
        self._slots: list[int] = []
        self._values: list[MetadataValue] = []

    def add(self, slots: Sequence[int], values: Sequence[MetadataValue]) -> None:
        """Add the values of slots, ascending and larger than those before."""
        self._slots += slots
        self._values += values
        if len(self._slots) >= _WAITING:
            self.absorb()

    def absorb(self) -> None:
        """Sort the values that wait by type into the bitmaps and postings."""
        if not self._slots:
            return
        slots, values = np.array(self._slots, dtype=np.uint32), self._values
        self._slots, self._values = [], []
        self.present |= bitmap_of(slots)
        kinds: dict[type, str] = {kind: _kind(kind) for kind in set(map(type, values))}
        for name in sorted(set(kinds.values())):
            if len(set(kinds.values())) == 1:
                self._absorb(name, slots, values)
            else:
                places = [place for place, value in enumerate(values) if kinds[type(value)] == name]
                self._absorb(name, slots[places], [values[place] for place in places])

    def _absorb(self, name: str, slots: Slots, values: Sequence[Any]) -> None:
        if name == "list":
            slots = np.repeat(slots, np.fromiter(map(len, values), dtype=np.int64, count=len(values)))
            values = list(chain.from_iterable(values))
        if name in ("list", "str"):
            self.words.add(*digests(values), slots)
        elif name == "bool":
            held = np.array(values, dtype=bool)
            self.bools[True] |= bitmap_of(slots[held])
            self.bools[False] |= bitmap_of(slots[~held])
        elif name == "number":
            small = np.fromiter((isinstance(v, float) or -_EXACT <= v <= _EXACT for v in values), dtype=bool,
                                count=len(values))
            if small.all():
                self.numbers.add(_floats(values), None, slots)
                return
            of_small = [v for v, is_small in zip(values, small.tolist(), strict=True) if is_small]
            of_large = [v for v, is_small in zip(values, small.tolist(), strict=True) if not is_small]
            self.numbers.add(_floats(of_small), None, slots[small])
            self.integers.add(np.array(of_large, dtype=np.int64), None, slots[~small])

    def equal(self, operands: Sequence[Scalar], dead: BitMap) -> BitMap:
        """Slots whose value equals one of the operands, or whose list contains it."""
        self.absorb()
        parts = [self.bools[operand] for operand in {o for o in operands if isinstance(o, bool)}]
        words = list({o for o in operands if isinstance(o, str)})
        numbers = {o for o in operands if isinstance(o, int | float) and not isinstance(o, bool)}
        if words:
            keys, checks = digests(words)
            parts += [run.equal(keys, checks) for run in self.words.runs(dead)]
        floats = np.array([float(n) for n in numbers if float(n) == n], dtype=np.float64)
        wholes = np.array([int(n) for n in numbers if -2**63 <= n < 2**63 and int(n) == n], dtype=np.int64)
        if len(floats):
            parts += [run.equal(floats, None) for run in self.numbers.runs(dead)]
        if len(wholes):
            parts += [run.equal(wholes, None) for run in self.integers.runs(dead)]
        return union(parts)

    def between(self, conditions: Sequence[tuple[str, int | float]], dead: BitMap) -> BitMap:
        """Slots whose number meets all of the comparisons (`$gt $gte $lt $lte`)."""
        self.absorb()
        runs = [*self.numbers.runs(dead), *self.integers.runs(dead)]
        return union([run.between(conditions) for run in runs])

    def exists(self) -> BitMap:
        """Slots that have the field."""
        self.absorb()
        return self.present

    def size_bytes(self) -> int:
        """Bytes in memory, without values that wait."""
        bitmaps = (self.present, *self.bools.values())
        return (sum(len(bitmap.serialize()) for bitmap in bitmaps)
                + sum(series.size_bytes() for series in (self.numbers, self.integers, self.words)))


def _kind(kind: type) -> str:
    """How values of a type are kept; what no filter can equal is merely present."""
    kinds: Mapping[type, str] = {bool: "bool", str: "str", list: "list", int: "number", float: "number"}
    return next((name for known, name in kinds.items() if issubclass(kind, known)), "other")


def _floats(values: Sequence[int | float]) -> NDArray[np.float64]:
    return np.array(values, dtype=np.float64) + 0.0      # -0.0 becomes 0.0, which it equals: one key, one bit pattern


def digests(words: Sequence[str]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """The two halves of each string's 128-bit BLAKE2b digest, (n,) each."""
    distinct = dict.fromkeys(words)
    if 2 * len(distinct) > len(words):
        return _hashed(words)
    first, second = _hashed(distinct)
    code = {word: place for place, word in enumerate(distinct)}
    codes = np.fromiter(map(code.__getitem__, words), dtype=np.int64, count=len(words))
    return first[codes], second[codes]


def _hashed(words: Iterable[str]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    data = b"".join([blake2b(word.encode("utf-8", "surrogatepass"), digest_size=16).digest() for word in words])
    halves = np.frombuffer(data, dtype="<u8").astype(np.uint64, copy=False).reshape(-1, 2)
    return np.ascontiguousarray(halves[:, 0]), np.ascontiguousarray(halves[:, 1])
