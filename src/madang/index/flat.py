"""Exact search over a matrix of vectors: every answer is right, at the price of reading every allowed vector."""

from __future__ import annotations

import mmap as memory_map
import os
import secrets
import struct
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from madang.base.errors import Corrupt, InvalidInput, NotFound
from madang.index import _kernel
from madang.index.distance import Mask, as_allow, as_rows, as_vectors, check_count, check_metric
from madang.index.protocol import METRICS, Allow, Metric, Rows, Scores, Vectors

# The file: this header, then the row numbers (int64, absent where they are 0 to count - 1) filled up to whole
# cache lines, then the vectors (float32), all little-endian.
_MAGIC, _VERSION = b"MADANGFL", 1
_FIELDS = struct.Struct("<8sIIQQQII12x")  # magic, version, metric, dim, count, rows ever, numbered, payload's CRC-32
_HEADER = _FIELDS.size + 4                # and the CRC-32 of these fields
_LINE = 64                                # bytes in a cache line: a vector register that crosses one loads slower
_CHUNK = 16 << 20                         # bytes written or checked at a time


@dataclass(frozen=True, slots=True)
class _View:
    """What a search sees. A writer publishes a new one and never changes what an older one covers."""

    data: Vectors                      # (capacity, dim); slots from `used` on are free
    used: int
    rows: Rows | None = None           # (capacity,) row number of each slot, ascending; None: the slot itself
    live: Mask | None = None           # (capacity,) False where removed; None: nothing is
    size: int = 0                      # live slots
    rows_ever: int = 0                 # the next row to give out

    def slots_of(self, rows: Rows) -> tuple[Rows, Mask]:
        """The slots of rows, and which of the rows are live here (the other slots mean nothing)."""
        if self.used == 0:
            return rows, np.zeros(len(rows), dtype=np.bool_)
        if self.rows is None:
            slots, known = np.clip(rows, 0, self.used - 1), (rows >= 0) & (rows < self.used)
        else:
            slots = np.minimum(np.searchsorted(self.rows[:self.used], rows), self.used - 1).astype(np.int64)
            known = self.rows[slots] == rows
        return slots, known if self.live is None else known & self.live[slots]

    def live_slots(self) -> Rows:
        return np.arange(self.used) if self.live is None else np.flatnonzero(self.live[:self.used])

    def row_numbers(self, slots: Rows) -> Rows:
        return slots if self.rows is None else self.rows[slots]


