"""The files of Flat: version 2 is a container of arrays; version 1, which is read only, a header and two arrays."""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from madang.base.errors import Corrupt, NotFound
from madang.index import container
from madang.index.protocol import METRICS, Metric, Rows, Scores, Vectors

_KIND, _VERSION = "flat", 2

# Version 1: this header, then the row numbers (int64, absent where they are 0 to count - 1) filled up to whole cache
# lines, then the vectors (float32), all little-endian.
_MAGIC = b"MADANGFL"
_FIELDS = struct.Struct("<8sIIQQQII12x")  # magic, version, metric, dim, count, rows ever, numbered, payload's CRC-32
_HEADER = _FIELDS.size + 4                # and the CRC-32 of these fields
_LINE = 64                                # bytes in a cache line: a vector register that crosses one loads slower


@dataclass(frozen=True, slots=True)
class Stored:
    """What a file holds: the live vectors in the order of their rows."""

    metric: Metric
    vectors: Vectors                     # (n, dim)
    rows: Rows | None                    # (n,) ascending; None: 0 to n - 1
    rows_ever: int
    codes: NDArray[np.uint8] | None      # (n, stride), or None where there are none
    facts: Scores | None                 # (n, 4)
    quantization: str | None = "int8"    # what is kept beside the vectors, or will be when there are any


def save(path: str | Path, stored: Stored) -> None:
    """Write a version 2 file; either all of it replaces what was there, or nothing does."""
    settings = {"metric": stored.metric, "dim": stored.vectors.shape[1], "size": len(stored.vectors),
                "rows_ever": stored.rows_ever, "quantization": stored.quantization}
    arrays: container.Arrays = {"vectors": stored.vectors.reshape(-1)}
    if stored.rows is not None:
        arrays["rows"] = stored.rows
    if stored.codes is not None and stored.facts is not None:
        arrays |= {"codes": stored.codes.reshape(-1), "facts": stored.facts.reshape(-1)}
    container.write(path, _KIND, _VERSION, settings, arrays)


def load(path: str | Path, mapped: bool) -> Stored:
    """Read a file of either version. Raises NotFound, and Corrupt for one that is truncated, changed or unknown."""
    path = Path(path)
    try:
        with open(path, "rb") as file:
            if file.read(len(_MAGIC)) == _MAGIC:
                return _first_version(path, file, mapped)
    except FileNotFoundError:
        raise NotFound(f"index file {path} does not exist.", remedy="Save the index first.") from None
    settings, arrays = container.read(path, _KIND, _VERSION, mapped=mapped)
    n, dim = settings["size"], settings["dim"]
    codes, facts = (arrays.get("codes"), arrays.get("facts")) if n else (None, None)
    rows = arrays.get("rows")
    if rows is not None and not _ascending(rows, settings["rows_ever"]):
        raise _corrupt(path, "has row numbers that are not ascending")
    return Stored(settings["metric"], arrays["vectors"].reshape(n, dim), rows, settings["rows_ever"],
                  None if codes is None else codes.reshape(n, -1), None if facts is None else facts.reshape(n, 4),
                  settings["quantization"])


def _first_version(path: Path, file: BinaryIO, mapped: bool) -> Stored:
    size = os.fstat(file.fileno()).st_size
    if mapped:
        content = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY), dtype=np.uint8)
    else:
        file.seek(0)
        content = np.frombuffer(bytearray(file.read()), dtype=np.uint8)
    if size < _HEADER:
        raise _corrupt(path, f"is truncated: its header has {_HEADER} bytes, the file {size}")
    fields = content[:_FIELDS.size].tobytes()
    _, version, metric, dim, count, rows_ever, numbered, checksum = _FIELDS.unpack(fields)
    if struct.pack("<I", zlib.crc32(fields)) != content[_FIELDS.size:_HEADER].tobytes():
        raise _corrupt(path, "has a damaged header: its checksum does not match")
    if version != 1 or metric >= len(METRICS):
        raise _corrupt(path, f"has version {version}; this Madang reads versions 1 and {_VERSION}")
    start = _HEADER + (-(-8 * count // _LINE) * _LINE if numbered else 0)
    expected = start + 4 * count * dim
    if size != expected:
        how = "truncated" if size < expected else "too long"
        raise _corrupt(path, f"is {how}: it should have {expected} bytes and has {size}")
    if zlib.crc32(content[_HEADER:].data) != checksum:
        raise _corrupt(path, "is damaged: the checksum of its vectors does not match")
    rows = content[_HEADER:_HEADER + 8 * count].view("<i8") if numbered else None
    if rows is not None and not _ascending(rows, rows_ever):
        raise _corrupt(path, "has row numbers that are not ascending")
    return Stored(METRICS[metric], content[start:].view("<f4").reshape(count, dim), rows, rows_ever, None, None)


def _ascending(rows: Rows, rows_ever: int) -> bool:
    return len(rows) == 0 or bool(rows[0] >= 0 and np.all(rows[1:] > rows[:-1]) and rows[-1] < rows_ever)


def _corrupt(path: Path, what: str) -> Corrupt:
    return Corrupt(f"index file {path} {what}.", remedy="Restore it from a copy, or build the index again.")
