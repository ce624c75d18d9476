"""Between roaring bitmaps and NumPy arrays, by the fastest way that was measured for a million slots.

`BitMap(numpy_array)` walks over Python integers (38 ns each); through `array.array` CRoaring reads the memory itself
(4 ns each where they ascend, 40 ns where they do not, so sorting first is cheaper).
Format: https://github.com/RoaringBitmap/RoaringFormatSpec
"""

from __future__ import annotations

import array
import struct
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

Slots = NDArray[np.uint32]
_TYPE = "I" if array.array("I").itemsize == 4 else "L"
_NO_RUNS, _RUNS = 12346, 12347       # the format's two cookies
_BITSET = 4096                       # a container of more elements is a bitset of 8 KiB
_DENSE = 16                          # from one slot in so many, setting them one by one is faster than sorting
_SPARSE = 32                         # below one slot in so many, scattering is faster than unpacking
_Container = tuple[int, str, NDArray[np.uint8]]


def bitmap_of(slots: Slots) -> BitMap:
    """A bitmap of slots (n,), best in ascending order."""
    values = array.array(_TYPE)
    values.frombytes(np.ascontiguousarray(slots, dtype=np.uint32).view(np.uint8).data)
    return BitMap(values)


def bitmap_in_any_order(slots: Slots) -> BitMap:
    """A bitmap of slots (n,), unsorted, perhaps repeated."""
    top = int(slots.max()) + 1 if len(slots) > _BITSET else 0
    if len(slots) * _DENSE < top or not top:
        return bitmap_of(np.sort(slots))
    found = np.zeros(-(-top // 65536) * 65536, dtype=bool)
    found[slots] = True
    return _of_mask(found)


def union(bitmaps: Sequence[BitMap]) -> BitMap:
    """What any of several holds; of a single one, that one itself."""
    if len(bitmaps) == 1:
        return bitmaps[0]
    return BitMap.union(*bitmaps) if bitmaps else BitMap()


def rows(bitmap: BitMap) -> NDArray[np.int64]:
    """The members (n,), ascending."""
    return np.frombuffer(bitmap.to_array(), dtype=np.uint32).astype(np.int64)


def mask(bitmap: BitMap, n: int) -> NDArray[np.bool_]:
    """A mask (n,) that is true at the members below n."""
    count = len(bitmap)
    if count * _SPARSE < n:
        found = np.zeros(n, dtype=bool)
        members = np.frombuffer(bitmap.to_array(), dtype=np.uint32)
        found[members[:np.searchsorted(members, n)]] = True
        return found
    found = np.zeros(-(-n // 65536) * 65536, dtype=bool)
    for key, kind, data in _containers(bitmap.serialize()):
        if key * 65536 >= len(found):
            break
        _fill(found[key * 65536:(key + 1) * 65536], kind, data)
    return found[:n]


def _of_mask(found: NDArray[np.bool_]) -> BitMap:
    """A bitmap of the true places of a mask (n,), n a multiple of 65,536: written in the portable format."""
    bits = np.packbits(found, bitorder="little").reshape(-1, 8192)
    blocks = found.reshape(-1, 65536)
    counts = np.count_nonzero(blocks, axis=1)
    keys = np.flatnonzero(counts)
    payloads = [bits[key] if counts[key] > _BITSET else np.flatnonzero(blocks[key]).astype("<u2").view(np.uint8)
                for key in keys.tolist()]
    head = np.stack([keys, counts[keys] - 1], axis=1).astype("<u2")
    ends = 8 + 8 * len(keys) + np.cumsum([0, *map(len, payloads)])
    return BitMap.deserialize(b"".join([struct.pack("<II", _NO_RUNS, len(keys)), head.tobytes(),
                                        ends[:-1].astype("<u4").tobytes(), *map(bytes, payloads)]))


def _fill(block: NDArray[np.bool_], kind: str, data: NDArray[np.uint8]) -> None:
    """Set one container's members in its 65,536 places."""
    if kind == "bitset":
        block[:] = np.unpackbits(data, bitorder="little").view(bool)
    elif kind == "array":
        block[data.view("<u2")] = True
    else:
        runs = data.view("<u2").reshape(-1, 2).astype(np.int64)      # first, and how many more
        edges = np.zeros(len(block) + 1, dtype=np.int8)
        edges[runs[:, 0]] = 1
        edges[runs.sum(axis=1) + 1] = -1                             # never where a run begins: they do not touch
        block[:] = np.cumsum(edges[:-1], dtype=np.int8).view(bool)


def _containers(serialized: bytes) -> Iterator[_Container]:
    """The high 16 bits, kind and payload of each container of a bitmap in the portable format."""
    content = np.frombuffer(serialized, dtype=np.uint8)
    cookie, = struct.unpack_from("<I", serialized)
    if cookie & 0xFFFF == _RUNS:
        size, at = (cookie >> 16) + 1, 4
        runs = np.unpackbits(content[at:at + -(-size // 8)], bitorder="little")[:size].tolist()
        at += -(-size // 8)
    else:
        size, at = struct.unpack_from("<I", serialized, 4)[0], 8
        runs = [0] * size
    head = content[at:at + 4 * size].view("<u2").reshape(-1, 2).tolist()
    at += 4 * size
    if cookie & 0xFFFF == _NO_RUNS or size >= 4:  # a table of offsets, not needed when reading in order
        at += 4 * size
    for (key, less), is_run in zip(head, runs, strict=True):
        if is_run:
            kind, length = "run", 4 * struct.unpack_from("<H", serialized, at)[0]
            at += 2
        elif less + 1 > _BITSET:
            kind, length = "bitset", 8192
        else:
            kind, length = "array", 2 * (less + 1)
        yield key, kind, content[at:at + length]
        at += length