class Flat:
    """Exact nearest neighbours, on all instruction sets and any number of threads with the same tie-breaking.

    Vectors are kept as float32; for cosine, scaled to unit length (a zero vector stays zero: its cosine with
    everything is 0). Any number of threads may search while another one writes; a search sees the index as it was
    when the search began. Removed vectors stay in memory until the next growth after a quarter is gone, and are
    not saved.
    """

    def __init__(self, dim: int | None = None, metric: Metric = "cosine") -> None:
        """`dim`: at least 1, or None to take it from the first vectors added. Raises InvalidInput."""
        self._metric = check_metric(metric)
        width = 0 if dim is None else check_count(dim, "dim", 1, "the width of the vectors")
        self._view = _View(_aligned(0, width), 0)
        self._writing = threading.Lock()

    def __repr__(self) -> str:
        return f"Flat(dim={self.dim or None}, metric={self._metric!r})"

    def __len__(self) -> int:
        """The number of live rows."""
        return self._view.size

    @property
    def dim(self) -> int:
        """The width of the vectors; 0 until the first ones decide it."""
        return int(self._view.data.shape[1])

    @property
    def metric(self) -> Metric:
        return self._metric

    def add(self, vectors: Vectors, threads: int = 0) -> Rows:
        """Add float32 vectors (n, dim) and return their rows (n,) int64, ascending; all of them or none.

        Raises InvalidInput for another shape or dtype, NaN, infinity, and (dot, euclidean) vectors so long that a
        score could overflow. `threads`: 0 means all cores.
        """
        threads = check_count(threads, "threads", 0, "0 for all cores")
        with self._writing:
            view = self._view
            vectors = as_vectors(vectors, self.dim or None, "vectors")
            n = len(vectors)
            if n == 0:
                return np.empty(0, dtype=np.int64)
            if self.dim == 0:
                view = replace(view, data=_aligned(0, vectors.shape[1]))
            if view.used + n > len(view.data):
                view = _grown(view, n)
            end = view.used + n
            self._prepare(vectors, view.data[view.used:end], threads)
            new = np.arange(view.rows_ever, view.rows_ever + n, dtype=np.int64)
            if view.rows is not None:
                view.rows[view.used:end] = new
            if view.live is not None:
                view.live[view.used:end] = True
            self._view = replace(view, used=end, size=view.size + n, rows_ever=view.rows_ever + n)
        return new

    def remove(self, rows: Rows) -> int:
        """Remove rows; unknown or already removed rows are ignored. Returns how many were live."""
        numbers = np.unique(as_rows(rows, "rows"))
        with self._writing:
            view = self._view
            slots, known = view.slots_of(numbers)
            gone = int(np.count_nonzero(known))
            if gone:
                live = np.ones(len(view.data), dtype=np.bool_) if view.live is None else view.live.copy()
                live[slots[known]] = False
                self._view = replace(view, live=live, size=view.size - gone)
        return gone

    def search(self, queries: Vectors, k: int, *, allow: Allow | None = None,
               threads: int = 1) -> tuple[Rows, Scores]:
        """The k best live rows for each of q queries (q, dim), best first, ties to the lower row.

        Args:
            allow: only these rows: row numbers (int64, any order), or a mask (bool) with one entry per row ever
                added. Only allowed vectors are read.
            threads: 0 means all cores; the result is the same for any number.

        Returns:
            rows (q, k) int64 padded with -1, and scores (q, k) float32 padded with -inf.

        Raises:
            InvalidInput: another shape or dtype, NaN or infinity, k below 1, rows that were never added.
        """
        view = self._view
        k = check_count(k, "k", 1, "how many neighbours you want")
        threads = check_count(threads, "threads", 0, "0 for all cores")
        queries = as_vectors(queries, view.data.shape[1] or None, "queries")
        slots, mask = _candidates(view, allow)
        data = view.data[:view.used] if view.data.shape[1] else _aligned(0, queries.shape[1])
        try:
            found, scores = _kernel.search(data, queries, k, self._metric, slots, mask, threads)
        except ValueError as error:
            raise InvalidInput(str(error)) from None
        if view.rows is not None and view.used:
            found = np.where(found >= 0, view.rows[found], -1)
        return found, scores

    def vectors(self, rows: Rows) -> Vectors:
        """The vectors (n, dim) of live rows, as compared: for cosine of unit length. Raises InvalidInput."""
        numbers, view = as_rows(rows, "rows"), self._view
        slots, known = view.slots_of(numbers)
        if not known.all():
            raise InvalidInput(f"rows contains {numbers[~known][0]}, which is not in the index.",
                               remedy="Pass rows that `add` returned and that were not removed.")
        return view.data[slots]

    def stats(self) -> dict[str, Any]:
        """Counts, sizes in bytes, and what the search runs on."""
        view = self._view
        parts = (view.data, view.rows, view.live)
        return {"index": "flat", "dim": self.dim, "metric": self._metric, "size": view.size,
                "rows_ever": view.rows_ever, "removed_in_memory": view.used - view.size,
                "size_bytes": sum(part.nbytes for part in parts if part is not None),
                "mapped": view.used > 0 and not view.data.flags.writeable, "isa": _kernel.isa()}

    def save(self, path: str | Path) -> None:
        """Write the live vectors to a file; either all of it replaces what was there, or nothing does."""
        view, path = self._view, Path(path)
        beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        try:
            with open(beside, "xb") as file:
                _write(file, view, self._metric)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the new name, too, survives a power cut
        finally:
            os.close(folder)

    @classmethod
    def load(cls, path: str | Path, mmap: bool = True) -> Self:
        """Read what `save` wrote; `mmap` maps the vectors and copies them only when something is added.

        The whole file is read once to compare its checksum. Raises NotFound, and Corrupt for a file that is
        truncated, changed or of an unknown version.
        """
        path = Path(path)
        try:
            with open(path, "rb") as file:
                content = _content(file, mmap)
        except FileNotFoundError:
            raise NotFound(f"index file {path} does not exist.", remedy="Save the index first.") from None
        metric, view = _parsed(path, content)
        index = cls(int(view.data.shape[1]) or None, metric)
        index._view = view
        return index

    def _prepare(self, vectors: Vectors, out: Vectors, threads: int) -> None:
        try:
            _kernel.prepare(vectors, self._metric, out, threads)
        except ValueError as error:
            raise InvalidInput(str(error)) from None


def _aligned(n: int, dim: int) -> Vectors:
    """An uninitialised float32 array (n, dim) that starts on a cache line."""
    room = np.empty(n * dim * 4 + _LINE, dtype=np.uint8)
    start = -room.ctypes.data % _LINE
    return room[start:start + n * dim * 4].view(np.float32).reshape(n, dim)


def _grown(view: _View, n: int) -> _View:
    """A copy with room for n more vectors, without the removed ones where they are more than a quarter."""
    compact = view.used - view.size > view.used // 4
    slots = view.live_slots() if compact else np.arange(view.used)
    used = len(slots)
    capacity = max(used + n, used * 3 // 2)
    data, rows, live = _aligned(capacity, view.data.shape[1]), None, None
    np.take(view.data[:view.used], slots, axis=0, out=data[:used], mode="clip")
    if compact or view.rows is not None:
        rows = np.empty(capacity, dtype=np.int64)
        rows[:used] = view.row_numbers(slots)
    if not compact and view.live is not None:
        live = np.ones(capacity, dtype=np.bool_)
        live[:used] = view.live[:used]
    return replace(view, data=data, used=used, rows=rows, live=live)


def _candidates(view: _View, allow: Allow | None) -> tuple[Rows | None, Mask | None]:
    """The slots to search (None: all), and a mask over the slots (None: every one of them)."""
    live = None if view.live is None else view.live[:view.used]
    if allow is None:
        return None, live
    rows, mask = as_allow(allow, view.rows_ever)
    if rows is not None:
        slots, known = view.slots_of(rows)
        return slots[known], None
    if mask is not None and view.rows is not None:
        mask = mask[view.rows[:view.used]]
    return None, mask if live is None or mask is None else mask & live


def _write(file: BinaryIO, view: _View, metric: Metric) -> None:
    file.write(bytes(_HEADER))  # again at the end, when the checksum is known
    checksum = 0
    for part in _payload(view):
        file.write(part)
        checksum = zlib.crc32(part, checksum)
    fields = _FIELDS.pack(_MAGIC, _VERSION, METRICS.index(metric), view.data.shape[1], view.size, view.rows_ever,
                          view.size != view.rows_ever, checksum)
    file.seek(0)
    file.write(fields + struct.pack("<I", zlib.crc32(fields)))


def _payload(view: _View) -> Iterator[bytes | memoryview]:
    slots = view.live_slots()
    if view.size != view.rows_ever:
        numbers = view.row_numbers(slots).astype("<i8").tobytes()
        yield numbers + bytes(-len(numbers) % _LINE)
    step = max(1, _CHUNK // max(1, 4 * view.data.shape[1]))
    for start in range(0, view.size, step):
        part = slots[start:start + step]
        yield view.data[part].astype("<f4", copy=False).data.cast("B")


def _content(file: BufferedReader, mmap: bool) -> NDArray[np.uint8]:
    """The bytes of a file, mapped read-only or in memory, from the start of a cache line on."""
    size = os.fstat(file.fileno()).st_size
    if mmap and size:
        return np.frombuffer(memory_map.mmap(file.fileno(), 0, access=memory_map.ACCESS_READ), dtype=np.uint8)
    content = _aligned(-(-size // 4), 1).reshape(-1).view(np.uint8)[:size]
    return content[:file.readinto(content.data)]


def _parsed(path: Path, content: NDArray[np.uint8]) -> tuple[Metric, _View]:
    def corrupt(what: str) -> Corrupt:
        return Corrupt(f"index file {path} {what}.", remedy="Restore it from a copy, or build the index again.")

    if len(content) < _HEADER:
        raise corrupt(f"is truncated: its header has {_HEADER} bytes, the file {len(content)}")
    fields = content[:_FIELDS.size].tobytes()
    magic, version, metric, dim, count, rows_ever, numbered, checksum = _FIELDS.unpack(fields)
    if magic != _MAGIC:
        raise corrupt("is not a Flat index: it begins with other bytes")
    if struct.pack("<I", zlib.crc32(fields)) != content[_FIELDS.size:_HEADER].tobytes():
        raise corrupt("has a damaged header: its checksum does not match")
    if version != _VERSION or metric >= len(METRICS):
        raise corrupt(f"has version {version}; this Madang reads version {_VERSION}")
    start = _HEADER + (-(-8 * count // _LINE) * _LINE if numbered else 0)
    expected = start + 4 * count * dim
    if len(content) != expected:
        how = "truncated" if len(content) < expected else "too long"
        raise corrupt(f"is {how}: it should have {expected} bytes and has {len(content)}")
    if zlib.crc32(content[_HEADER:].data) != checksum:
        raise corrupt("is damaged: the checksum of its vectors does not match")
    rows = content[_HEADER:_HEADER + 8 * count].view("<i8") if numbered else None
    if rows is not None and count and not (rows[0] >= 0 and np.all(rows[1:] > rows[:-1]) and rows[-1] < rows_ever):
        raise corrupt("has row numbers that are not ascending")
    data = content[start:].view("<f4").reshape(count, dim)
    return METRICS[metric], _View(data, count, rows, None, count, rows_ever)
